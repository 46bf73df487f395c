"""The plans of an answer: which rows are whose, and which plan has the asked service."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import Derived, derive
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.result import Benefit, Plan, Result
from covergate.eligibility.terms import Coverage, Kind, Level, Network, Outcome, OutcomeReason, Program, WarningCode
from tests.support.examples import examples
from tests.support.stated_rows import TODAY, Row, concluded, eb, inquiry, warned, without_sources

ENDED_BESIDE_VISION = [
    eb("6**30*HM*CHOICE PLUS"),
    eb("1**30**SPECTERA VISION PLAN"),
    eb("G*IND*30**SPECTERA VISION PLAN*23*0*****N"),
]


def test_an_ended_medical_plan_is_not_active_because_vision_is() -> None:
    derived = concluded(ENDED_BESIDE_VISION)
    assert (derived.outcome, derived.reason) == (Outcome.INELIGIBLE, OutcomeReason.INACTIVE)
    assert derived.result.coverage is Coverage.INACTIVE
    assert (derived.result.plan.name, derived.result.plan.type) == ("CHOICE PLUS", "HM")
    assert {part.name: (part.program, part.coverage) for part in derived.result.plans} == {
        "CHOICE PLUS": (Program.MEDICAL, Coverage.INACTIVE),
        "SPECTERA VISION PLAN": (Program.VISION, Coverage.ACTIVE),
    }


def test_amounts_of_the_vision_plan_are_not_those_of_the_medical_one() -> None:
    derived = concluded(
        [
            eb("1**30*HM*CHOICE PLUS"),
            eb("1**30**SPECTERA VISION PLAN"),
            eb("G*IND*30*HM*CHOICE PLUS*23*3800*****Y"),
            eb("G*IND*30**SPECTERA VISION PLAN*23*0*****Y"),
            eb("G*IND*30**SPECTERA VISION PLAN*23*0*****N"),
        ]
    )
    summary = derived.result.summary
    assert summary.in_ is not None and summary.in_.out_of_pocket_max.individual is not None
    assert summary.in_.out_of_pocket_max.individual.total == 3800
    assert summary.out is None
    assert WarningCode.CONFLICTING_AMOUNTS not in warned(derived)


def test_each_row_is_in_its_plan_and_one_that_fits_two_in_none() -> None:
    derived = concluded(
        [
            eb("1**30*HM*GOLD"),
            eb("1**30*PR*SILVER"),
            eb("1**35**BRIGHT DENTAL"),
            eb("C*IND*30*HM*GOLD*23*500"),
            eb("C*IND*30***23*700"),
            eb("C*IND*35***23*50"),
        ]
    )
    of_plans = {
        part.name: sorted(
            str(row.total or row.code) for row in (derived.result.benefits[index] for index in part.benefits)
        )
        for part in derived.result.plans
    }
    assert of_plans == {"GOLD": ["1", "500.00"], "SILVER": ["1"], "BRIGHT DENTAL": ["1", "50.00"]}


@pytest.mark.parametrize(
    ("lines", "asked", "outcome"),
    [
        # The plan that names medical services decides between two that disagree.
        ([eb("6**30*HM*OLD"), eb("1**30^98*HM*NEW")], inquiry(), Outcome.ELIGIBLE),
        ([eb("1**30*HM*NEW"), eb("6**30^98*HM*OLD")], inquiry(), Outcome.INELIGIBLE),
        ([eb("6**30*HM*OLD"), eb("1**30*HM*NEW")], inquiry(), Outcome.UNKNOWN),
        # The asked service's own plan ended, and the other says nothing of it.
        ([eb("1**30*HM*NEW"), eb("6**MH*IN*WELLBEING")], inquiry("MH"), Outcome.UNKNOWN),
        ([eb("6**30*HM*OLD"), eb("1**MH*IN*WELLBEING")], inquiry("MH"), Outcome.ELIGIBLE),
        # One plan that contradicts itself.
        ([eb("6**30*HM*GOLD"), eb("1**30*HM*GOLD")], inquiry(), Outcome.UNKNOWN),
        ([eb("6**30"), eb("1**30")], inquiry(), Outcome.UNKNOWN),
        ([eb("6**30*HM*GOLD"), eb("1**MH*HM*GOLD")], inquiry("MH"), Outcome.UNKNOWN),
        # What holds out of network only contradicts nothing.
        ([eb("1**30*HM*GOLD"), eb("6**30*HM*GOLD*******N")], inquiry(), Outcome.ELIGIBLE),
    ],
)
def test_plans_that_disagree_never_make_a_good_looking_answer(
    lines: list[Row], asked: Inquiry, outcome: Outcome
) -> None:
    derived = concluded(lines, asked)
    assert derived.outcome is outcome
    if outcome is Outcome.UNKNOWN:
        (found,) = [one for one in derived.result.warnings if one.code is WarningCode.SEVERAL_PLANS_DISAGREE]
        assert found.sources == ["/0/eb01", "/1/eb01"]
        assert (derived.reason, derived.result.coverage) == (None, Coverage.UNKNOWN)


THIS_AND_NEXT_YEAR = [
    eb("1**30*HM*GOLD 2026", ("346", "20260101"), ("347", "20261231")),
    eb("1**30*HM*GOLD 2027", ("346", "20270101")),
]
SAME_NAME = [
    eb("1**30*HM*GOLD", ("346", "20260101"), ("347", "20261231")),
    eb("1**30*HM*GOLD", ("346", "20270101")),
]


@pytest.mark.parametrize(
    ("lines", "day", "name", "starts_on", "ends_on"),
    [
        (THIS_AND_NEXT_YEAR, "2026-11-21", "GOLD 2026", date(2026, 1, 1), date(2026, 12, 31)),
        (THIS_AND_NEXT_YEAR, "2027-01-15", "GOLD 2027", date(2027, 1, 1), None),
        (SAME_NAME, "2026-11-21", "GOLD", date(2026, 1, 1), date(2026, 12, 31)),
        (SAME_NAME, "2027-01-15", "GOLD", date(2027, 1, 1), None),
    ],
)
def test_at_the_change_of_the_plan_year_the_plan_is_that_of_the_service_date(
    lines: list[Row], day: str, name: str, starts_on: date, ends_on: date | None
) -> None:
    derived = concluded(lines, inquiry(date=day))
    plan = derived.result.plan
    assert (plan.name, plan.starts_on, plan.ends_on) == (name, starts_on, ends_on)
    assert (derived.outcome, len(derived.result.plans)) == (Outcome.ELIGIBLE, 2)
    assert WarningCode.COVERAGE_MAY_END not in warned(derived)


def test_a_term_that_ended_does_not_contradict_the_new_one() -> None:
    derived = concluded(
        [eb("6**30*HM*GOLD", ("347", "20251231")), eb("1**30*HM*GOLD", ("346", "20260101"))], inquiry("98")
    )
    assert (derived.outcome, derived.result.plan.starts_on) == (Outcome.ELIGIBLE, date(2026, 1, 1))


@pytest.mark.parametrize(
    ("place", "part"), [("21", "MA"), ("11", "MB"), (None, None)], ids=["inpatient", "office", "not told"]
)
def test_the_part_of_medicare_is_that_of_the_place(place: str | None, part: str | None) -> None:
    derived = concluded([eb("1**30*MA"), eb("1**30*MB")], inquiry(place_of_service_code=place))
    assert [one.program for one in derived.result.plans] == [Program.MEDICARE_A, Program.MEDICARE_B]
    assert (derived.outcome, derived.result.plan.type) == (Outcome.ELIGIBLE, part)
    assert WarningCode.LIMITED_BENEFIT not in warned(derived)


def test_the_deductible_of_part_a_is_not_that_of_an_office_visit() -> None:
    lines = [eb("1**30^98*MB"), eb("C**30*MA**26*1288"), eb("C*IND*30*MB**23*166*****U")]
    summary = concluded(lines, inquiry("98", place_of_service_code="11")).result.summary
    assert summary.unknown is not None
    assert (summary.unknown.deductible.unknown_level, summary.unknown.deductible.individual is None) == (None, False)


def test_without_part_b_an_office_visit_is_not_covered_by_part_a() -> None:
    derived = concluded([eb("1**30*MA"), eb("6**30*MB")], inquiry(place_of_service_code="11"))
    assert (derived.outcome, derived.reason) == (Outcome.INELIGIBLE, OutcomeReason.INACTIVE)


def test_the_dental_plan_is_that_of_a_dental_service() -> None:
    lines = [eb("1**30*HM*GOLD"), eb("6**35**BRIGHT DENTAL")]
    assert concluded(lines, inquiry("35")).outcome is Outcome.INELIGIBLE
    assert concluded(lines, inquiry("98")).outcome is Outcome.ELIGIBLE


def test_a_medical_plan_with_vision_in_its_name_is_medical() -> None:
    derived = concluded([eb("1**30^48^98*HM*CHOICE PLUS VISION"), eb("6**AL*PR*OTHER")], inquiry("98"))
    assert (derived.outcome, derived.result.plan.name) == (Outcome.ELIGIBLE, "CHOICE PLUS VISION")


def test_an_answer_without_coverage_rows_is_one_plan() -> None:
    answer = Answer(
        coverage=Coverage.ACTIVE,
        as_of=TODAY,
        answered_at=datetime(2026, 11, 21, 17, tzinfo=UTC),
        plan=Plan(name="Open Access", group_number="G7", sources={"name": ["/plan"]}),
        benefits=[Benefit(kind=Kind.COPAY, network=Network.IN, level=Level.INDIVIDUAL)],
    )
    derived = derive(answer, inquiry(), frozenset(), TODAY)
    (part,) = derived.result.plans
    assert (part.name, part.group_number, part.coverage, part.benefits) == ("Open Access", "G7", Coverage.ACTIVE, [0])
    assert part.sources == {"name": ["/plan"]}
    assert (
        derive(
            answer.model_copy(update={"plan": Plan(), "coverage": Coverage.UNKNOWN}), inquiry(), frozenset(), TODAY
        ).result.plans
        == []
    )


_PLANS = ("*HM*GOLD", "*PR*SILVER", "*MA", "*MB", "*MC*STATE PLAN", "*QM*QMB", "**SMILE DENTAL", "**CLEAR VISION", "")
_LINES = st.builds(
    lambda code, types, plan, days: eb(f"{code}*{types}{plan}", *days),
    st.sampled_from(["1*", "1*", "6*", "3*", "I*", "C*IND", "B*", "U*"]),
    st.sampled_from(["30", "MH", "98", "35", "AL", "30^98", ""]),
    st.sampled_from(_PLANS),
    st.sampled_from([(), (("346", "20260101"),), (("347", "20251231"),), (("346", "20270101"),)]),
)


@settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)
@given(st.lists(_LINES, max_size=7).flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines))))
def test_the_order_of_rows_decides_nothing(both: tuple[list[Row], list[Row]]) -> None:
    one, other = (concluded(lines, inquiry("MH")) for lines in both)
    assert without_sources(one.result.model_dump(mode="json")) == without_sources(other.result.model_dump(mode="json"))
    assert (one.outcome, one.reason) == (other.outcome, other.reason)


_BLOCKS = st.sampled_from(
    [
        [eb("1**35**SMILE DENTAL"), eb("C*IND*35**SMILE DENTAL*23*50*****Y")],
        [eb("6**30**SMILE DENTAL"), eb("C*IND*30**SMILE DENTAL*23*50*****Y")],
        [eb("1**30**CLEAR VISION"), eb("B**30**CLEAR VISION*27*10*****Y"), eb("G*IND*30**CLEAR VISION*23*0*****N")],
        [eb("6**AL^AM*PR*CLEAR VISION")],
        [eb("1**88^90*IP*RX BENEFIT", ("346", "20270101"))],
        [eb("6**30*PR*PHARMACY BENEFIT"), eb("B**88*PR*PHARMACY BENEFIT*27*15*****Y")],
    ]
)
_MEDICAL = st.builds(
    lambda first, rest: [first, *rest],
    st.sampled_from([eb("1**30*HM*GOLD"), eb("6**30*HM*GOLD"), eb("1**30"), eb("6"), eb("1**MH*HM*GOLD")]),
    st.lists(
        st.sampled_from(
            [
                eb("1**98*HM*GOLD"),
                eb("6**30*HM*GOLD"),
                eb("I**MH*HM*GOLD*******Y"),
                eb("C*IND*30*HM*GOLD*23*500*****Y"),
                eb("B**98***27*30*****Y"),
                eb("G*FAM****23*9000*****N"),
            ]
        ),
        max_size=4,
    ),
)


def medical_cells(derived: Derived) -> Any:
    result: Result = derived.result
    cells = result.model_dump(mode="json", include={"coverage", "service_covered", "plan", "summary", "bill_to"})
    services = [(one.code, one.covered) for one in result.services if one.code in ("MH", "98")]
    return without_sources(cells), services, derived.outcome, derived.reason, warned(derived)


@settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)
@given(_MEDICAL, _BLOCKS, st.sampled_from([("30",), ("MH",), ("98",), ("MH", "98")]))
def test_a_block_of_another_line_changes_no_medical_conclusion(
    lines: list[Row], block: list[Row], codes: tuple[str, ...]
) -> None:
    if codes == ("30",):
        # Of a plan that no row calls 30, the block would be the first to say something of 30.
        lines = [eb("1**30*HM*GOLD"), *lines]
    alone, beside = concluded(lines, inquiry(*codes)), concluded([*lines, *block], inquiry(*codes))
    assert medical_cells(alone) == medical_cells(beside)


def test_figures_of_another_year_are_no_figures_of_this() -> None:
    lines = [
        eb("1**30*HM*CHOICE PLUS"),
        eb("C*IND*30***23*2000*****Y", ("292", "20250101-20251231")),
        eb("C*IND*30***23*1500*****Y", ("292", "20260101-20261231")),
        eb("B**98***27*20*****Y", ("349", "20260630")),
    ]
    summary = concluded(lines, inquiry("98")).result.summary
    assert summary.in_ is not None
    assert summary.in_.deductible.individual is not None
    assert summary.in_.deductible.individual.total == 1500
    assert summary.service.copay is None


def test_a_dental_plan_alone_says_nothing_of_an_office_visit() -> None:
    dental = [eb("1**35*PR*SMILES"), eb("C*IND*35*PR*SMILES*23*50*****Y")]
    vision = [eb("1**30**SPECTERA VISION PLAN"), eb("G*IND*30**SPECTERA VISION PLAN*23*0*****Y")]
    alone, beside = (concluded(lines, inquiry("98")) for lines in (dental, [*dental, *vision]))
    for found in (alone, beside):
        assert (found.outcome, found.result.coverage) == (Outcome.UNKNOWN, Coverage.UNKNOWN)
        assert (found.result.summary.in_, found.result.plan.name) == (None, None)
        assert WarningCode.LIMITED_BENEFIT in warned(found)


def test_part_b_that_ended_is_not_replaced_by_part_a() -> None:
    lines = [eb("1**30*MA", ("291", "20200101")), eb("6**30*MB", ("291", "20200101-20251231"))]
    derived = concluded(lines, inquiry("98", place_of_service_code="11"))
    assert (derived.outcome, derived.reason) == (Outcome.INELIGIBLE, OutcomeReason.INACTIVE)
    assert concluded(lines, inquiry("48", place_of_service_code="21")).outcome is Outcome.ELIGIBLE


def test_a_plan_whose_days_are_over_is_not_shown_as_active() -> None:
    derived = concluded([eb("1**30*HM*GOLD", ("347", "20251231"))])
    assert (derived.result.coverage, [plan.coverage for plan in derived.result.plans]) == ("inactive", ["inactive"])


def test_plans_that_disagree_confirm_no_service() -> None:
    assert concluded([eb("1**30"), eb("6**30")]).result.service_covered is None
