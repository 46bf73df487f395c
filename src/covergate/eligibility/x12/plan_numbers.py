"""Numbers and names of the plan that REF segments state: group, plan and network (docs/x12.md#plan-numbers)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covergate.eligibility.sourced import NOT_STATED, Sourced
from covergate.eligibility.x12.codes import ACTIVE, INACTIVE, PLAN_NETWORK, WHOLE_PLAN
from covergate.eligibility.x12.rows import EbRow, Reference

# Field of the result's plan → REF01, the first that is stated.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "group_number": ("6P", "1L"),
    "number": ("18",),
    "network_id": (PLAN_NETWORK,),
}
_GROUP = _NUMBERS["group_number"]


def plan_numbers(rows: Sequence[EbRow], references: Iterable[Reference] = ()) -> dict[str, Sourced[str]]:
    """`references` stand outside of any row and come first.

    Of the rows only those count that state the coverage of the whole plan, and only as far as they agree: a rider has
    numbers of its own.
    """
    of_person = list(references)
    of_rows = [reference for row in rows if _states_the_plan(row) for reference in row.references]
    numbers = {
        name: _number(of_person, qualifiers) | _number(of_rows, qualifiers) for name, qualifiers in _NUMBERS.items()
    }
    return {**numbers, "group_name": _name(of_person, _GROUP) | _name(of_rows, _GROUP)}


def _states_the_plan(row: EbRow) -> bool:
    return row.code in ACTIVE | INACTIVE and (not row.eb03 or WHOLE_PLAN in row.service_types)


def _number(references: list[Reference], qualifiers: tuple[str, ...]) -> Sourced[str]:
    for qualifier in qualifiers:
        stated = [one.number for one in references if one.qualifier == qualifier and one.number]
        if stated:
            return _only(stated)
    return NOT_STATED


def _name(references: list[Reference], qualifiers: tuple[str, ...]) -> Sourced[str]:
    for qualifier in qualifiers:
        stated = [one.description for one in references if one.qualifier == qualifier and one.description]
        if stated:
            return _only(stated)
    return NOT_STATED


def _only(stated: list[Sourced[str]]) -> Sourced[str]:
    """The one text of all of them, with their pointers; not stated if they differ."""
    if len({text.value for text in stated}) != 1:
        return NOT_STATED
    return Sourced(stated[0].value, tuple(sorted({pointer for text in stated for pointer in text.pointers})))
