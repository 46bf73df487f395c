"""The plan's days: never those of the inquiry itself, the plan's own before a service's, begins of Medicare's parts."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from covergate.eligibility.inquiry import Service
from covergate.eligibility.x12.rows import Days, dtp
from tests.support.stated_rows import eb, reading

ASKED = Service(service_type_codes=("MH",), date=date(2026, 9, 5))
ANSWERED = date(2026, 9, 6)


def plan_days(qualifier: str, text: str) -> tuple[Days, ...]:
    days = dtp(qualifier, text, "/days")
    assert days is not None
    return (days,)


def active(*days: tuple[str, str], **more: Any) -> dict[str, Any]:
    return eb(eb01="1", eb03=["30"], days=days) | more


def plan(*specs: dict[str, Any], service: Service = ASKED, **more: Any) -> tuple[date | None, date | None]:
    found = reading(*specs, service=service, answered_on=ANSWERED, **more).plan
    return found.starts_on, found.ends_on


@pytest.mark.parametrize("qualifier", ["291", "307"])
@pytest.mark.parametrize("span", ["20260905-20260905", "20260906-20260906", "20260904-20260907", "20260905-20260906"])
def test_the_day_of_the_inquiry_is_no_plan_date(qualifier: str, span: str) -> None:
    assert plan(active((qualifier, span))) == (None, None)
    assert plan(active(), plan_days=plan_days(qualifier, span)) == (None, None)


def test_a_service_in_two_weeks_asked_today_is_no_plan_date() -> None:
    service = ASKED.model_copy(update={"date": date(2026, 9, 20)})
    assert plan(active(("291", "20260906-20260920")), service=service) == (None, None)


def test_the_benefit_has_no_inquiry_days_either() -> None:
    found = reading(active(("291", "20260905-20260905")), service=ASKED, answered_on=ANSWERED)
    assert found.benefits[0].starts_on is None


def test_the_span_of_eligibility_outside_of_any_row_is_the_inquirys() -> None:
    assert plan(active(), plan_days=plan_days("307", "20200101-20260906")) == (None, None)


@pytest.mark.parametrize(("qualifier", "span"), [("291", "20260101-20261231"), ("346", "20260905-20261231")])
def test_a_span_wider_than_the_inquiry_is_the_plans(qualifier: str, span: str) -> None:
    begin = date(2026, 1, 1) if qualifier == "291" else date(2026, 9, 5)
    assert plan(active((qualifier, span))) == (begin, date(2026, 12, 31))


def test_an_end_on_the_service_date_is_one() -> None:
    assert plan(active(("347", "20260905"))) == (None, date(2026, 9, 5))


def test_dates_of_the_plan_go_before_those_of_the_service() -> None:
    service = eb(eb01="1", eb03=["MH"], days=[("356", "20240101")])
    assert plan(active(("356", "20230101")), service) == (date(2023, 1, 1), None)
    assert plan(active(), service, plan_days=plan_days("346", "20220101")) == (date(2022, 1, 1), None)
    assert plan(active(), service) == (date(2024, 1, 1), None)


@pytest.mark.parametrize("qualifier", ["291", "307"])
def test_a_part_of_medicare_begins_on_its_one_day(qualifier: str) -> None:
    parts = [eb(eb01="1", eb02="IND", eb04=part, days=[(qualifier, "19890801")]) for part in ("MA", "MB")]
    assert plan(*parts) == (date(1989, 8, 1), None)
    assert plan(active((qualifier, "19890801"), eb04="HM")) == (None, None)


def test_premiums_are_paid_through() -> None:
    found = reading(active(), service=ASKED, plan_days=plan_days("343", "20260831")).plan
    assert (found.paid_through, found.sources["paid_through"]) == (date(2026, 8, 31), ["/days"])
    assert reading(active(("343", "20260831")), service=ASKED).plan.paid_through == date(2026, 8, 31)
