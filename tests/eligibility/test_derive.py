"""From an answer to an outcome: the table of docs/api.md#3-the-verification, plan dates, and what counts as asked."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any, TypeAlias

import pytest

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import derive
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.outcome import asked_codes
from covergate.eligibility.result import Benefit, Plan, ServiceAnswer
from covergate.eligibility.sourced import money
from covergate.eligibility.terms import CodeType, Coverage, Kind, Network, Outcome, OutcomeReason, WarningCode
from tests.support.stated_rows import concluded, eb

TODAY = date(2026, 11, 21)
Concluded: TypeAlias = tuple[Outcome, OutcomeReason | None]

ELIGIBLE = (Outcome.ELIGIBLE, None)
NOT_COVERED = (Outcome.INELIGIBLE, OutcomeReason.NOT_COVERED)
INACTIVE = (Outcome.INELIGIBLE, OutcomeReason.INACTIVE)


def inquiry(**service: Any) -> Inquiry:
    return Inquiry.model_validate(
        {
            "payer": {"id": "60054"},
            "patient": {
                "first_name": "Jane",
                "last_name": "Sample",
                "date_of_birth": "1990-09-20",
                "member_id": "W1",
            },
            "service": {"date": "2026-11-21", "service_type_codes": ["MH"]} | service,
        }
    )


def statement(**fields: Any) -> Answer:
    answered_at = datetime(2026, 11, 21, 17, tzinfo=UTC)
    return Answer(**{"coverage": Coverage.ACTIVE, "as_of": TODAY, "answered_at": answered_at} | fields)


def service(covered: bool | None, code: str = "MH", code_type: CodeType = CodeType.SERVICE_TYPE) -> ServiceAnswer:
    return ServiceAnswer(code=code, code_type=code_type, covered=covered)


@pytest.mark.parametrize(
    ("coverage", "covered", "outcome", "warned"),
    [
        (Coverage.ACTIVE, True, ELIGIBLE, False),
        (Coverage.ACTIVE, None, ELIGIBLE, True),
        (Coverage.ACTIVE, False, NOT_COVERED, False),
        (Coverage.INACTIVE, True, INACTIVE, False),
        (Coverage.INACTIVE, None, INACTIVE, False),
        (Coverage.INACTIVE, False, INACTIVE, False),
        (Coverage.UNKNOWN, False, NOT_COVERED, False),
        (Coverage.UNKNOWN, None, (Outcome.UNKNOWN, None), False),
        (Coverage.UNKNOWN, True, (Outcome.UNKNOWN, None), False),
    ],
)
@pytest.mark.parametrize("stated_as", ["service", "whole"])
def test_outcome(
    stated_as: str,
    coverage: Coverage,
    covered: bool | None,
    outcome: tuple[Outcome, OutcomeReason | None],
    warned: bool,
) -> None:
    told = {"services": [service(covered)]} if stated_as == "service" else {"service_covered": covered}
    found = derive(statement(coverage=coverage, **told), inquiry(), frozenset(), TODAY)
    assert (found.outcome, found.reason) == outcome
    assert found.result.service_covered is covered
    codes = [warning.code for warning in found.result.warnings]
    assert codes == ([WarningCode.SERVICE_NOT_CONFIRMED] if warned else [])


@pytest.mark.parametrize("coverage", Coverage)
def test_ineligible_without_a_reason(coverage: Coverage) -> None:
    found = derive(statement(coverage=coverage, ineligible_without_reason=True), inquiry(), frozenset(), TODAY)
    unspecified = (Outcome.INELIGIBLE, OutcomeReason.UNSPECIFIED)
    assert ((found.outcome, found.reason) == unspecified) is (coverage is Coverage.UNKNOWN)


@pytest.mark.parametrize(
    ("starts_on", "ends_on", "service_date", "outcome", "warned"),
    [
        ("2026-01-01", "2026-12-31", "2026-11-21", ELIGIBLE, None),
        (None, "2026-11-21", "2026-11-21", ELIGIBLE, None),  # the last day counts
        ("2026-11-21", None, "2026-11-21", ELIGIBLE, None),  # and so does the first
        (None, "2026-11-20", "2026-11-21", INACTIVE, WarningCode.COVERAGE_DATES_CONFLICT),
        ("2026-11-22", None, "2026-11-21", INACTIVE, WarningCode.COVERAGE_DATES_CONFLICT),
        ("2026-02-01", None, "2026-01-15", INACTIVE, WarningCode.COVERAGE_DATES_CONFLICT),
        (None, "2026-12-31", "2027-01-15", ELIGIBLE, WarningCode.COVERAGE_MAY_END),
        ("2027-02-01", None, "2027-01-15", ELIGIBLE, WarningCode.COVERAGE_MAY_END),
    ],
)
def test_plan_dates(
    starts_on: str | None,
    ends_on: str | None,
    service_date: str,
    outcome: tuple[Outcome, OutcomeReason | None],
    warned: WarningCode | None,
) -> None:
    plan = Plan.model_validate(
        {"starts_on": starts_on, "ends_on": ends_on, "sources": {"starts_on": ["/s"], "ends_on": ["/e"]}}
    )
    found = derive(
        statement(plan=plan, service_covered=True), inquiry(date=service_date, end_date=None), frozenset(), TODAY
    )
    assert (found.outcome, found.reason) == outcome
    assert [warning.code for warning in found.result.warnings] == ([warned] if warned else [])
    assert found.result.coverage is (Coverage.INACTIVE if outcome == INACTIVE else Coverage.ACTIVE)
    if warned:
        out_of_bounds = "/e" if ends_on and ends_on < service_date else "/s"
        assert found.result.warnings[0].sources == [out_of_bounds]


@pytest.mark.parametrize("coverage", [Coverage.INACTIVE, Coverage.UNKNOWN])
def test_plan_dates_make_nothing_active(coverage: Coverage) -> None:
    plan = Plan(starts_on=date(2020, 1, 1), ends_on=date(2020, 12, 31))
    found = derive(statement(coverage=coverage, plan=plan), inquiry(), frozenset(), TODAY)
    assert (found.result.coverage, found.result.warnings) == (coverage, [])


def test_all_asked_must_be_covered_and_one_that_is_not_decides() -> None:
    asked = inquiry(service_type_codes=["MH", "98"], procedure_codes=["90837"])
    mh, office = service(True), service(True, "98")
    for procedure, covered in ((None, None), (True, True), (False, False)):
        answers = [mh, office, service(procedure, "90837", CodeType.PROCEDURE)]
        assert derive(statement(services=answers), asked, frozenset(), TODAY).result.service_covered is covered
    assert derive(statement(services=[mh, service(False, "98")]), asked, frozenset(), TODAY).outcome is (
        Outcome.INELIGIBLE
    )


def test_what_was_not_asked_does_not_count() -> None:
    asked = inquiry(service_type_codes=["MH", "98"], procedure_codes=["90837"])
    answers = [service(True), service(False, "98"), service(False, "90837", CodeType.PROCEDURE)]
    not_asked = frozenset({"/service/service_type_codes/1", "/service/procedure_codes"})
    assert asked_codes(asked, not_asked) == {(CodeType.SERVICE_TYPE, "MH")}
    assert derive(statement(services=answers), asked, not_asked, TODAY).result.service_covered is True
    nothing = not_asked | {"/service/service_type_codes"}
    assert derive(statement(services=answers), asked, nothing, TODAY).result.service_covered is None


def test_two_answers_on_one_code_do_not_depend_on_their_order() -> None:
    for answers in permutations([service(True), service(False), service(None)]):
        assert derive(statement(services=list(answers)), inquiry(), frozenset(), TODAY).result.service_covered is False
    for answers in permutations([service(True), service(None)]):
        assert derive(statement(services=list(answers)), inquiry(), frozenset(), TODAY).result.service_covered is True


def test_a_code_is_told_from_the_same_letters_of_another_kind() -> None:
    found = derive(statement(services=[service(False, "MH", CodeType.PROCEDURE)]), inquiry(), frozenset(), TODAY)
    assert found.result.service_covered is None


def test_the_summary_prefers_the_asked_service_even_where_it_could_not_be_asked() -> None:
    copays = [
        Benefit(kind=Kind.COPAY, service_type_codes=[code], network=Network.IN, amount=money(amount))
        for code, amount in (("MH", "30"), ("30", "45"))
    ]
    found = derive(statement(benefits=copays), inquiry(), frozenset({"/service/service_type_codes"}), TODAY)
    assert found.result.summary.in_ is not None
    assert found.result.summary.in_.copay == money("30")


def test_order_of_everything_is_canonical() -> None:
    benefits = [
        Benefit(kind=Kind.COPAY, amount=money(amount), sources={"amount": [f"/{place}"]})
        for place, amount in enumerate(("30", "20", "30"))
    ]
    services = [service(True), service(None, "98")]
    results = [
        derive(
            statement(benefits=list(rows), services=list(answers), notes=list(notes)), inquiry(), frozenset(), TODAY
        ).result
        for rows in permutations(benefits)
        for answers in permutations(services)
        for notes in (["b", "a"], ["a", "b", "a"])
    ]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("in_network", "network"), [(True, Network.IN), (False, Network.OUT), (None, None)])
def test_the_network_of_this_provider_is_in_the_summary(in_network: bool | None, network: Network | None) -> None:
    result = concluded([eb("1**30")], provider_in_network=in_network).result
    assert result.summary.this_provider is network
