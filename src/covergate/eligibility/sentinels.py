"""Amounts that mean "no limit" and days that mean "no end": payers fill a number or a date in where they have none.

`sentinels.toml` holds them. They leave an answer here, whichever vendor it came from (docs/x12.md#sentinels); `sources` then
stand at `unlimited` and `open_ended`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from importlib import resources
from typing import Any, TypeVar

from covergate.eligibility.answer import Answer
from covergate.eligibility.result import Benefit, OtherCoverage, Plan
from covergate.eligibility.sourced import Sources, pointers_at

_P = TypeVar("_P", Plan, Benefit, OtherCoverage)

_STORED: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("sentinels.toml").read_text("utf-8"))

NO_LIMIT = frozenset(map(Decimal, _STORED["no_limit"]))
NO_END: frozenset[date] = frozenset(_STORED["no_end"])
NO_END_FROM_YEAR: int = _STORED["no_end_from"]

_AMOUNTS = ("amount", "total", "used", "remaining")
_COUNTS = ("total", "used", "remaining")


def means_no_limit(amount: Decimal | None) -> bool:
    return amount in NO_LIMIT


def means_no_end(day: date | None) -> bool:
    return day is not None and (day.year >= NO_END_FROM_YEAR or day in NO_END)


def without_sentinels(answer: Answer) -> Answer:
    """The answer with null, `unlimited` and `open_ended` in their place."""
    return answer.model_copy(
        update={
            "plan": _paid(_ended(answer.plan)),
            "benefits": [_ended(_limited(benefit)) for benefit in answer.benefits],
            "other_coverage": [_ended(other) for other in answer.other_coverage],
        }
    )


def _ended(part: _P) -> _P:
    if not means_no_end(part.ends_on):
        return part
    sources = _moved(part.sources, ("ends_on",), "open_ended")
    return part.model_copy(update={"ends_on": None, "open_ended": True, "sources": sources})


def _paid(plan: Plan) -> Plan:
    """ "Premiums are paid for ever" says that none are kept account of."""
    if not means_no_end(plan.paid_through):
        return plan
    sources = {name: at for name, at in plan.sources.items() if name != "paid_through"}
    return plan.model_copy(update={"paid_through": None, "sources": sources})


def _limited(benefit: Benefit) -> Benefit:
    amounts = [name for name in _AMOUNTS if getattr(benefit, name) in NO_LIMIT]
    quantity = benefit.quantity
    counts = [name for name in _COUNTS if quantity is not None and getattr(quantity, name) in NO_LIMIT]
    if not amounts and not counts:
        return benefit
    left: dict[str, Any] = dict.fromkeys(amounts)
    sources = _moved(benefit.sources, amounts, "unlimited")
    if quantity is not None and counts:
        left["quantity"] = quantity.model_copy(update=dict.fromkeys(counts))
        sources["unlimited"] = sorted({*pointers_at(sources, "unlimited"), *pointers_at(sources, "quantity")})
    # "No limit" left of a stated total says nothing; it is no number either.
    unlimited = benefit.total is None or "total" in amounts
    return benefit.model_copy(update={**left, "unlimited": unlimited, "sources": sources})


def _moved(sources: Sources, names: Sequence[str], to: str) -> Sources:
    """The sources with those of `names` under one name."""
    kept = {name: at for name, at in sources.items() if name not in names}
    pointers = sorted({pointer for name in names for pointer in pointers_at(sources, name)})
    return {**kept, to: pointers} if pointers else kept
