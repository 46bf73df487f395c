"""The phrase book: what payers' fixed texts add to an answer, and that they only ever add."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.eligibility import phrases
from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import in_order
from covergate.eligibility.phrases import (
    BOOK,
    Book,
    Phrase,
    PhraseFields,
    apply_phrases,
    fold_text,
    make_book,
    read_phrases,
)
from covergate.eligibility.result import Benefit, Quantity
from covergate.eligibility.sourced import PhraseSource, pointers_at
from covergate.eligibility.terms import (
    AuthorizationNeed,
    BenefitPlace,
    Coverage,
    Kind,
    Network,
    ProviderKind,
    Unit,
    WarningCode,
)
from tests.support.linear import TEXTS, check_linear

ENTRIES = read_phrases(resources.files(phrases.__package__ or "").joinpath("phrases.toml").read_text("utf-8"))
NO_BOOK = Book()
CODES = {Kind.COPAY: "B", Kind.COINSURANCE: "A", Kind.DEDUCTIBLE: "C", Kind.OUT_OF_POCKET_MAX: "G"}
CODES |= {Kind.LIMITATION: "F", Kind.COVERAGE: "1", Kind.NON_COVERED: "I"}


def stated(*notes: str, kind: Kind = Kind.COPAY, codes: tuple[str, ...] = ("98",), **fields: Any) -> Benefit:
    """A row of an X12 answer with these messages."""
    sources = {"notes": [f"/exchanges/0/body/msg/{index}" for index in range(len(notes))]} if notes else {}
    number: dict[str, Any] = {"percent": Decimal(20)} if kind is Kind.COINSURANCE else {"amount": Decimal("45.00")}
    return Benefit(
        **{
            "kind": kind,
            "code": CODES[kind],
            "network": Network.IN,
            "service_type_codes": list(codes),
            "notes": sorted(set(notes)),
            "sources": sources,
        }
        | number
        | fields
    )


def answer(*rows: Benefit, **fields: Any) -> Answer:
    at = datetime(2026, 11, 21, 17, tzinfo=UTC)
    return Answer(coverage=Coverage.ACTIVE, as_of=date(2026, 11, 21), answered_at=at, benefits=list(rows), **fields)


def read(*notes: str, **fields: Any) -> Benefit:
    return apply_phrases(answer(stated(*notes, **fields))).benefits[0]


# --- the book --------------------------------------------------------------------------------------------------------


def test_each_phrase_is_named_once() -> None:
    names = [phrase.id for phrase in ENTRIES]
    assert len(names) == len(set(names)) > 60
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)


@pytest.mark.parametrize("phrase", ENTRIES, ids=lambda phrase: phrase.id)
def test_each_example_is_its_phrase_and_no_other(phrase: Phrase) -> None:
    parts = [BOOK.find(fold_text(part)) for part in (phrase.example, *re.split("[,/]", phrase.example))]
    assert [phrase.id] in [[match.phrase.id for match in found] for found in parts]
    assert all(len(found) <= 1 for found in parts)


@pytest.mark.parametrize("phrase", ENTRIES, ids=lambda phrase: phrase.id)
def test_patterns_are_of_folded_text_and_have_no_quantifier_in_another(phrase: Phrase) -> None:
    words = phrase.pattern.replace("(?P<", "(?p<")
    assert words == words.casefold()
    assert not re.search(r"}[^()]*\)[?{]|[*+]", phrase.pattern)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_in_linear_time(text: str) -> None:
    check_linear(lambda n: lambda: apply_phrases(answer(stated(TEXTS[text](n)))), 30_000)
    check_linear(lambda n: lambda: apply_phrases(answer(*[stated(f"{i},{TEXTS[text](500)}") for i in range(n)])), 100)


# --- the network of the provider who asks, referrals, authorization ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "in_network"),
    [
        ("Our records indicate the provider ID you entered is participating in this patient's network.", True),
        ("Our records indicate the provider ID you entered is participating in this patient’s network", True),
        (" Healthcare professional is out of network based on NPI ID provided in request.", False),
        ("Healthcare professional is in network based on NPI ID provided in request.", True),
        ("PROVIDER IS IN NETWORK FOR MEMBER", True),
        ("PROVIDER IS OUT OF NETWORK FOR MEMBER", False),
        ("Healthcare professional is in network", None),
        ("In-Network Providers", None),
    ],
)
def test_the_network_of_the_asked_npi(text: str, in_network: bool | None) -> None:
    for asked in (answer(stated(text, kind=Kind.LIMITATION)), answer(notes=[text])):
        said = apply_phrases(asked)
        assert said.provider_in_network is in_network
        assert ("provider_in_network" in said.sources) is (in_network is not None)


def test_a_value_names_the_phrase_and_points_at_the_message() -> None:
    said = apply_phrases(answer(stated("PROVIDER IS IN NETWORK FOR MEMBER", "SPECIALIST", kind=Kind.COVERAGE)))
    pointers = ["/exchanges/0/body/msg/0", "/exchanges/0/body/msg/1"]
    assert said.sources == {
        "provider_in_network": PhraseSource(pointers=pointers, by="phrase:uhc-provider-in-network@1")
    }
    assert said.benefits[0].sources["provider_kind"] == PhraseSource(pointers=pointers, by="phrase:specialist@1")


def test_what_the_vendor_states_of_the_provider_stands() -> None:
    said = apply_phrases(answer(notes=["PROVIDER IS IN NETWORK FOR MEMBER"], provider_in_network=False))
    assert said.provider_in_network is False
    assert said.sources == {} and said.warnings == []


def test_two_phrases_that_contradict_each_other_say_nothing_and_warn() -> None:
    row = stated("PROVIDER IS IN NETWORK FOR MEMBER", kind=Kind.COVERAGE)
    said = apply_phrases(answer(row, notes=["PROVIDER IS OUT OF NETWORK FOR MEMBER"]))
    assert said.provider_in_network is None
    (warning,) = said.warnings
    assert warning.code is WarningCode.UNKNOWN_CODE
    assert "uhc-provider-in-network@1, uhc-provider-out-of-network@1" in warning.message
    assert warning.sources == ["/exchanges/0/body/msg/0"]


def test_a_referral_is_no_authorization() -> None:
    said = apply_phrases(answer(stated("PCP TO SUBMIT A SPECIALIST REFERRAL", kind=Kind.COVERAGE)))
    assert said.referral_required is True
    assert said.benefits[0].authorization is AuthorizationNeed.UNKNOWN


@pytest.mark.parametrize(
    "text", ["Plan Requires PreCert", "A PRIOR AUTHORIZATION OR NOTIFICATION INQUIRY REQUEST MAY BE SUBMITTED"]
)
def test_a_plan_that_can_require_authorization_does_not_require_it(text: str) -> None:
    assert read(text, kind=Kind.LIMITATION).authorization is AuthorizationNeed.MAY_APPLY
    coded = read(text, kind=Kind.LIMITATION, authorization=AuthorizationNeed.REQUIRED, authorization_required=True)
    assert coded.authorization is AuthorizationNeed.REQUIRED
    assert "authorization" not in coded.sources


@pytest.mark.parametrize(
    ("text", "required"),
    [("REFERRAL REQUIRED", True), ("No referrals are required", False), ("REFERRAL NUMBER ON FILE", None)],
)
def test_a_referral_to_one_service_says_nothing_of_others(text: str, required: bool | None) -> None:
    for codes, expected in ((("98",), required), (("30",), required), ((), required), (("33",), None)):
        assert apply_phrases(answer(stated(text, kind=Kind.COVERAGE, codes=codes))).referral_required is expected
    assert apply_phrases(answer(notes=[text])).referral_required is required


# --- limits and figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "LIMITED TO 20 VISITS PER CALENDAR YEAR",
        "20 visits per year",
        "VISITS LIMITED TO 20 PER BENEFIT PERIOD",
        "Max 20 outpatient visits",
    ],
)
def test_visits_that_only_words_limit(text: str) -> None:
    row = read(text, kind=Kind.LIMITATION, codes=("PT",), amount=None)
    assert row.quantity == Quantity(unit=Unit.VISITS, total=Decimal(20))
    assert row.limited_to == []
    assert isinstance(row.sources["quantity"], PhraseSource)
    counted = Quantity(unit=Unit.VISITS, remaining=Decimal(3))
    assert read(text, kind=Kind.LIMITATION, amount=None, quantity=counted).quantity == counted
    assert read(text, kind=Kind.DEDUCTIBLE).quantity is None


@pytest.mark.parametrize("text", ["20 VISITS COMBINED WITH OT", "20 VISITS PER DAY", "1 VISIT EVERY 3 YEARS"])
def test_visits_with_other_words_are_none(text: str) -> None:
    row = read(text, kind=Kind.LIMITATION, codes=("PT",), amount=None)
    assert (row.quantity, row.limited_to) == (None, [text])


@pytest.mark.parametrize(
    ("text", "includes"),
    [
        ("INCLUDES DEDUCTIBLE", True),
        ("Out-of-pocket maximum includes deductible", True),
        ("EXCLUDES DEDUCTIBLE", False),
    ],
)
def test_an_out_of_pocket_maximum_with_the_deductible_in_it(text: str, includes: bool) -> None:
    assert read(text, kind=Kind.OUT_OF_POCKET_MAX, codes=("30",)).includes_deductible is includes
    assert read(text, kind=Kind.COPAY).includes_deductible is None


@pytest.mark.parametrize(
    ("text", "waived"),
    [
        ("DEDUCTIBLE DOES NOT APPLY", True),
        ("NOT SUBJECT TO DEDUCTIBLE", True),
        ("AFTER DEDUCTIBLE", False),
        ("COINSURANCE APPLIES AFTER DEDUCTIBLE", False),
        ("SUBJECT TO THE DEDUCTIBLE", False),
    ],
)
def test_whether_the_deductible_comes_first(text: str, waived: bool) -> None:
    row = read(text, kind=Kind.COINSURANCE)
    assert (row.deductible_waived, row.limited_to) == (waived, [])
    assert read(text, kind=Kind.DEDUCTIBLE, codes=("30",)).deductible_waived is None


@pytest.mark.parametrize(
    ("text", "place", "kind"),
    [
        ("SPC", None, ProviderKind.SPECIALIST),
        ("PRIMARY OFFICE VISIT", None, ProviderKind.PCP),
        ("E-VISIT", BenefitPlace.TELEHEALTH, None),
        ("VIRTUAL PRIMARY CARE", BenefitPlace.TELEHEALTH, ProviderKind.PCP),
        ("TELEHEALTH - SPECIALIST", BenefitPlace.TELEHEALTH, ProviderKind.SPECIALIST),
        ("INPATIENT", BenefitPlace.INPATIENT, None),
        ("OUTPATIENT HOSPITAL", BenefitPlace.OUTPATIENT, None),
    ],
)
def test_who_and_where_in_short(text: str, place: BenefitPlace | None, kind: ProviderKind | None) -> None:
    row = read(text)
    assert (row.place, row.provider_kind, row.limited_to) == (place, kind, [])


# --- a row's conditions ----------------------------------------------------------------------------------------------


def test_a_telemedicine_copay_is_one_for_telehealth() -> None:
    row = read("TELEMEDICINE GENERAL MEDICINE VISIT", "TELEMEDICINE SPECIALIST VISIT")
    assert (row.place, row.provider_kind, row.limited_to) == (BenefitPlace.TELEHEALTH, None, [])


@pytest.mark.parametrize(
    ("text", "stated", "network", "narrows"),
    [
        ("IN NETWORK", Network.UNKNOWN, Network.IN, False),
        ("IN NETWORK", Network.IN, Network.IN, False),
        ("IN NETWORK", Network.OUT, Network.OUT, True),
        ("Non-Participating Provider", Network.UNKNOWN, Network.OUT, False),
        ("OUT OF NETWORK", Network.BOTH, Network.BOTH, True),
    ],
)
def test_a_text_names_the_network_if_the_row_does_not(
    text: str, stated: Network, network: Network, narrows: bool
) -> None:
    row = read(text, network=stated)
    assert (row.network, row.limited_to) == (network, [text] if narrows else [])


def test_a_text_that_asks_for_authorization_leaves_the_copay() -> None:
    row = read("PRIOR AUTHORIZATION REQUIRED")
    assert (row.authorization, row.limited_to) == (AuthorizationNeed.MAY_APPLY, [])


@pytest.mark.parametrize(
    ("text", "place", "kind"),
    [
        ("PRIMARY CARE", None, ProviderKind.PCP),
        ("PCP OFFICE VISIT", None, ProviderKind.PCP),
        ("SPECIALIST OFFICE VISIT", None, ProviderKind.SPECIALIST),
        ("TELEMEDICINE", BenefitPlace.TELEHEALTH, None),
        ("Virtual Visits", BenefitPlace.TELEHEALTH, None),
        ("OFFICE VISIT", BenefitPlace.OFFICE, None),
    ],
)
def test_the_usual_words_for_kinds_of_visit(text: str, place: BenefitPlace | None, kind: ProviderKind | None) -> None:
    row = read(text)
    assert (row.place, row.provider_kind, row.limited_to) == (place, kind, [])


def test_a_list_of_services_is_as_wide_as_its_widest() -> None:
    row = read("Walk In Clinic Visit", "Telemedicine General Medicine Visit", "Telemedicine Specialist Visit")
    assert (row.place, row.provider_kind, row.limited_to) == (BenefitPlace.TELEHEALTH, None, [])


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("PRIMARY CARE VISIT OR EVALUATION,COPAY INCLUDED IN OOP", ProviderKind.PCP, None),
        ("SPECIALIST VISIT OR EVALUATION,COPAY INCLUDED IN OOP", ProviderKind.SPECIALIST, None),
        ("Specialist Visit or Evaluation when Performed in an Office", ProviderKind.SPECIALIST, BenefitPlace.OFFICE),
        ("SPECIALIST", ProviderKind.SPECIALIST, None),
        ("Patient's Primary Care Physician", ProviderKind.PCP, None),
    ],
)
def test_primary_care_and_specialists_have_copays_of_their_own(
    text: str, kind: ProviderKind, place: BenefitPlace | None
) -> None:
    row = read(text)
    assert (row.provider_kind, row.place, row.limited_to) == (kind, place, [])


def test_a_copay_for_both_kinds_of_visit_is_one_for_any() -> None:
    row = read("GYN Visit", "Specialist Visit or Evaluation", "Primary Care Visit or Evaluation")
    assert (row.provider_kind, row.place, row.limited_to) == (None, None, [])


def test_a_kind_of_provider_above_some_services_of_a_list_narrows_only_these() -> None:
    listed = ("Specialist Visit or Evaluation in Office", "Primary Care Visit or Evaluation in Office")
    row = read("Patient's Primary Care Physician", "GYN Office VS", *listed)
    assert (row.place, row.provider_kind, row.limited_to) == (BenefitPlace.OFFICE, None, [])
    assert read("Patient's Primary Care Physician", listed[0]).limited_to != []


def test_services_at_different_places_narrow_the_row() -> None:
    texts = ("Specialist Visit or Evaluation in Office", "Telemedicine Specialist Visit")
    row = read(*texts)
    assert (row.place, row.limited_to) == (None, sorted(texts))


def test_a_visit_to_a_chiropractor_is_general_only_for_chiropractic() -> None:
    assert read("Chiropractor Visit or Evaluation in Office", codes=("33",)).limited_to == []
    assert read("Chiropractor Visit or Evaluation in Office").limited_to == [
        "Chiropractor Visit or Evaluation in Office"
    ]


def test_urgent_care_among_emergency_services_is_general_at_its_place() -> None:
    both = read("Urgent Care", codes=("86", "UC"))
    assert (both.place, both.limited_to) == (BenefitPlace.URGENT_CARE, [])
    assert read("Urgent Care", codes=("86",)).limited_to == ["Urgent Care"]


def test_words_narrow_an_exclusion() -> None:
    assert read("EXCLUSION", kind=Kind.NON_COVERED).limited_to == ["EXCLUSION"]
    assert read("FACILITY AND PHYSICIAN BENEFIT", kind=Kind.NON_COVERED).limited_to == []


def test_services_that_a_deductible_applies_to_do_not_narrow_it() -> None:
    texts = ("Med Dent", "MAXIMUM and STANDARD SAVINGS", "DED INCLUDED IN OOP", "Lab Performed by Chiropractor")
    row = read(*texts, kind=Kind.DEDUCTIBLE, codes=("30",))
    assert (row.limited_to, row.tier, row.counts_to_out_of_pocket) == ([], None, True)
    assert read(*texts, kind=Kind.COINSURANCE).limited_to == ["Lab Performed by Chiropractor"]


@pytest.mark.parametrize(
    "text", ["CAT - Preventive Colonoscopy", "Breast-Feeding Equipment", "DRUGS, AGENTS, SUPPLIES"]
)
@pytest.mark.parametrize("kind", [Kind.COPAY, Kind.COINSURANCE, Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX])
def test_a_text_that_no_phrase_explains_narrows_a_cost(text: str, kind: Kind) -> None:
    row = read(text, kind=kind)
    assert row.limited_to == [text]
    assert pointers_at(row.sources, "limited_to") == ["/exchanges/0/body/msg/0"]
    assert read(text, kind=Kind.COVERAGE).limited_to == []


@pytest.mark.parametrize("text", ["CALENDAR YEAR", "Per Person", "Medical", "INCLUDES DEDUCTIBLE", "Blue Choice"])
def test_words_that_name_the_year_the_person_or_the_plan_narrow_nothing(text: str) -> None:
    assert read(text, kind=Kind.DEDUCTIBLE, codes=("30",), plan_name="BLUE CHOICE PPO").limited_to == []
    assert read(f"{text} HOSPITAL", kind=Kind.DEDUCTIBLE, codes=("30",), plan_name="BLUE CHOICE PPO").limited_to != []


def test_a_disclaimer_narrows_nothing() -> None:
    text = "CO-PAY, COINSURANCE, DEDUCTIBLE OR OUT OF POCKET AMOUNTS ARE FOR THE DATE OF INQUIRY ONLY."
    assert read(text).limited_to == []


@pytest.mark.parametrize(
    ("texts", "tier"),
    [
        (("MAXIMUM SAVINGS", "Customer Designated Providers"), "MAXIMUM SAVINGS"),
        (("STANDARD SAVINGS", "All Other In-Network Providers"), "STANDARD SAVINGS"),
        (("All Other In-Network Providers",), "All Other In-Network Providers"),
        (("MAXIMUM and STANDARD SAVINGS", "STANDARD SAVINGS"), "STANDARD SAVINGS"),
        (("THIS IS BENEFIT TIER 2",), "2"),
        (("MAXIMUM and STANDARD SAVINGS",), None),
    ],
)
def test_tiers(texts: tuple[str, ...], tier: str | None) -> None:
    row = read(*texts)
    assert (row.tier, row.limited_to) == (tier, [])


def test_a_row_of_two_tiers_is_of_none() -> None:
    row = read("MAXIMUM SAVINGS", "STANDARD SAVINGS")
    assert (row.tier, row.limited_to) == (None, [])


def test_a_stated_condition_stands_and_other_words_narrow_the_row() -> None:
    row = read("Telemedicine Specialist Visit", place=BenefitPlace.OFFICE)
    assert (row.place, row.limited_to) == (BenefitPlace.OFFICE, ["Telemedicine Specialist Visit"])


@pytest.mark.parametrize(
    ("text", "kind", "waived"),
    [
        ("Primary Care Visit or Evaluation in Office/Plan Ded Waived", Kind.LIMITATION, True),
        ("Deductible Waived", Kind.COINSURANCE, True),
        ("Deductible Applies", Kind.COINSURANCE, False),
        ("Deductible Applies", Kind.DEDUCTIBLE, None),
    ],
)
def test_whether_the_deductible_applies(text: str, kind: Kind, waived: bool | None) -> None:
    row = read(text, kind=kind)
    assert (row.deductible_waived, row.limited_to) == (waived, [])


def test_a_waiver_for_one_listed_service_is_none_for_another() -> None:
    row = read("Urgent Care/Plan Ded Waived", "Emergency use of Emergency Room", kind=Kind.LIMITATION)
    assert row.deductible_waived is None


@pytest.mark.parametrize(
    ("text", "kind", "counts"),
    [
        ("COPAY INCLUDED IN OOP", Kind.COPAY, True),
        ("COINS APPLIES TO OUT OF POCKET", Kind.COINSURANCE, True),
        ("COINS DOES NOT APPLY TO OOP", Kind.COINSURANCE, False),
        ("Copay does apply to member's out-of-pocket maximum", Kind.OUT_OF_POCKET_MAX, None),
    ],
)
def test_what_counts_to_the_out_of_pocket_maximum(text: str, kind: Kind, counts: bool | None) -> None:
    row = read(text, kind=kind)
    assert (row.counts_to_out_of_pocket, row.limited_to) == (counts, [])


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        (
            "LIMITATION IS COMBINED FOR PT, AD, AND AF FOR BOTH IN AND OUT OF NETWORK",
            ["in", "out", "PT", "AD", "AF"],
        ),
        ("Accumulators are shared between Medical AND Mental Health", ["1", "MH"]),
        ("Amounts apply to both", ["in", "out"]),
    ],
)
def test_shared_amounts(text: str, shared: list[str]) -> None:
    row = read(text, kind=Kind.LIMITATION, codes=("PT",))
    assert (row.shared_with, row.limited_to) == (shared, [])


def test_a_limit_for_an_additional_program_is_not_the_service_in_general() -> None:
    text = "ADDITIONAL BENEFIT FOR MUSCULOSKELETAL PAIN MANAGEMENT PROGRAM"
    assert read("REHABILITATIVE", kind=Kind.LIMITATION).limited_to == []
    assert read("REHABILITATIVE", text, kind=Kind.LIMITATION).limited_to == [text]


# --- properties ------------------------------------------------------------------------------------------------------


def test_words_that_two_phrases_read_differently_give_no_value() -> None:
    entry = {"version": 1, "payers": ("uhc",), "pattern": "specialist", "example": "SPECIALIST"}
    two = [
        Phrase.model_validate({**entry, "id": "a", "says": {"provider_kind": "specialist"}}),
        Phrase.model_validate({**entry, "id": "b", "says": {"provider_kind": "pcp"}}),
    ]
    said = apply_phrases(answer(stated("SPECIALIST")), make_book(two))
    assert (said.benefits[0].provider_kind, said.benefits[0].limited_to) == (None, ["SPECIALIST"])
    (warning,) = said.warnings
    assert warning.code is WarningCode.UNKNOWN_CODE
    assert "provider_kind (a@1, b@1)" in warning.message
    assert warning.sources == ["/exchanges/0/body/msg/0"]


SEEN = [
    *sorted({phrase.example for phrase in ENTRIES}),
    "GYN Visit,COPAY INCLUDED IN OOP",
    "Specialist Visit or Evaluation in Office/Plan Ded Waived",
    "Med Dent,DED INCLUDED IN OOP,Urgent Care",
    "CAT - Preventive Colonoscopy",
    "UNKNOWN,COPAY INCLUDED IN OOP",
]
ROWS = st.builds(
    lambda notes, kind, codes, fields: stated(*notes, kind=kind, codes=codes, **fields),
    st.lists(st.sampled_from(SEEN) | st.text(max_size=12), max_size=5),
    st.sampled_from(sorted(CODES)),
    st.sampled_from([("98",), ("30",), ("33",), (), ("UC", "98")]),
    st.fixed_dictionaries(
        {},
        optional={
            "place": st.sampled_from(BenefitPlace),
            "provider_kind": st.sampled_from(ProviderKind),
            "tier": st.just("GOLD"),
            "deductible_waived": st.booleans(),
            "limited_to": st.just(["11"]),
        },
    ),
)
ANSWERS = st.builds(
    lambda rows, notes, in_network: answer(*rows, notes=notes, provider_in_network=in_network),
    st.lists(ROWS, max_size=4),
    st.lists(st.sampled_from(SEEN), max_size=2),
    st.none() | st.booleans(),
)
OPEN: tuple[object, ...] = (None, [], AuthorizationNeed.UNKNOWN)


@given(ANSWERS, st.sets(st.sampled_from(range(len(ENTRIES)))))
@settings(max_examples=200, deadline=None)
def test_without_phrases_values_are_open_or_rows_narrower_and_never_different(asked: Answer, left: set[int]) -> None:
    with_all = apply_phrases(asked)
    without = apply_phrases(asked, NO_BOOK)
    for name in ("provider_in_network", "referral_required"):
        assert getattr(without, name) in (None, getattr(with_all, name))
    assert without.warnings == asked.warnings
    for full, bare, row in zip(with_all.benefits, without.benefits, asked.benefits, strict=True):
        assert set(full.limited_to) <= set(bare.limited_to)
        assert bare == row.model_copy(update={"limited_to": bare.limited_to, "sources": bare.sources})
        for name in Benefit.model_fields.keys() - {"limited_to", "sources"}:
            before = getattr(row, name)
            assert getattr(full, name) == before or before in OPEN


@given(ANSWERS)
@settings(max_examples=100, deadline=None)
def test_a_second_reading_changes_nothing(asked: Answer) -> None:
    once = apply_phrases(asked)
    assert apply_phrases(once) == once


@given(ANSWERS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_and_texts_changes_nothing(asked: Answer, random: Any) -> None:
    rows = [row.model_copy(update={"notes": random.sample(row.notes, len(row.notes))}) for row in asked.benefits]
    shuffled = apply_phrases(asked.model_copy(update={"benefits": random.sample(rows, len(rows))}))
    usual = apply_phrases(asked)

    def sorted_notes(said: Answer) -> list[Benefit]:
        return in_order([row.model_copy(update={"notes": sorted(row.notes)}) for row in said.benefits])

    assert sorted_notes(shuffled) == sorted_notes(usual)
    assert in_order(shuffled.warnings) == in_order(usual.warnings)
    assert (shuffled.provider_in_network, shuffled.sources) == (usual.provider_in_network, usual.sources)


def test_every_field_of_a_meaning_is_one_of_the_answer_or_of_a_row() -> None:
    assert all(name in Answer.model_fields or name in Benefit.model_fields for name in PhraseFields.model_fields)
