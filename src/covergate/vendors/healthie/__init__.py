"""Healthie: an EHR with a GraphQL API. A check is run on a patient's policy there and answers in one request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, ClassVar

import httpx
from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.auth import HeaderAuth
from covergate.vendors.flow import Missing
from covergate.vendors.healthie.events import read_event, verify_event
from covergate.vendors.healthie.flows import check, find, submit
from covergate.vendors.healthie.operation import PATH
from covergate.vendors.healthie.options import HealthieOptions
from covergate.vendors.healthie.plans import list_payers
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, Recovery, ServiceDates, Vendor


class HealthieConnection(Connection):
    """`base_url` may be given with or without `/graphql`. `shard` only where Healthie named one."""

    model_config = SettingsConfigDict(env_prefix="COVERGATE_HEALTHIE_")
    required: ClassVar[tuple[str, ...]] = ("api_key",)

    base_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/").removesuffix(PATH))] = (
        "https://api.gethealthie.com"
    )
    api_key: str = Field(default="", repr=False)
    shard: str = ""
    provider_id: str = ""
    """The provider whose patients new records are; Healthie takes the key's own user where it is blank."""
    webhook_secret: str = Field(default="", repr=False)

    @classmethod
    def sandbox(cls, url: str, secret: str) -> HealthieConnection:
        return cls(
            base_url=f"{url.rstrip('/')}/healthie",
            api_key=secret,
            shard="",
            provider_id="",
            webhook_secret="whsec_" + hashlib.sha256(f"{secret}:healthie".encode()).hexdigest(),
        )


def authenticate(connection: HealthieConnection) -> httpx.Auth:
    """The key as it is after the word Basic, not base64 of a user name and a password."""
    headers = {"Authorization": f"Basic {connection.api_key}", "AuthorizationSource": "API"}
    if connection.shard:
        headers["AuthorizationShard"] = connection.shard
    return HeaderAuth(headers)


def missing_fields(inquiry: Inquiry, options: HealthieOptions, payer_codes: Mapping[str, str]) -> Sequence[Missing]:
    named = (
        options.insurance_plan_id,
        options.policy_id,
        payer_codes.get("insurance_plan_id"),
        payer_codes.get("payer_id"),
        inquiry.payer.id,
        inquiry.payer.name,
    )
    if any(named):
        return ()
    return [Missing("/payer/id", "Healthie needs a payer that leads to one insurance plan")]


NOT_ASKED = frozenset(
    {
        "/patient/suffix",
        "/patient/ssn",
        "/patient/employer_name",
        "/patient/address",
        "/patient/email",
        "/patient/phone",
        "/subscriber/member_id",
        "/subscriber/suffix",
        "/subscriber/ssn",
        "/subscriber/employer_name",
        "/provider",
        "/service/date",
        "/service/end_date",
        "/service/procedure_codes",
        "/service/diagnosis_codes",
        "/service/place_of_service_code",
        "/service/specialty",
    }
)
"""E-mail and phone are kept from Healthie, so that it cannot write to the patient."""


def not_asked_of(inquiry: Inquiry, today: date) -> frozenset[str]:
    """A policy has a place for the holder's middle initial only."""
    return frozenset() if inquiry.subscriber is None else frozenset({"/patient/middle_name"})


VENDOR = Vendor(
    name="healthie",
    title="Healthie",
    docs_url="https://docs.gethealthie.com",
    capabilities=Capabilities(
        answers_by=(AnswersBy.AT_ONCE,),
        typical_wait_seconds=(5, 60),
        required_fields=(
            "a payer that leads to one insurance plan, or vendor_options.healthie.insurance_plan_id or policy_id",
        ),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=True,
        benefits_detail="What the payer's 271 says: coverage, benefits by service type, network and level, notes",
        batch=False,
        recovery=Recovery.LOOKUP,
    ),
    connection=HealthieConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    find=find,
    exclusive_per_patient=True,
    calls_per_second=250.0,
    options=HealthieOptions,
    not_asked=NOT_ASKED,
    not_asked_of=not_asked_of,
    missing_fields=missing_fields,
    verify_event=verify_event,
    read_event=read_event,
    list_payers=list_payers,
)
