"""Other payers and entities that an X12 answer names: who pays, in whose name, and who is only to be asked."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from covergate.eligibility.inquiry import Service
from covergate.eligibility.result import OtherCoverage, RelatedEntity
from covergate.eligibility.sourced import Sourced
from covergate.eligibility.terms import OtherCoverageKind, Role, WarningCode
from tests.support.stated_rows import eb, reading

NPI = "1234567893"


def other(*entities: dict[str, str], **more: Any) -> dict[str, Any]:
    return eb(eb01="R", entities=list(entities)) | more


def coverages(*specs: dict[str, Any]) -> list[OtherCoverage]:
    return reading(*specs).other_coverage


HOLDER = {"code": "IL", "name": "SAMPLE", "first_name": "PAT", "id": "W100200300"}


def test_a_policyholder_is_not_the_payer() -> None:
    (found,) = coverages(other(HOLDER, references=[("6P", "G1")]))
    assert (found.payer.name, found.payer.id, found.member_id, found.group_number) == (None, None, "W100200300", "G1")
    assert found.subscriber is not None
    assert (found.subscriber.first_name, found.subscriber.last_name) == ("PAT", "SAMPLE")


def test_payer_and_policyholder_of_one_policy_are_one_coverage() -> None:
    policy = {"eb03": ["30"], "eb04": "OT", "days": [("193", "20260501"), ("194", "20261231")]}
    payer = {"code": "PR", "name": "EXAMPLE INSURANCE", "phone": "2145550112"}
    found = coverages(
        other(payer, references=[("6P", "G1")], **policy),
        other(HOLDER, references=[("6P", "G1")], **policy),
        other(HOLDER, references=[("6P", "G2")], **policy),
    )
    by_group = {one.group_number: one for one in found}
    assert len(found) == 2
    assert (by_group["G1"].payer.name, by_group["G1"].member_id) == ("EXAMPLE INSURANCE", "W100200300")
    assert (by_group["G1"].starts_on, by_group["G1"].ends_on) == (date(2026, 5, 1), date(2026, 12, 31))
    assert by_group["G1"].phone == "2145550112"
    assert by_group["G2"].payer.name is None


def test_several_rows_that_could_be_the_payers_stay_apart() -> None:
    rows = [other({"code": "PR", "name": name}, references=[("6P", "G1")]) for name in ("ONE", "OTHER")]
    assert len(coverages(*rows, other(HOLDER, references=[("6P", "G1")]))) == 3


MEDICARE = eb(eb01="1", eb02="IND", eb04="MA")


def test_a_medicare_advantage_plan() -> None:
    found, _ = sorted(
        coverages(
            MEDICARE,
            other(
                {"code": "PRP", "name": "EXAMPLE HEALTH", "phone": "8005550100"},
                eb03=["30"],
                eb04="HN",
                references=[("18", "H9999 001")],
                days=[("290", "20260801")],
            ),
            other({"code": "PR", "name": "EXAMPLE DRUGS"}, eb03=["88"], eb04="OT", references=[("18", "S9999 001")]),
        ),
        key=lambda one: one.kind,
    )
    assert (found.kind, found.plan_number, found.order) == (
        OtherCoverageKind.MEDICARE_ADVANTAGE,
        "H9999 001",
        "primary",
    )
    assert (found.starts_on, found.ends_on, found.phone) == (date(2026, 8, 1), None, "8005550100")
    assert found.service_type_codes == ["30"]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([other(eb04="14")], OtherCoverageKind.MSP),
        ([other(eb04="C1")], OtherCoverageKind.OTHER),
        ([other(eb04="MC")], OtherCoverageKind.MEDICAID),
        ([other()], OtherCoverageKind.UNKNOWN),
        ([other(eb03=["88"], references=[("18", "S9999")])], OtherCoverageKind.UNKNOWN),
        ([MEDICARE, other(eb03=["88"], eb04="OT", references=[("18", "S9999")])], OtherCoverageKind.PART_D),
        (
            [MEDICARE, other(eb03=["30"], eb04="PR", references=[("18", "R9999-2")])],
            OtherCoverageKind.MEDICARE_ADVANTAGE,
        ),
        ([MEDICARE, other(eb03=["30"], eb04="C1", references=[("18", "98765")])], OtherCoverageKind.OTHER),
    ],
)
def test_kinds(rows: list[dict[str, Any]], kind: OtherCoverageKind) -> None:
    assert [one.kind for one in coverages(*rows)] == [kind]


def entities(*specs: dict[str, Any], **more: Any) -> list[RelatedEntity]:
    return reading(*specs, **more).related_entities


@pytest.mark.parametrize(
    ("row", "role"),
    [
        (eb(eb01="1", eb03=["30"], entities=[{"code": "X3"}]), Role.UTILIZATION_MANAGEMENT),
        (eb(eb01="1", eb03=["30"], entities=[{"code": "VER"}]), Role.HOME_PLAN),
        (eb(eb01="U", eb03=["88"], entities=[{"code": "VN"}]), Role.PHARMACY_BENEFIT),
        (eb(eb01="U", eb03=["35"], entities=[{"code": "VN"}]), Role.CARVE_OUT_VENDOR),
        (eb(eb01="U", eb03=["MH"], entities=[{"code": "VN"}]), Role.CARVE_OUT),
        (eb(eb01="U", eb03=["MH"]), Role.CARVE_OUT),
        (eb(eb01="U", eb03=["35"], entities=[{"code": "PR"}]), Role.OTHER),
        (eb(eb01="X", eb03=["45"], entities=[{"code": "1P", "npi": NPI}]), Role.HOSPICE),
        (eb(eb01="X", eb03=["47"], entities=[{"code": "FA"}]), Role.FACILITY),
        (eb(eb01="3", eb03=["MH"], entities=[{"code": "PR", "name": "EXAMPLE MCO"}]), Role.MANAGED_CARE),
        (eb(eb01="1", eb04="HM", entities=[{"code": "PR", "name": "EXAMPLE MCO"}]), Role.MANAGED_CARE),
        (eb(eb01="1", eb04="HM", entities=[{"code": "PR", "name": "Example  Payer"}]), Role.OTHER),
        (eb(eb01="1", eb04="PR", entities=[{"code": "PR", "name": "EXAMPLE MCO"}]), Role.OTHER),
        (eb(eb01="4", eb03=["98"], entities=[{"code": "P3"}]), Role.PRIMARY_CARE_PROVIDER),
    ],
)
def test_roles(row: dict[str, Any], role: Role) -> None:
    answering = (Sourced("EXAMPLE PAYER", ("/payer",)),)
    assert [one.role for one in entities(row, answering_payer=answering)] == [role]


def test_an_entity_has_the_services_of_its_row_and_its_website() -> None:
    vendor = {"code": "VN", "name": "EXAMPLE DENTAL", "website": "www.example.com"}
    (found,) = entities(eb(eb01="U", eb03=["35", "23"], entities=[vendor]))
    assert (found.service_type_codes, found.website) == (["23", "35"], "www.example.com")
    assert found.sources["service_type_codes"] == ["/0/eb03/0", "/0/eb03/1"]


def test_a_person_has_a_full_name() -> None:
    (found,) = entities(eb(eb01="L", entities=[{"code": "P3", "name": "SAMPLE", "first_name": "CHRIS"}]))
    assert found.name == "CHRIS SAMPLE"


def test_the_provider_that_asks_is_left_out() -> None:
    row = eb(eb01="X", entities=[{"code": "1P", "npi": NPI}])
    assert entities(row, asking_npi=NPI) == []
    assert [one.role for one in entities(row)] == [Role.FACILITY]
    assert [one.role for one in entities(row | {"eb03": ["45"]}, asking_npi=NPI)] == [Role.HOSPICE]


@pytest.mark.parametrize(
    ("codes", "asked", "warned"),
    [
        (["88"], ("30",), False),
        (["35"], ("MH",), False),
        (["MH"], ("MH",), True),
        (["30"], ("MH",), True),
        ([], ("MH",), True),
    ],
)
def test_another_entity_is_warned_of_if_it_is_about_what_was_asked(
    codes: list[str], asked: tuple[str, ...], warned: bool
) -> None:
    found = reading(
        eb(eb01="1", eb03=["30"]),
        eb(eb01="U", eb03=codes, entities=[{"code": "VN", "name": "EXAMPLE VENDOR"}]),
        service=Service(service_type_codes=asked),
    )
    assert [one.code for one in found.warnings] == [WarningCode.CONTACT_OTHER_ENTITY] * warned
    assert len(found.related_entities) == 1


def test_another_entity_is_warned_of_if_the_answer_says_nothing_else() -> None:
    found = reading(eb(eb01="U", eb03=["35"]))
    assert [one.code for one in found.warnings] == [WarningCode.CONTACT_OTHER_ENTITY]


@pytest.mark.parametrize("qualifier", ["1W", "IG"])
def test_the_number_at_another_payer_stands_in_a_reference_too(qualifier: str) -> None:
    (found,) = coverages(other({"code": "PRP", "name": "EXAMPLE INSURANCE"}, references=[(qualifier, "1SA0MP1LE00")]))
    assert (found.member_id, found.sources["member_id"]) == ("1SA0MP1LE00", ["/0/references/0"])
