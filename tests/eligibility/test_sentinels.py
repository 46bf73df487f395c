"""Amounts that mean "no limit" and days that mean "no end" are shown as such, whoever states them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from covergate.eligibility.result import Benefit, OtherCoverage, Plan, Quantity
from covergate.eligibility.sentinels import without_sentinels
from covergate.eligibility.terms import Kind, Unit
from tests.support.stated_rows import answer_of, eb, reading


def benefit(**fields: Any) -> Benefit:
    answer = answer_of(reading(eb(eb01="1"))).model_copy(
        update={"benefits": [Benefit(kind=Kind.OUT_OF_POCKET_MAX, **fields)]}
    )
    return without_sentinels(answer).benefits[0]


@pytest.mark.parametrize("amount", ["99999.99", "999999.99", "9999999.99", "99999999.99", "999999999.99"])
def test_no_limit(amount: str) -> None:
    found = benefit(total=Decimal(amount), sources={"total": ["/t"], "kind": ["/k"]})
    assert (found.total, found.unlimited) == (None, True)
    assert found.sources == {"kind": ["/k"], "unlimited": ["/t"]}


def test_a_large_amount_is_an_amount() -> None:
    found = benefit(total=Decimal("99999.98"), sources={"total": ["/t"]})
    assert (found.total, found.unlimited) == (Decimal("99999.98"), False)


def test_no_limit_left_of_a_stated_total_says_nothing() -> None:
    found = benefit(total=Decimal(5000), remaining=Decimal("99999.99"))
    assert (found.total, found.remaining, found.unlimited) == (Decimal(5000), None, False)


def test_a_count_without_limit() -> None:
    found = benefit(quantity=Quantity(unit=Unit.VISITS, total=Decimal("999999.99")), sources={"quantity": ["/q"]})
    assert found.unlimited
    assert found.quantity is not None
    assert found.quantity.total is None
    assert found.sources["unlimited"] == ["/q"]


def test_nothing_is_subtracted_from_no_limit() -> None:
    limit = eb(eb01="G", eb02="IND", eb03=["30"], eb12="N")
    answer = answer_of(reading(limit | eb(eb06="23", eb07="99999.99"), limit | eb(eb06="24", eb07="197.07")))
    (found,) = without_sentinels(answer).benefits
    assert (found.total, found.used, found.remaining, found.unlimited) == (None, Decimal("197.07"), None, True)


@pytest.mark.parametrize("day", [date(9999, 12, 31), date(2099, 1, 1), date(2050, 12, 31)])
def test_no_end(day: date) -> None:
    sources: Any = {"ends_on": ["/e"]}
    answer = answer_of(reading(eb(eb01="1"))).model_copy(
        update={
            "plan": Plan(ends_on=day, paid_through=day, sources={**sources, "paid_through": ["/p"]}),
            "other_coverage": [OtherCoverage(ends_on=day, sources=sources)],
            "benefits": [Benefit(kind=Kind.COVERAGE, ends_on=day, sources=sources)],
        }
    )
    found = without_sentinels(answer)
    assert found.plan.paid_through is None
    parts: list[Plan | OtherCoverage | Benefit] = [found.plan, *found.other_coverage, *found.benefits]
    for part in parts:
        assert (part.ends_on, part.open_ended, part.sources) == (None, True, {"open_ended": ["/e"]})


def test_another_day_is_an_end() -> None:
    answer = answer_of(reading(eb(eb01="1"))).model_copy(update={"plan": Plan(ends_on=date(2050, 12, 30))})
    assert not without_sentinels(answer).plan.open_ended
