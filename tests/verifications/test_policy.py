"""Every failure code × (nothing submitted | submitted): what the table says, cell by cell, in each situation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from covergate.eligibility.failure import FailureCode
from covergate.verifications.model import Attempt, Verification
from covergate.verifications.policy import REMEDIES, Remedy, remedy

NOW = datetime(2026, 11, 21, tzinfo=UTC)
S, R, N, P, OPERATOR = Remedy.STOP, Remedy.RETRY, Remedy.NEXT, Remedy.NEXT_IF_ALLOWED, Remedy.OPERATOR
FEW, WHILE, AGAIN = Remedy.RETRY_FEW, Remedy.RETRY_A_WHILE, Remedy.RESUBMIT_IF_ALLOWED

ANSWERS = (
    "member_id_invalid",
    "member_name_mismatch",
    "member_dob_mismatch",
    "member_gender_mismatch",
    "member_not_found",
    "dependent_not_found",
    "member_ambiguous",
    "member_not_in_plan",
    "member_deceased",
    "service_date_rejected",
    "provider_not_recognized",
    "provider_not_eligible",
    "payer_enrollment_required",
    "payer_manual_check_required",
    "request_rejected",
    "deadline_exceeded",
)

# code: nothing submitted (alone, with a route) | submitted (alone, with a route, with a route that may be paid)
CELLS: dict[str, tuple[Remedy, Remedy, Remedy, Remedy, Remedy]] = {
    **dict.fromkeys(ANSWERS, (S, S, S, S, S)),
    "payer_unavailable": (S, S, S, S, S),
    "payer_not_recognized": (S, N, S, S, P),
    "payer_not_supported": (S, N, S, S, P),
    "vendor_could_not_answer": (S, N, S, S, P),
    "vendor_unavailable": (R, N, WHILE, WHILE, WHILE),
    "vendor_rate_limited": (R, N, R, R, R),
    "vendor_protocol_error": (FEW, N, FEW, FEW, FEW),
    "vendor_auth_failed": (R, N, R, R, R),
    "submission_unknown": (S, S, OPERATOR, OPERATOR, P),
    "internal_error": (R, R, R, R, R),
}
# the same after many errors in a row, where that makes a difference
WORN_OUT: dict[str, tuple[Remedy, Remedy, Remedy, Remedy, Remedy]] = {
    "vendor_unavailable": (R, N, R, R, P),
    "vendor_protocol_error": (S, N, S, S, P),
}
SITUATIONS: tuple[dict[str, Any], ...] = (
    {"submitted": False},
    {"submitted": False, "route": ["integrex"]},
    {"submitted": True},
    {"submitted": True, "route": ["integrex"]},
    {"submitted": True, "route": ["integrex"], "allowed": True},
)


def verification(code: str, route: list[str], allowed: bool, payer_retries: int, errors: int) -> Verification:
    """After so many errors of this kind."""
    empty: dict[str, Any] = dict.fromkeys(Verification.__dataclass_fields__)
    nothing: dict[str, Any] = dict.fromkeys(Attempt.__dataclass_fields__)
    row = {"errors_in_row": errors, "same_errors_in_row": errors, "failure_code": code}
    attempt = Attempt(**{**nothing, **row})
    changes = {"route": route, "allow_second_submission": allowed, "payer_retries": payer_retries, "now": NOW}
    return Verification(**{**empty, **changes, "attempt": attempt})


def way(
    code: str,
    submitted: bool,
    route: list[str] | None = None,
    allowed: bool = False,
    payer_retries: int = 0,
    errors: int = 0,
) -> Remedy:
    v = verification(code, route or [], allowed, payer_retries, errors)
    return remedy(FailureCode(code), v, submitted=submitted)


def test_the_table_is_complete() -> None:
    assert set(REMEDIES) == set(FailureCode) == {FailureCode(code) for code in CELLS}


@pytest.mark.parametrize("code", CELLS)
def test_first_error(code: str) -> None:
    assert tuple(way(code, **situation) for situation in SITUATIONS) == CELLS[code]


@pytest.mark.parametrize("code", CELLS)
def test_after_many_errors(code: str) -> None:
    found = tuple(way(code, **situation, errors=99) for situation in SITUATIONS)
    assert found == WORN_OUT.get(code, CELLS[code])


@pytest.mark.parametrize("code", CELLS)
def test_payer_retries_resubmit_only_what_a_payer_could_not_answer(code: str) -> None:
    assert way(code, submitted=False, payer_retries=1) is CELLS[code][0]
    assert way(code, submitted=True, payer_retries=1) is (AGAIN if code == "payer_unavailable" else CELLS[code][2])


def test_how_long_a_vendor_that_is_down_is_asked_before_a_second_one_is_paid() -> None:
    """Errors after 1, 5, 30, 120 and 600 seconds are retried; the sixth in a row is one too many."""
    ways = [way("vendor_unavailable", True, ["integrex"], True, errors=errors) for errors in range(7)]
    assert ways == [WHILE] * 5 + [P] * 2
