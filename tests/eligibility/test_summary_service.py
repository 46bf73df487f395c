"""The asked service's share, the plan's figures beside it, and the reason of each null (docs/x12.md#choosing-an-amount)."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.eligibility.cost_shares import cost_shares_of
from covergate.eligibility.inquiry import Service
from covergate.eligibility.result import Benefit, NetworkSummary, Quantity, Summary, Warning_
from covergate.eligibility.sourced import PhraseSource, money
from covergate.eligibility.summary.cost_question import question_of
from covergate.eligibility.summary.summarize import summarize
from covergate.eligibility.terms import (
    AuthorizationNeed,
    BenefitPlace,
    CodeType,
    Kind,
    Level,
    MatchedBy,
    Network,
    Period,
    ProviderKind,
    Unit,
    WarningCode,
    WhyNull,
)
from tests.support.examples import examples

VISIT: dict[str, Any] = {"service_type_codes": ["98"], "place_of_service_code": "11"}


def row(kind: Kind, *codes: str, **fields: Any) -> Benefit:
    for name in ("amount", "total", "used", "remaining"):
        if name in fields:
            fields[name] = money(fields[name])
    return Benefit(**{"kind": kind, "service_type_codes": list(codes), "network": Network.IN} | fields)


def copay(amount: str, *codes: str, **fields: Any) -> Benefit:
    return row(Kind.COPAY, *codes, amount=amount, **fields)


def share(percent: int, *codes: str, **fields: Any) -> Benefit:
    return row(Kind.COINSURANCE, *codes, percent=Decimal(percent), **fields)


def deductible(total: str | None, *codes: str, **fields: Any) -> Benefit:
    return row(Kind.DEDUCTIBLE, *codes, **{"total": total, "level": Level.INDIVIDUAL} | fields)


def read(
    benefits: list[Benefit], in_network: bool | None = None, this_provider: Network | None = None, **asked: Any
) -> tuple[Summary, list[Warning_]]:
    service = Service(**(asked or VISIT))
    codes = {(CodeType.PROCEDURE, code) for code in service.procedure_codes}
    codes |= {(CodeType.SERVICE_TYPE, code) for code in service.service_type_codes}
    return summarize(benefits, question_of(service, frozenset(codes), in_network), this_provider)


def quiet(*benefits: Benefit, **asked: Any) -> Summary:
    summary, warnings = read(list(benefits), **asked)
    assert not warnings
    return summary


def inside(summary: Summary) -> NetworkSummary:
    assert summary.in_ is not None
    return summary.in_


def test_a_share_of_preventive_colonoscopy_is_not_that_of_imaging() -> None:
    summary = quiet(
        share(10, "62"),
        share(0, "62", limited_to=["Preventive Colonoscopy"]),
        deductible("1500", "30", level=Level.FAMILY, remaining="0"),
        deductible("0", "62", limited_to=["Preventive Colonoscopy"]),
        service_type_codes=["62"],
        place_of_service_code="22",
    )
    assert (inside(summary).coinsurance_percent, summary.service.coinsurance_percent) == (Decimal(10), Decimal(10))
    family = inside(summary).deductible.family
    assert family is not None
    assert (family.total, inside(summary).deductible.individual) == (money("1500"), None)
    assert summary.service.deductible_applies is None


def test_a_share_at_home_is_not_that_of_a_stay() -> None:
    at_home = share(0, "69", place_of_service="12", limited_to=["Breast-Feeding Equipment"])
    summary = quiet(share(10, "69"), at_home, service_type_codes=["69"], place_of_service_code="21")
    assert (inside(summary).coinsurance_percent, summary.service.coinsurance_percent) == (Decimal(10), Decimal(10))


def test_a_share_of_drugs_alone_leaves_the_cell_empty() -> None:
    summary = quiet(copay("30", "98"), share(30, "98", limited_to=["DRUGS, AGENTS, SUPPLIES"]))
    assert (inside(summary).copay, inside(summary).coinsurance_percent) == (money("30"), None)
    assert summary.why_null["in.coinsurance_percent"] is WhyNull.LIMITED_ROWS_ONLY
    assert summary.why_null["service.coinsurance_percent"] is WhyNull.LIMITED_ROWS_ONLY


def test_out_of_network_is_not_covered() -> None:
    excluded = row(Kind.NON_COVERED, "98", code="I", network=Network.OUT)
    summary = quiet(copay("30", "98"), excluded)
    assert summary.out is not None
    assert summary.out.covered is False
    assert inside(summary).covered is None


def test_covered_and_excluded_in_one_network_is_a_conflict() -> None:
    rows = [row(Kind.COVERAGE, "98", code="1"), row(Kind.NON_COVERED, "98", code="I"), copay("30", "98")]
    summary = quiet(*rows)
    assert (inside(summary).covered, summary.why_null["in.covered"]) == (None, WhyNull.CONFLICT)


def test_a_waived_deductible_leaves_the_plans_deductible() -> None:
    summary = quiet(
        deductible("1500", "30", remaining="1500"),
        deductible("0", "98"),
        deductible("0", "98", level=Level.FAMILY),
        copay("25", "98"),
    )
    individual = inside(summary).deductible.individual
    assert individual is not None
    assert (individual.total, individual.remaining) == (money("1500"), money("1500"))
    assert inside(summary).deductible.family is None
    assert (summary.service.copay, summary.service.deductible_applies) == (money("25"), False)


def test_a_deductible_waived_for_one_service_is_no_plan_without_a_deductible() -> None:
    summary = quiet(deductible("0", "98"), copay("25", "98"))
    assert (inside(summary).deductible.individual, summary.service.deductible_applies) == (None, False)


@pytest.mark.parametrize(
    "asked",
    [
        {"procedure_codes": ["90837"], "specialty": "PSY"},
        {"service_type_codes": ["A6"]},
        {"specialty": "PSY"},
    ],
)
def test_psychotherapy_is_answered_as_mental_health(asked: dict[str, Any]) -> None:
    summary = quiet(copay("20", "MH"), copay("40", "98"), **asked)
    assert (inside(summary).copay, summary.service.copay) == (money("20"), money("20"))
    assert summary.service.matched_by is MatchedBy.FAMILY
    assert "service type under which payers answer" in (summary.service.why or "")


def test_an_office_visit_says_nothing_of_mental_health_that_is_denied() -> None:
    denied = row(Kind.NON_COVERED, "MH", code="I", network=Network.UNKNOWN)
    elsewhere = row(Kind.OTHER, "MH", code="U", network=Network.UNKNOWN)
    for one in (denied, elsewhere):
        summary = quiet(copay("40", "98"), one, procedure_codes=["90837"])
        assert (summary.service.copay, summary.why_null["service.copay"]) == (None, WhyNull.NOT_STATED)


TELEHEALTH = [
    copay("70", "98", place=BenefitPlace.OFFICE, provider_kind=ProviderKind.SPECIALIST),
    copay("45", "98", place=BenefitPlace.OFFICE, provider_kind=ProviderKind.PCP),
    copay("0", "98", place=BenefitPlace.TELEHEALTH),
]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"place_of_service_code": "02"}, "0.00"),
        ({"place_of_service_code": "10", "specialty": "PSY"}, "0.00"),
        ({"place_of_service_code": "11", "specialty": "PSY"}, "70.00"),
        ({"place_of_service_code": "11", "specialty": "PRC"}, "45.00"),
        ({"place_of_service_code": "11"}, None),
        ({}, None),
    ],
)
def test_place_and_specialty_choose_the_copay(asked: dict[str, Any], expected: str | None) -> None:
    summary = quiet(*TELEHEALTH, **{"service_type_codes": ["98"], **asked})
    assert summary.service.model_dump(mode="json")["copay"] == expected
    assert summary.why_null["in.copay"] is WhyNull.LIMITED_ROWS_ONLY
    if expected is None:
        assert summary.why_null["service.copay"] is WhyNull.SEVERAL_SHARES


def test_a_specialist_pays_more_than_the_general_copay() -> None:
    rows = [copay("30", "98"), copay("40", "98", provider_kind=ProviderKind.SPECIALIST)]
    assert quiet(*rows, **VISIT, specialty="PSY").service.copay == money("40")
    assert quiet(*rows).service.copay == money("30")
    assert inside(quiet(*rows, **VISIT, specialty="PSY")).copay == money("30")


SPECIALIST = copay("50", "96", provider_kind=ProviderKind.SPECIALIST)


@pytest.mark.parametrize(
    ("rows", "asked", "expected"),
    [
        ([copay("25", "98"), SPECIALIST], VISIT | {"specialty": "WMT"}, "50"),
        ([copay("25", "98"), SPECIALIST], VISIT | {"specialty": "PRC"}, "25"),
        ([copay("25", "98"), SPECIALIST], VISIT, "25"),
        ([copay("25", "98"), share(20, "96", provider_kind=ProviderKind.SPECIALIST)], VISIT | {"specialty": "WMT"}, None),
        ([copay("25", "98"), copay("60", "98", provider_kind=ProviderKind.SPECIALIST), SPECIALIST],
         VISIT | {"specialty": "WMT"}, "60"),
        ([copay("25", "98"), SPECIALIST], {"service_type_codes": ["A6"], "specialty": "PSY"}, None),
        ([copay("25", "98"), copay("20", "MH"), SPECIALIST], {"service_type_codes": ["A6"], "specialty": "PSY"}, "20"),
        ([SPECIALIST], {"service_type_codes": ["62"], "specialty": "WMT"}, None),
    ],
)  # fmt: skip
def test_a_specialist_who_is_priced_as_a_physician(
    rows: list[Benefit], asked: dict[str, Any], expected: str | None
) -> None:
    assert quiet(*rows, **asked).service.copay == (money(expected) if expected else None)


def test_the_deductible_of_physicians_is_that_of_a_visit() -> None:
    of_physicians = deductible(None, "96", remaining="0")
    found = inside(quiet(of_physicians)).deductible.individual
    assert found is not None and found.remaining == money("0")
    found = inside(quiet(of_physicians, deductible("1500", "30"))).deductible.individual
    assert found is not None and (found.total, found.remaining) == (money("1500"), None)


def test_an_office_visit_says_nothing_of_urgent_care() -> None:
    urgent = {"service_type_codes": ["UC"], "place_of_service_code": "20", "specialty": "UGC"}
    assert quiet(copay("30", "98"), **urgent).service.copay is None


@pytest.mark.parametrize(("total", "applies"), [("0", False), ("250", None)])
def test_a_deductible_of_a_specialists_own(total: str, applies: bool | None) -> None:
    own = deductible(total, "98", provider_kind=ProviderKind.SPECIALIST)
    summary = quiet(copay("25", "98"), own, deductible("1500", "30"), **VISIT, specialty="WMT")
    assert summary.service.deductible_applies is applies


def test_words_on_an_exclusion_of_what_is_covered_exclude_a_part() -> None:
    covered = row(Kind.COVERAGE, "98", code="1", network=Network.UNKNOWN)
    part = row(Kind.NON_COVERED, "98", code="I", limited_to=["MARRIAGE COUNSELING"])
    assert inside(quiet(part, copay("25", "98"))).covered is False
    assert inside(quiet(covered, part, copay("25", "98"))).covered is None


def test_a_copay_of_no_network_stands_beside_a_coinsurance_in_network() -> None:
    specialist = copay("50", network=Network.UNKNOWN, provider_kind=ProviderKind.SPECIALIST)
    general = copay("30", network=Network.UNKNOWN)
    summary = quiet(share(20), general, specialist, **VISIT, specialty="PSY")
    assert summary.unknown is not None
    assert (summary.unknown.copay, summary.service.copay) == (money("30"), money("50"))
    assert summary.service.coinsurance_percent == 20


def test_benefits_of_this_provider_without_a_network() -> None:
    rows = [copay("30", network=Network.UNKNOWN, procedure_codes=["90837"])]
    summary, _ = read(rows, True, Network.IN, procedure_codes=["90837"])
    assert (summary.this_provider, summary.service.copay) == (Network.IN, money("30"))
    assert summary.service.matched_by is MatchedBy.CODE


def test_a_copay_of_the_service_and_a_coinsurance_of_the_plan_are_not_one_share() -> None:
    summary = quiet(copay("25", "98"), share(20, "30"))
    assert (summary.service.copay, summary.service.coinsurance_percent) == (money("25"), None)
    assert summary.service.matched_by is MatchedBy.CODE


def test_a_conflict_of_the_chosen_share_warns() -> None:
    rows = [copay(amount, "98", provider_kind=ProviderKind.SPECIALIST) for amount in ("40", "50")]
    summary, warnings = read(rows, **VISIT, specialty="PSY")
    assert summary.why_null["service.copay"] is WhyNull.CONFLICT
    assert [one.code for one in warnings] == [WarningCode.CONFLICTING_AMOUNTS]


def test_copays_of_a_visit_and_of_a_day_are_no_conflict() -> None:
    summary = quiet(copay("20", "98", period=Period.VISIT), copay("300", "98", period=Period.DAY))
    assert summary.why_null["in.copay"] is WhyNull.SEVERAL_SHARES


def test_a_lifetime_limit_is_not_the_years() -> None:
    lifetime = deductible("10000", "30", period=Period.LIFETIME)
    individual = inside(quiet(deductible("1000", "30", period=Period.CALENDAR_YEAR), lifetime)).deductible.individual
    assert individual is not None
    assert individual.total == money("1000")


def test_what_is_left_in_a_row_of_its_own_joins_the_total() -> None:
    rows = [deductible("1000", "30", notes=["AGGREGATE"]), deductible(None, "30", remaining="250")]
    individual = inside(quiet(*rows)).deductible.individual
    assert individual is not None
    assert (individual.total, individual.remaining) == (money("1000"), money("250"))


def test_more_left_than_the_total_is_a_conflict() -> None:
    summary, warnings = read([deductible("1000", "30", remaining="1200")])
    assert summary.why_null["in.deductible.individual"] is WhyNull.CONFLICT
    assert summary.why_null["in.deductible.effective_remaining"] is WhyNull.CONFLICT
    assert len(warnings) == 1


def test_no_limit_is_no_amount() -> None:
    rows = [row(Kind.OUT_OF_POCKET_MAX, "30", level=Level.FAMILY, unlimited=True)]
    family = inside(quiet(*rows)).out_of_pocket_max.family
    assert family is not None
    assert (family.unlimited, family.total) == (True, None)


def test_a_deductible_of_the_family_alone() -> None:
    cells = inside(quiet(deductible("5000", "30", level=Level.FAMILY, remaining="4000"))).deductible
    assert (cells.embedded, cells.effective_remaining) == (False, money("4000"))


def test_the_least_that_is_left_is_what_this_patient_can_meet() -> None:
    rows = [
        deductible("1000", "30", remaining="700", shared_with=["in", "out"]),
        deductible("2000", "30", level=Level.FAMILY, remaining="300"),
    ]
    cells = inside(quiet(*rows)).deductible
    assert (cells.embedded, cells.effective_remaining) == (None, money("300"))
    assert cells.individual is not None
    assert cells.individual.shared_with == ["in", "out"]


def test_values_for_no_network_in_particular_say_so() -> None:
    rows = [copay("20", "98", network=Network.BOTH), deductible("1000", "30")]
    assert inside(quiet(*rows)).from_both == ["copay"]


@pytest.mark.parametrize(
    ("rows", "need", "required"),
    [
        ([row(Kind.COPAY, "98", amount="20", authorization_required=True)], "required", True),
        ([row(Kind.COVERAGE, "30", code="1", authorization=AuthorizationNeed.MAY_APPLY)], "may_apply", None),
        (
            [
                row(Kind.COPAY, "98", amount="20", authorization_required=False),
                row(Kind.COVERAGE, "30", code="1", authorization=AuthorizationNeed.MAY_APPLY),
            ],
            "not_required",
            False,
        ),
    ],
)
def test_authorization_by_the_nearest_rows(rows: list[Benefit], need: str, required: bool | None) -> None:
    cells = inside(quiet(*rows))
    assert (cells.authorization, cells.authorization_required) == (need, required)


def test_visits_where_nothing_else_is_stated() -> None:
    visits = Quantity(unit=Unit.VISITS, remaining=Decimal(12))
    assert quiet(row(Kind.LIMITATION, "98", quantity=visits)).service.visits == visits


def test_visits_of_the_year_beside_those_of_a_day() -> None:
    year, day = (Quantity(unit=Unit.VISITS, total=Decimal(number)) for number in (20, 1))
    rows = [
        row(Kind.LIMITATION, "98", quantity=year, period=Period.CALENDAR_YEAR),
        row(Kind.LIMITATION, "98", quantity=day, period=Period.DAY),
    ]
    assert quiet(*rows).service.visits == year


def test_visits_of_the_service() -> None:
    visits = row(Kind.LIMITATION, "98", quantity=Quantity(unit=Unit.VISITS, total=Decimal(20), remaining=Decimal(17)))
    service = quiet(visits, copay("20", "98")).service
    assert service.visits is not None
    assert service.visits.model_dump(mode="json") == {"unit": "visits", "total": 20, "used": None, "remaining": 17}


def test_sources_of_the_share_name_the_phrase() -> None:
    said = PhraseSource(pointers=["/m"], by="phrase:deductible-waived@1")
    rows = [copay("20", "98", deductible_waived=True, sources={"amount": ["/a"], "deductible_waived": said})]
    assert quiet(*rows).service.sources == {"copay": ["/a"], "deductible_applies": said}
    (one,) = cost_shares_of(rows)
    assert one.sources["deductible_applies"] == said


def test_one_cost_share_for_each_condition() -> None:
    shares = cost_shares_of([*TELEHEALTH, share(0, "98", place=BenefitPlace.TELEHEALTH)])
    shown = {(one.place, one.provider_kind, one.copay, one.coinsurance_percent) for one in shares}
    assert shown == {
        (BenefitPlace.OFFICE, ProviderKind.SPECIALIST, money("70"), None),
        (BenefitPlace.OFFICE, ProviderKind.PCP, money("45"), None),
        (BenefitPlace.TELEHEALTH, None, money("0"), Decimal(0)),
    }


_OTHERS = [
    copay("15", "AL"),
    share(20, "35"),
    deductible("75", "35", remaining="75"),
    deductible("200", "88"),
    row(Kind.OUT_OF_POCKET_MAX, "35", level=Level.FAMILY, total="0"),
    row(Kind.LIMITATION, "35", quantity=Quantity(unit=Unit.VISITS, total=Decimal(2))),
    row(Kind.NON_COVERED, "AL", code="I"),
    row(Kind.COVERAGE, "88", code="1", authorization_required=True),
]
_MEDICAL = st.one_of(
    st.builds(
        copay,
        st.sampled_from(["0", "20", "45"]),
        st.sampled_from(["98", "MH", "30"]),
        network=st.sampled_from(Network),
        place=st.sampled_from([None, BenefitPlace.OFFICE, BenefitPlace.TELEHEALTH]),
        provider_kind=st.sampled_from([None, *ProviderKind]),
        limited_to=st.sampled_from([[], ["Breast pumps"]]),
        tier=st.sampled_from([None, "1"]),
    ),
    st.builds(share, st.sampled_from([0, 20]), st.sampled_from(["98", "MH", "30"]), network=st.sampled_from(Network)),
    st.builds(
        deductible,
        st.sampled_from(["0", "1000", "1500"]),
        st.sampled_from(["98", "30"]),
        remaining=st.sampled_from(["0", "250"]),
        network=st.sampled_from(Network),
        level=st.sampled_from([Level.INDIVIDUAL, Level.FAMILY, Level.UNKNOWN]),
    ),
    st.builds(row, st.just(Kind.NON_COVERED), st.sampled_from(["98", "MH"]), code=st.just("I")),
)


@settings(deadline=None, max_examples=examples(200))
@given(
    st.lists(_MEDICAL, max_size=6),
    st.lists(st.sampled_from(_OTHERS), max_size=4),
    st.sampled_from([{}, {"specialty": "PSY"}, {"procedure_codes": ["90837"]}]),
    st.randoms(use_true_random=False),
)
def test_order_and_other_lines_change_nothing(
    medical: list[Benefit], others: list[Benefit], asked: dict[str, Any], rng: random.Random
) -> None:
    summary, warnings = read(medical, **VISIT, **asked)
    together = [*medical, *others]
    shuffled = rng.sample(together, len(together))
    again, warned = read(shuffled, **VISIT, **asked)
    assert again == summary
    assert sorted(one.message for one in warned) == sorted(one.message for one in warnings)


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(_MEDICAL, max_size=6))
def test_every_null_has_its_reason(medical: list[Benefit]) -> None:
    summary, _ = read(medical)
    for name, cells in (("in", summary.in_), ("out", summary.out), ("unknown", summary.unknown)):
        if cells is None:
            assert name in summary.why_null
            continue
        shown = cells.model_dump()
        flat = {key: value for key, value in shown.items() if not isinstance(value, dict)}
        for kind in ("deductible", "out_of_pocket_max"):
            flat |= {f"{kind}.{key}": value for key, value in shown[kind].items()}
        nulls = {f"{name}.{key}" for key, value in flat.items() if value is None}
        assert nulls == {path for path in summary.why_null if path.startswith(f"{name}.")}


@pytest.mark.parametrize("kind", [Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX])
def test_dental_care_within_a_medical_plan_has_figures_of_its_own(kind: Kind) -> None:
    plan = row(kind, "30", total="1500", remaining="1200", level=Level.INDIVIDUAL)
    own = row(kind, "35", total="50", level=Level.INDIVIDUAL)
    for asked, total in (("35", money("50")), ("98", money("1500"))):
        found = inside(quiet(plan, own, service_type_codes=[asked]))
        individual = getattr(found, kind.value).individual
        assert individual is not None and individual.total == total


def test_the_copay_of_the_procedure_goes_before_that_of_its_service_type() -> None:
    own, general = copay("15", "MH", procedure_codes=["90837"]), copay("30", "MH")
    asked: dict[str, Any] = {"service_type_codes": ["MH"], "procedure_codes": ["90837"]}
    found = quiet(own, general, **asked)
    assert (inside(found).copay, found.service.copay) == (money("15"), money("15"))
    both = asked | {"procedure_codes": ["90837", "90785"]}
    assert inside(read([own, general], **both)[0]).copay is None
    assert quiet(own, general, service_type_codes=["MH"]).service.copay == money("30")


def test_authorization_where_nothing_else_is_stated() -> None:
    covered = row(Kind.COVERAGE, "MH", network=Network.BOTH, authorization=AuthorizationNeed.REQUIRED)
    found = quiet(covered, service_type_codes=["MH"]).service
    assert (found.network, found.authorization) == (Network.IN, AuthorizationNeed.REQUIRED)


def test_one_amount_in_two_tiers_is_two_shares() -> None:
    shares = cost_shares_of([copay("30", "98", tier="1"), copay("30", "98", tier="2"), copay("30", "98", tier="2")])
    assert [(one.tier, one.copay) for one in shares] == [("1", money("30")), ("2", money("30"))]
