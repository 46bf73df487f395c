"""What the cells of a summary are made of: a value with the rows that state it, or the reason why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from covergate.eligibility.cost_shares import places
from covergate.eligibility.result import Benefit, Warning_
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Kind, Level, Network, Period, WarningCode, WhyNull

_V = TypeVar("_V")

FEEDS: dict[Network, tuple[Network, ...]] = {
    Network.IN: (Network.IN,),
    Network.OUT: (Network.OUT,),
    Network.BOTH: (Network.IN, Network.OUT),
    Network.UNKNOWN: (Network.UNKNOWN,),
}
LEVEL_NAMES: dict[Level, str] = {
    Level.INDIVIDUAL: "individual",
    Level.FAMILY: "family",
    Level.UNKNOWN: "unknown_level",
}
PERSONAL_LEVELS = (Level.INDIVIDUAL, Level.EMPLOYEE_ONLY)
"""Of one person; the employee's, where only the employee is covered."""
ACCUMULATED = (Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX)
FIGURES = ("total", "used", "remaining")
STATED_IN: dict[Kind, tuple[str, ...]] = {
    Kind.COPAY: ("amount",),
    Kind.COINSURANCE: ("percent",),
    **dict.fromkeys(ACCUMULATED, FIGURES),
}
"""The fields of a benefit that hold the summary's values, by kind."""

YEARLY = frozenset({Period.CALENDAR_YEAR, Period.SERVICE_YEAR, Period.YEAR, Period.CONTRACT, Period.UNKNOWN})

_CONFLICT = "Several different values were stated for {field} ({network} network); see benefits."


class Cell(NamedTuple, Generic[_V]):
    """A value with the rows that state it, or the reason why there is none."""

    value: _V | None = None
    rows: tuple[Benefit, ...] = ()
    why_null: WhyNull | None = None


NO_VALUE: Cell[Any] = Cell(why_null=WhyNull.NOT_STATED)


def or_else(cell: Cell[_V], other: Cell[_V]) -> Cell[_V]:
    return other if cell.why_null is WhyNull.NOT_STATED else cell


@dataclass(slots=True)
class SummaryNotes:
    """What is said beside the cells of a summary."""

    why_null: dict[str, WhyNull] = field(default_factory=dict)
    warnings: list[Warning_] = field(default_factory=list)

    def value(self, path: str, cell: Cell[_V]) -> _V | None:
        if cell.why_null is not None:
            self.why_null[path] = cell.why_null
        return cell.value

    def conflict(self, network: Network, name: str, kind: Kind, rows: Iterable[Benefit]) -> None:
        sources = {pointer for row in rows for part in STATED_IN[kind] for pointer in pointers_at(row.sources, part)}
        self.warnings.append(
            Warning_(
                code=WarningCode.CONFLICTING_AMOUNTS,
                message=_CONFLICT.format(field=name, network=network),
                sources=sorted(sources),
            )
        )


def agreed_cell(rows: Sequence[Benefit], part: str, asked: frozenset[str]) -> Cell[Any]:
    """The value on which all agree. Different values under different conditions are several shares and no conflict.

    So are those of different codes: an office visit and psychotherapy, asked about together, do not contradict each other.
    """
    if len({getattr(row, part) for row in rows}) == 1 and len({row.tier for row in rows}) == 1:
        return Cell(getattr(rows[0], part), tuple(rows))
    conditions: defaultdict[tuple[str, str | None], set[Any]] = defaultdict(set)
    for row in rows:
        for code in _codes(row, asked) or (None,):
            conditions[_condition(row), code].add(getattr(row, part))
    contradicted = any(len(values) > 1 for values in conditions.values())
    return Cell(rows=tuple(rows), why_null=WhyNull.CONFLICT if contradicted else WhyNull.SEVERAL_SHARES)


def _condition(row: Benefit) -> str:
    return repr((row.tier, row.period, sorted(places(row)), row.provider_kind, row.insurance_type, row.plan_name))


def _codes(row: Benefit, asked: frozenset[str]) -> Collection[str]:
    """The asked ones of a row's codes, or all if none is asked by name."""
    own = row.procedure_codes or row.service_type_codes
    return asked.intersection(own) or own
