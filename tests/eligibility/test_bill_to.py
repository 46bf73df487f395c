"""Whom to bill for the asked service, and the warning that says so."""

from __future__ import annotations

from datetime import date
from itertools import permutations
from typing import Any

import pytest

from covergate.eligibility.result import BillTo, NamedPayer, OtherCoverage, PayerAnswer, RelatedEntity
from covergate.eligibility.terms import (
    BillToReason,
    Coverage,
    Kind,
    OtherCoverageKind,
    Outcome,
    OutcomeReason,
    Role,
    WarningCode,
)
from tests.support.stated_rows import Row, concluded, eb, inquiry, warned, without_sources

MEDICARE = [eb("1**30*MA"), eb("1**30*MB")]
ADVANTAGE = eb("R**30*HN*ADVANTAGE PLAN", nm1=["PRP*GOOD HEALTH MA"], references=[("18", "H0001-001")])
GROUP_PLAN = eb("R**30*12", nm1=["PRP*WORKERS INSURANCE*77777"])
LIABILITY = eb("R**30*14", nm1=["PR*AUTO INSURANCE"])
ELSEWHERE = {
    WarningCode.OTHER_PAYER_PRIMARY,
    WarningCode.MANAGED_CARE_PLAN_PAYS,
    WarningCode.CARVED_OUT,
}


def billed(lines: list[Row], *codes: str, **more: Any) -> tuple[BillTo | None, set[WarningCode]]:
    derived = concluded(lines, inquiry(*codes), **more)
    return derived.result.bill_to, warned(derived) & ELSEWHERE


@pytest.mark.parametrize(
    ("lines", "codes", "because", "name", "warnings"),
    [
        ([*MEDICARE, ADVANTAGE], (), "medicare_advantage", "GOOD HEALTH MA", {"managed_care_plan_pays"}),
        ([*MEDICARE, GROUP_PLAN], (), "msp", "WORKERS INSURANCE", {"other_payer_primary"}),
        (
            [*MEDICARE, GROUP_PLAN, ADVANTAGE],
            (),
            "msp",
            "WORKERS INSURANCE",
            {"other_payer_primary", "managed_care_plan_pays"},
        ),
        # A drug plan pays for drugs alone.
        (
            [*MEDICARE, eb("R**88*OT*S0001-001", nm1=["PRP*DRUG PLAN"], references=[("18", "S0001-001")])],
            ("98",),
            "this_payer",
            None,
            set(),
        ),
        (
            [eb("1**30*PR*OPEN"), eb("R**30*C1", nm1=["PRP*FIRST INSURANCE*11111"])],
            (),
            "other_primary",
            "FIRST INSURANCE",
            {"other_payer_primary"},
        ),
        ([eb("1**30*PR*OPEN"), eb("R**30*C1", nm1=["SEP*SECOND INSURANCE"])], (), "this_payer", None, set()),
        # Medicaid pays last, whatever the order that is stated.
        (
            [eb("1**30*MC*STATE PLAN"), eb("R**30*C1", nm1=["PR*FIRST INSURANCE", "IL*SAMPLE*W9"])],
            (),
            "other_primary",
            "FIRST INSURANCE",
            {"other_payer_primary"},
        ),
        (
            [eb("1**30*MC*STATE PLAN"), eb("3**MH*MC*PREPAID MENTAL HEALTH", nm1=["PR*MOUNTAIN HEALTH"])],
            ("MH",),
            "managed_care",
            "MOUNTAIN HEALTH",
            {"managed_care_plan_pays"},
        ),
        (
            [eb("1**30*MC*STATE PLAN"), eb("3**MH*MC*PREPAID MENTAL HEALTH", nm1=["PR*MOUNTAIN HEALTH"])],
            ("98",),
            "this_payer",
            None,
            set(),
        ),
        (
            [eb("1**30*HM*GOLD"), eb("U**MH", nm1=["VN*QUIET MIND"])],
            ("MH",),
            "carve_out",
            "QUIET MIND",
            {"carved_out"},
        ),
        ([eb("1**30*HM*GOLD"), eb("U**MH", nm1=["VN*QUIET MIND"])], ("98",), "this_payer", None, set()),
        (
            [eb("1**30*HM*GOLD"), eb("I**MH", nm1=["VN*QUIET MIND"])],
            ("MH",),
            "carve_out",
            "QUIET MIND",
            {"carved_out"},
        ),
        ([eb("1**30*HM*GOLD")], (), "this_payer", None, set()),
    ],
)
def test_the_payer_to_bill(
    lines: list[Row], codes: tuple[str, ...], because: str, name: str | None, warnings: set[str]
) -> None:
    for order in list(permutations(lines))[:6]:
        bill_to, found = billed(list(order), *codes)
        assert bill_to is not None
        assert (bill_to.because, bill_to.payer.name, found) == (because, name, warnings)
        assert bill_to.payer.directory_id is None


def test_who_manages_another_plan_is_not_billed() -> None:
    lines = [
        eb("1**30^98*MC*STATE PLAN"),
        eb("3**30^60*HM*NON EMERGENCY TRANSPORTATION", nm1=["PR*GOOD DRIVERS"]),
    ]
    bill_to, found = billed(lines, "98")
    assert bill_to is not None and (bill_to.because, found) == (BillToReason.THIS_PAYER, set())


def test_the_name_of_the_payer_tells_medicaid_where_no_code_does() -> None:
    lines = [eb("1**30**BASIC"), eb("R**30*OT", nm1=["PR*FIRST INSURANCE"]), eb("R**30*OT", nm1=["IL*SAMPLE*W9"])]
    for name, because in (("STATE MEDICAID", "other_primary"), ("STATE MUTUAL", "this_payer")):
        bill_to, _ = billed(lines, payer=PayerAnswer(name=name))
        assert bill_to is not None and bill_to.because == because
        assert bill_to.payer.name == ("FIRST INSURANCE" if because == "other_primary" else name)


def test_two_payers_that_could_be_meant_are_none() -> None:
    bill_to, found = billed([*MEDICARE, GROUP_PLAN, LIABILITY])
    assert bill_to is not None
    assert (bill_to.because, bill_to.payer.name, bill_to.payer.id) == (BillToReason.MSP, None, None)
    assert len(bill_to.sources) == 1 and found == {WarningCode.OTHER_PAYER_PRIMARY}


@pytest.mark.parametrize(("starts_on", "ends_on"), [(None, date(2026, 11, 20)), (date(2026, 11, 22), None)])
def test_a_coverage_of_another_time_is_not_billed(starts_on: date | None, ends_on: date | None) -> None:
    other = OtherCoverage(
        order="primary", payer=NamedPayer(name="First Insurance"), starts_on=starts_on, ends_on=ends_on
    )
    bill_to, found = billed([eb("1**30*PR*OPEN")], other_coverage=[other])
    assert bill_to is not None and (bill_to.because, found) == (BillToReason.THIS_PAYER, set())


def test_the_payer_that_answers_is_not_another_one() -> None:
    other = OtherCoverage(order="primary", payer=NamedPayer(id="60054", name="Sample Insurance"))
    entity = RelatedEntity(role=Role.MANAGED_CARE, name="SAMPLE  INSURANCE")
    payer = PayerAnswer(id="60054", name="Sample Insurance", sources={"id": ["/payer"]})
    bill_to, found = billed([eb("1**30*HM*GOLD")], other_coverage=[other], related_entities=[entity], payer=payer)
    assert bill_to is not None
    assert (bill_to.because, bill_to.payer.id, bill_to.payer.name) == ("this_payer", "60054", "Sample Insurance")
    assert (bill_to.sources, found) == ({"payer": ["/payer"]}, set())


def test_the_directory_knows_the_payer_that_was_asked_and_answers() -> None:
    asked = inquiry(payer={"id": "60054", "directory_id": "pyr_1"})
    for number, directory_id in ((None, "pyr_1"), ("60054", "pyr_1"), ("99999", None)):
        result = concluded([eb("1**30")], asked, payer=PayerAnswer(id=number)).result
        assert result.bill_to is not None and result.bill_to.payer.directory_id == directory_id


@pytest.mark.parametrize("coverage", [Coverage.INACTIVE, Coverage.UNKNOWN])
def test_without_active_coverage_this_payer_is_not_billed(coverage: Coverage) -> None:
    assert billed([], coverage=coverage) == (None, set())


def test_an_administrator_is_billed_for_its_payer() -> None:
    entity = RelatedEntity(role=Role.THIRD_PARTY_ADMINISTRATOR, name="Plan Service")
    bill_to, found = billed([eb("1**30*HM*GOLD")], related_entities=[entity])
    assert bill_to is not None
    assert (bill_to.because, bill_to.payer.name, found) == (BillToReason.TPA, "Plan Service", set())


def test_a_carved_out_service_is_not_eligible_here() -> None:
    carved = eb("U**MH", nm1=["VN*QUIET MIND"])
    derived = concluded([eb("1**30*HM*GOLD"), carved], inquiry("MH"))
    assert (derived.outcome, derived.reason) == (Outcome.UNKNOWN, OutcomeReason.CARVED_OUT)
    both = concluded([eb("1**30*HM*GOLD"), carved], inquiry("MH", "98"))
    assert (both.outcome, both.reason) == (Outcome.ELIGIBLE, None)
    assert WarningCode.CARVED_OUT in warned(both)
    ended = concluded([eb("6**30*HM*GOLD"), carved], inquiry("MH"))
    assert (ended.outcome, ended.reason) == (Outcome.INELIGIBLE, OutcomeReason.INACTIVE)


def test_kinds_of_other_coverage_of_any_vendor_decide() -> None:
    kinds = {
        OtherCoverageKind.MSP: "msp",
        OtherCoverageKind.MEDICARE_ADVANTAGE: "medicare_advantage",
        OtherCoverageKind.MANAGED_CARE: "managed_care",
        OtherCoverageKind.SUPPLEMENTAL: "this_payer",
        OtherCoverageKind.PART_D: "this_payer",
        OtherCoverageKind.UNKNOWN: "this_payer",
    }
    for kind, because in kinds.items():
        bill_to, _ = billed([eb("1**30")], other_coverage=[OtherCoverage(kind=kind)])
        assert bill_to is not None and bill_to.because == because


def test_sources_alone_depend_on_the_order() -> None:
    lines = [*MEDICARE, GROUP_PLAN, ADVANTAGE]
    results = [concluded(list(order)).result.model_dump(mode="json") for order in permutations(lines)]
    assert all(without_sources(result) == without_sources(results[0]) for result in results)
    assert all(row["kind"] for row in results[0]["benefits"] if row["kind"] != Kind.OTHER)


@pytest.mark.parametrize(
    ("codes", "service"),
    [
        ((), {"procedure_codes": ["90837"], "specialty": "PSY"}),
        (("A6",), {"procedure_codes": ["90837"]}),
        (("98",), {"specialty": "PSY"}),
        (("A8",), {}),
    ],
    ids=["nothing but the procedure", "psychotherapy", "a visit to a psychologist", "psychiatric care"],
)
def test_a_service_is_carved_out_with_its_family(codes: tuple[str, ...], service: dict[str, Any]) -> None:
    lines = [eb("1**30*HM*GOLD"), eb("U**MH", nm1=["VN*QUIET MIND"])]
    derived = concluded(lines, inquiry(*codes, **service))
    assert (derived.outcome, derived.reason) == (Outcome.UNKNOWN, OutcomeReason.CARVED_OUT)
    assert derived.result.bill_to is not None
    assert (derived.result.bill_to.because, derived.result.bill_to.payer.name) == ("carve_out", "QUIET MIND")
    assert {WarningCode.CARVED_OUT, WarningCode.CONTACT_OTHER_ENTITY} <= warned(derived)
    assert derived.result.service_covered is None


def test_a_service_that_this_payer_prices_itself_is_not_carved_out_with_its_family() -> None:
    lines = [eb("1**30*HM*GOLD"), eb("U**MH", nm1=["VN*QUIET MIND"]), eb("B**A6***27*20*****Y")]
    derived = concluded(lines, inquiry("A6"))
    assert derived.outcome is Outcome.ELIGIBLE
    assert derived.result.bill_to is not None and derived.result.bill_to.because == "this_payer"
    assert WarningCode.CONTACT_OTHER_ENTITY in warned(derived)


def test_care_managed_for_a_family_is_billed_to_the_plan_that_manages_it() -> None:
    lines = [eb("1**30*MC*STATE PLAN"), eb("3**MH*HM*INTEGRATED MEDICAID", nm1=["PR*MOUNTAIN HEALTH"])]
    asked = inquiry(procedure_codes=["90837"])
    bill_to = concluded(lines, asked).result.bill_to
    assert bill_to is not None and (bill_to.because, bill_to.payer.name) == ("managed_care", "MOUNTAIN HEALTH")


def test_another_entity_for_the_whole_plan_pays_in_place_of_this_payer() -> None:
    managed = [eb("1**30*MC*STATE PLAN"), eb("U**30*HM", nm1=["PR*MOUNTAIN HEALTH"])]
    bill_to, found = billed(managed, "98")
    assert bill_to is not None and (bill_to.because, bill_to.payer.name) == ("managed_care", "MOUNTAIN HEALTH")
    assert found == {WarningCode.MANAGED_CARE_PLAN_PAYS}
    assert billed([eb("1**30*PR*OPEN"), eb("U**30", nm1=["PR*SOMEBODY"])], "98") == (None, set())


def test_a_health_maintenance_organization_beside_a_commercial_plan_is_other_insurance() -> None:
    for order, because in (("PR", "this_payer"), ("SEP", "this_payer"), ("PRP", "other_primary")):
        bill_to, _ = billed([eb("1**30*PR*OPEN"), eb("R**30*HM", nm1=[f"{order}*SPOUSES HMO"])])
        assert bill_to is not None and bill_to.because == because
