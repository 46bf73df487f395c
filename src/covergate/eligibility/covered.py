"""Whether the payer covers what was asked (docs/x12.md#covered-services).

Invariant: a service is not covered only by what says so of it, or of the nearest service type that the claim's procedure or
specialty has; a copay makes none covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covergate.eligibility.answer import Answer
from covergate.eligibility.cost_shares import is_general
from covergate.eligibility.inquiry import Inquiry, Service
from covergate.eligibility.outcome import asked_codes
from covergate.eligibility.plans import holds
from covergate.eligibility.result import Benefit
from covergate.eligibility.service_types import VISITS, family_of_procedure, services_meant
from covergate.eligibility.terms import CodeType, Coverage, Kind, Network
from covergate.eligibility.x12.codes import ACTIVE, INACTIVE


def service_covered(answer: Answer, inquiry: Inquiry, not_asked: frozenset[str], coverage: Coverage) -> bool | None:
    """False if the vendor denies any asked code, or the claim's service; True only if it confirms all asked codes.

    If it had no place for any of them, what it says of the asked service types by itself is taken, if it confirms them all.
    Where the plan's dates contradict an "inactive", so that `coverage` is unknown, it denies nothing for the service date.
    """
    if coverage is Coverage.UNKNOWN and answer.coverage is Coverage.INACTIVE:
        return None
    if answer.service_covered is not None:
        return answer.service_covered
    answers: dict[tuple[CodeType, str], set[bool | None]] = {code: set() for code in asked_codes(inquiry, not_asked)}
    for service in answer.services:
        if (service.code_type, service.code) in answers:
            answers[service.code_type, service.code].add(service.covered)
    if any(False in covered for covered in answers.values()) or _denies_the_claim(answer, inquiry.service):
        return False
    if not answers:
        return True if _confirms_by_itself(answer, inquiry) else None
    return True if all(True in covered for covered in answers.values()) else None


def _confirms_by_itself(answer: Answer, inquiry: Inquiry) -> bool:
    asked = asked_codes(inquiry, frozenset())
    stated = [service for service in answer.services if (service.code_type, service.code) in asked]
    today = [row for row in answer.benefits if holds(row.starts_on, row.ends_on, inquiry.service_date)]
    active = {code for row in today if row.code in ACTIVE for code in row.service_type_codes}
    confirmed = {service.code for service in stated if service.covered is True} & active
    denied = any(service.covered is False for service in stated)
    return not denied and confirmed >= set(inquiry.service.service_type_codes)


def _denies_the_claim(answer: Answer, asked: Service) -> bool:
    """Psychotherapy is not covered where mental health is not. The nearest service type that is spoken of decides."""
    confirmed = {service.code for service in answer.services if service.covered is True}
    denied = {
        service.code
        for service in answer.services
        if service.covered is False and _is_denied(service.code, answer.benefits)
    }
    return any(_nearest_is_in(denied, codes, denied | confirmed) for codes in _meant(asked, confirmed))


def _meant(asked: Service, confirmed: set[str]) -> Sequence[tuple[str, ...]]:
    """By the procedures alone if there are any: to ask for an office visit too takes nothing away from them."""
    if not asked.procedure_codes:
        return services_meant(asked)
    families = (family_of_procedure(code) for code in asked.procedure_codes if code not in confirmed)
    return [tuple(code for code in family if code not in VISITS) for family in families]


def _nearest_is_in(denied: set[str], codes: Iterable[str], spoken_of: set[str]) -> bool:
    return next((code for code in codes if code in spoken_of), None) in denied


def _is_denied(code: str, benefits: Iterable[Benefit]) -> bool:
    """As a whole: neither a part of it that words tell, nor only out of network."""
    return any(
        row.kind is Kind.NON_COVERED or row.code in INACTIVE
        for row in benefits
        if code in row.service_type_codes
        and is_general(row)
        and not row.procedure_codes
        and row.network is not Network.OUT
    )
