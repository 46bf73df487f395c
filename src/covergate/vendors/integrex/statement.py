"""From Integrex's flat answer to a `Answer`. Source: "[GET] Enhanced Eligibility Response" (PDF), its columns untangled.

Every value is a string; "" is "not stated", never zero. Amounts are dollars, `coins(%)` whole percent, dates YYYY-MM-DD.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import warning
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
from covergate.eligibility.sourced import Sourced, money, percent
from covergate.eligibility.terms import AppliesTo, CodeType, Coverage, Kind, PatientRelationship, Role, WarningCode
from covergate.eligibility.x12.codes import (
    ACTIVE,
    CONTACT_OTHER_ENTITY,
    INACTIVE,
    LEVELS,
    PENDING_INVESTIGATION,
    RELATIONSHIPS,
)
from covergate.eligibility.x12.names import EB04_NAMES
from covergate.vendors.document import iso_date, joined, remaining, row, token
from covergate.vendors.flow import Question
from covergate.vendors.integrex import codes
from covergate.vendors.integrex.fields import Fields


@dataclass(frozen=True, slots=True)
class CoverageReading:
    coverage: Coverage
    non_covered: bool = False
    """The words say that the benefit is not covered."""

    @property
    def is_stated(self) -> bool:
        return self.coverage is not Coverage.UNKNOWN or self.non_covered


def coverage_of(fields: Fields) -> CoverageReading:
    """The code as X12's EB01, 1 to 8; any other code by its words, "inactive" looked for before "active"."""
    code = fields.text("coverageStatusCode").value
    if code in ACTIVE:
        return CoverageReading(Coverage.ACTIVE)
    if code in INACTIVE:
        return CoverageReading(Coverage.INACTIVE)
    said = codes.words_of(fields.text("coverageStatusDesc").value or "")
    if _is_negated(codes.COVERED_WORD, said):
        return CoverageReading(Coverage.UNKNOWN, non_covered=True)
    if codes.INACTIVE_WORDS & set(said) or _is_negated(codes.ACTIVE_WORD, said):
        return CoverageReading(Coverage.INACTIVE)
    return CoverageReading(Coverage.ACTIVE if codes.ACTIVE_WORD in said else Coverage.UNKNOWN)


def _is_negated(word: str, said: list[str]) -> bool:
    return word in said and not codes.NEGATIONS.isdisjoint(said[: said.index(word)])


def statement_of(fields: Fields, question: Question, answered_at: datetime) -> Answer:
    reading = coverage_of(fields)
    patient = _patient(fields)
    subscriber = _subscriber(fields) if patient.relationship is not PatientRelationship.SELF else None
    return Answer(
        coverage=reading.coverage,
        as_of=fields.read("beginDOS", iso_date).value or question.inquiry.service_date,
        answered_at=answered_at,
        services=_services(fields, reading),
        plan=_plan(fields),
        payer=_payer(fields),
        patient=patient,
        subscriber=subscriber,
        benefits=[*_coverage_row(fields, reading), *_limits(fields), *_shares(fields), *_copays(fields)],
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
        warnings=_warnings(fields, reading),
    )


def _services(fields: Fields, reading: CoverageReading) -> list[ServiceAnswer]:
    """ "Non-covered" is said of the service type that the answer names; without one it is said of nothing we know."""
    named = fields.read("benefitTypeCode", token)
    if not reading.non_covered or named.value is None:
        return []
    covered = fields.text("coverageStatusDesc").then(lambda said: False)
    return [
        ServiceAnswer(
            code_type=CodeType.SERVICE_TYPE, **row(code=named, covered=covered, name=fields.text("benefitTypeDesc"))
        )
    ]


def _coverage_row(fields: Fields, reading: CoverageReading) -> list[Benefit]:
    """The status as a row. What the benefit type means ("Standard X12 Benefit Type code") is unsure, so it is only noted."""
    code, said = fields.read("coverageStatusCode", token), fields.text("coverageStatusDesc")
    about = [fields.text(key).then(f"{key}: {{}}".format) for key in ("benefitTypeCode", "benefitTypeDesc")]
    noted = [note for note in about if note]
    if not (code or said or noted):
        return []
    notes = Sourced(
        [note.value for note in noted] or None, tuple(pointer for note in noted for pointer in note.pointers)
    )
    return [
        Benefit(
            kind=Kind.NON_COVERED if reading.non_covered else Kind.COVERAGE,
            **row(code=code, description=said, notes=notes),
        )
    ]


def _limits(fields: Fields) -> list[Benefit]:
    found = []
    for key, (kind, level, network) in codes.LIMITS.items():
        amounts = row(total=fields.read(key, money), remaining=fields.read(f"{key}Remaining", remaining))
        if amounts["sources"]:
            found.append(Benefit(kind=kind, applies_to=AppliesTo.PLAN, level=level, network=network, **amounts))
    return found


def _shares(fields: Fields) -> list[Benefit]:
    return [
        Benefit(kind=Kind.COINSURANCE, network=network, **row(percent=share))
        for key, network in codes.SHARES.items()
        if (share := fields.read(key, percent))
    ]


def _copays(fields: Fields) -> list[Benefit]:
    return [
        Benefit(kind=Kind.COPAY, description=description, **row(amount=amount))
        for key, description in codes.COPAYS.items()
        if (amount := fields.read(key, money))
    ]


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
            starts_on=fields.read("coverageStartDate", iso_date),
            ends_on=fields.read("coverageEndDate", iso_date),
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
    return fields.text("payerTPA").then(lambda said: codes.INDICATORS.get(codes.fold(said)))


ALTERNATE = {
    "name": "altName",
    "category": "altCategory",
    "type": "altType",
    "address": "altAddress",
    "phone": "altPhone",
}


def _alternate(fields: Fields) -> Sourced[AlternatePayer]:
    parts = {name: part for name, key in ALTERNATE.items() if (part := fields.text(key))}
    if not parts:
        return Sourced(None)
    pointers = tuple(pointer for part in parts.values() for pointer in part.pointers)
    return Sourced(AlternatePayer(**{name: part.value for name, part in parts.items()}), pointers)


def _patient(fields: Fields) -> Member:
    code = fields.text("relationshipCode").then(RELATIONSHIPS.get)
    said = fields.text("relationshipDesc").then(lambda words: codes.RELATIONSHIPS.get(codes.fold(words)))
    return Member(
        relationship=(code | said).value or PatientRelationship.UNKNOWN,
        **row(
            first_name=fields.text("patientFirstName"),
            last_name=fields.text("patientLastName"),
            date_of_birth=fields.read("patientDOB", iso_date),
            gender=_gender(fields, "patientGender"),
            member_id=fields.text("sub.MemberID"),
            address=_address(fields, "patientAddress"),
        ),
    )


def _subscriber(fields: Fields) -> Member | None:
    stated = row(
        first_name=fields.text("subFirstName"),
        last_name=fields.text("subLastName"),
        date_of_birth=fields.read("subscriberDOB", iso_date),
        gender=_gender(fields, "subscriberGender"),
        address=_address(fields, "subscriberAddress"),
    )
    return Member(**stated) if stated["sources"] else None


def _gender(fields: Fields, key: str) -> Sourced[str]:
    return fields.text(key).then(lambda said: codes.GENDERS.get(codes.fold(said)))


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
    return _entity(
        next((role for role in roles if role is not None), Role.OTHER),
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
    named = {name: Sourced(getattr(payer, name), tuple(payer.sources.get(name, []))) for name in ("id", "name")}
    return _entity(Role.THIRD_PARTY_ADMINISTRATOR, **named)


def _second_payer(fields: Fields) -> list[RelatedEntity]:
    """`payerID2` and `payerName2` where they name somebody else than the first pair."""
    id_, name = fields.text("payerID2"), fields.text("payerName2")
    first = {fields.text(key).value for key in ("payerID1", "payerName1")}
    if first == {None} or not {id_.value, name.value} - first - {None}:
        return []
    return _entity(Role.OTHER, id=id_, name=name)


def _entity(role: Role, **stated: Sourced[Any]) -> list[RelatedEntity]:
    found = row(**stated)
    return [RelatedEntity(role=role, **found)] if found["sources"] else []


def _warnings(fields: Fields, reading: CoverageReading) -> list[Warning_]:
    code = fields.read("coverageStatusCode", token)
    found = []
    if code.value in PENDING_INVESTIGATION:
        found.append(warning(WarningCode.PENDING_INVESTIGATION, *code.pointers))
    if code.value == CONTACT_OTHER_ENTITY and not reading.is_stated:
        found.append(warning(WarningCode.CONTACT_OTHER_ENTITY, *code.pointers))
    elif code and not reading.is_stated:
        found.append(_unknown("coverageStatusCode", code))
    for key, table in (
        ("relationshipCode", RELATIONSHIPS),
        ("planTypeCode", EB04_NAMES),
        ("coverageLevelCode", LEVELS),
    ):
        stated = fields.read(key, token)
        if stated and stated.value not in table:
            found.append(_unknown(key, stated))
    return found


def _unknown(key: str, stated: Sourced[str]) -> Warning_:
    return warning(WarningCode.UNKNOWN_CODE, *stated.pointers, detail=f"{key} {stated.value}")
