"""From Integrex's flat answer to an `Answer`, or to the reason why there is none.

Source: "[GET] Enhanced Eligibility Response" (PDF), its columns untangled. Every value is a string; "" is not stated, never
zero. Amounts are dollars, `coins(%)` whole percent, dates YYYY-MM-DD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.result import (
    AlternatePayer,
    Benefit,
    Member,
    PayerAnswer,
    PayerStatus,
    Plan,
    PostalAddress,
    References,
    RelatedEntity,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.sourced import Sourced, money, pointers_at
from covergate.eligibility.terms import AppliesTo, CodeType, Coverage, Kind, PatientRelationship, Role, WarningCode
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.codes import (
    ACTIVE,
    CANNOT_PROCESS,
    CONTACT_OTHER_ENTITY,
    INACTIVE,
    LEVELS,
    PENDING_INVESTIGATION,
    RELATIONSHIPS,
    WHOLE_PLAN,
    aaa_code_of_text,
    aaa_failure,
)
from covergate.eligibility.x12.names import AAA03_NAMES, EB03_NAMES, EB04_NAMES
from covergate.vendors.document import (
    Node,
    joined,
    looks_like_a_day,
    looks_like_a_number,
    no_limit,
    number_in_words,
    remaining,
    row,
    stated_day,
    token,
    unparsable,
    unreadable,
    waived_in_words,
    whole_percent,
)
from covergate.vendors.flow import Question, Reply
from covergate.vendors.integrex import codes
from covergate.vendors.integrex.fields import Fields
from covergate.vendors.integrex.request import sent_service_type


def answer_of(fields: Fields, question: Question, answered_at: datetime) -> Answer | Failure:
    """Coverage that is stated is the answer; only without it can the request's status be a reason why there is none."""
    reading = _coverage_of(fields)
    if not reading.is_stated:
        refusal = _refusal(fields)
        if refusal is not None:
            return refusal
        if fields.text("coverageStatusCode").value == CANNOT_PROCESS:
            words = fields.text("coverageStatusDesc").value
            return failure(FailureCode.PAYER_MANUAL_CHECK_REQUIRED, vendor_code=CANNOT_PROCESS, vendor_message=words)
    return _stated(fields, reading, question, answered_at)


def rejection_of(reply: Reply) -> Failure:
    """A 4xx. Its body is not documented, so the usual names of a message are tried."""
    body = Node(reply.body, reply.body_pointer)
    keys = ("message", "error", "error_description", "detail")
    words: Sourced[str] = next((text for key in keys if (text := body.text(key))), Sourced(None))
    if words.value is not None and (code := aaa_code_of_text(words.value)) is not None:
        return aaa_failure([Aaa(code=code, sources=list(words.pointers))], vendor_message=words.value)
    message = words.value if words else reply.content[:500].decode(errors="replace") or None
    return failure(FailureCode.REQUEST_REJECTED, vendor_code=f"http_{reply.status}", vendor_message=message)


def _refusal(fields: Fields) -> Failure | None:
    """A `requestStatusCode` that is an AAA03 code, a `requestStatus` with the words of one, or a code whose words say no."""
    code, words = fields.text("requestStatusCode"), fields.text("requestStatus")
    if code.value in AAA03_NAMES:
        rejected = Aaa(code=code.value, sources=list(code.pointers))
    elif words.value is not None and (code_of_words := aaa_code_of_text(words.value)) is not None:
        rejected = Aaa(code=code_of_words, sources=list(words.pointers))
    else:
        return _refused_by_words(fields)
    return aaa_failure([rejected], vendor_message=words.value)


def _refused_by_words(fields: Fields) -> Failure | None:
    code, words = fields.read("requestStatusCode", token).value, fields.text("requestStatus").value
    said = set(codes.words_of(words or ""))
    if code is None or said & codes.SUCCESS_WORDS:
        return None
    why = next((why for needed, why in codes.STATUS_WORDS if needed <= said), None)
    return None if why is None else failure(why, vendor_code=code, vendor_message=words)


@dataclass(frozen=True, slots=True)
class _CoverageReading:
    coverage: Coverage
    non_covered: bool = False
    """The description says that the benefit is not covered."""
    contradicts: bool = False
    """The code says active and the description inactive, or the other way round."""

    @property
    def is_stated(self) -> bool:
        return self.coverage is not Coverage.UNKNOWN or self.non_covered or self.contradicts


def _coverage_of(fields: Fields) -> _CoverageReading:
    """The code as X12's EB01, 1 to 8; any other code by its words, "inactive" looked for before "active"."""
    code, in_words = fields.text("coverageStatusCode").value, _in_words(fields)
    if code not in ACTIVE | INACTIVE:
        return in_words
    coverage = Coverage.ACTIVE if code in ACTIVE else Coverage.INACTIVE
    if in_words.coverage not in (coverage, Coverage.UNKNOWN):
        return _CoverageReading(Coverage.UNKNOWN, contradicts=True)
    return _CoverageReading(coverage)


def _in_words(fields: Fields) -> _CoverageReading:
    words = codes.words_of(fields.text("coverageStatusDesc").value or "")
    if _is_negated(codes.COVERED_WORD, words):
        return _CoverageReading(Coverage.UNKNOWN, non_covered=True)
    if codes.INACTIVE_WORDS & set(words) or _is_negated(codes.ACTIVE_WORD, words):
        return _CoverageReading(Coverage.INACTIVE)
    return _CoverageReading(Coverage.ACTIVE if codes.ACTIVE_WORD in words else Coverage.UNKNOWN)


def _is_negated(word: str, words: list[str]) -> bool:
    return word in words and not codes.NEGATIONS.isdisjoint(words[: words.index(word)])


def _stated(fields: Fields, reading: _CoverageReading, question: Question, answered_at: datetime) -> Answer:
    patient = _patient(fields)
    subscriber = _subscriber(fields) if patient.relationship is not PatientRelationship.SELF else None
    about = _another_service(fields, question)
    numbers = {key: fields.read(key, convert) for key, convert in _NUMBERS.items()}
    return Answer(
        coverage=reading.coverage,
        as_of=fields.read("beginDOS", stated_day).value or question.inquiry.service_date,
        answered_at=answered_at,
        services=_services(fields, reading),
        plan=_plan(fields),
        payer=_payer(fields),
        patient=patient,
        subscriber=subscriber,
        benefits=[
            *_coverage_row(fields, reading),
            *_limits(fields, numbers),
            *_shares(fields, numbers, about),
            *_copays(fields, numbers, about),
        ],
        related_entities=[
            *_primary_care(fields),
            *_facility(fields),
            *_alternate_entity(fields),
            *_administrator(fields),
            *_second_payer(fields),
        ],
        references=References(vendor_id=fields.read("integrexId", token).value),
        payer_status=PayerStatus(code=fields.text("requestStatusCode").value, text=fields.text("requestStatus").value),
        notes=[f"responseDate: {day}" for day in (fields.read("responseDate", token).value,) if day],
        warnings=[*_warnings(fields, reading), *_unreadable(fields, numbers)],
    )


def _services(fields: Fields, reading: _CoverageReading) -> list[ServiceAnswer]:
    """ "Non-covered" applies to the service type that the answer names; without one it applies to nothing we know."""
    named = fields.read("benefitTypeCode", token)
    if not reading.non_covered or named.value is None:
        return []
    covered = fields.text("coverageStatusDesc").then(lambda words: False)
    return [
        ServiceAnswer(
            code_type=CodeType.SERVICE_TYPE, **row(code=named, covered=covered, name=fields.text("benefitTypeDesc"))
        )
    ]


def _coverage_row(fields: Fields, reading: _CoverageReading) -> list[Benefit]:
    """The status as a row. The meaning of the benefit type ("Standard X12 Benefit Type code") is unsure: it is only noted."""
    code, description = fields.read("coverageStatusCode", token), fields.text("coverageStatusDesc")
    about = [fields.text(key).then(f"{key}: {{}}".format) for key in ("benefitTypeCode", "benefitTypeDesc")]
    stated = [note for note in about if note]
    if not (code or description or stated):
        return []
    notes = Sourced(
        [note.value for note in stated] or None, tuple(pointer for note in stated for pointer in note.pointers)
    )
    return [
        Benefit(
            kind=Kind.NON_COVERED if reading.non_covered else Kind.OTHER if reading.contradicts else Kind.COVERAGE,
            **row(code=code, description=description, notes=notes),
        )
    ]


_Numbers = Mapping[str, Sourced[Decimal]]
_NUMBERS: dict[str, Callable[[Any], Decimal | None]] = {
    **dict.fromkeys(codes.LIMITS, money),
    **{f"{key}Remaining": remaining for key in codes.LIMITS},
    **dict.fromkeys(codes.COPAYS, lambda value: money(number_in_words(value))),
    **dict.fromkeys(codes.SHARES, lambda value: whole_percent(number_in_words(value))),
}
"""The keys of all numbers, and how each is read."""


def _limits(fields: Fields, numbers: _Numbers) -> list[Benefit]:
    limits = []
    for key, (kind, level, network) in codes.LIMITS.items():
        unlimited = fields.read(key, no_limit)
        amounts = row(total=numbers[key], remaining=numbers[f"{key}Remaining"], unlimited=unlimited)
        if amounts["sources"]:
            limits.append(Benefit(kind=kind, applies_to=AppliesTo.PLAN, level=level, network=network, **amounts))
    return limits


def _another_service(fields: Fields, question: Question) -> Sourced[list[str]]:
    """The benefit type if it is a service type, and neither the one that was sent nor the whole plan.

    What is paid for it is not what is paid for the asked service.
    """
    usual = (WHOLE_PLAN, sent_service_type(question.inquiry))
    code = fields.read("benefitTypeCode", token)
    return code.then(lambda stated: [stated] if stated in EB03_NAMES and stated not in usual else None)


def _shares(fields: Fields, numbers: _Numbers, about: Sourced[list[str]]) -> list[Benefit]:
    applies_to = AppliesTo.CODES if about else AppliesTo.UNKNOWN
    return [
        Benefit(
            kind=Kind.COINSURANCE,
            network=network,
            applies_to=applies_to,
            **row(percent=share, service_type_codes=about, deductible_waived=fields.read(key, waived_in_words)),
        )
        for key, network in codes.SHARES.items()
        if (share := numbers[key])
    ]


def _copays(fields: Fields, numbers: _Numbers, about: Sourced[list[str]]) -> list[Benefit]:
    applies_to = AppliesTo.CODES if about else AppliesTo.UNKNOWN
    return [
        Benefit(
            kind=Kind.COPAY,
            description=description,
            provider_kind=provider_kind,
            applies_to=applies_to,
            **row(amount=amount, service_type_codes=about, deductible_waived=fields.read(key, waived_in_words)),
        )
        for key, (description, provider_kind) in codes.COPAYS.items()
        if (amount := numbers[key])
    ]


def _unreadable(fields: Fields, numbers: _Numbers) -> list[Warning_]:
    pointers = [
        at
        for key, number in numbers.items()
        if number.value is None and fields.read(key, looks_like_a_number)
        for at in number.pointers
    ]
    days = unreadable(fields.read, stated_day, *_PLAN_DAYS, looks_right=looks_like_a_day)
    return unparsable(amounts=pointers, dates=days)


_PLAN_DAYS = ("coverageStartDate", "coverageEndDate")


def _plan(fields: Fields) -> Plan:
    level_code = fields.read("coverageLevelCode", token)
    return Plan(
        **row(
            number=fields.text("planNumber"),
            type=fields.read("planTypeCode", token),
            type_name=fields.text("planType"),
            description=fields.text("planTypeDescription"),
            group_number=fields.text("groupNumber"),
            coverage_level=fields.text("coverageLevelDescription") | level_code,
            starts_on=fields.read("coverageStartDate", stated_day),
            ends_on=fields.read("coverageEndDate", stated_day),
        )
    )


def _payer(fields: Fields) -> PayerAnswer:
    """ "Responses from payers vary so we provide both fields": the second stands in for a first that is not stated."""
    return PayerAnswer(
        **row(
            id=fields.text("payerID1") | fields.text("payerID2"),
            name=fields.text("payerName1") | fields.text("payerName2"),
            alternate=_alternate(fields),
            is_tpa=_is_tpa(fields),
            phone=fields.text("payerPhone"),
            fax=fields.text("payerFax"),
            website=fields.text("payerWebsite"),
            address=_address(fields, "payerAddress"),
        )
    )


def _is_tpa(fields: Fields) -> Sourced[bool]:
    return fields.text("payerTPA").then(lambda words: codes.INDICATORS.get(codes.fold(words)))


_ALTERNATE = {
    "name": "altName",
    "category": "altCategory",
    "type": "altType",
    "address": "altAddress",
    "phone": "altPhone",
}


def _alternate(fields: Fields) -> Sourced[AlternatePayer]:
    parts = {name: part for name, key in _ALTERNATE.items() if (part := fields.text(key))}
    if not parts:
        return Sourced(None)
    pointers = tuple(pointer for part in parts.values() for pointer in part.pointers)
    return Sourced(AlternatePayer(**{name: part.value for name, part in parts.items()}), pointers)


def _patient(fields: Fields) -> Member:
    code = fields.text("relationshipCode").then(RELATIONSHIPS.get)
    description = fields.text("relationshipDesc").then(lambda words: codes.RELATIONSHIP_WORDS.get(codes.fold(words)))
    return Member(
        relationship=(code | description).value or PatientRelationship.UNKNOWN,
        **row(
            first_name=fields.text("patientFirstName"),
            last_name=fields.text("patientLastName"),
            date_of_birth=fields.read("patientDOB", stated_day),
            gender=_gender(fields, "patientGender"),
            member_id=fields.text("sub.MemberID"),
            address=_address(fields, "patientAddress"),
        ),
    )


def _subscriber(fields: Fields) -> Member | None:
    member = row(
        first_name=fields.text("subFirstName"),
        last_name=fields.text("subLastName"),
        date_of_birth=fields.read("subscriberDOB", stated_day),
        gender=_gender(fields, "subscriberGender"),
        address=_address(fields, "subscriberAddress"),
    )
    return Member(**member) if member["sources"] else None


def _gender(fields: Fields, key: str) -> Sourced[str]:
    return fields.text(key).then(lambda words: codes.GENDER_LETTERS.get(codes.fold(words)))


def _address(fields: Fields, key: str) -> Sourced[PostalAddress]:
    return fields.text(key).then(lambda whole: PostalAddress(line1=whole))


def _primary_care(fields: Fields) -> list[RelatedEntity]:
    return _entity(
        Role.PRIMARY_CARE_PROVIDER,
        name=joined(" ", fields.text("pcpFirstName"), fields.text("pcpLastName")),
        npi=fields.text("pcpNPI"),
        address=_address(fields, "pcpAddress"),
        phone=fields.text("pcpPhone"),
        fax=fields.text("pcpFax"),
    )


def _facility(fields: Fields) -> list[RelatedEntity]:
    return _entity(Role.FACILITY, name=fields.text("primaryCareFacility"))


def _alternate_entity(fields: Fields) -> list[RelatedEntity]:
    category, type_ = fields.text("altCategory"), fields.text("altType")
    roles = (codes.ALTERNATE_ROLES.get(codes.fold(words.value)) for words in (category, type_) if words.value)
    said = [words for words in (category, type_) if words.value]
    services = sorted({code for words in said for code in codes.services_named(words.value or "")})
    return _entity(
        next((role for role in roles if role is not None), Role.OTHER),
        service_type_codes=Sourced(services or None, tuple(at for words in said for at in words.pointers)),
        name=fields.text("altName"),
        category=category,
        type=type_,
        address=_address(fields, "altAddress"),
        phone=fields.text("altPhone"),
    )


def _administrator(fields: Fields) -> list[RelatedEntity]:
    if not _is_tpa(fields).value:
        return []
    payer = _payer(fields)
    named = {name: Sourced(getattr(payer, name), tuple(pointers_at(payer.sources, name))) for name in ("id", "name")}
    return _entity(Role.THIRD_PARTY_ADMINISTRATOR, **named)


def _second_payer(fields: Fields) -> list[RelatedEntity]:
    """`payerID2` and `payerName2` if they name another payer than the first pair."""
    id_, name = fields.text("payerID2"), fields.text("payerName2")
    first = {fields.text(key).value for key in ("payerID1", "payerName1")}
    if first == {None} or not {id_.value, name.value} - first - {None}:
        return []
    return _entity(Role.OTHER, id=id_, name=name)


def _entity(role: Role, **stated: Sourced[Any]) -> list[RelatedEntity]:
    fields = row(**stated)
    return [RelatedEntity(role=role, **fields)] if fields["sources"] else []


def _warnings(fields: Fields, reading: _CoverageReading) -> list[Warning_]:
    code = fields.read("coverageStatusCode", token)
    warnings = []
    if reading.contradicts:
        pointers = (*code.pointers, *fields.text("coverageStatusDesc").pointers)
        detail = "coverageStatusCode and coverageStatusDesc"
        warnings.append(warning(WarningCode.SEVERAL_PLANS_DISAGREE, *pointers, detail=detail))
    if code.value in PENDING_INVESTIGATION:
        warnings.append(warning(WarningCode.PENDING_INVESTIGATION, *code.pointers))
    if code.value == CONTACT_OTHER_ENTITY and not reading.is_stated:
        warnings.append(warning(WarningCode.CONTACT_OTHER_ENTITY, *code.pointers))
    elif code and not reading.is_stated:
        warnings.append(_unknown("coverageStatusCode", code))
    status = fields.read("requestStatusCode", token)
    if status and not reading.is_stated:  # one that is known, or has known words, was a refusal
        words = codes.words_of(fields.text("requestStatus").value or "")
        if codes.SUCCESS_WORDS.isdisjoint(words):
            warnings.append(_unknown("requestStatusCode", status))
    for key, table in (
        ("relationshipCode", RELATIONSHIPS),
        ("planTypeCode", EB04_NAMES),
        ("coverageLevelCode", LEVELS),
        ("benefitTypeCode", EB03_NAMES),
    ):
        stated = fields.read(key, token)
        if stated and stated.value not in table:
            warnings.append(_unknown(key, stated))
    return warnings


def _unknown(key: str, stated: Sourced[str]) -> Warning_:
    return warning(WarningCode.UNKNOWN_CODE, *stated.pointers, detail=f"{key} {stated.value}")
