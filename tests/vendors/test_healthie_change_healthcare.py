"""Change Healthcare's form of an answer: everything that it states comes through, each value with its place."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure, FailureCode
from covergate.vendors.document import Node
from covergate.vendors.healthie.change_healthcare import change_healthcare
from covergate.vendors.healthie.check_response import CheckResponse
from tests.support.healthie import read_response

ACTIVE = {"code": "1", "serviceTypeCodes": ["30"], "insuranceTypeCode": "PR"}


def answered(**document: Any) -> Answer:
    answer = read_response({"controlNumber": "1", "benefitsInformation": [ACTIVE]} | document)
    assert isinstance(answer, Answer)
    return answer


def response(**document: Any) -> CheckResponse:
    found = change_healthcare(Node({"controlNumber": "1"} | document, ""))
    assert found is not None
    return found


def test_another_payer_with_its_number_phone_address_and_begin() -> None:
    other = {
        "code": "R",
        "benefitsDateInformation": {"coordinationOfBenefits": "20140701"},
        "benefitsAdditionalInformation": {"planNumber": "S5601"},
        "benefitsRelatedEntities": [
            {
                "entityIdentifier": "Secondary Payer",
                "entityName": "MEDICARE",
                "entityIdentification": "Member Identification Number",
                "entityIdentificationValue": "1AA0AA0AA00",
                "address": {"address1": "1 PAYER ST", "city": "OAKLAND", "state": "CA", "postalCode": "94601"},
                "contactInformation": {
                    "contacts": [
                        {"communicationMode": "Telephone", "communicationNumber": "5550100001"},
                        {"communicationMode": "Uniform Resource Locator (URL)", "communicationNumber": "PAYER.EXAMPLE"},
                    ]
                },
            }
        ],
    }
    (row,) = response(benefitsInformation=[other, ACTIVE]).rows[:1]
    (payer,) = row.entities
    assert (payer.code.value, payer.name.value, payer.id.value) == ("SEP", "MEDICARE", None)
    assert (payer.phone.value, payer.website.value) == ("5550100001", "PAYER.EXAMPLE")
    assert payer.address.value is not None and payer.address.value.zip == "94601"
    assert [(one.qualifier, one.number.value) for one in row.references] == [("18", "S5601")]
    assert [(day.qualifier, day.first) for day in row.days] == [("290", date(2014, 7, 1))]
    (coverage,) = answered(benefitsInformation=[other, ACTIVE]).other_coverage
    assert (coverage.order, coverage.payer.name, coverage.member_id) == ("secondary", "MEDICARE", "1AA0AA0AA00")


def test_places_other_limits_procedure_and_count() -> None:
    row = response(
        benefitsInformation=[
            {
                "code": "F",
                "eligibilityAdditionalInformation": {"industryCode": "11"},
                "eligibilityAdditionalInformationList": [
                    {"codeListQualifierCode": "ZZ", "industryCode": "11", "industry": "Office"},
                    {"codeListQualifierCode": "NI", "industryCode": "1", "industry": "Auto Accident"},
                ],
                "compositeMedicalProcedureIdentifier": {
                    "productOrServiceIdQualifierCode": "HC",
                    "procedureCode": "90837",
                },
                "benefitsServiceDelivery": [
                    {
                        "quantity": "30",
                        "quantityQualifier": "Visits",
                        "timePeriodQualifier": "Calendar Year",
                        "numOfPeriods": "1",
                    }
                ],
            }
        ]
    ).rows[0]
    assert [place.value for place in row.places] == ["11"]
    assert [limit.value for limit in row.limits] == ["Auto Accident"]
    assert [code.value for code in row.procedures] == ["90837"]
    (delivery,) = row.deliveries
    assert [delivery.hsd01.value, delivery.hsd02.value, delivery.hsd05.value, delivery.hsd06.value] == [
        "VS",
        "30",
        "23",
        "1",
    ]


def test_plan_payer_and_persons() -> None:
    answer = answered(
        planInformation={"groupNumber": "G7", "planNumber": "P7", "groupDescription": "SAMPLE EMPLOYER"},
        payer={
            "name": "SAMPLE HEALTH",
            "payorIdentification": "99999",
            "contactInformation": {
                "contacts": [{"communicationMode": "Telephone", "communicationNumber": "5550100002"}]
            },
        },
        subscriber={"firstName": "JOHN", "lastName": "SAMPLE", "memberId": "W1", "dateOfBirth": "19600203"},
        dependents=[
            {"firstName": "JANE", "lastName": "SAMPLE", "dateOfBirth": "19900131", "relationToSubscriber": "Child"}
        ],
        subscriberTraceNumbers=[{"traceTypeCode": "1", "referenceIdentification": "T-1"}],
    )
    assert (answer.plan.group_number, answer.plan.number, answer.plan.group_name) == ("G7", "P7", "SAMPLE EMPLOYER")
    assert answer.plan.sources["group_number"] == ["/exchanges/0/body/check/response#/planInformation/groupNumber"]
    assert (answer.payer.id, answer.payer.name, answer.payer.phone) == ("99999", "SAMPLE HEALTH", "5550100002")
    assert (answer.patient.first_name, answer.patient.relationship) == ("JANE", "child")
    assert answer.subscriber is not None and answer.subscriber.first_name == "JOHN"
    assert answer.references.trace_number == "T-1"


@pytest.mark.parametrize(
    ("children", "first_name"),
    [
        ([("PETER", "19930704"), ("JANE", "19900131")], "JANE"),
        ([("PETRA", "19900131"), ("JANE", "19900131")], "JANE"),
        ([("JANE", "19900131"), ("JANE", "19900131")], None),
        ([("PAUL", "19910101"), ("PETER", "19930704")], None),
    ],
    ids=["by birth date", "twins", "namesakes", "two strangers"],
)
def test_several_dependents(children: list[tuple[str, str]], first_name: str | None) -> None:
    dependents = [{"firstName": name, "lastName": "SAMPLE", "dateOfBirth": born} for name, born in children]
    found = read_response({"controlNumber": "1", "benefitsInformation": [ACTIVE], "dependents": dependents})
    if first_name is None:
        assert isinstance(found, Failure) and found.code is FailureCode.MEMBER_AMBIGUOUS
    else:
        assert isinstance(found, Answer) and found.patient.first_name == first_name


def test_the_group_of_a_row_that_states_the_plan() -> None:
    row = {**ACTIVE, "benefitsAdditionalInformation": {"groupNumber": "90123", "planNetworkIdNumber": "N-1"}}
    rider = {"code": "1", "serviceTypeCodes": ["AL"], "benefitsAdditionalInformation": {"groupNumber": "OTHER"}}
    plan = answered(benefitsInformation=[row, rider]).plan
    assert (plan.group_number, plan.network_id) == ("90123", "N-1")


@pytest.mark.parametrize("dates", [{"eligibility": "20261121-20261121"}, {"plan": "20261121-20261121"}])
def test_the_day_that_was_asked_about_is_no_date_of_the_plan(dates: dict[str, str]) -> None:
    plan = answered(planDateInformation=dates).plan
    assert (plan.starts_on, plan.ends_on) == (None, None)


def test_premiums_are_paid_through_a_day() -> None:
    found = response(planDateInformation={"premiumPaidToDateEnd": "20261130"}).plan_days
    assert [(day.qualifier, day.last) for day in found] == [("343", date(2026, 11, 30))]


@pytest.mark.parametrize(
    ("party", "loop", "code"),
    [
        ({"provider": {"aaaErrors": [{"code": "51"}]}}, "2100B", "provider_not_recognized"),
        ({"payer": {"aaaErrors": [{"code": "42"}]}}, "2100A", "payer_unavailable"),
        ({"subscriber": {"aaaErrors": [{"code": "75"}]}}, "2100C", "member_not_found"),
        ({"dependents": [{"aaaErrors": [{"code": "77"}]}]}, "2100D", "dependent_not_found"),
    ],
)
def test_errors_of_each_party(party: dict[str, Any], loop: str, code: str) -> None:
    failure = read_response({"controlNumber": "1"} | party)
    assert isinstance(failure, Failure)
    assert failure.code == code
    assert [aaa.loop for aaa in failure.aaa] == [loop]


def test_a_status_counts_if_no_row_states_coverage() -> None:
    rows = response(
        planStatus=[{"statusCode": "6", "serviceTypeCodes": ["30"], "planDetails": "OPEN CHOICE"}],
        benefitsInformation=[{"code": "W"}],
    ).rows
    assert [(row.code, row.eb05.value) for row in rows] == [("W", None), ("6", "OPEN CHOICE")]


def test_words_in_place_of_codes() -> None:
    """Excerpts of such answers have only the words that stand beside the codes."""
    named = answered(
        benefitsInformation=[
            {"name": "Active Coverage", "serviceTypes": ["Health Benefit Plan Coverage"], "insuranceType": "Medicaid"},
            {
                "name": "Deductible",
                "coverageLevel": "Individual",
                "serviceTypes": ["Health Benefit Plan Coverage"],
                "timeQualifier": "Calendar Year",
                "benefitAmount": "1000",
                "inPlanNetworkIndicator": "Yes",
            },
            {
                "name": "Co-Payment",
                "serviceTypes": ["Professional (Physician) Visit - Office"],
                "benefitAmount": "25",
                "authOrCertIndicator": "No",
                "inPlanNetworkIndicator": "Not Applicable",
            },
            {"name": "House Rules", "serviceTypes": ["Nobody Knows"], "inPlanNetworkIndicator": "Sometimes"},
        ]
    )
    assert (named.coverage, named.plan.type) == ("active", "MC")
    found = {row.code: row for row in named.benefits}
    deductible, copay = found["C"], found["B"]
    assert (deductible.level, deductible.period, deductible.network) == ("individual", "calendar_year", "in")
    assert (copay.service_type_codes, copay.network, copay.authorization) == (["98"], "both", "not_required")
    assert copay.sources["network"] == [
        "/exchanges/0/body/check/response#/benefitsInformation/2/inPlanNetworkIndicator"
    ]
    assert {warned.code for warned in named.warnings} == {"unknown_code"}


def test_a_code_goes_before_its_words() -> None:
    row = {"code": "C", "name": "Co-Payment", "inPlanNetworkIndicatorCode": "N", "inPlanNetworkIndicator": "Yes"}
    (found,) = answered(benefitsInformation=[row | {"benefitAmount": "10"}]).benefits
    assert (found.kind, found.network) == ("deductible", "out")
