"""Answers that cannot be true or can be read in two ways: never a good-looking result, and a warning points at the place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from covergate.eligibility.failure import Aaa
from covergate.eligibility.sourced import money
from covergate.eligibility.terms import Coverage, Outcome, WarningCode, WhyNull
from tests.corpus.samples import read, sample
from tests.support.stated_rows import Row, concluded, eb, inquiry, reading, warned

ACTIVE = eb("1**30*HM*CHOICE PLUS")
TOTAL = eb("C*IND*30***23*1000*****Y")


def warning_of(lines: list[Row], code: WarningCode) -> list[str]:
    return [at for one in concluded(lines).result.warnings if one.code is code for at in one.sources]


def test_more_left_than_there_is() -> None:
    lines = [ACTIVE, TOTAL, eb("C*IND*30***29*1200*****Y")]
    summary = concluded(lines).result.summary
    assert summary.in_ is not None
    assert summary.in_.deductible.individual is None
    assert summary.why_null["in.deductible.individual"] is WhyNull.CONFLICT
    assert warning_of(lines, WarningCode.CONFLICTING_AMOUNTS).count("/2/eb07") > 0


@pytest.mark.parametrize("amount", ["-1000", "1234567890", "9999999999.99", "1000 per year", "NaN"])
def test_an_amount_that_cannot_be(amount: str) -> None:
    lines = [ACTIVE, eb(f"C*IND*30***23*{amount}*****Y"), eb(f"B**30***27*{amount}*****Y")]
    inside = concluded([*lines, eb("C*FAM*30***23*2000*****Y")]).result.summary.in_
    assert inside is not None
    assert (inside.copay, inside.deductible.individual, inside.deductible.embedded) == (None, None, None)
    assert warning_of(lines, WarningCode.RAW_UNPARSABLE) == ["/1/eb07", "/2/eb07"]


@pytest.mark.parametrize("count", ["-20", "1234567890", "many"])
def test_visits_that_cannot_be(count: str) -> None:
    derived = concluded([ACTIVE, eb(f"F**PT***23***VS*{count}**Y")], inquiry("PT"))
    assert derived.result.summary.service.visits is None
    assert WarningCode.RAW_UNPARSABLE in warned(derived)


def test_what_is_left_is_never_below_zero() -> None:
    summary = concluded([ACTIVE, TOTAL, eb("C*IND*30***29*-12.50*****Y")]).result.summary
    assert summary.in_ is not None
    assert summary.in_.deductible.individual is not None
    assert summary.in_.deductible.individual.remaining == money("0")


def test_an_amount_that_means_no_limit_is_none() -> None:
    summary = concluded([ACTIVE, eb("G*IND*30***23*99999.99*****Y"), eb("B**30***27*999999.99*****Y")]).result.summary
    assert summary.in_ is not None
    assert summary.in_.out_of_pocket_max.individual is not None
    assert summary.in_.out_of_pocket_max.individual.unlimited
    assert (summary.in_.out_of_pocket_max.individual.total, summary.in_.copay) == (None, None)


@pytest.mark.parametrize(
    "other",
    [eb("6**30*HM*CHOICE PLUS"), eb("7**30*HM*CHOICE PLUS"), eb("8**30*HM*CHOICE PLUS"), eb("6**30")],
    ids=["inactive", "pending eligibility update", "pending investigation", "inactive without a name"],
)
def test_active_and_terminated_at_once(other: Row) -> None:
    for lines in ([ACTIVE, other], [other, ACTIVE]):
        derived = concluded(lines)
        assert (derived.outcome, derived.result.coverage) == (Outcome.UNKNOWN, Coverage.UNKNOWN)
        assert warning_of(lines, WarningCode.SEVERAL_PLANS_DISAGREE) == ["/0/eb01", "/1/eb01"]


def test_an_active_plan_whose_days_are_over() -> None:
    derived = concluded([eb("1**30*HM*CHOICE PLUS", ("291", "20250101-20251231"))])
    assert derived.outcome is Outcome.INELIGIBLE
    assert WarningCode.COVERAGE_DATES_CONFLICT in warned(derived)


def test_a_service_that_is_covered_and_is_not() -> None:
    derived = concluded([ACTIVE, eb("1**MH*HM*CHOICE PLUS"), eb("I**MH*HM*CHOICE PLUS")], inquiry("MH"))
    assert derived.outcome is Outcome.INELIGIBLE


@pytest.mark.parametrize(
    ("change", "place"),
    [("NM1*IL*1*SAMPLE*JANE****MI*X999", "@NM109_"), ("NM1*IL*1*OTHER*JANE****MI*W100200300", "@NM103_")],
    ids=["another member id", "another name"],
)
def test_an_answer_about_somebody_else(change: str, place: str) -> None:
    one = sample("blue-cross-preferred-care")
    segments = [change if segment.startswith("NM1*IL") else segment for segment in one.reply["segments"]]
    derived = read(replace(one, reply={"segments": segments})).derived
    assert derived is not None
    (found,) = [one for one in derived.result.warnings if one.code is WarningCode.MEMBER_DATA_DIFFERS]
    assert [at.rpartition("/")[2] for at in found.sources] == [place]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("NM1*IL*1*OTHER*MARY****MI*X999", " (the answer may be about somebody else)"),
        ("NM1*IL*1*OTHER*JANE****MI*X999", ""),
        ("NM1*IL*1*SAMPLE*MARY****MI*X999", ""),
    ],
    ids=["another name and number", "a new name and a new number of one born that day", "another number"],
)
def test_an_answer_that_may_be_about_another_patient_says_so(name: str, detail: str) -> None:
    one = sample("blue-cross-preferred-care")
    segments = [name if segment.startswith("NM1*IL") else segment for segment in one.reply["segments"]]
    derived = read(replace(one, reply={"segments": segments})).derived
    assert derived is not None
    (found,) = [one for one in derived.result.warnings if one.code is WarningCode.MEMBER_DATA_DIFFERS]
    assert found.message == f"The member data in the answer differs from what was asked.{detail}"


@pytest.mark.parametrize("separator", ["|", ">", "^", ":", "~", " "])
def test_service_types_apart_by_any_separator(separator: str) -> None:
    one = sample("blue-cross-preferred-care")
    told = read(one).derived
    segments = [segment.replace("1^47^48^50^86^98^UC^MH", separator.join(["1", "98", "MH"])) for segment in _(one)]
    derived = read(replace(one, reply={"segments": segments})).derived
    assert told is not None
    assert derived is not None
    assert derived.result.summary.service == told.result.summary.service


def _(one: Any) -> list[str]:
    segments: list[str] = one.reply["segments"]
    return segments


@pytest.mark.parametrize(("remaining", "is_stated"), [("701", False), ("700", True), ("400", True)])
def test_more_left_than_what_was_used_leaves(remaining: str, is_stated: bool) -> None:
    """Less is left if the family has met more of its own amount."""
    lines = [ACTIVE, TOTAL, eb("C*IND*30***24*300*****Y"), eb(f"C*IND*30***29*{remaining}*****Y")]
    summary = concluded(lines).result.summary
    assert summary.in_ is not None
    assert (summary.in_.deductible.individual is not None) is is_stated
    assert bool(warning_of(lines, WarningCode.CONFLICTING_AMOUNTS)) is not is_stated


@pytest.mark.parametrize("sentinel", ["999999.99", "99999.99"])
def test_no_limit_left_of_a_stated_total_contradicts_nothing(sentinel: str) -> None:
    lines = [ACTIVE, TOTAL, eb(f"C*IND*30***29*{sentinel}*****Y")]
    summary = concluded(lines).result.summary
    assert summary.in_ is not None
    assert summary.in_.deductible.individual is not None
    assert (summary.in_.deductible.individual.total, summary.in_.deductible.individual.remaining) == (
        money("1000"),
        None,
    )
    assert warning_of(lines, WarningCode.CONFLICTING_AMOUNTS) == []


@pytest.mark.parametrize("days", ["20261231-20260101", "00010101-00010101"])
def test_days_that_cannot_be_are_none(days: str) -> None:
    derived = concluded([eb("1**30*HM*CHOICE PLUS", ("346", days))])
    assert (derived.outcome, derived.result.plan.starts_on, derived.result.plan.ends_on) == (
        Outcome.ELIGIBLE,
        None,
        None,
    )


def test_a_member_that_was_not_found_beside_an_active_coverage() -> None:
    rejected = (Aaa(code="75", sources=["/aaa"]), Aaa(code="43", sources=["/other"]))
    found = reading(ACTIVE, aaas=rejected).warnings
    assert [(one.code, one.sources) for one in found] == [(WarningCode.MEMBER_DATA_DIFFERS, ["/aaa"])]


@pytest.mark.parametrize(
    ("words", "is_elsewhere"),
    [
        ("MENTAL HEALTH BENEFITS ARE ADMINISTERED BY SAMPLE BEHAVIORAL 800-555-0199", True),
        ("Submit all claims to Sample Behavioral", True),
        ("CARVED OUT", True),
        ("BENEFITS ARE ADMINISTERED BY ACME HEALTH", False),
        ("BENEFITS ARE SUBJECT TO MEDICAL NECESSITY", False),
    ],
)
def test_words_that_send_a_service_elsewhere(words: str, is_elsewhere: bool) -> None:
    lines = [ACTIVE, eb("1**MH*HM*CHOICE PLUS", msgs=[words])]
    derived = concluded(lines, inquiry("MH", payer={"id": "60054", "name": "Acme Health"}))
    found = [one.sources for one in derived.result.warnings if one.code is WarningCode.CONTACT_OTHER_ENTITY]
    assert found == ([["/1/msgs/0"]] if is_elsewhere else [])
    assert (derived.result.bill_to is None) is is_elsewhere
    other = concluded(lines, inquiry("98"))
    assert other.result.bill_to is not None
    assert WarningCode.CONTACT_OTHER_ENTITY not in warned(other)
