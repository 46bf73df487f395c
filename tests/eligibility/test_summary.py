"""The summary's values, and when it is null and warns instead (docs/x12.md#choosing-an-amount)."""

from __future__ import annotations

from typing import Any

import pytest

from covergate.eligibility.result import Benefit, NetworkSummary
from covergate.eligibility.sourced import money
from covergate.eligibility.summary.cost_question import SharedCostQuestion
from covergate.eligibility.summary.summarize import summarize
from covergate.eligibility.terms import AppliesTo, Kind, Level, Network, WarningCode, WhyNull

ASKED = SharedCostQuestion(procedures=frozenset({"90837"}), service_types=frozenset({"MH"}))


def copay(amount: str, *codes: str, network: Network = Network.IN, **fields: Any) -> Benefit:
    return Benefit(kind=Kind.COPAY, service_type_codes=list(codes), network=network, amount=money(amount), **fields)


def deductible(total: str | None, *codes: str, **fields: Any) -> Benefit:
    return Benefit(
        **{
            "kind": Kind.DEDUCTIBLE,
            "service_type_codes": list(codes),
            "network": Network.IN,
            "level": Level.INDIVIDUAL,
            "total": money(total),
        }
        | fields
    )


def inside(*benefits: Benefit) -> NetworkSummary:
    summary, warnings = summarize(list(benefits), ASKED)
    assert not warnings
    assert summary.in_ is not None
    return summary.in_


@pytest.mark.parametrize(
    ("benefits", "expected"),
    [
        ([copay("30", "MH"), copay("40", "30"), copay("50")], "30.00"),
        ([copay("40", "30"), copay("50")], "40.00"),
        ([copay("50"), copay("60", "35")], "50.00"),
        ([copay("30", "MH"), copay("30", "MH", "98")], "30.00"),
        ([copay("35", procedure_codes=["90837"]), copay("40", "30")], "35.00"),
        ([copay("25", applies_to=AppliesTo.ASKED_SERVICE), copay("40", "30")], "25.00"),
        ([copay("0", "MH"), copay("40", "30")], "0.00"),
    ],
)
def test_nearest_rows_win(benefits: list[Benefit], expected: str | None) -> None:
    shown = inside(*benefits).model_dump(mode="json")
    assert shown["copay"] == expected


def test_a_dental_copay_is_no_answer_to_the_question() -> None:
    summary, _ = summarize([copay("60", "35")], ASKED)
    assert summary.in_ is None


@pytest.mark.parametrize(
    ("network", "filled"),
    [
        (Network.IN, {"in"}),
        (Network.OUT, {"out"}),
        (Network.BOTH, {"in", "out"}),
        (Network.UNKNOWN, {"unknown"}),
    ],
)
def test_networks(network: Network, filled: set[str]) -> None:
    summary, _ = summarize([copay("30", "MH", network=network)], ASKED)
    filled_parts = {name for name in ("in", "out", "unknown") if summary.model_dump(mode="json")[name] is not None}
    assert filled_parts == filled


def test_nothing_stated_is_null() -> None:
    summary, warnings = summarize([Benefit(kind=Kind.COVERAGE, network=Network.IN)], ASKED)
    shown = summary.model_dump(mode="json")
    assert (shown["in"], shown["out"], shown["unknown"], shown["this_provider"]) == (None, None, None, None)
    assert set(shown["why_null"].values()) == {"not_stated"}
    assert not warnings


def test_levels() -> None:
    found = inside(
        deductible("1000"),
        deductible("2000", level=Level.FAMILY),
        deductible("3000", level=Level.UNKNOWN),
        deductible("4000", level=Level.EMPLOYEE_ONLY),
        deductible("5000", kind=Kind.OUT_OF_POCKET_MAX),
    ).model_dump(mode="json")
    assert {name: part["total"] for name, part in found["deductible"].items() if isinstance(part, dict)} == {
        "individual": "1000.00",
        "family": "2000.00",
        "unknown_level": "3000.00",
    }
    assert found["out_of_pocket_max"]["individual"]["total"] == "5000.00"
    assert found["out_of_pocket_max"]["family"] is None


@pytest.mark.parametrize(
    "benefits",
    [
        [copay("30", "MH"), copay("50", "MH")],
        [copay("30", "MH"), copay("50", "MH", network=Network.BOTH)],
    ],
)
def test_conflict_picks_nothing_and_warns(benefits: list[Benefit]) -> None:
    sourced = [
        row.model_copy(update={"sources": {"amount": [f"/{place}"], "network": ["/n"]}})
        for place, row in enumerate(benefits)
    ]
    summary, warnings = summarize(sourced, ASKED)
    assert summary.in_ is not None
    assert summary.in_.copay is None
    (warning,) = warnings
    assert warning.code is WarningCode.CONFLICTING_AMOUNTS
    assert warning.sources == ["/0", "/1"]


def test_shares_of_two_tiers_are_no_conflict() -> None:
    summary, warnings = summarize([copay("30", "MH", tier="1"), copay("50", "MH", tier="2")], ASKED)
    assert summary.in_ is not None
    assert (summary.in_.copay, summary.why_null["in.copay"]) == (None, WhyNull.SEVERAL_SHARES)
    assert not warnings


def test_conflicting_deductibles_leave_the_rest_alone() -> None:
    summary, warnings = summarize([deductible("1000"), deductible("1500"), copay("30", "MH")], ASKED)
    assert summary.in_ is not None
    assert summary.in_.deductible.individual is None
    assert summary.in_.copay == money("30")
    assert len(warnings) == 1


def test_a_far_conflict_does_not_hide_a_near_answer() -> None:
    assert inside(copay("30", "MH"), copay("40", "30"), copay("50", "30")).copay == money("30")


def test_unknown_remaining_is_not_zero() -> None:
    found = inside(deductible("1000"), deductible(None, "MH")).deductible.individual
    assert found is not None
    assert (found.total, found.used, found.remaining) == (money("1000"), None, None)


def test_authorization_of_any_row_on_the_service() -> None:
    found = inside(Benefit(kind=Kind.OTHER, service_type_codes=["MH"], network=Network.IN, authorization_required=True))
    assert found.authorization_required is True
