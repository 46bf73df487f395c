"""From the inquiry to one element of the `batch_inquiries` array, and the deadline that follows from it.

Source: `ExternalMentalHealthInquiryRequest` of its OpenAPI document. A field that is not given is left out, never sent empty:
"if it is not known, leave this field blank and it will be determined".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from covergate.eligibility.inquiry import EASTERN, Address, Inquiry, today_eastern
from covergate.vendors.flow import Question
from covergate.vendors.health_harbor.codes import (
    ALWAYS_QUERIED,
    PLACES_OF_SERVICE,
    QUERIED_FOR_CODES,
    QUERIES_OF_PROCEDURE,
    QUERIES_OF_SERVICE_TYPE,
)
from covergate.vendors.health_harbor.options import NEEDS_CODES, BenefitsQuery, HealthHarborOptions

_SATURDAY = 5
_LONGEST_OPEN = timedelta(days=14)
"""No verification stays open longer (docs/api.md#2-the-request)."""


def request_of(question: Question) -> dict[str, Any]:
    inquiry, options = question.inquiry, question.options
    patient, provider, service = inquiry.patient, inquiry.provider, inquiry.service
    fields = {
        "type": "BENEFITS",
        "desired_completion_date": dashed(desired_completion_date(options, question.today)),
        "patient_name": " ".join(f"{patient.first_name} {patient.last_name}".split()),
        "dob": dashed(patient.date_of_birth),
        "member_id": patient.member_id,
        "group_id": patient.group_number,
        "tax_id": provider.tax_id,
        "billing_npi": provider.npi,
        "rendering_npi": provider.rendering_npi,
        "insurance_in_network": provider.in_network,
        "practice_billing_address": _one_line(provider.address),
        "insurance": inquiry.payer.name,
        "insurance_payor_id": payor_id(inquiry, question.payer_codes),
        "external_id": question.attempt_id,
        "diagnosis_codes": [_dotted(code) for code in service.diagnosis_codes],
        "place_of_service": PLACES_OF_SERVICE.get(service.place_of_service_code or ""),
        "benefits_query": [
            query.value for query in benefits_query(inquiry, options, question.connection.usual_queries)
        ],
        "benefits_codes": list(benefits_codes(inquiry, options)),
        "benefits_form_name": options.benefits_form_name,
        "call_script_id": options.call_script_id,
        "is_specialist": options.is_specialist,
        "additional_info": options.additional_info,
    }
    return {name: value for name, value in fields.items() if value is not None and value != []}


def dashed(day: date) -> str:
    """`MM-DD-YYYY`, as every date in its documents."""
    return day.strftime("%m-%d-%Y")


def desired_completion_date(options: HealthHarborOptions, today: date) -> date:
    """The one in the options, or today if that is over; else the next working day."""
    if options.desired_completion_date is not None:
        return max(options.desired_completion_date, today)
    day = today + timedelta(days=1)
    while day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
    return day


def note_of_date(question: Question) -> str | None:
    """If the desired completion date was past when the inquiry was sent, that it was not the one asked for."""
    wanted, sent_on = question.options.desired_completion_date, today_eastern(question.submitted_at or question.now)
    if wanted is None or wanted >= sent_on:
        return None
    return f"The desired completion date {wanted} was past: {sent_on} was asked for."


def default_deadline(question: Question) -> datetime:
    """The end, in America/New_York, of the day after the desired completion date."""
    last_day = desired_completion_date(question.options, question.today) + timedelta(days=1)
    midnight = datetime.combine(last_day + timedelta(days=1), time(), EASTERN).astimezone(UTC)
    return min(midnight, question.now.astimezone(UTC) + _LONGEST_OPEN)


def payor_id(inquiry: Inquiry, payer_codes: Mapping[str, str]) -> str | None:
    return payer_codes.get("payor_id") or inquiry.payer.id


def benefits_query(
    inquiry: Inquiry, options: HealthHarborOptions, usual: tuple[BenefitsQuery, ...] = ()
) -> tuple[BenefitsQuery, ...]:
    """The queries in the options; without them none beside a call script, else the account's usual ones, else those that the
    service calls for. A usual one about codes is left out if there are none.
    """
    if options.benefits_query is not None:
        return options.benefits_query
    if options.call_script_id is not None:
        return ()
    if fitting := [query for query in usual if query not in NEEDS_CODES or benefits_codes(inquiry, options)]:
        return tuple(dict.fromkeys(fitting))
    chosen = list(ALWAYS_QUERIED)
    for code in inquiry.service.service_type_codes:
        chosen += QUERIES_OF_SERVICE_TYPE.get(code, ())
    chosen += [QUERIES_OF_PROCEDURE[code] for code in inquiry.service.procedure_codes if code in QUERIES_OF_PROCEDURE]
    if benefits_codes(inquiry, options):
        chosen += QUERIED_FOR_CODES
    return tuple(dict.fromkeys(chosen))


def benefits_codes(inquiry: Inquiry, options: HealthHarborOptions) -> tuple[str, ...]:
    return inquiry.service.procedure_codes if options.benefits_codes is None else options.benefits_codes


def lacks_payer(inquiry: Inquiry, options: HealthHarborOptions, payer_codes: Mapping[str, str]) -> bool:
    return inquiry.payer.name is None and payor_id(inquiry, payer_codes) is None


def lacks_query(inquiry: Inquiry, options: HealthHarborOptions, payer_codes: Mapping[str, str]) -> bool:
    return not benefits_query(inquiry, options) and options.call_script_id is None


def lacks_codes(inquiry: Inquiry, options: HealthHarborOptions, payer_codes: Mapping[str, str]) -> bool:
    return not NEEDS_CODES.isdisjoint(benefits_query(inquiry, options)) and not benefits_codes(inquiry, options)


def not_asked_of(inquiry: Inquiry, today: date) -> frozenset[str]:
    """A place of service without a name in the CMS code set cannot be sent, nor an address without a street or a city."""
    place, address = inquiry.service.place_of_service_code, inquiry.provider.address
    left_out = set()
    if place is not None and place not in PLACES_OF_SERVICE:
        left_out.add("/service/place_of_service_code")
    if address is not None and _one_line(address) is None:
        left_out.add("/provider/address")
    return frozenset(left_out)


def _dotted(code: str) -> str:
    """`F41.1`, as in the document's example: ICD-10-CM has its dot after the third character."""
    return code if "." in code or len(code) <= 3 else f"{code[:3]}.{code[3:]}"


def _one_line(address: Address | None) -> str | None:
    """`123 Main St, New York, NY 10001`, as in the document's example; None for an address without a street or a city."""
    if address is None or address.line1 is None or address.city is None:
        return None
    state_and_zip = " ".join(part for part in (address.state, address.zip) if part)
    return ", ".join(part for part in (address.line1, address.line2, address.city, state_and_zip) if part)
