"""Active is not payable: limited programs, spend-down, hospice, unpaid premiums; and the program behind a plan."""

from __future__ import annotations

from datetime import date

import pytest

from covergate.eligibility.programs import limited_program_of, program_of
from covergate.eligibility.result import Plan
from covergate.eligibility.terms import Outcome, Program, WarningCode
from tests.support.stated_rows import Row, concluded, eb, inquiry, warned


@pytest.mark.parametrize(
    ("insurance_type", "name", "codes", "program"),
    [
        ("HM", "CHOICE PLUS", ["30"], Program.MEDICAL),
        ("MA", None, ["30"], Program.MEDICARE_A),
        ("MB", None, [], Program.MEDICARE_B),
        ("HN", "PLAN", ["30"], Program.MEDICARE_ADVANTAGE),
        ("HM", "GREEN MEDICARE ADVANTAGE", ["30"], Program.MEDICARE_ADVANTAGE),
        ("MC", None, ["30"], Program.MEDICAID),
        ("HM", "GREEN MEDICAID", ["30"], Program.MEDICAID_MCO),
        ("QM", None, ["30"], Program.MEDICAID),
        (None, "SPECTERA VISION PLAN", ["30"], Program.VISION),
        (None, "BRIGHT DENTAL PPO", ["30"], Program.DENTAL),
        ("HM", "CHOICE WITH VISION", ["30", "98", "AL"], Program.MEDICAL),
        ("HM", "MEDICAL AND DENTAL", ["30"], Program.MEDICAL),
        (None, None, ["35"], Program.DENTAL),
        (None, None, ["88"], Program.PHARMACY),
        (None, "MEDICARE PART D", ["88"], Program.PART_D),
        (None, None, ["30"], Program.MEDICAL),
        ("WC", None, ["30"], Program.OTHER),
        (None, "ANYTHING", [], Program.UNKNOWN),
        ("HM", "NON EMERGENCY TRANSPORTATION", ["30", "60"], Program.OTHER),
        ("HM", "CHOICE WITH TRANSPORTATION", ["30", "98"], Program.MEDICAL),
    ],
)
def test_program(insurance_type: str | None, name: str | None, codes: list[str], program: Program) -> None:
    assert program_of(insurance_type, name, codes) is program


@pytest.mark.parametrize(
    ("insurance_type", "name", "limited"),
    [
        ("QM", None, "qualified Medicare beneficiary"),
        ("MC", "QMB ONLY", "qualified Medicare beneficiary"),
        ("QM", "QMB PLUS", None),
        ("MC", "QMB+ FULL MEDICAID", None),
        ("HS", None, "specified low-income Medicare beneficiary"),
        ("MC", "SLMB", "specified low-income Medicare beneficiary"),
        ("MC", "Family Planning Program", "family planning"),
        ("MC", "EMERGENCY SERVICES ONLY", "emergency services only"),
        ("MC", "ADULT MEDICAID WITH EMERGENCY SERVICES", None),
        ("HM", "CHOICE PLUS", None),
        (None, None, None),
    ],
)
def test_limited_programs(insurance_type: str | None, name: str | None, limited: str | None) -> None:
    program = limited_program_of(insurance_type, name)
    assert (program and program.name) == limited


@pytest.mark.parametrize(
    ("lines", "codes", "place", "is_limited"),
    [
        ([eb("1**30*QM")], ("30",), None, True),
        ([eb("1**30*QM"), eb("1**30*MC*STATE PLAN")], ("30",), None, False),
        ([eb("1**30*QM"), eb("6**30*MC*STATE PLAN")], ("30",), None, False),  # they disagree instead
        ([eb("1**30*MC*FAMILY PLANNING")], ("98",), None, True),
        ([eb("1**30*MC*FAMILY PLANNING")], ("82",), None, False),
        ([eb("1**30*MA")], ("MH",), "11", True),
        ([eb("1**30*MA")], ("MH",), None, True),
        ([eb("1**30*MA")], ("30",), "21", False),
        ([eb("1**30*MB")], ("30",), "21", True),
        ([eb("1**30*MB")], ("98",), "11", False),
        ([eb("1**30**CLEAR VISION")], ("98",), None, True),
        ([eb("1**30**CLEAR VISION")], ("AL",), None, False),
        ([eb("6**30*QM")], ("30",), None, False),
        ([eb("1**30*HM*GOLD")], ("30",), None, False),
    ],
)
def test_active_for_a_part_only_is_said(
    lines: list[Row], codes: tuple[str, ...], place: str | None, is_limited: bool
) -> None:
    derived = concluded(lines, inquiry(*codes, place_of_service_code=place))
    assert (WarningCode.LIMITED_BENEFIT in warned(derived)) is is_limited
    if is_limited:
        (found,) = [one for one in derived.result.warnings if one.code is WarningCode.LIMITED_BENEFIT]
        assert found.sources == (["/0/eb05"] if "CLEAR" in lines[0].get("eb05", "") else found.sources) != []
        is_of_another_line = "CLEAR" in lines[0].get("eb05", "")
        assert derived.outcome is (Outcome.UNKNOWN if is_of_another_line else Outcome.ELIGIBLE)
        assert (derived.result.bill_to is None) is is_of_another_line


@pytest.mark.parametrize(
    ("row", "is_open"),
    [
        (eb("Y**30***29*120"), True),
        (eb("Y**30***29*0"), False),
        (eb("Y**30***23*500"), True),
        (eb("Y**30***23*0"), False),
        (eb("Y**30***29*120", ("292", "20250101-20251231")), False),
    ],
)
def test_a_spend_down_that_is_open_is_said(row: Row, is_open: bool) -> None:
    derived = concluded([eb("1**30*MC"), row])
    assert (WarningCode.SPEND_DOWN_OPEN in warned(derived)) is is_open
    if is_open:
        (found,) = [one for one in derived.result.warnings if one.code is WarningCode.SPEND_DOWN_OPEN]
        assert found.sources == ["/1/eb07"]


@pytest.mark.parametrize(
    ("row", "is_elected"),
    [
        (eb("X**45*MA", ("292", "20260901-20261231"), nm1=["1P*QUIET HOSPICE*1"]), True),
        (eb("X**45*MA"), True),
        (eb("X**45*MA", ("292", "20250101-20250630"), nm1=["1P*QUIET HOSPICE*1"]), False),
        (eb("1**45*MA"), False),
        (eb("X**48*MA"), False),
    ],
)
def test_the_election_of_hospice_is_said(row: Row, is_elected: bool) -> None:
    assert (WarningCode.HOSPICE_ELECTION in warned(concluded([eb("1**30*MA"), row]))) is is_elected


@pytest.mark.parametrize(("paid_through", "is_late"), [("2026-11-20", True), ("2026-11-21", False)])
def test_premiums_that_are_not_paid_through_the_service_date_are_said(paid_through: str, is_late: bool) -> None:
    plan = Plan(paid_through=date.fromisoformat(paid_through), sources={"paid_through": ["/paid"]})
    derived = concluded([], coverage="active", plan=plan)
    found = [one.sources for one in derived.result.warnings if one.code is WarningCode.PREMIUM_GRACE_PERIOD]
    assert found == ([["/paid"]] if is_late else [])
    assert derived.outcome is Outcome.ELIGIBLE
