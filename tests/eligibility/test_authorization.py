"""Whether a service needs an authorization, by network, and the payer's words on it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from covergate.eligibility.result import Authorization, ServiceAnswer
from covergate.eligibility.terms import AuthorizationNeed
from tests.support.stated_rows import eb, reading

REQUIRED, NOT_REQUIRED = AuthorizationNeed.REQUIRED, AuthorizationNeed.NOT_REQUIRED
MAY_APPLY, UNKNOWN = AuthorizationNeed.MAY_APPLY, AuthorizationNeed.UNKNOWN


def service(code: str, *specs: dict[str, Any]) -> ServiceAnswer:
    (found,) = [one for one in reading(*specs).services if one.code == code]
    return found


def needs(found: ServiceAnswer) -> tuple[AuthorizationNeed, ...]:
    return found.authorization.in_, found.authorization.out, found.authorization.unknown


@pytest.mark.parametrize(
    ("row", "need", "required"),
    [
        (eb(eb01="B", eb03=["MH"], eb11="Y"), REQUIRED, True),
        (eb(eb01="1", eb03=["MH"], eb11="Y"), REQUIRED, True),
        (eb(eb01="1", eb03=["30"], eb11="Y"), MAY_APPLY, None),
        (eb(eb01="C", eb03=["30"], eb11="Y"), REQUIRED, True),
        (eb(eb01="1", eb03=["30"], eb11="N"), NOT_REQUIRED, False),
        (eb(eb01="B", eb03=["MH"], eb11="U"), UNKNOWN, None),
        (eb(eb01="B", eb03=["MH"]), UNKNOWN, None),
    ],
)
def test_a_row(row: dict[str, Any], need: AuthorizationNeed, required: bool | None) -> None:
    (benefit,) = reading(row).benefits
    assert (benefit.authorization, benefit.authorization_required) == (need, required)
    assert ("authorization" in benefit.sources) is (need is not UNKNOWN)


def test_out_of_network_alone_says_nothing_of_the_network() -> None:
    found = service("98", eb(eb01="B", eb03=["98"], eb11="Y", eb12="N"), eb(eb01="B", eb03=["98"], eb12="Y"))
    assert needs(found) == (UNKNOWN, REQUIRED, UNKNOWN)
    assert found.authorization_required is True


def test_networks_that_differ() -> None:
    found = service("98", eb(eb01="B", eb03=["98"], eb11="Y", eb12="N"), eb(eb01="B", eb03=["98"], eb11="N", eb12="Y"))
    assert needs(found) == (NOT_REQUIRED, REQUIRED, UNKNOWN)
    assert found.authorization_required is None
    assert found.sources["authorization"] == ["/0/eb11", "/1/eb11"]
    assert "authorization_required" not in found.sources


def test_rows_of_one_network_that_differ() -> None:
    found = service("98", *(eb(eb01="B", eb03=["98"], eb11=code, eb12="W") for code in ("Y", "N")))
    assert (needs(found), found.authorization_required) == ((MAY_APPLY, MAY_APPLY, UNKNOWN), None)


def test_only_words_on_authorization_are_its_note() -> None:
    found = service(
        "98",
        eb(eb01="B", eb03=["98"], eb11="Y", msgs=["PCP TO SUBMIT A SPECIALIST REFERRAL", "PRIOR AUTHORIZATION NEEDED"]),
        eb(eb01="A", eb03=["98"], msgs=["Plan Requires PreCert", "Combined Chiropractic", "Authority of the plan"]),
    )
    assert found.authorization_note == "PRIOR AUTHORIZATION NEEDED Plan Requires PreCert"
    assert found.sources["authorization_note"] == ["/0/msgs/1", "/1/msgs/0"]


def test_a_number_on_file_is_an_authorization() -> None:
    """However many rows state it; a referral's number is none."""
    stated = eb("1**98", ("348", "20260101"), ("349", "20261231"), references=[("G1", "A-77"), ("9F", "R-1")])
    assert reading(stated, stated).authorizations == [
        Authorization(number="A-77", starts_on=date(2026, 1, 1), ends_on=date(2026, 12, 31))
    ]
