"""When a Health Harbor call is wanted, how long it may take, and which questions a service calls for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question
from covergate.vendors.health_harbor import VENDOR
from covergate.vendors.health_harbor.codes import PLACES_OF_SERVICE
from covergate.vendors.health_harbor.connection import HealthHarborConnection
from covergate.vendors.health_harbor.options import HealthHarborOptions
from covergate.vendors.health_harbor.request import benefits_query, desired_completion_date


def question(now: datetime, **options: Any) -> Question:
    return Question(
        inquiry=inquiry(),
        options=HealthHarborOptions(**options),
        connection=HealthHarborConnection.sandbox("http://sandbox", "s"),
        attempt_id="att_1",
        patient_key="k",
        person_key="k",
        now=now,
    )


def inquiry(**service: Any) -> Inquiry:
    return Inquiry.model_validate(
        {
            "payer": {"id": "60054"},
            "patient": {"first_name": "Jane", "last_name": "Sample", "date_of_birth": "1990-01-31", "member_id": "M1"},
            "service": service,
        }
    )


@pytest.mark.parametrize(
    ("today", "day"),
    [
        (date(2026, 11, 19), date(2026, 11, 20)),  # Thursday → Friday
        (date(2026, 11, 20), date(2026, 11, 23)),  # Friday → Monday
        (date(2026, 11, 21), date(2026, 11, 23)),
        (date(2026, 11, 22), date(2026, 11, 23)),
        (date(2026, 12, 31), date(2027, 1, 1)),  # a holiday counts: payers' lines are often open
    ],
)
def test_next_working_day(today: date, day: date) -> None:
    assert desired_completion_date(HealthHarborOptions(), today) == day


@pytest.mark.parametrize(
    ("now", "options", "deadline"),
    [
        # Saturday 23:30 in New York: Monday 23rd wanted, so until the 24th is over there (UTC−5).
        (datetime(2026, 11, 22, 4, 30, tzinfo=UTC), {}, datetime(2026, 11, 25, 5, tzinfo=UTC)),
        # In summer New York is at UTC−4.
        (datetime(2026, 6, 8, 12, tzinfo=UTC), {}, datetime(2026, 6, 11, 4, tzinfo=UTC)),
        (
            datetime(2026, 11, 21, 17, tzinfo=UTC),
            {"desired_completion_date": "2026-11-30"},
            datetime(2026, 12, 2, 5, tzinfo=UTC),
        ),
        # No verification stays open for more than 14 days.
        (
            datetime(2026, 11, 21, 17, tzinfo=UTC),
            {"desired_completion_date": "2027-11-30"},
            datetime(2026, 12, 5, 17, tzinfo=UTC),
        ),
    ],
)
def test_default_deadline(now: datetime, options: dict[str, str], deadline: datetime) -> None:
    assert VENDOR.default_deadline is not None
    assert VENDOR.default_deadline(question(now, **options)) == deadline


@pytest.mark.parametrize(
    ("service", "special"),
    [
        ({}, []),
        (
            {"service_type_codes": ["AF", "98"]},
            ["SPEECH_THERAPY", "OFFICE_VISIT_NEW_PATIENT", "OFFICE_VISIT_RETURNING_PATIENT"],
        ),
        ({"procedure_codes": ["97153"]}, ["ABA_COVERAGE", "CODE_LOOKUP_BENEFITS", "CODE_LOOKUP_PRIOR_AUTH"]),
        (
            {"service_type_codes": ["MH"], "procedure_codes": ["90837", "90847", "H0031"]},
            ["PSYCHOTHERAPY", "FAMILY_PSYCHOTHERAPY", "CODE_LOOKUP_BENEFITS", "CODE_LOOKUP_PRIOR_AUTH"],
        ),
    ],
)
def test_questions_of_a_service(service: dict[str, Any], special: list[str]) -> None:
    chosen = [query.value for query in benefits_query(inquiry(**service), HealthHarborOptions())]
    assert chosen == ["PLAN_INFO", "DEDUCTIBLES_AND_MAXIMUMS", "NETWORK_STATUS", *special]


@pytest.mark.parametrize(
    "options",
    [
        {"benefits_query": ["TEETH"]},
        {"npi": "1234567893"},
        {"claim_number": "1"},
        {"is_specialist": "yes please"},
        {"desired_completion_date": "12-01-2026"},
        {"benefits_codes": ["9920"]},
    ],
)
def test_options_are_typed(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HealthHarborOptions(**options)


def test_places_of_service_are_words() -> None:
    assert [PLACES_OF_SERVICE[code] for code in ("11", "02", "24")] == [
        "doctors office",
        "telehealth",
        "ambulatory surgical center",
    ]
