"""Rows that hold up to an age or from an age on (EB09 is S7 or S8): whether they are the patient's (docs/x12.md#eb09).

Invariant: a row for other ages is narrowed, never dropped; of a patient whose age is not known every such row is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import date
from decimal import Decimal

from covergate.eligibility.result import Benefit
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.x12.names import EB09_NAMES

_HOLDS: dict[str, Callable[[int, Decimal], bool]] = {
    EB09_NAMES["S7"]: lambda age, highest: age <= highest,
    EB09_NAMES["S8"]: lambda age, lowest: age >= lowest,
}
"""By the description of a benefit, which is the name of its EB09."""


def of_the_age(benefits: Sequence[Benefit], born: date | None, day: date | None) -> list[Benefit]:
    """The rows, those for other ages than the patient's on the day of the service narrowed to theirs."""
    return [_narrowed(row) if _is_of_ages(row) and not _holds(row, born, day) else row for row in benefits]


def without_other_ages(benefits: Sequence[Benefit]) -> list[Benefit]:
    """Without the rows for any age in whose place the payer states one for the patient's."""
    own = {_place(row) for row in benefits if _is_of_ages(row) and not row.limited_to}
    return [row for row in benefits if _is_of_ages(row) or _place(row) not in own]


def _is_of_ages(row: Benefit) -> bool:
    return row.description in _HOLDS


def _holds(row: Benefit, born: date | None, day: date | None) -> bool:
    limit = row.quantity.total if row.quantity is not None else None
    if born is None or day is None or limit is None:
        return False
    age = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return _HOLDS[row.description or ""](age, limit)


def _narrowed(row: Benefit) -> Benefit:
    limit = row.quantity.total if row.quantity is not None else None
    words = f"{row.description} {limit}" if limit is not None else str(row.description)
    pointers = sorted({*pointers_at(row.sources, "limited_to"), *pointers_at(row.sources, "quantity")})
    sources = {**row.sources, "limited_to": pointers} if pointers else row.sources
    return row.model_copy(update={"limited_to": sorted({*row.limited_to, words}), "sources": sources})


def _place(row: Benefit) -> Hashable:
    """What a row is about, apart from ages and amounts."""
    codes = (tuple(row.service_type_codes), tuple(row.procedure_codes))
    return (row.kind, *codes, row.network, row.level, row.place, row.provider_kind, row.tier, tuple(row.limited_to))
