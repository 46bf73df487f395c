"""What the plan and the asked service cost in one network, in general: no narrowed row feeds these cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from covergate.eligibility.cost_shares import authorization_among, is_anywhere, is_general, need_of, places
from covergate.eligibility.result import Benefit, NetworkSummary
from covergate.eligibility.summary.accumulators import by_level, is_of_the_plan
from covergate.eligibility.summary.cells import (
    ACCUMULATED,
    FEEDS,
    PERSONAL_LEVELS,
    STATED_IN,
    Cell,
    SummaryNotes,
    agreed_cell,
)
from covergate.eligibility.summary.cost_question import OF_THE_PLAN, SharedCostQuestion, distance_to, nearest_of
from covergate.eligibility.terms import AuthorizationNeed, BenefitPlace, Kind, Network, WhyNull
from covergate.eligibility.x12.codes import INACTIVE


def network_summary(
    rows: list[Benefit],
    near: Sequence[Benefit],
    accumulating: dict[Kind, list[Benefit]],
    question: SharedCostQuestion,
    network: Network,
    notes: SummaryNotes,
) -> NetworkSummary | None:
    covered = notes.value(f"{network}.covered", _covered(rows, near, question))
    needs = nearest_of([row for row in rows if need_of(row) is not AuthorizationNeed.UNKNOWN], question)
    stated = [row for row in rows if row.kind in STATED_IN]
    # That a service is covered is said by the result; a network needs something that a patient pays, or a denial.
    if not stated and not needs and covered is not False:
        notes.why_null.pop(f"{network}.covered", None)
        return None

    def share(kind: Kind, name: str, part: str) -> Any:
        cell = _general(rows, question, kind, part)
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, name, kind, cell.rows)
        return notes.value(f"{network}.{name}", cell), cell.rows

    copay, copay_rows = share(Kind.COPAY, "copay", "amount")
    percent, percent_rows = share(Kind.COINSURANCE, "coinsurance_percent", "percent")
    levels = {
        kind: by_level(
            [row for row in accumulating[kind] if network in FEEDS[row.network]],
            network,
            kind,
            notes,
            # Also one without a figure that could be read says that there is one.
            of_persons=any(row.kind is kind and row.level in PERSONAL_LEVELS for row in rows),
        )
        for kind in ACCUMULATED
    }
    authorization = authorization_among(needs)
    taken: dict[str, Sequence[Benefit]] = {
        "copay": copay_rows if copay is not None else (),
        "coinsurance_percent": percent_rows if percent is not None else (),
        "authorization": needs,
        **{f"{kind}.{level}": used for kind, (_, cells) in levels.items() for level, used in cells.items()},
    }
    return NetworkSummary(
        covered=covered,
        copay=copay,
        coinsurance_percent=percent,
        deductible=levels[Kind.DEDUCTIBLE][0],
        out_of_pocket_max=levels[Kind.OUT_OF_POCKET_MAX][0],
        authorization_required=_required(authorization),
        authorization=authorization,
        from_both=sorted(
            name for name, used in taken.items() if used and all(row.network is Network.BOTH for row in used)
        ),
    )


def _required(need: AuthorizationNeed) -> bool | None:
    return {AuthorizationNeed.REQUIRED: True, AuthorizationNeed.NOT_REQUIRED: False}.get(need)


def _covered(rows: Iterable[Benefit], near: Iterable[Benefit], question: SharedCostQuestion) -> Cell[bool]:
    """False where the payer excludes an asked code, at any place, and nothing says the contrary.

    Words on an exclusion of what is covered otherwise, in whatever network, exclude a part of it.
    """
    stated = {
        row.kind is Kind.COVERAGE
        for row in rows
        if _tells_coverage(row, question)
        or (
            row.kind is Kind.NON_COVERED
            and is_anywhere(row)
            and distance_to(row, question) == 0
            and not (row.limited_to and any(_tells_coverage(other, question) for other in near))
        )
    }
    if len(stated) > 1:
        return Cell(why_null=WhyNull.CONFLICT)
    if not stated and _is_plan_excluded(rows, question):
        return Cell(False)
    return Cell(next(iter(stated), None), why_null=None if stated else WhyNull.NOT_STATED)


def _is_plan_excluded(rows: Iterable[Benefit], question: SharedCostQuestion) -> bool:
    """Nothing at all is covered out of network, and no row there speaks of the asked service."""
    rows = list(rows)
    excluded = any(
        row.kind is Kind.NON_COVERED and row.network is Network.OUT and is_of_the_plan(row) and is_general(row)
        for row in rows
    )
    return excluded and not any(row.kind in STATED_IN and distance_to(row, question) < OF_THE_PLAN for row in rows)


def _tells_coverage(row: Benefit, question: SharedCostQuestion) -> bool:
    is_active = row.kind is Kind.COVERAGE and row.code not in INACTIVE
    return is_active and is_general(row) and distance_to(row, question) == 0


def _general(rows: Iterable[Benefit], question: SharedCostQuestion, kind: Kind, part: str) -> Cell[Any]:
    """The one value of the nearest rows that nothing narrows."""
    near = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    general = [row for row in near if is_general(row)]
    if not general:
        return Cell(why_null=WhyNull.LIMITED_ROWS_ONLY if near else WhyNull.NOT_STATED)
    nearest = nearest_of(general, question)
    # A row nearer to the service that something narrows says that the plan's general share is not the service's.
    if min(distance_to(row, question) for row in near) < distance_to(nearest[0], question):
        return Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    # Where office visits have a share of their own, another one without a place is not what a visit costs.
    in_office = [row for row in near if BenefitPlace.OFFICE in places(row) and not row.limited_to]
    beside = [row for row in in_office if distance_to(row, question) == distance_to(nearest[0], question)]
    if beside and {getattr(row, part) for row in beside} != {getattr(row, part) for row in nearest}:
        return Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    return agreed_cell(nearest, part, question.codes)
