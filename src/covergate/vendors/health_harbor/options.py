"""Health Harbor's own part of a request, beyond the normalized inquiry: `vendor_options.health_harbor`.

Source: `ExternalMentalHealthInquiryRequest` of its OpenAPI document. The claim fields and the deprecated `npi` are left out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from covergate.eligibility.inquiry import Day, ProcedureCode, Text
from covergate.vendors.vendor import Options


class BenefitsQuery(StrEnum):
    """`ExternalMentalHealthEligibilitySearchQuery`, complete; the meaning of `TRIAL` is not documented."""

    DEDUCTIBLES_AND_MAXIMUMS = "DEDUCTIBLES_AND_MAXIMUMS"
    PLAN_INFO = "PLAN_INFO"
    NETWORK_STATUS = "NETWORK_STATUS"
    CODE_LOOKUP_PRIOR_AUTH = "CODE_LOOKUP_PRIOR_AUTH"
    CODE_LOOKUP_BENEFITS = "CODE_LOOKUP_BENEFITS"
    OFFICE_VISIT_NEW_PATIENT = "OFFICE_VISIT_NEW_PATIENT"
    OFFICE_VISIT_RETURNING_PATIENT = "OFFICE_VISIT_RETURNING_PATIENT"
    PSYCHOTHERAPY = "PSYCHOTHERAPY"
    FAMILY_PSYCHOTHERAPY = "FAMILY_PSYCHOTHERAPY"
    GROUP_PSYCHOTHERAPY = "GROUP_PSYCHOTHERAPY"
    ABA_COVERAGE = "ABA_COVERAGE"
    SPEECH_THERAPY = "SPEECH_THERAPY"
    OCCUPATIONAL_THERAPY = "OCCUPATIONAL_THERAPY"
    PHYSICAL_THERAPY = "PHYSICAL_THERAPY"
    NEURO_PSYCH = "NEURO_PSYCH"
    TRIAL = "TRIAL"
    UNKNOWN = "UNKNOWN"


NEEDS_CODES = frozenset({BenefitsQuery.CODE_LOOKUP_PRIOR_AUTH, BenefitsQuery.CODE_LOOKUP_BENEFITS})
"""The queries that are about `benefits_codes`."""


class HealthHarborOptions(Options):
    """Everything is optional. `benefits_query` None lets the gateway choose; `benefits_codes` None means the procedure codes."""

    desired_completion_date: Day | None = None
    benefits_query: Annotated[tuple[BenefitsQuery, ...], Field(max_length=20)] | None = None
    benefits_codes: Annotated[tuple[ProcedureCode, ...], Field(max_length=50)] | None = None
    benefits_form_name: Annotated[str, Text(200)] | None = None
    call_script_id: Annotated[str, Text(100)] | None = None
    is_specialist: bool | None = None
    additional_info: Annotated[str, Text(2000)] | None = None
