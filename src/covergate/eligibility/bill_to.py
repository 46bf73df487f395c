"""Whom to send the claim for the asked service (docs/x12.md#whom-to-bill).

Pure, from what the answer states of other payers and entities. Invariant: no payer is guessed. If several could be meant,
the reason and the sources are given and the payer is left open.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from covergate.eligibility.answer import Answer
from covergate.eligibility.cost_shares import SHARING
from covergate.eligibility.inquiry import CoverageOrder, Inquiry
from covergate.eligibility.plans import asked_line, holds, is_inpatient
from covergate.eligibility.programs import COMMERCIAL_TYPES, LINES, line_of
from covergate.eligibility.result import (
    Benefit,
    BillTo,
    NamedPayer,
    OtherCoverage,
    PayerAnswer,
    PayerToBill,
    RelatedEntity,
)
from covergate.eligibility.service_types import asked_types, services_meant
from covergate.eligibility.sourced import Sources, pointers_at
from covergate.eligibility.terms import BillToReason, Coverage, Kind, OtherCoverageKind, Program, Role, WarningCode
from covergate.eligibility.x12.codes import CONTACT_OTHER_ENTITY, CONTRACTED_VENDOR, NON_COVERED, WHOLE_PLAN
from covergate.eligibility.x12.names import EB04_NAMES

# Of each reason to bill somebody else the warning that says so; an administrator pays for this payer.
BILLING_WARNINGS: dict[BillToReason, WarningCode] = {
    BillToReason.MSP: WarningCode.OTHER_PAYER_PRIMARY,
    BillToReason.OTHER_PRIMARY: WarningCode.OTHER_PAYER_PRIMARY,
    BillToReason.MEDICARE_ADVANTAGE: WarningCode.MANAGED_CARE_PLAN_PAYS,
    BillToReason.MANAGED_CARE: WarningCode.MANAGED_CARE_PLAN_PAYS,
    BillToReason.CARVE_OUT: WarningCode.CARVED_OUT,
}
_MEDICAL_CARE = "1"
_PAYS_AFTER_OTHERS = frozenset({Program.MEDICAID, Program.MEDICAID_MCO})
_NOT_BESIDE = frozenset({OtherCoverageKind.MSP, OtherCoverageKind.MEDICARE_ADVANTAGE, OtherCoverageKind.MANAGED_CARE})
"""Kinds of coverage with a reason of their own: they pay instead of this payer, or by the rules of Medicare."""
_PAYS_LATER = frozenset({"secondary", "tertiary"})
_PAYING_ENTITIES = frozenset({"PR", "PRP", "VN"})
_BEHAVIORAL = frozenset({"MH", "A4", "A5", "A6", "A7", "A8", "CE", "CF", "CG", "CH", "AI", "AJ", "AK", "CI", "CJ"})
_PAID_BY_VENDORS = _BEHAVIORAL | LINES[Program.DENTAL] | LINES[Program.VISION]
"""Services whose vendor pays for them, while that of imaging only authorizes it."""


@dataclass(frozen=True, slots=True)
class Billing:
    """`reasons` are all claims on the asked service, the deciding one first; `is_carved_out` if this payer has none of it."""

    bill_to: BillTo | None
    reasons: tuple[BillTo, ...] = ()
    is_carved_out: bool = False
    sent_elsewhere: tuple[str, ...] = ()
    """Pointers to messages on an asked service that send its claims elsewhere."""
    service_types_elsewhere: frozenset[str] = frozenset()
    """Of the codes of the asked service those that another payer has: by a message, or as a carve-out."""


def billing_of(
    answer: Answer,
    inquiry: Inquiry,
    coverage: Coverage,
    program: Program,
    rows: Sequence[Benefit] = (),
    elsewhere: Sequence[Benefit] = (),
) -> Billing:
    """`coverage`, `program` and `rows` are those of the plan of the asked service, `elsewhere` the rows of other plans."""
    itself = _names_of(answer, inquiry)
    others = [one for one in answer.other_coverage if _concerns(one, inquiry) and not _is_one_of(one.payer, itself)]
    named_elsewhere = _service_types(elsewhere) - _service_types(rows)
    every = [one for one in answer.related_entities if not _is_one_of(one, itself)]
    entities = [one for one in every if frozenset(one.service_type_codes) not in named_elsewhere]
    # A commercial plan hands nobody over to another's: beside it a managed care plan is other insurance.
    is_commercial = program is Program.MEDICAL and answer.plan.type in COMMERCIAL_TYPES
    meant = [_until_priced(codes, rows) for codes in services_meant(inquiry.service)]
    sending = _rows_sending(rows, meant, itself)
    handed_over = _refused(answer) | _codes_of(sending)
    priced, active = _priced(rows), _service_types(rows)

    def is_carved_out(one: RelatedEntity) -> bool:
        codes = _named_for(one, meant)
        if one.role is Role.CARVE_OUT:
            return bool(codes) or not one.service_type_codes
        if one.entity_code not in _PAYING_ENTITIES or one.role not in (Role.OTHER, Role.CARVE_OUT_VENDOR):
            return False
        if not codes.isdisjoint(handed_over):
            return True
        # Beside an active service another payer has it, and a vendor if it is one that pays.
        has_it = codes - priced if one.entity_code != CONTRACTED_VENDOR else codes & _PAID_BY_VENDORS - priced
        is_beside = WHOLE_PLAN not in one.service_type_codes and frozenset(one.service_type_codes) in active
        return is_beside and bool(has_it) and not _has_its_words(one.name, itself)

    carved = [one for one in entities if is_carved_out(one)]
    advantage = [one for one in others if _pays_instead(one, OtherCoverageKind.MEDICARE_ADVANTAGE)]
    managed = [one for one in others if _pays_instead(one, OtherCoverageKind.MANAGED_CARE) and not is_commercial]
    found = [
        _others(BillToReason.MSP, [one for one in others if one.kind is OtherCoverageKind.MSP]),
        _others(
            BillToReason.OTHER_PRIMARY,
            _of_the_part([one for one in others if _is_primary(one, program, is_commercial)], inquiry),
        )
        or _first_unnamed(answer, inquiry),
        _others(BillToReason.MEDICARE_ADVANTAGE, advantage),
        _others(BillToReason.MANAGED_CARE, managed)
        or _entities(BillToReason.MANAGED_CARE, _of_role(entities, Role.MANAGED_CARE, meant))
        or _entities(BillToReason.MANAGED_CARE, [] if meant else _with_medical_care(every, program)),
        _entities(BillToReason.CARVE_OUT, carved),
        _entities(BillToReason.TPA, _of_role(entities, Role.THIRD_PARTY_ADMINISTRATOR, meant)),
    ]
    reasons = tuple(one for one in found if one is not None)
    sending_all = [*sending, *_rows_of_a_plan_in_words(rows, program, itself)]
    in_words = tuple(sorted({at for row in sending_all for at in pointers_at(row.sources, "notes")}))
    pays_itself = coverage is Coverage.ACTIVE and not (in_words or _sends_elsewhere(answer))
    bill_to = reasons[0] if reasons else _this_payer(answer.payer, inquiry) if pays_itself else None
    return Billing(
        bill_to,
        reasons,
        is_carved_out=_is_all_carved_out(carved, meant),
        sent_elsewhere=() if carved else in_words,
        service_types_elsewhere=_codes_of(sending)
        | frozenset(code for one in carved for code in one.service_type_codes),
    )


def _sends_elsewhere(answer: Answer) -> bool:
    """ "Contact another entity" for the plan as such, whoever that is."""
    named = {at for one in answer.related_entities for at in pointers_at(one.sources, "role")}
    return any(
        row.code == CONTACT_OTHER_ENTITY
        and (not row.service_type_codes or WHOLE_PLAN in row.service_type_codes)
        and not named.isdisjoint(pointers_at(row.sources, "kind"))
        for row in answer.benefits
    )


_ELSEWHERE = re.compile(
    r"\b(benefits?|services?|claims?|coverage) (are |is |must be )?(administered|managed|handled|processed|paid) by\b"
    r"|\bcarved[- ]out\b|\b(submit|send|mail|forward) (all )?claims to\b",
)


def _rows_sending(rows: Sequence[Benefit], meant: Sequence[tuple[str, ...]], itself: frozenset[str]) -> list[Benefit]:
    """Those on an asked service whose messages say that somebody else administers it."""
    asked = {code for codes in meant for code in codes}
    naming = [row for row in rows if not asked.isdisjoint(row.service_type_codes)]
    said = {note for row in naming for note in row.notes}
    sending = {note for note in said if _is_sending(_folded(note), itself)}
    return [row for row in naming if not sending.isdisjoint(row.notes)]


_MEMBER_OF_A_PLAN = re.compile(
    r"\bhealth plan member\b|\b(enrolled|enrollment) (in|with) (a |an )?(managed care|health plan|mco|hmo)\b"
    r"|\b(managed care|mco|hmo) (plan )?(member|enrollee)\b"
)
_NO_MEMBER = re.compile(r"\b(not|no|never) (a |an )?[a-z ]{0,20}(member|enrollee|enrolled)\b|\bnot enrolled\b")


def _rows_of_a_plan_in_words(rows: Sequence[Benefit], program: Program, itself: frozenset[str]) -> list[Benefit]:
    """Of a Medicaid agency that names the patient's managed care plan in a message alone: that pays, not the agency."""
    if program not in _PAYS_AFTER_OTHERS:
        return []
    of_plan = [row for row in rows if row.kind is Kind.COVERAGE and WHOLE_PLAN in row.service_type_codes]
    return [row for row in of_plan if any(_names_a_plan(_folded(note), itself) for note in row.notes)]


def _names_a_plan(words: str, itself: frozenset[str]) -> bool:
    said = _MEMBER_OF_A_PLAN.search(words) is not None and _NO_MEMBER.search(words) is None
    return said and not any(name in words.split("health plan member", 1)[-1] for name in itself)


def _is_sending(words: str, itself: frozenset[str]) -> bool:
    return _ELSEWHERE.search(words) is not None and not any(name in words for name in itself)


def _until_priced(codes: tuple[str, ...], rows: Sequence[Benefit]) -> tuple[str, ...]:
    """Without what lies beyond the nearest code that this payer has a price for: it pays for the service itself."""
    priced = _priced(rows)
    last = next((place for place, code in enumerate(codes) if code in priced), len(codes))
    return codes[: last + 1]


def _priced(rows: Sequence[Benefit]) -> frozenset[str]:
    return _codes_of(row for row in rows if row.kind in SHARING)


def _codes_of(rows: Iterable[Benefit]) -> frozenset[str]:
    return frozenset(code for row in rows for code in row.service_type_codes)


def _service_types(rows: Sequence[Benefit]) -> set[frozenset[str]]:
    """Of coverage rows, whose entities carry the same ones."""
    return {frozenset(row.service_type_codes) for row in rows if row.kind is Kind.COVERAGE and row.service_type_codes}


def _concerns(one: OtherCoverage, inquiry: Inquiry) -> bool:
    if not holds(one.starts_on, one.ends_on, inquiry.service_date):
        return False
    line = line_of(asked_types(inquiry.service))
    if one.kind is OtherCoverageKind.PART_D:
        return line is Program.PHARMACY
    other_line = line_of(one.service_type_codes)
    return other_line is None or other_line in asked_line(inquiry.service)


def _is_primary(one: OtherCoverage, program: Program, is_commercial: bool) -> bool:
    """Said to be primary, or insurance beside Medicaid, which pays last by law (42 CFR 433.139)."""
    if one.kind in _NOT_BESIDE and not (is_commercial and one.kind is OtherCoverageKind.MANAGED_CARE):
        return False
    if program in _PAYS_AFTER_OTHERS and one.kind is not OtherCoverageKind.MEDICAID:
        is_stated = one.order is not None or one.kind is not OtherCoverageKind.UNKNOWN
        return is_stated and one.order not in _PAYS_LATER
    return one.order == "primary"


_PARTS = {False: EB04_NAMES["MB"], True: EB04_NAMES["MA"]}
"""Of Medicare: whether the service is a stay, and the part that pays for it."""


def _of_the_part(others: list[OtherCoverage], inquiry: Inquiry) -> list[OtherCoverage]:
    """Without the part of Medicare that does not have the service, if the other part is there, too."""
    is_stay = is_inpatient(inquiry.service)
    if is_stay is None or not any(one.qualifier == _PARTS[is_stay] for one in others):
        return others
    return [one for one in others if one.qualifier != _PARTS[not is_stay]]


def _pays_instead(one: OtherCoverage, kind: OtherCoverageKind) -> bool:
    return one.kind is kind and one.order not in _PAYS_LATER


def _of_role(entities: Sequence[RelatedEntity], role: Role, meant: Sequence[tuple[str, ...]]) -> list[RelatedEntity]:
    """Those named for an asked service; without one, those named for the plan as such."""
    of_role = [one for one in entities if one.role is role]
    named = [one for one in of_role if _named_for(one, meant)]
    return named or [one for one in of_role if not one.service_type_codes or WHOLE_PLAN in one.service_type_codes]


def _with_medical_care(entities: Sequence[RelatedEntity], program: Program) -> list[RelatedEntity]:
    """Who asks Medicaid for nothing in particular asks for medical care: the plan that has it, though named apart."""
    if program not in _PAYS_AFTER_OTHERS:
        return []
    return [one for one in entities if one.role is Role.MANAGED_CARE and _MEDICAL_CARE in one.service_type_codes]


def _named_for(one: RelatedEntity, meant: Sequence[tuple[str, ...]]) -> set[str]:
    return {code for codes in meant for code in codes if code in one.service_type_codes}


def _refused(answer: Answer) -> frozenset[str]:
    """The service types that this payer does not cover, or has another one asked for."""
    return _codes_of(
        row
        for row in answer.benefits
        if row.code in (NON_COVERED, CONTACT_OTHER_ENTITY) or row.kind is Kind.NON_COVERED
    )


def _is_all_carved_out(carved: Sequence[RelatedEntity], meant: Sequence[tuple[str, ...]]) -> bool:
    named = {code for one in carved for code in one.service_type_codes}
    return bool(meant) and all(not named.isdisjoint(codes) for codes in meant)


def _others(because: BillToReason, others: Sequence[OtherCoverage]) -> BillTo | None:
    if not others:
        return None
    payers = [PayerToBill(id=one.payer.id, name=one.payer.name, phone=one.phone, address=one.address) for one in others]
    codes = {code for one in others for code in one.service_type_codes}
    return _bill_to(because, payers, codes, [(one.sources, ("payer", "order", "kind")) for one in others])


def _first_unnamed(answer: Answer, inquiry: Inquiry) -> BillTo | None:
    """This plan says that it is not primary, and was asked about as if it were."""
    if answer.plan.is_primary is not False or inquiry.coverage_order is not CoverageOrder.PRIMARY:
        return None
    return _bill_to(BillToReason.OTHER_PRIMARY, [PayerToBill()], (), [(answer.plan.sources, ("is_primary",))])


def _entities(because: BillToReason, entities: Sequence[RelatedEntity]) -> BillTo | None:
    if not entities:
        return None
    payers = [PayerToBill(id=one.id, name=one.name, phone=one.phone, address=one.address) for one in entities]
    codes = {code for one in entities for code in one.service_type_codes}
    return _bill_to(because, payers, codes, [(one.sources, ("role", "name", "id")) for one in entities])


def _bill_to(
    because: BillToReason,
    payers: Sequence[PayerToBill],
    codes: Collection[str],
    stated: Sequence[tuple[Sources, tuple[str, ...]]],
) -> BillTo:
    sources = {at for of_row, names in stated for name in names for at in pointers_at(of_row, name)}
    return BillTo(
        payer=_one(payers),
        because=because,
        service_type_codes=sorted(codes),
        sources={"because": sorted(sources)} if sources else {},
    )


def _one(payers: Sequence[PayerToBill]) -> PayerToBill:
    """The payer that all of these are, with what they agree on; none if they are several. One without a name is no other."""
    payers = [payer for payer in payers if payer.id or payer.name] or payers
    if len({(payer.id, _folded(payer.name)) for payer in payers}) > 1:
        return PayerToBill()
    phones = {payer.phone for payer in payers if payer.phone}
    addresses = [payer.address for payer in payers if payer.address]
    return PayerToBill(
        id=payers[0].id,
        name=min((payer.name for payer in payers if payer.name), default=None),
        phone=phones.pop() if len(phones) == 1 else None,
        address=addresses[0] if addresses and all(one == addresses[0] for one in addresses) else None,
    )


def _this_payer(payer: PayerAnswer, inquiry: Inquiry) -> BillTo:
    """The payer that answers, by the vendor's words, or the one asked if the vendor does not name it."""
    is_asked = payer.id is None or _folded(payer.id) == _folded(inquiry.payer.id)
    is_named = payer.id is not None or payer.name is not None
    pointers = {at for name in ("id", "name", "phone", "address") for at in pointers_at(payer.sources, name)}
    return BillTo(
        payer=PayerToBill(
            id=payer.id if is_named else inquiry.payer.id,
            name=payer.name if is_named else inquiry.payer.name,
            phone=payer.phone,
            address=payer.address,
            directory_id=inquiry.payer.directory_id if is_asked else None,
        ),
        because=BillToReason.TPA if payer.is_tpa else BillToReason.THIS_PAYER,
        sources={"payer": sorted(pointers)} if pointers else {},
    )


def _names_of(answer: Answer, inquiry: Inquiry) -> frozenset[str]:
    texts = (answer.payer.id, answer.payer.name, inquiry.payer.id, inquiry.payer.name)
    return frozenset(_folded(text) for text in texts if text)


def _has_its_words(name: str | None, itself: frozenset[str]) -> bool:
    """Payers write themselves "UnitedHealthcare - WEA" here and "UNITEDHEALTHCARE" there; a further word is another unit."""
    words = _words(name or "")
    return bool(words) and any(words <= _words(own) for own in itself)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.casefold()))


def _is_one_of(one: NamedPayer | RelatedEntity, itself: frozenset[str]) -> bool:
    return any(text is not None and _folded(text) in itself for text in (one.id, one.name))


def _folded(text: str | None) -> str:
    return " ".join((text or "").casefold().split())
