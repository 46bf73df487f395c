"""Sohar: behavioral-health eligibility in seconds, announced by a signed event or found by polling.

Source: "Patient Intake" and the reference pages of docs.soharhealth.com. Sohar answers for its own notion of the service
(specialty and place of service), for today, and from the account's own NPI.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.auth import TokenAuth
from covergate.vendors.flow import Missing
from covergate.vendors.sohar.events import read_event, verify_event
from covergate.vendors.sohar.flows import check, list_payers, payer_id, submit
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, Options, Recovery, ServiceDates, Vendor


class SoharConnection(Connection):
    """`poll_seconds` is the first wait; later ones grow to 30 minutes.

    Without a webhook secret all events are refused, and polling answers.
    """

    model_config = SettingsConfigDict(env_prefix="COVERGATE_SOHAR_")
    required: ClassVar[tuple[str, ...]] = ("client_id", "client_secret")

    base_url: str = "https://api.soharhealth.com"
    client_id: str = ""
    client_secret: str = Field(default="", repr=False)
    webhook_secret: str = Field(default="", repr=False)
    poll_seconds: float = Field(default=2.0, ge=0)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> SoharConnection:
        key = hashlib.sha256(f"{secret}:sohar".encode()).digest()
        return cls(
            base_url=f"{url}/sohar",
            client_id="sandbox",
            client_secret=secret,
            webhook_secret="whsec_" + base64.b64encode(key).decode(),
        )


def authenticate(connection: SoharConnection) -> TokenAuth:
    """A bad token is answered 403 ("described as unauthorised"), perhaps 401."""
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/oauth/token",
        sends="json",
        identity=connection.client_id,
        secret=connection.client_secret,
    )


def missing_fields(inquiry: Inquiry, options: Options, payer_codes: Mapping[str, str]) -> Sequence[Missing]:
    address = inquiry.patient.address
    needed = {
        "/payer/id": payer_id(inquiry.payer.id, payer_codes),
        "/patient/address/state": address.state if address else None,
        "/service/place_of_service_code": inquiry.service.place_of_service_code,
        "/service/specialty": inquiry.service.specialty,
    }
    return [Missing(pointer, "Sohar needs this") for pointer, given in needed.items() if given is None]


VENDOR = Vendor(
    name="sohar",
    title="Sohar",
    docs_url="https://docs.soharhealth.com",
    capabilities=Capabilities(
        answers_by=(AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(6, 30),
        required_fields=(
            "/payer/id",
            "/patient/address/state",
            "/service/place_of_service_code",
            "/service/specialty",
        ),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail="Copay, coinsurance, deductible, out-of-pocket maximum of the asked service by network and tier",
        batch=False,
        recovery=Recovery.EVENT,
    ),
    connection=SoharConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    not_asked=frozenset(
        {
            "/payer/name",
            "/patient/middle_name",
            "/patient/suffix",
            "/patient/gender",
            "/patient/group_number",
            "/patient/ssn",
            "/patient/employer_name",
            "/patient/address/line1",
            "/patient/address/line2",
            "/patient/address/city",
            "/patient/address/zip",
            "/patient/email",
            "/patient/phone",
            "/subscriber/patient_relationship",
            "/subscriber/member_id",
            "/subscriber/middle_name",
            "/subscriber/suffix",
            "/subscriber/gender",
            "/subscriber/ssn",
            "/subscriber/employer_name",
            "/subscriber/address",
            "/subscriber/phone",
            "/coverage_order",
            "/provider",
            "/service/date",
            "/service/end_date",
            "/service/service_type_codes",
            "/service/procedure_codes",
            "/service/diagnosis_codes",
        }
    ),
    missing_fields=missing_fields,
    verify_event=verify_event,
    read_event=read_event,
    list_payers=list_payers,
)
