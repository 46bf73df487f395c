"""When the member in the answer is not quite who was asked about."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.members import differences
from covergate.eligibility.result import Member

PATIENT: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "O'Sample-Lee",
    "date_of_birth": "1990-02-03",
    "member_id": "W12-345",
}
SUBSCRIBER: dict[str, Any] = {
    "patient_relationship": "child",
    "first_name": "John",
    "last_name": "Sample",
    "date_of_birth": "1960-01-01",
    "member_id": "W99",
}


def inquiry(**more: Any) -> Inquiry:
    return Inquiry.model_validate({"payer": {"id": "60054"}, "patient": PATIENT, **more})


def member(**stated: Any) -> Member:
    return Member(**stated, sources={name: [f"/exchanges/0/body/{name}"] for name in stated})


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"first_name": "Janie"},
        {"last_name": "OSAMPLE LEE", "member_id": "w12345", "date_of_birth": date(1990, 2, 3)},
    ],
)
def test_the_same_person(stated: dict[str, Any]) -> None:
    assert differences(inquiry(), member(**stated), None) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("last_name", "Other"), ("member_id", "W12346"), ("date_of_birth", date(1990, 3, 2))],
)
def test_another_person(field: str, value: Any) -> None:
    assert differences(inquiry(), member(**{field: value}), None) == [f"/exchanges/0/body/{field}"]


def test_either_number_of_a_family_is_right() -> None:
    asked = inquiry(subscriber=SUBSCRIBER)
    for number in ("W99", "W12345"):
        assert differences(asked, member(member_id=number), member(member_id=number)) is None
    assert differences(asked, member(), member(last_name="Other")) == ["/exchanges/0/body/last_name"]
