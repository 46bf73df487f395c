"""The eligibility JSON of Claim.MD, in which Healthie's checks are answered, as EB rows.

Source: field names of docs.claim.md and of public code that reads it; Healthie documents only "a JSON object". `result`
may wrap it or not, `elig`, `benefit` and `error` may each be one object or a list, and every value is a string.
"""

from __future__ import annotations

import re
from dataclasses import replace

from covergate.eligibility.result import Member
from covergate.eligibility.sourced import NOT_STATED, Sourced, percent, pointer, row
from covergate.eligibility.x12.rows import Days, EbRow, Entity, Reference, dtp, element
from covergate.vendors.document import Node, text
from covergate.vendors.healthie.check_response import (
    CheckResponse,
    compact_day,
    postal_address,
    sort_errors,
    split_codes,
)

_POLICY_NUMBER = "IG"
"""The REF qualifier that `policy_number` of a row is read as."""


def claim_md(document: Node) -> CheckResponse | None:
    """None if the document is not one of Claim.MD's."""
    roots = [inner for root in document.objects() for inner in (root, *root.at("result").objects())]
    eligs = [elig for root in roots for elig in root.at("elig").objects()]
    eligs += [root for root in roots if "benefit" in root.value]
    errors = [error for place in (*roots, *eligs) for error in place.at("error").objects()]
    if not eligs and not errors:
        return None
    aaas, others = sort_errors(errors, "error_code", "error_mesg")
    return CheckResponse(
        rows=tuple(_row(benefit) for elig in eligs for benefit in elig.at("benefit").objects()),
        plan_days=tuple(day for elig in eligs for day in _plan_days(elig)),
        aaas=aaas,
        errors=others,
        message=next((words for error in errors if (words := error.text("error_mesg").value)), None),
        insured=_member(eligs[0]) if eligs else None,
        plan=_plan(eligs),
        answered_on=next((day for elig in eligs if (day := elig.read("elig_result_date", compact_day).value)), None),
        trace_number=next((number for elig in eligs if (number := elig.text("eligid").value)), None),
    )


def _member(insured: Node) -> Member:
    lines = (("line1", "addr_1"), ("line2", "addr_2"), ("city", "city"), ("state", "state"), ("zip", "zip"))
    return Member(
        **row(
            first_name=insured.text("ins_name_f"),
            middle_name=insured.text("ins_name_m"),
            last_name=insured.text("ins_name_l"),
            date_of_birth=insured.read("ins_dob", compact_day),
            gender=insured.text("ins_sex"),
            member_id=insured.text("ins_number"),
            address=postal_address({name: insured.text(f"ins_{key}") for name, key in lines}),
        )
    )


def _plan(eligs: list[Node]) -> dict[str, Sourced[str]]:
    insured = eligs[0] if eligs else Node(None, "")
    return {"number": insured.text("plan_number"), "group_number": insured.text("group_number")}


def _row(benefit: Node) -> EbRow:
    def of(key: str) -> Sourced[str]:
        return element(benefit.at(key).value, benefit.at(key).pointer)

    share, place, policy = of("benefit_percent"), of("place_of_service"), of("policy_number")
    is_code = re.fullmatch("[0-9]{2}", place.value or "") is not None
    return EbRow(
        eb01=of("benefit_coverage_code"),
        eb02=of("benefit_level_code"),
        eb03=tuple(split_codes(benefit.at("benefit_code"))),
        eb04=of("insurance_type_code"),
        eb05=of("insurance_plan"),
        eb06=of("benefit_period_code"),
        eb07=of("benefit_amount"),
        eb08=share,
        eb08_is_fraction=_is_fraction(share),
        eb12=of("inplan_network"),
        msgs=tuple(split_codes(benefit.at("benefit_notes"), by=None)),
        places=(place,) if is_code else (),
        limits=(place,) if place and not is_code else (),
        references=(Reference(_POLICY_NUMBER, policy),) if policy else (),
        entities=tuple(_entities(benefit)),
    )


def _is_fraction(share: Sourced[str]) -> bool:
    """Clients read the percentage as whole percents in some places and as a fraction in others: up to 1 it is a fraction."""
    whole = percent(share.value)
    return whole is not None and whole <= 1


def _entities(benefit: Node) -> list[Entity]:
    """Parallel lists: the first name belongs to the first id, and so on."""
    names = ("entity_code", "entity_name", "entity_id", "entity_phone", "entity_fax", "entity_website")
    columns = {name: _column(benefit.at(name)) for name in names}
    lines = (("line1", "addr_1"), ("line2", "addr_2"), ("city", "city"), ("state", "state"), ("zip", "zip"))
    address = {name: _column(benefit.at(f"entity_{key}")) for name, key in lines}
    entities: list[Entity] = []
    for index in range(max(len(column) for column in columns.values())):
        code, name, number, phone, fax, website = (_nth(columns[name], index) for name in names)
        if not name and not number:
            continue
        entities.append(
            Entity(
                code=code,
                name=name,
                id=number,
                phone=phone,
                fax=fax,
                website=website,
                address=postal_address({part: _nth(column, index) for part, column in address.items()}),
            )
        )
    return entities


def _column(node: Node) -> list[Sourced[str]]:
    if isinstance(node.value, list):
        return [element(value, pointer(node.pointer, index)) for index, value in enumerate(node.value)]
    return [element(node.value, node.pointer)]


def _nth(column: list[Sourced[str]], index: int) -> Sourced[str]:
    return column[index] if index < len(column) else NOT_STATED


def _plan_days(elig: Node) -> list[Days]:
    """`yyyymmdd`, as DTP 346 and 347, plan begin and plan end. A range in one of them is 291, which may be the inquiry's own."""
    dates = (("346", elig.at("plan_begin_date")), ("347", elig.at("plan_end_date")))
    read = [dtp(qualifier, text(node.value), node.pointer) for qualifier, node in dates]
    return [replace(days, qualifier="291") if days.is_range else days for days in read if days is not None]
