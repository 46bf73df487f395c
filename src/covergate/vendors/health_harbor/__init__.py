"""Health Harbor: people who call the payer and ask. One inquiry is one phone call; answers take hours to days."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import ClassVar, Literal

import httpx
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.vendors.auth import HeaderAuth, TokenAuth
from covergate.vendors.health_harbor.batch import BATCHING
from covergate.vendors.health_harbor.events import read_event, verify_event
from covergate.vendors.health_harbor.flows import check, find, submit
from covergate.vendors.health_harbor.options import HealthHarborOptions
from covergate.vendors.health_harbor.request import NOT_ASKED, default_deadline, missing_fields, not_asked_of
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, Recovery, ServiceDates, Vendor


class HealthHarborConnection(Connection):
    """`username` and `password` are the project id and the API key; either scheme takes them.

    `poll_seconds` is the wait before the first check and grows to twelve times itself.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_HEALTH_HARBOR_")
    required: ClassVar[tuple[str, ...]] = ("username", "password")

    base_url: str = "https://healthharbor.co"
    auth: Literal["token", "basic"] = "token"
    username: str = ""
    password: str = Field(default="", repr=False)
    webhook_secret: str = Field(default="", repr=False)
    poll_seconds: float = Field(default=300, ge=0)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> HealthHarborConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/health_harbor",
            auth="token",
            username="sandbox",
            password=secret,
            webhook_secret=hashlib.sha256(f"{secret}:health_harbor".encode()).hexdigest(),
            poll_seconds=1,
        )


def authenticate(connection: HealthHarborConnection) -> httpx.Auth:
    if connection.auth == "basic":
        return HeaderAuth.basic(connection.username, connection.password)
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/api/v0/auth/token",
        sends="password",
        identity=connection.username,
        secret=connection.password,
        lifetime=timedelta(days=1),
        margin=timedelta(minutes=10),
    )


VENDOR = Vendor(
    name="health_harbor",
    title="Health Harbor",
    docs_url="https://docs.healthharbor.co",
    capabilities=Capabilities(
        answers_by=(AnswersBy.PHONE_CALL, AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(4 * 3600, 2 * 24 * 3600),
        required_fields=("/provider/tax_id",),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail=(
            "Plan information, deductibles and out-of-pocket maximums with what is used, and per procedure code coverage, "
            "copay, coinsurance, prior authorization and limits; what the representative said"
        ),
        batch=True,
        recovery=Recovery.LOOKUP,
    ),
    connection=HealthHarborConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    find=find,
    find_delay=timedelta(seconds=20),
    options=HealthHarborOptions,
    not_asked=NOT_ASKED,
    not_asked_of=not_asked_of,
    missing_fields=missing_fields,
    default_deadline=default_deadline,
    verify_event=verify_event,
    read_event=read_event,
    batching=BATCHING,
)
