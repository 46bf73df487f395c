"""A mental-health inquiry as Health Harbor accepts it: its `ExternalMentalHealthInquiryRequest`, to the letter.

Source: its OpenAPI document of `POST /api/v0/mental_health/batch_inquiries`. The model holds the schema, with the
formats that its descriptions state in words; `unmet_rules` holds the "you must provide …" sentences, which the schema
cannot say.

Invariant: types are exact. A number in place of a documented string is an error, and so is a null that is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_InquiryType = Literal["CLAIMS_STATUS", "BENEFITS", "UNKNOWN"]

_BenefitsQuery = Literal[
    "DEDUCTIBLES_AND_MAXIMUMS",
    "PLAN_INFO",
    "NETWORK_STATUS",
    "CODE_LOOKUP_PRIOR_AUTH",
    "CODE_LOOKUP_BENEFITS",
    "OFFICE_VISIT_NEW_PATIENT",
    "OFFICE_VISIT_RETURNING_PATIENT",
    "PSYCHOTHERAPY",
    "FAMILY_PSYCHOTHERAPY",
    "GROUP_PSYCHOTHERAPY",
    "ABA_COVERAGE",
    "SPEECH_THERAPY",
    "OCCUPATIONAL_THERAPY",
    "PHYSICAL_THERAPY",
    "NEURO_PSYCH",
    "TRIAL",
    "UNKNOWN",
]


def _american_date(value: str) -> str:
    try:
        written_back = datetime.strptime(value, "%m-%d-%Y").strftime("%m-%d-%Y")
    except ValueError:
        written_back = None
    if written_back != value:
        raise ValueError("must be a date in MM-DD-YYYY format")
    return value


def _cents(value: float) -> float:
    if round(value, 2) != value:
        raise ValueError("must have at most 2 decimal places")
    return value


def _digits(count: int) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(rf"[0-9]{{{count}}}", value):
            raise ValueError(f"must be {count} digits")
        return value

    return AfterValidator(check)


_AmericanDate = Annotated[str, AfterValidator(_american_date)]
_Npi = Annotated[str, _digits(10)]
_TaxId = Annotated[str, _digits(9)]


class InquiryRequest(BaseModel):
    """`ExternalMentalHealthInquiryRequest`. A field that was left out is the default here and absent from the echo."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    type: _InquiryType
    desired_completion_date: _AmericanDate
    patient_name: Annotated[str, Field(min_length=1)]
    dob: _AmericanDate
    member_id: Annotated[str, Field(min_length=1)]
    tax_id: _TaxId
    group_id: str = ""
    insurance_in_network: bool = False
    npi: _Npi = ""
    billing_npi: _Npi = ""
    rendering_npi: _Npi = ""
    external_id: str = ""
    practice_billing_address: str = ""
    diagnosis_codes: list[str] = []
    claims_date_of_service: _AmericanDate = ""
    claim_number: str = ""
    additional_info: str = ""
    call_script_id: str | None = None  # the document's one example is null
    insurance: str = ""
    benefits_query: list[_BenefitsQuery] = []
    benefits_codes: list[str] = []
    benefits_form_name: str = ""
    is_specialist: bool = False
    place_of_service: str = ""
    billed_amount: Annotated[float, AfterValidator(_cents)] = 0
    insurance_payor_id: str = ""


def unmet_rules(inquiry: InquiryRequest) -> Iterator[tuple[str, str]]:
    """The rules in words that `inquiry` breaks, as (field, message)."""
    if not inquiry.insurance and not inquiry.insurance_payor_id:
        yield "insurance", "provide the name of the insurance provider or the payor id"
    if inquiry.type == "BENEFITS" and not inquiry.benefits_query and not inquiry.call_script_id:
        yield "benefits_query", "a benefits inquiry needs benefits queries or a call script"
    if not inquiry.benefits_codes and any(query.startswith("CODE_LOOKUP_") for query in inquiry.benefits_query):
        yield "benefits_codes", "a code lookup needs codes"
