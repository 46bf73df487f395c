"""The deductible and the out-of-pocket maximum of a summary: which rows feed them, and their figures by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from covergate.eligibility.cost_shares import is_general
from covergate.eligibility.result import Accumulator, Benefit, ByLevel
from covergate.eligibility.summary.cells import (
    FIGURES,
    LEVEL_NAMES,
    NO_VALUE,
    PERSONAL_LEVELS,
    YEARLY,
    Cell,
    SummaryNotes,
)
from covergate.eligibility.summary.cost_question import OF_PHYSICIANS, SharedCostQuestion, distance_to, nearest_of
from covergate.eligibility.terms import Kind, Level, Network, WhyNull
from covergate.eligibility.x12.codes import WHOLE_PLAN

_NOTHING = Decimal(0)


def accumulating(near: Sequence[Benefit], kind: Kind, question: SharedCostQuestion) -> list[Benefit]:
    """The plan's own rows; if the payer states none in any network, those on the asked service.

    A zero for one service is no figure of the plan: it says that the deductible is waived for this service. Dental care,
    vision and drugs have figures of their own, even within one plan: there the plan's are not the service's.
    """
    stating = [row for row in near if row.kind is kind and _is_accumulator(row)]
    if question.is_of_another_line:
        own = [row for row in stating if distance_to(row, question) < OF_PHYSICIANS and is_general(row)]
        if own:
            return nearest_of(own, question)
    of_plan = [row for row in stating if is_of_the_plan(row)]
    if any(is_general(row) for row in of_plan):
        return of_plan
    of_service = [row for row in stating if not is_of_the_plan(row) and row.total != 0]
    return [*of_plan, *nearest_of([row for row in of_service if is_general(row)] or of_service, question)]


def _is_accumulator(row: Benefit) -> bool:
    return row.unlimited or any(getattr(row, name) is not None for name in FIGURES)


def is_of_the_plan(row: Benefit) -> bool:
    return not row.procedure_codes and (not row.service_type_codes or WHOLE_PLAN in row.service_type_codes)


def by_level(
    rows: list[Benefit], network: Network, kind: Kind, notes: SummaryNotes, *, of_persons: bool
) -> tuple[ByLevel, dict[str, tuple[Benefit, ...]]]:
    """The cells, and by their names the rows that they were taken from."""
    if not rows:
        return ByLevel(), {}
    cells = {name: _accumulated(_of_level(rows, level)) for level, name in LEVEL_NAMES.items()}
    stated: dict[str, Accumulator] = {}
    for name, cell in cells.items():
        path = f"{kind}.{name}"
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, path, kind, cell.rows)
        value = notes.value(f"{network}.{path}", cell)
        if value is not None:
            stated[name] = value
    limits = (cells["individual"], cells["family"])
    left = [cell.value.remaining for cell in limits if cell.value is not None and cell.value.remaining is not None]
    unclear = [cell.why_null for cell in limits if cell.why_null not in (None, WhyNull.NOT_STATED)]
    if unclear:
        notes.why_null[f"{network}.{kind}.effective_remaining"] = unclear[0]
    return ByLevel(
        **stated,
        embedded=False if "family" in stated and not of_persons else None,
        effective_remaining=min(left) if left and not unclear else None,
    ), {name: cell.rows for name, cell in cells.items() if cell.value is not None}


def _of_level(rows: list[Benefit], level: Level) -> list[Benefit]:
    """Where nothing is stated for individuals, the amount of "employee only" is the person's."""
    levels = PERSONAL_LEVELS if level is Level.INDIVIDUAL else (level,)
    found = ([row for row in rows if row.level is one] for one in levels)
    return next((of_level for of_level in found if of_level), [])


def _accumulated(rows: list[Benefit]) -> Cell[Accumulator]:
    """The figures of these rows as one, if nothing narrows them and they agree. A limit of a lifetime is not the year's."""
    if not rows:
        return NO_VALUE
    general = [row for row in rows if is_general(row)]
    candidates = [row for row in general if row.period in YEARLY] or general
    if not candidates:
        return Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    if len({row.tier for row in candidates}) > 1 and not _is_one_for_all_tiers(candidates):
        return Cell(rows=tuple(candidates), why_null=WhyNull.SEVERAL_SHARES)
    figures: dict[str, Decimal] = {}
    for name in FIGURES:
        values = {value for row in candidates if (value := getattr(row, name)) is not None}
        if len(values) > 1:
            return Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
        if values:
            figures[name] = values.pop()
    if is_impossible(figures.get("total"), figures.get("used"), figures.get("remaining")):
        return Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
    if "total" in figures and "used" in figures:
        # What is used may be stated once for both networks, apart from their totals.
        figures.setdefault("remaining", max(figures["total"] - figures["used"], _NOTHING))
    shared = sorted({other for row in candidates for other in row.shared_with})
    includes = {row.includes_deductible for row in candidates} - {None}
    accumulator = Accumulator(
        **figures,
        unlimited="total" not in figures and any(row.unlimited for row in candidates),
        shared_with=shared,
        includes_deductible=includes.pop() if len(includes) == 1 else None,
    )
    return Cell(accumulator, tuple(candidates))


def _is_one_for_all_tiers(rows: list[Benefit]) -> bool:
    by_tier: defaultdict[str | None, set[tuple[object, ...]]] = defaultdict(set)
    for row in rows:
        by_tier[row.tier].add(tuple(getattr(row, name) for name in FIGURES))
    return len({frozenset(figures) for figures in by_tier.values()}) == 1


def is_impossible(total: Decimal | None, used: Decimal | None, remaining: Decimal | None) -> bool:
    """More is left than there is. Less may be: what is left of the family's amount limits that of a person."""
    if total is None or remaining is None:
        return False
    return remaining > max(total if used is None else total - used, _NOTHING)
