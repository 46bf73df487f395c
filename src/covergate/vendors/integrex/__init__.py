"""Integrex (IntegrexRCM): Enhanced Eligibility V2, a ticket that is polled until its flat answer is there.

Source: "Integrex Health Enhanced Eligibility V2" (PDF). It takes any service date, one service type, and no webhooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from covergate.eligibility.inquiry import Inquiry, Text
from covergate.vendors.auth import TokenAuth, VendorAuth
from covergate.vendors.flow import Missing
from covergate.vendors.integrex.flows import check, other_service_types, submit
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, Options, Recovery, ServiceDates, Vendor

SANDBOX_POLL_SECONDS = 1.0
"""The sandbox need not be spared the 15 seconds that Integrex asks for."""


class IntegrexConnection(Connection):
    """`env` "T" asks for their dummy answers. `auth` is where the client's secret goes when a token is fetched."""

    model_config = SettingsConfigDict(env_prefix="COVERGATE_INTEGREX_")
    required: ClassVar[tuple[str, ...]] = ("client_id", "client_secret")

    base_url: str = "https://api.integrexrcm.com:53443"
    client_id: str = ""
    client_secret: str = Field(default="", repr=False)
    auth: Literal["basic", "form"] = "basic"
    env: Literal["", "T"] = ""
    poll_seconds: float = Field(default=15.0, ge=0)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> IntegrexConnection:
        chosen = cls()
        return cls(
            base_url=f"{url}/integrex",
            client_id="sandbox",
            client_secret=secret,
            env="T",
            poll_seconds=chosen.poll_seconds if "poll_seconds" in chosen.model_fields_set else SANDBOX_POLL_SECONDS,
        )


class IntegrexOptions(Options):
    """`account_number_1` defaults to the attempt's id."""

    account_number_1: Annotated[str, Text(80)] | None = None
    account_number_2: Annotated[str, Text(80)] | None = None


def authenticate(connection: IntegrexConnection) -> TokenAuth:
    """Their 402 is "Authentication Error", not payment."""
    return TokenAuth(
        f"{connection.base_url.rstrip('/')}/api/v2/auth",
        sends=connection.auth,
        identity=connection.client_id,
        secret=connection.client_secret,
        refused=VendorAuth.refused | {402},
    )


def missing_fields(inquiry: Inquiry, options: Options, payer_codes: Mapping[str, str]) -> Sequence[Missing]:
    return [] if inquiry.provider.npi else [Missing("/provider/npi", "Integrex needs the billing provider's NPI")]


VENDOR = Vendor(
    name="integrex",
    title="Integrex",
    docs_url="https://integrexrcm.com/api-documentation",
    capabilities=Capabilities(
        answers_by=(AnswersBy.POLL,),
        typical_wait_seconds=(15, 60),
        required_fields=("/provider/npi",),
        service_dates=ServiceDates.ANY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail="The plan's deductible and out-of-pocket maximum by level and network, coinsurance, copays",
        batch=False,
        recovery=Recovery.OPERATOR,
    ),
    connection=IntegrexConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    options=IntegrexOptions,
    not_asked=frozenset(
        {
            "/patient/middle_name",
            "/patient/suffix",
            "/patient/group_number",
            "/patient/address",
            "/patient/email",
            "/patient/phone",
            "/subscriber/patient_relationship",
            "/subscriber/member_id",
            "/subscriber/middle_name",
            "/subscriber/suffix",
            "/subscriber/address",
            "/subscriber/phone",
            "/coverage_order",
            "/provider/rendering_npi",
            "/provider/tax_id",
            "/provider/name",
            "/provider/in_network",
            "/provider/address",
            "/service/procedure_codes",
            "/service/diagnosis_codes",
            "/service/place_of_service_code",
            "/service/specialty",
        }
    ),
    not_asked_of=other_service_types,
    missing_fields=missing_fields,
)
