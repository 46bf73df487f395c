"""The JSON inside `response`: whatever it holds, reading it ends in an answer or a refusal, and sources point into it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure
from covergate.eligibility.terms import BenefitPlace, Coverage, Kind
from tests.support.examples import examples
from tests.support.healthie import read_response

ACTIVE = {"benefit_coverage_code": "1", "benefit_code": "30"}


@pytest.mark.parametrize(
    "response",
    [
        {"result": {"elig": {"benefit": [ACTIVE]}}},
        {"result": {"elig": {"benefit": ACTIVE}}},
        {"result": {"elig": [{"benefit": [ACTIVE]}]}},
        {"result": [{"elig": {"benefit": [ACTIVE]}}]},
        {"elig": {"benefit": [ACTIVE]}},
        {"benefit": [ACTIVE]},
        [{"elig": {"benefit": [ACTIVE]}}],
    ],
)
def test_forms_of_an_answer(response: Any) -> None:
    outcome = read_response(response)
    assert isinstance(outcome, Answer)
    assert outcome.coverage is Coverage.ACTIVE
    assert len(outcome.benefits) == 1


@pytest.mark.parametrize(
    "response",
    [
        {"error": {"error_code": "72", "error_mesg": "x"}},
        {"error": [{"error_code": "72", "error_mesg": "x"}]},
        {"result": {"error": {"error_code": "72", "error_mesg": "x"}}},
        {"result": {"elig": {"error": {"error_code": "72", "error_mesg": "x"}}}},
        [{"error": {"error_code": "72", "error_mesg": "x"}}],
    ],
)
def test_forms_of_an_error(response: Any) -> None:
    outcome = read_response(response)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.vendor_message) == ("member_id_invalid", "x")


@pytest.mark.parametrize("response", ["", "null", "[]", "{}", '"text"', "3", "{", "<html>", '{"result": null}'])
def test_what_is_no_answer_is_unknown(response: str) -> None:
    outcome = read_response(response)
    assert isinstance(outcome, Answer)
    assert outcome.coverage is Coverage.UNKNOWN
    assert [warning.code for warning in outcome.warnings] == ["raw_unparsable"]


def test_errors_beside_benefits_are_notes() -> None:
    outcome = read_response({"elig": {"benefit": ACTIVE}, "error": {"error_code": "x", "error_mesg": "partial answer"}})
    assert isinstance(outcome, Answer)
    assert outcome.coverage is Coverage.ACTIVE
    assert "partial answer" in outcome.notes


@pytest.mark.parametrize(
    ("written", "share"), [("20", 20), ("0.2", 20), ("1", 100), ("0", 0), ("100", 100), ("1.5", 1.5)]
)
def test_percentages_up_to_one_are_fractions(written: str, share: float) -> None:
    outcome = read_response({"elig": {"benefit": {"benefit_coverage_code": "A", "benefit_percent": written}}})
    assert isinstance(outcome, Answer)
    (benefit,) = outcome.benefits
    assert benefit.percent is not None
    assert float(benefit.percent) == share


SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["1", "I", "30", "72", "20261121"])
)
NAMES = st.sampled_from(
    [
        "result",
        "elig",
        "benefit",
        "error",
        "error_code",
        "error_mesg",
        "benefit_coverage_code",
        "benefit_code",
        "benefit_amount",
        "benefit_percent",
        "benefit_notes",
        "entity_name",
        "entity_id",
        "ins_dob",
        "plan_begin_date",
        "benefitsInformation",
        "planStatus",
        "errors",
        "code",
        "serviceTypeCodes",
        "planDateInformation",
        "subscriber",
        "dependents",
        "aaaErrors",
        "payer",
        "planInformation",
        "groupNumber",
        "benefitsRelatedEntities",
        "benefitsRelatedEntity",
        "entityIdentifier",
        "entityName",
        "entityIdentificationValue",
        "contactInformation",
        "contacts",
        "communicationMode",
        "benefitsServiceDelivery",
        "quantity",
        "benefitsAdditionalInformation",
        "benefitsDateInformation",
        "plan",
        "eligibilityAdditionalInformation",
        "industryCode",
        "compositeMedicalProcedureIdentifier",
        "procedureCode",
        "address",
        "address1",
        "relationToSubscriber",
        "place_of_service",
        "policy_number",
        "entity_website",
    ]
)
DOCUMENT = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)


@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
@given(DOCUMENT)
def test_nothing_breaks_the_reading(document: Any) -> None:
    assert isinstance(read_response(document), Answer | Failure)


@pytest.mark.parametrize(
    ("stated", "days"),
    [
        ("20260101-20261231", ("2026-01-01", "2026-12-31")),
        ("20260101", ("2026-01-01", None)),
        ("20261121-20261121", (None, None)),  # the day that was asked about
        ("20261120-20261120", (None, None)),  # by another clock
    ],
)
def test_the_days_of_the_inquiry_are_not_the_plans(stated: str, days: tuple[str | None, str | None]) -> None:
    outcome = read_response({"elig": {"plan_begin_date": stated, "benefit": [ACTIVE]}})
    assert isinstance(outcome, Answer)
    plan = outcome.plan.model_dump(mode="json")
    assert (plan["starts_on"], plan["ends_on"]) == days


@pytest.mark.parametrize(
    ("stated", "place", "limits"), [("02", BenefitPlace.TELEHEALTH, []), ("Retail clinic", None, ["Retail clinic"])]
)
def test_a_row_holds_at_its_place(stated: str, place: BenefitPlace | None, limits: list[str]) -> None:
    copay = {"benefit_coverage_code": "B", "benefit_code": "98", "benefit_amount": "0", "place_of_service": stated}
    outcome = read_response({"elig": {"benefit": [ACTIVE, copay]}})
    assert isinstance(outcome, Answer)
    (found,) = [row for row in outcome.benefits if row.kind is Kind.COPAY]
    assert (found.place, found.limited_to) == (place, limits)


def test_another_payers_policy_number_is_the_members() -> None:
    other = {"benefit_coverage_code": "R", "entity_code": "PRP", "entity_name": "EXAMPLE", "policy_number": "1SA0MP1LE"}
    outcome = read_response({"elig": {"benefit": [ACTIVE, other]}})
    assert isinstance(outcome, Answer)
    assert [one.member_id for one in outcome.other_coverage] == ["1SA0MP1LE"]
