"""VSee Clinic: the patient is a user of VSee, whose insurance AdvancedMD checks; the payer's own 271 is handed on.

Source: VSee's wiki, "Insurance API (Draft)" and the pages around it. Only the 271 is believed; see `statement.py`.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints
from pydantic_settings import SettingsConfigDict

from covergate.eligibility.inquiry import Pattern, Trimmed
from covergate.vendors.auth import HeaderAuth
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, Options, Recovery, ServiceDates, Vendor
from covergate.vendors.vsee.events import read_event, verify_event
from covergate.vendors.vsee.flows import check, find, list_payers, submit
from covergate.vendors.vsee.request import NOT_ASKED, missing_fields, not_asked_of

CarrierCode = Annotated[
    Trimmed, Pattern(r"^[A-Za-z0-9_-]{1,40}$", "must be a carrier code of 1 to 40 letters, digits, _ and -")
]
CardPicture = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000_000)]


class VSeeConnection(Connection):
    """`base_url` is "to be advised by VSee" and ends in `/api_v3`. `api_token` is an administrator's.

    `poll_seconds` is the wait before each check of the first three minutes. Without a callback token all events are refused,
    and polling answers. `insurances_path` is `/insurances/` in one place of VSee's page and `/insurance/` in another.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_VSEE_")
    required: ClassVar[tuple[str, ...]] = ("account_code", "api_key", "api_secret", "api_token")

    account_code: str = ""
    api_key: str = Field(default="", repr=False)
    api_secret: str = Field(default="", repr=False)
    api_token: str = Field(default="", repr=False)
    callback_token: str = Field(default="", repr=False)
    poll_seconds: float = Field(default=10.0, ge=0)
    insurances_path: str = "/insurances/"

    @classmethod
    def sandbox(cls, url: str, secret: str) -> VSeeConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/vsee/api_v3",
            account_code="sandbox",
            api_key="sandbox",
            api_secret=secret,
            api_token=secret,
            callback_token=hashlib.sha256(f"{secret}:vsee".encode()).hexdigest(),
            poll_seconds=1,
        )


class VSeeOptions(Options):
    """`carrier_code` is one of `GET /insurances/` (`car7551`); the pictures of the card go as they are."""

    carrier_code: CarrierCode | None = None
    card_front: CardPicture | None = None
    card_back: CardPicture | None = None


def authenticate(connection: VSeeConnection) -> HeaderAuth:
    """Key and secret open `POST /users/sso`, the administrator's token the rest; `POST /me` goes with the user's own."""
    return HeaderAuth(
        {
            "X-AccountCode": connection.account_code,
            "X-ApiKey": connection.api_key,
            "X-ApiSecret": connection.api_secret,
            "X-ApiToken": connection.api_token,
        }
    )


VENDOR = Vendor(
    name="vsee",
    title="VSee Clinic (AdvancedMD)",
    docs_url="https://vsee.atlassian.net/wiki/spaces/VD/pages/55083127",
    capabilities=Capabilities(
        answers_by=(AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(15, 60),
        required_fields=(
            "/patient/gender",
            "/patient/address/line1",
            "/patient/address/city",
            "/patient/address/state",
            "/patient/address/zip",
            "/subscriber/address where there is a subscriber",
            "/vendor_options/vsee/carrier_code unless the payer directory has it",
        ),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=True,
        benefits_detail="All that the payer's X12 271 states for service type 30, MSG texts included",
        batch=False,
        recovery=Recovery.LOOKUP,
    ),
    connection=VSeeConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    find=find,
    exclusive_per_patient=True,
    find_delay=timedelta(seconds=10),
    options=VSeeOptions,
    not_asked=NOT_ASKED,
    not_asked_of=not_asked_of,
    missing_fields=missing_fields,
    verify_event=verify_event,
    read_event=read_event,
    list_payers=list_payers,
)
