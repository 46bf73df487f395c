"""The code tables: AAA rejects to failures, VSee's texts, and that no table misses a listed code."""

from __future__ import annotations

import random

import pytest

from covergate.eligibility.failure import MEANINGS, Aaa, FailureCode
from covergate.eligibility.x12.codes import (
    AAA_TEXTS,
    ENTITY_ROLES,
    KINDS,
    PERIODS,
    UNITS,
    aaa_code_of_text,
    aaa_failure,
)
from covergate.eligibility.x12.names import AAA03_NAMES, EB01_NAMES, EB03_NAMES, EB04_NAMES, EB06_NAMES, EB09_NAMES

# docs/api.md#5-the-failure, column "from", one line each.
FROM_THE_CONTRACT = {
    "payer_unavailable": "42 80",
    "member_id_invalid": "64 72",
    "member_name_mismatch": "65 73",
    "member_dob_mismatch": "58 60 71",
    "member_gender_mismatch": "66 74",
    "member_not_found": "67 75",
    "dependent_not_found": "77",
    "member_ambiguous": "68 76",
    "member_not_in_plan": "78",
    "member_deceased": "61",
    "service_date_rejected": "56 57 62 63",
    "provider_not_recognized": "43 44 45 46 47 48 51 97",
    "provider_not_eligible": "35 49 50 52 53",
    "payer_enrollment_required": "41",
    "payer_not_recognized": "79 T4",
    "request_rejected": "04 15 33 54 55 69 70 98 T5 AA AE AF AG AO CI E8 IA MA ?? 99",
}


@pytest.mark.parametrize(
    ("aaa", "code"), [(aaa, code) for code, codes in FROM_THE_CONTRACT.items() for aaa in codes.split()]
)
def test_one_reject(aaa: str, code: str) -> None:
    found = aaa_failure([Aaa(code=aaa, follow_up="C")])
    assert (found.code, found.vendor_code) == (code, aaa)
    assert found.fix_by is MEANINGS[found.code].fix_by


def test_every_known_reject_is_in_the_contract() -> None:
    assert set(AAA03_NAMES) <= {aaa for codes in FROM_THE_CONTRACT.values() for aaa in codes.split()}


@pytest.mark.parametrize(
    ("aaas", "code"),
    [
        (["75", "42"], FailureCode.PAYER_UNAVAILABLE),
        (["79", "42"], FailureCode.PAYER_UNAVAILABLE),
        (["79", "80"], FailureCode.PAYER_UNAVAILABLE),
        (["75", "73", "72"], FailureCode.MEMBER_ID_INVALID),
        (["51", "71"], FailureCode.MEMBER_DOB_MISMATCH),
        (["33", "79"], FailureCode.PAYER_NOT_RECOGNIZED),
        (["33", "15"], FailureCode.REQUEST_REJECTED),
    ],
)
def test_several_rejects(aaas: list[str], code: FailureCode) -> None:
    found = [aaa_failure([Aaa(code=aaa) for aaa in random.Random(seed).sample(aaas, len(aaas))]) for seed in range(5)]
    assert found[0].code is code
    assert all(failure == found[0] for failure in found)


@pytest.mark.parametrize("follow_up", ["S", "W", "X", "Y"])
def test_out_of_our_hands(follow_up: str) -> None:
    def code(*aaas: tuple[str, str | None]) -> FailureCode:
        return aaa_failure([Aaa(code=aaa, follow_up=action) for aaa, action in aaas]).code

    assert code(("72", follow_up)) is FailureCode.PAYER_MANUAL_CHECK_REQUIRED
    assert code(("33", follow_up)) is FailureCode.PAYER_MANUAL_CHECK_REQUIRED
    assert code(("42", follow_up)) is FailureCode.PAYER_UNAVAILABLE
    assert code(("75", follow_up), ("80", None)) is FailureCode.PAYER_UNAVAILABLE
    # A plain 72 stands before "contact the payer" in the table.
    assert code(("75", follow_up), ("72", "C")) is FailureCode.MEMBER_ID_INVALID


@pytest.mark.parametrize("follow_up", [None, "C", "N", "P", "R", "?"])
def test_other_follow_ups_change_nothing(follow_up: str | None) -> None:
    assert aaa_failure([Aaa(code="72", follow_up=follow_up)]).code is FailureCode.MEMBER_ID_INVALID


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, code) for code, text in AAA_TEXTS.items()),
        ("patient birth date does not match that for the patient in the database", "71"),
        ("  UNABLE to respond\tat  current time", "42"),
        ("Subscriber/Insured not found.", "75"),
        ("Success / Reject reason not found", None),
        ("Success", None),
        ("", None),
        ("Something new", None),
    ],
)
def test_texts(text: str, code: str | None) -> None:
    assert aaa_code_of_text(text) == code


def test_tables_hold_every_code_of_their_sources() -> None:
    assert KINDS.keys() == EB01_NAMES.keys()
    assert PERIODS.keys() == EB06_NAMES.keys()
    assert UNITS.keys() == EB09_NAMES.keys()
    assert (len(EB03_NAMES), len(EB04_NAMES), len(AAA03_NAMES), len(AAA_TEXTS)) == (243, 45, 56, 53)
    assert ENTITY_ROLES["P3"] == "primary_care_provider"
