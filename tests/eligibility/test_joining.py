"""Which rows of a 271 are one benefit: total, used and remaining come apart, and only the total is explained."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from covergate.eligibility.terms import AuthorizationNeed, Network, Period, Unit, WarningCode
from tests.support.stated_rows import eb, reading


def deductible(**more: Any) -> dict[str, Any]:
    return eb(eb01="C", eb02="IND", eb03=["30"], eb12="Y") | more


def figures(*specs: dict[str, Any]) -> list[tuple[Network, str | None, str | None, str | None]]:
    shown = [benefit.model_dump(mode="json") for benefit in reading(*specs).benefits]
    found = [tuple(one[name] for name in ("network", "total", "used", "remaining")) for one in shown]
    return sorted(found, key=repr)


EXPLAINED = deductible(
    eb06="23", eb07="1000", days=[("346", "20260101")], msgs=["DED INCLUDED IN OOP", "ALL OTHER PROVIDERS"]
)


def test_what_is_left_joins_the_total_that_the_payer_explains() -> None:
    (benefit,) = reading(EXPLAINED, deductible(eb06="29", eb07="0")).benefits
    assert (benefit.total, benefit.remaining, benefit.period) == (Decimal(1000), Decimal(0), Period.CALENDAR_YEAR)
    assert benefit.starts_on is not None
    assert benefit.notes == ["ALL OTHER PROVIDERS", "DED INCLUDED IN OOP"]
    assert benefit.sources["remaining"] == ["/1/eb07"]


def test_what_is_left_with_one_of_the_texts_of_the_total_joins_it() -> None:
    assert figures(EXPLAINED, deductible(eb06="29", eb07="250", msgs=["ALL OTHER PROVIDERS"])) == [
        ("in", "1000.00", None, "250.00")
    ]


@pytest.mark.parametrize(
    ("eb06", "text", "joins"),
    [
        ("29", "DEDUCTIBLE REMAINING", True),
        ("29", "Individual Deductible Amount Remaining.", True),
        ("24", "AMOUNT USED YEAR TO DATE", True),
        ("24", "DEDUCTIBLE REMAINING", False),
        ("29", "REMAINING FOR TIER 1", False),
    ],
)
def test_words_that_only_name_the_figure_keep_nothing_apart(eb06: str, text: str, joins: bool) -> None:
    found = figures(EXPLAINED, deductible(eb06=eb06, eb07="250", msgs=[text]))
    assert (len(found) == 1) is joins


@pytest.mark.parametrize(
    "other",
    [
        {"msgs": ["TIER 1"]},
        {"eb02": "FAM"},
        {"eb03": ["MH"]},
        {"eb04": "HM"},
        {"eb05": "GOLD"},
        {"places": ["11"]},
        {"limits": ["PREVENTIVE"]},
        {"days": [("346", "20250101")]},
    ],
)
def test_what_is_left_of_something_else_stays_apart(other: dict[str, Any]) -> None:
    assert figures(EXPLAINED, deductible(eb06="29", eb07="250") | other) == [
        ("in", "1000.00", None, None),
        ("in", None, None, "250.00"),
    ]


def test_what_is_left_of_one_of_two_totals_stays_apart() -> None:
    tiers = [deductible(eb06="23", eb07=amount, msgs=[tier]) for amount, tier in (("500", "TIER 1"), ("900", "TIER 2"))]
    assert figures(*tiers, deductible(eb06="29", eb07="250")) == [
        ("in", "500.00", None, None),
        ("in", "900.00", None, None),
        ("in", None, None, "250.00"),
    ]


def test_the_total_with_the_same_texts_goes_before_one_with_more() -> None:
    bare, narrower = deductible(eb06="23", eb07="0"), deductible(eb06="23", eb07="75", msgs=["NON-EMERGENCY"])
    assert figures(bare, narrower, deductible(eb06="29", eb07="0")) == [
        ("in", "0.00", None, "0.00"),
        ("in", "75.00", None, None),
    ]


def test_dates_of_the_total_do_not_hide_its_texts() -> None:
    bare, narrower = (
        deductible(eb06="23", eb07="0", days=[("346", "20260101")]),
        deductible(eb06="23", eb07="75", msgs=["NON-EMERGENCY"]),
    )
    assert figures(bare, narrower, deductible(eb06="29", eb07="0")) == [
        ("in", "0.00", None, "0.00"),
        ("in", "75.00", None, None),
    ]


def test_remaining_figures_of_two_years_are_two_benefits() -> None:
    years = [
        deductible(eb06="29", eb07="0", days=[("292", year)]) for year in ("20250101-20251231", "20260101-20261231")
    ]
    assert len(reading(*years, deductible(eb06="23", eb07="10")).benefits) == 3


# Used once for both networks, total and remaining of each.
USED = deductible(eb06="24", eb07="136.21", eb12="W")
NETWORKS = [
    deductible(eb06="23", eb07="5000"),
    deductible(eb06="29", eb07="4863.79"),
    deductible(eb06="23", eb07="10000", eb12="N"),
    deductible(eb06="29", eb07="9863.79", eb12="N"),
]


def test_what_is_used_in_both_networks_joins_the_total_of_each() -> None:
    both = [("in", "5000.00", "136.21", "4863.79"), ("out", "10000.00", "136.21", "9863.79")]
    assert figures(USED, *NETWORKS) == sorted(both, key=repr)
    for benefit in reading(USED, *NETWORKS).benefits:
        assert benefit.sources["used"] == ["/0/eb07"]
        assert "/0/eb12" not in benefit.sources["network"]


def test_what_is_used_does_not_join_a_total_that_it_does_not_explain() -> None:
    found = figures(USED, NETWORKS[0], deductible(eb06="29", eb07="4000"))
    assert found == [("both", None, "136.21", None), ("in", "5000.00", None, "4000.00")]


def test_joining_does_not_depend_on_the_order() -> None:
    listed = [USED, *NETWORKS]
    assert {tuple(figures(*order)) for order in permutations(listed)} == {tuple(figures(*listed))}


def test_a_copay_beside_days_that_are_left_is_the_amount_itself() -> None:
    (benefit,) = reading(eb(eb01="B", eb03=["47"], eb04="MA", eb06="29", eb07="248", eb09="DY", eb10="30")).benefits
    assert (benefit.amount, benefit.remaining) == (Decimal(248), None)
    assert benefit.quantity is not None
    assert (benefit.quantity.unit, benefit.quantity.remaining) == (Unit.DAYS, Decimal(30))


def test_visits_with_and_without_authorization_are_one_limit() -> None:
    visits = eb(eb01="F", eb03=["PT"], eb09="VS", eb10="70", eb12="Y")
    (benefit,) = reading(
        visits | eb(eb06="23", eb11="Y"), visits | eb(eb06="23", eb11="N"), visits | eb(eb06="29")
    ).benefits
    assert benefit.quantity is not None
    assert (benefit.quantity.total, benefit.quantity.remaining) == (Decimal(70), Decimal(70))
    assert (benefit.authorization, benefit.authorization_required) == (AuthorizationNeed.MAY_APPLY, None)
    assert benefit.sources["authorization"] == ["/0/eb11", "/1/eb11"]


def test_more_left_than_the_total_stands_and_is_warned_of() -> None:
    found = reading(deductible(eb06="23", eb07="1000"), deductible(eb06="29", eb07="1200"))
    (benefit,) = found.benefits
    assert (benefit.total, benefit.remaining) == (Decimal(1000), Decimal(1200))
    assert [(one.code, one.sources) for one in found.warnings] == [
        (WarningCode.CONFLICTING_AMOUNTS, ["/0/eb07", "/1/eb07"])
    ]


def limit(**hsd: str) -> dict[str, Any]:
    return eb(eb01="F", eb03=["33"], eb12="W", deliveries=[hsd])


@pytest.mark.parametrize(
    ("hsd", "period", "within"),
    [
        ({"hsd05": "34", "hsd06": "12"}, Period.YEAR, None),
        ({"hsd05": "23", "hsd06": "1"}, Period.CALENDAR_YEAR, None),
        ({"hsd05": "21"}, Period.YEAR, None),
        ({"hsd05": "34", "hsd06": "24"}, Period.OTHER, "within 24 months"),
        ({"hsd03": "WK", "hsd04": "1", "hsd05": "34", "hsd06": "2"}, Period.WEEK, None),
        ({"hsd03": "MO", "hsd04": "6"}, Period.OTHER, "within 6 months"),
        ({}, Period.UNKNOWN, None),
    ],
)
def test_visits_of_a_delivery(hsd: dict[str, str], period: Period, within: str | None) -> None:
    (benefit,) = reading(limit(hsd01="VS", hsd02="20", **hsd)).benefits
    assert benefit.quantity is not None
    assert (benefit.quantity.unit, benefit.quantity.total) == (Unit.VISITS, Decimal(20))
    assert (benefit.period, benefit.description) == (period, within)
    assert benefit.sources["quantity"] == ["/0/deliveries/0/hsd02"]


def test_visits_that_are_left_by_a_delivery_join_the_total() -> None:
    (benefit,) = reading(
        limit(hsd01="VS", hsd02="30", hsd05="21", hsd06="1"), limit(hsd01="VS", hsd02="12", hsd05="29")
    ).benefits
    assert benefit.quantity is not None
    assert (benefit.quantity.total, benefit.quantity.remaining) == (Decimal(30), Decimal(12))


def test_a_delivery_beside_a_copay_is_a_benefit_of_its_own() -> None:
    found = reading(
        eb(eb01="B", eb03=["33"], eb06="27", eb07="20", deliveries=[{"hsd01": "VS", "hsd02": "20", "hsd05": "23"}])
    ).benefits
    assert [(one.amount, one.quantity and one.quantity.total) for one in found] == [
        (Decimal(20), None),
        (None, Decimal(20)),
    ]


def test_what_cannot_be_read_of_a_delivery_is_warned_of() -> None:
    found = reading(limit(hsd01="XX", hsd02="many", hsd05="99"))
    assert {(one.code, one.sources[0]) for one in found.warnings} == {
        (WarningCode.UNKNOWN_CODE, "/0/deliveries/0/hsd01"),
        (WarningCode.UNKNOWN_CODE, "/0/deliveries/0/hsd05"),
        (WarningCode.RAW_UNPARSABLE, "/0/deliveries/0/hsd02"),
    }
