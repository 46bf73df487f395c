"""The 271 reader: tables of single rules, and properties that hold for any rows at all."""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.eligibility.derive import derive
from covergate.eligibility.failure import Aaa, Failure, FailureCode
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.terms import Coverage, Kind, Network, Period, Role, Unit, WarningCode
from covergate.eligibility.x12.names import EB01_NAMES, EB06_NAMES, EB09_NAMES
from covergate.eligibility.x12.reader import Reading, read_271
from covergate.eligibility.x12.rows import Days, Entity, dtp, element
from tests.support.examples import examples
from tests.support.stated_rows import MH, answer_of, eb, reading, rows


def refusal(*specs: dict[str, Any], aaas: tuple[Aaa, ...] = ()) -> Failure:
    found = read_271(rows(*specs), MH, aaas)
    assert isinstance(found, Failure)
    return found


@pytest.mark.parametrize(
    ("specs", "coverage"),
    [
        ([eb(eb01="1", eb03=["30"])], Coverage.ACTIVE),
        ([eb(eb01="4")], Coverage.ACTIVE),
        ([eb(eb01="1", eb03=["MH", "98"])], Coverage.ACTIVE),
        ([eb(eb01="6", eb03=["30"])], Coverage.INACTIVE),
        ([eb(eb01="6", eb03=["30"]), eb(eb01="1", eb03=["30"])], Coverage.ACTIVE),
        ([eb(eb01="1", eb03=["88"])], Coverage.UNKNOWN),  # the pharmacy benefit is neither the plan nor what was asked
        ([eb(eb01="6", eb03=["35"])], Coverage.UNKNOWN),
        ([eb(eb01="6", procedures=["90837"])], Coverage.UNKNOWN),
        ([eb(eb01="B", eb03=["30"], eb07="20")], Coverage.UNKNOWN),
        ([], Coverage.UNKNOWN),
    ],
)
def test_coverage(specs: list[dict[str, Any]], coverage: Coverage) -> None:
    assert reading(*specs).coverage is coverage


@pytest.mark.parametrize(
    ("specs", "covered"),
    [
        ([eb(eb01="1", eb03=["MH"])], True),
        ([eb(eb01="1", eb03=["30"]), eb(eb01="I", eb03=["MH"])], False),
        ([eb(eb01="1", eb03=["MH"]), eb(eb01="I", eb03=["MH"], eb12="N")], True),  # excluded out of network only
        ([eb(eb01="I", eb03=["MH"], eb12="N")], None),
        ([eb(eb01="1", eb03=["MH"]), eb(eb01="I", eb03=["MH"], eb12="Y")], False),
        ([eb(eb01="6", eb03=["MH"])], False),
        ([eb(eb01="6", eb03=["MH"]), eb(eb01="1", eb03=["MH"])], True),
        ([eb(eb01="B", eb03=["MH"], eb07="30")], None),  # a copay does not say that it is covered
        ([eb(eb01="E", eb03=["MH"], msgs=["COUPLES THERAPY"])], None),  # an exclusion within the service
        ([eb(eb01="1", eb03=["MH"]), eb(eb01="I", eb03=["MH"], places=["10"])], None),
    ],
)
def test_service(specs: list[dict[str, Any]], covered: bool | None) -> None:
    (service,) = [service for service in reading(*specs).services if service.code == "MH"]
    assert service.covered is covered
    assert service.name == "Mental Health"


@pytest.mark.parametrize(("place", "covered"), [("10", False), ("11", True)])
def test_exclusion_at_another_place_of_service(place: str, covered: bool) -> None:
    specs = [eb(eb01="1", eb03=["MH"]), eb(eb01="I", eb03=["MH"], places=["10"])]
    (service,) = reading(*specs, service=MH.model_copy(update={"place_of_service_code": place})).services
    assert service.covered is covered


@pytest.mark.parametrize(
    ("exclusion", "covered"),
    [(eb("I**MH"), False), (eb("I**MH", msgs=["COUPLES"]), None), (eb("I**MH", limits=["Group"]), None)],
    ids=["of all of it", "in words", "in a code"],
)
def test_words_on_an_exclusion_leave_open_what_is_covered(exclusion: dict[str, Any], covered: bool | None) -> None:
    (service,) = reading(eb("1**MH"), exclusion).services
    assert service.covered is covered
    (alone,) = reading(exclusion).services
    assert alone.covered is False


def test_a_row_on_a_procedure_does_not_speak_of_the_service_type_beside_it() -> None:
    found = reading(eb(eb01="1", eb03=["MH"]), eb(eb01="I", eb03=["MH"], procedures=["90846"]))
    assert [(service.code, service.covered) for service in found.services] == [("90846", False), ("MH", True)]


def deductible(**more: Any) -> dict[str, Any]:
    return eb(eb01="C", eb02="IND", eb03=["30"], eb12="Y") | more


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # stated remaining wins; nothing is subtracted
        ([("23", "1000"), ("29", "250")], [("1000.00", None, "250.00", Period.CALENDAR_YEAR)]),
        # 1000 - 400
        ([("23", "1000"), ("24", "400")], [("1000.00", "400.00", "600.00", Period.CALENDAR_YEAR)]),
        # 1000 - 1200 is nothing left
        ([("25", "1000"), ("24", "1200")], [("1000.00", "1200.00", "0.00", Period.CONTRACT)]),
        ([("23", "1000"), ("24", "700"), ("29", "250")], [("1000.00", "700.00", "250.00", Period.CALENDAR_YEAR)]),
        ([("29", "-12.50")], [(None, None, "0.00", Period.UNKNOWN)]),
        ([(None, "500"), ("29", "100")], [("500.00", None, "100.00", Period.UNKNOWN)]),
        ([("24", "400"), ("29", "600")], [(None, "400.00", "600.00", Period.UNKNOWN)]),
        ([("32", "9000"), ("33", "8000")], [("9000.00", None, "8000.00", Period.LIFETIME)]),
        # what remains is not said to be of the lifetime total
        (
            [("32", "9000"), ("29", "100")],
            [("9000.00", None, None, Period.LIFETIME), (None, None, "100.00", Period.UNKNOWN)],
        ),
        (
            [("23", "1000"), ("32", "9000"), ("29", "100"), ("33", "8000")],
            [("1000.00", None, "100.00", Period.CALENDAR_YEAR), ("9000.00", None, "8000.00", Period.LIFETIME)],
        ),
        # two totals for the same thing: nothing is picked, and nothing is joined to either
        (
            [("23", "1000"), ("23", "2000"), ("29", "250")],
            [
                ("1000.00", None, None, Period.CALENDAR_YEAR),
                ("2000.00", None, None, Period.CALENDAR_YEAR),
                (None, None, "250.00", Period.CALENDAR_YEAR),
            ],
        ),
        # two periods with a total: it is open of which one 250 is left
        (
            [("23", "1000"), ("22", "1000"), ("29", "250")],
            [
                ("1000.00", None, None, Period.CALENDAR_YEAR),
                ("1000.00", None, None, Period.SERVICE_YEAR),
                (None, None, "250.00", Period.UNKNOWN),
            ],
        ),
        ([("23", "1000"), ("23", "1000.0")], [("1000.00", None, None, Period.CALENDAR_YEAR)]),
        ([("23", "0")], [("0.00", None, None, Period.CALENDAR_YEAR)]),
        ([("23", "")], [(None, None, None, Period.CALENDAR_YEAR)]),
    ],
)
def test_total_used_and_remaining_of_a_deductible(numbers: list[tuple[str | None, str]], expected: list[Any]) -> None:
    found = reading(*(deductible(eb06=eb06, eb07=eb07) for eb06, eb07 in numbers))
    seen = [
        tuple(shown[name] for name in ("total", "used", "remaining", "period"))
        for shown in (benefit.model_dump(mode="json") for benefit in found.benefits)
    ]
    assert sorted(seen, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize(
    "other",
    [
        {"eb01": "G"},
        {"eb02": "FAM"},
        {"eb02": None},
        {"eb03": ["MH"]},
        {"eb04": "HM"},
        {"eb05": "GOLD"},
        {"eb12": "N"},
        {"eb12": None},
        {"msgs": ["MEDICAL"]},
        {"places": ["11"]},
        {"procedures": ["90837"]},
        {"days": [("348", "20250101")]},
    ],
)
def test_rows_that_differ_are_not_joined(other: dict[str, Any]) -> None:
    total = deductible(eb06="23", eb07="1000", days=[("348", "20260101")])
    found = reading(total, deductible(eb06="29", eb07="250") | other)
    assert [(benefit.total is None, benefit.remaining is None) for benefit in found.benefits] in (
        [(False, True), (True, False)],
        [(True, False), (False, True)],
    )


def test_derived_remaining_points_at_both_numbers() -> None:
    (benefit,) = reading(deductible(eb06="23", eb07="1000"), deductible(eb06="24", eb07="400")).benefits
    assert benefit.sources["remaining"] == ["/0/eb07", "/1/eb07"]


def test_copay_and_coinsurance() -> None:
    found = reading(
        eb(eb01="B", eb03=["MH"], eb06="27", eb07="30", eb12="W", msgs=["WAIVED FOR TELEHEALTH"]),
        eb(eb01="A", eb03=["MH"], eb08="0.29", eb12="Y"),
        eb(eb01="A", eb03=["MH"], eb08="29", eb08_is_fraction=False, eb12="N"),
    )
    copay, inside, outside = found.benefits
    assert (copay.kind, copay.amount, copay.period, copay.network) == (
        Kind.COPAY,
        Decimal("30.00"),
        Period.VISIT,
        Network.BOTH,
    )
    assert copay.notes == ["WAIVED FOR TELEHEALTH"]
    assert inside.percent == outside.percent == 29


def test_two_copays_are_two_benefits() -> None:
    found = reading(*(eb(eb01="B", eb03=["MH"], eb06="27", eb07=amount) for amount in ("30", "50", "30.00")))
    assert sorted(str(benefit.amount) for benefit in found.benefits) == ["30.00", "50.00"]


def test_visits_used_take_the_unit_of_the_total() -> None:
    visits = eb(eb01="F", eb03=["MH"], eb12="Y")
    (benefit,) = reading(
        visits | eb(eb06="23", eb09="VS", eb10="20"), visits | eb(eb06="24", eb09="99", eb10="8")
    ).benefits
    assert benefit.quantity is not None
    assert benefit.quantity.model_dump(mode="json") == {"unit": Unit.VISITS, "total": 20, "used": 8, "remaining": 12}
    assert benefit.period is Period.CALENDAR_YEAR


def test_a_quantity_without_a_number_is_none() -> None:
    found = reading(eb(eb01="F", eb06="24", eb09="99"), eb(eb01="F", eb06="23", eb09="VS", eb10="20"))
    assert [benefit.quantity and benefit.quantity.model_dump(mode="json") for benefit in found.benefits] == [
        None,
        {"unit": "visits", "total": 20, "used": None, "remaining": None},
    ]


def test_a_negative_quantity_used_is_unreadable_whatever_eb06_says() -> None:
    found = reading(eb(eb01="F", eb06="29", eb09="99", eb10="-1"))
    assert [warning.sources for warning in found.warnings] == [["/0/eb10"]]


def test_an_age_limit_is_named() -> None:
    (benefit,) = reading(eb(eb01="F", eb03=["MH"], eb09="S7", eb10="19")).benefits
    assert (benefit.description, benefit.quantity and benefit.quantity.unit) == ("Age, High Value", Unit.OTHER)


def test_unknown_codes_are_unknown_and_warned_of() -> None:
    found = reading(
        eb(eb01="1", eb02="XYZ", eb03=["30", "Q9"], eb04="ZZ", eb06="99", eb11="X", eb12="Q"),
        eb(eb01="ZZ", eb06="99", eb07="12", eb09="WW", eb10="3"),
        eb(eb01="C", eb06="99", eb07="70"),
    )
    warned = {warning.message.split("(")[1].rstrip(")") for warning in found.warnings}
    assert {warning.code for warning in found.warnings} == {WarningCode.UNKNOWN_CODE}
    assert warned == {"EB01 ZZ", "EB02 XYZ", "EB03 Q9", "EB04 ZZ", "EB06 99", "EB09 WW", "EB11 X", "EB12 Q"}
    assert found.coverage is Coverage.ACTIVE
    assert all(benefit.total is None and benefit.quantity is None for benefit in found.benefits)


def test_free_text_in_place_of_a_code_is_not_repeated() -> None:
    found = reading(eb(eb01="1", eb02="Jane Sample"))
    assert not any("Jane" in warning.message for warning in found.warnings)


def test_unreadable_numbers_are_warned_of() -> None:
    found = reading(eb(eb01="C", eb07="see text"), eb(eb01="A", eb08="20"), eb(eb01="F", eb09="VS", eb10="many"))
    assert [warning.sources for warning in found.warnings] == [["/0/eb07"], ["/1/eb08"], ["/2/eb10"]]
    assert {warning.code for warning in found.warnings} == {WarningCode.RAW_UNPARSABLE}


@pytest.mark.parametrize("code", ["5", "7", "8"])
def test_pending_investigation(code: str) -> None:
    found = reading(eb(eb01=code, eb03=["30"]))
    assert [(warning.code, warning.sources) for warning in found.warnings] == [
        (WarningCode.PENDING_INVESTIGATION, ["/0/eb01"])
    ]
    assert found.coverage is (Coverage.ACTIVE if code == "5" else Coverage.INACTIVE)


def test_another_entity_is_to_be_contacted() -> None:
    found = reading(eb(eb01="U", eb03=["MH"], msgs=["CALL THE CARVE OUT"]))
    assert found.coverage is Coverage.UNKNOWN
    assert [warning.code for warning in found.warnings] == [WarningCode.CONTACT_OTHER_ENTITY]
    assert [entity.role for entity in found.related_entities] == [Role.CARVE_OUT]
    assert found.benefits[0].notes == ["CALL THE CARVE OUT"]


def test_entities_and_other_payers() -> None:
    entity = Entity(
        code=element("PRP", "/e/code"), name=element("SAMPLE HEALTH", "/e/name"), id=element("60054", "/e/id")
    )
    found = reading(
        eb(
            eb01="R",
            entities=(entity,),
            member_id=element("W1", "/m"),
            days=[("292", "20260101-20261231")],
        ),
        eb(eb01="L", entities=(Entity(code=element("1P", "/p"), npi=element("1234567893", "/n")),)),
        eb(eb01="1", eb03=["30"], entities=(Entity(code=element("2B", "/t"), name=element("SAMPLE TPA", "/tn")),)),
    )
    (other,) = found.other_coverage
    assert (other.order, other.payer.name, other.payer.id, other.member_id) == (
        "primary",
        "SAMPLE HEALTH",
        "60054",
        "W1",
    )
    assert (other.starts_on, other.ends_on) == (date(2026, 1, 1), date(2026, 12, 31))
    assert [entity.role for entity in found.related_entities] == [
        Role.PRIMARY_CARE_PROVIDER,
        Role.THIRD_PARTY_ADMINISTRATOR,
    ]


def test_only_cannot_process_is_a_refusal() -> None:
    found = refusal(eb(eb01="V", msgs=["INVALID DATA"]))
    assert (found.code, found.vendor_code, found.vendor_message) == (
        FailureCode.PAYER_MANUAL_CHECK_REQUIRED,
        "V",
        "INVALID DATA",
    )
    assert reading(eb(eb01="V"), eb(eb01="1", eb03=["30"])).coverage is Coverage.ACTIVE


def test_a_reject_beats_cannot_process_and_never_means_inactive() -> None:
    assert refusal(eb(eb01="V"), aaas=(Aaa(code="80"),)).code is FailureCode.PAYER_UNAVAILABLE
    assert refusal(aaas=(Aaa(code="75"),)).code is FailureCode.MEMBER_NOT_FOUND
    found = reading(eb(eb01="1", eb03=["30"]), aaas=(Aaa(code="55"),))
    assert found.coverage is Coverage.ACTIVE
    assert found.notes == ["AAA 55 Inappropriate Product/Service ID"]


def test_plan_of_the_active_rows() -> None:
    found = reading(
        eb(eb01="1", eb03=["30"], eb04="PR", eb05="GOLD", days=[("291", "20260101-20261231")]),
        eb(eb01="6", eb03=["30"], eb04="HM", eb05="OLD", days=[("346", "20200101"), ("347", "20201231")]),
    )
    assert (found.plan.name, found.plan.type, found.plan.starts_on, found.plan.ends_on) == (
        "GOLD",
        "PR",
        date(2026, 1, 1),
        date(2026, 12, 31),
    )


def test_one_day_does_not_say_whether_the_plan_begins_or_ends() -> None:
    found = reading(eb(eb01="1", eb03=["30"], days=[("291", "20261121"), ("307", "20261121")]))
    assert (found.plan.starts_on, found.plan.ends_on) == (None, None)


# --- properties -----------------------------------------------------------------------------------------------------

CODES = {
    "eb01": [*EB01_NAMES, "ZZ"],
    "eb02": ["IND", "FAM", "QQ"],
    "eb04": ["HM", "PR", "ZZ"],
    "eb05": ["GOLD"],
    "eb06": [*EB06_NAMES, "99"],
    "eb07": ["0", "100", "250.5", "1000", "-3", "$1,000", "1e3", "NaN", "many", "99999999999", "1e-999999"],
    "eb08": ["0", "0.2", ".29", "1", "20", "-1", "Infinity", "x"],
    "eb09": [*EB09_NAMES, "WW"],
    "eb10": ["0", "8", "20", "20.0", "-4", "1e999999", "all"],
    "eb11": ["Y", "N", "U", "X"],
    "eb12": ["Y", "N", "W", "U", "X"],
}
ANY_TEXT = st.text(max_size=8)


def one_of(values: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(values) | ANY_TEXT


SPECS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            **{name: one_of(values) for name, values in CODES.items()},
            "eb03": st.lists(st.sampled_from(["30", "MH", "98", "Q9"]), max_size=2),
            "procedures": st.lists(st.sampled_from(["90837", "90846"]), max_size=1),
            "msgs": st.lists(st.sampled_from(["A", "B"]), max_size=2),
            "places": st.lists(st.sampled_from(["10", "11"]), max_size=1),
            "limits": st.lists(st.sampled_from(["A", "B"]), max_size=1),
            "entities": st.lists(
                st.fixed_dictionaries(
                    {"code": st.sampled_from(["PR", "PRP", "IL", "VN", "1P"])},
                    optional={"name": st.sampled_from(["ONE", "OTHER"]), "id": st.sampled_from(["1", "2"])},
                ),
                max_size=2,
            ),
            "references": st.lists(
                st.tuples(st.sampled_from(["6P", "1L", "18", "1W"]), st.sampled_from(["1", "H9999"])), max_size=2
            ),
            "days": st.lists(
                st.tuples(
                    st.sampled_from(["291", "292", "307", "346", "347", "348", "349", "472"]),
                    st.sampled_from(["20260101", "20260101-20261231", "20261331", "x"]),
                ),
                max_size=2,
            ),
        },
    ),
    max_size=7,
)
# Rows about few benefits, so that totals, used and remaining meet.
ACCUMULATORS = st.lists(
    st.fixed_dictionaries(
        {
            "eb01": st.sampled_from(["C", "G", "F", "B", "1"]),
            "eb06": st.sampled_from(["22", "23", "24", "29", "32", "33", "34", ""]),
        },
        optional={
            "eb07": st.sampled_from(["100", "250", "1000", "-3"]),
            "eb08": st.sampled_from(["0.2", "0.3"]),
            "eb09": st.sampled_from(["VS", "DY", "99"]),
            "eb10": st.sampled_from(["8", "20", "-1"]),
            "eb11": st.sampled_from(["Y", "N"]),
            "eb12": st.sampled_from(["Y", "N", "W"]),
            "msgs": st.lists(st.sampled_from(["A", "B"]), max_size=2),
            "days": st.lists(
                st.tuples(st.sampled_from(["291", "346", "347"]), st.sampled_from(["20260101", "20261121-20261121"])),
                max_size=1,
            ),
            "deliveries": st.lists(
                st.fixed_dictionaries(
                    {"hsd01": st.sampled_from(["VS", "DY"]), "hsd02": st.sampled_from(["8", "20"])},
                    optional={
                        "hsd03": st.just("WK"),
                        "hsd05": st.sampled_from(["23", "29", "34"]),
                        "hsd06": st.sampled_from(["1", "12", "24"]),
                    },
                ),
                max_size=2,
            ),
        },
    ),
    max_size=7,
)
INQUIRY = Inquiry.model_validate(
    {
        "payer": {"id": "60054"},
        "patient": {
            "first_name": "Jane",
            "last_name": "Sample",
            "date_of_birth": "1990-09-20",
            "member_id": "W1",
        },
        "service": {"date": "2026-11-21", "service_type_codes": ["MH"], "procedure_codes": ["90837"]},
    }
)


def derived(reading: Reading) -> dict[str, Any]:
    answer = answer_of(reading)
    return derive(answer, INQUIRY, frozenset(), date(2026, 11, 21)).result.model_dump(mode="json")


def without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_sources(inner) for key, inner in value.items() if key != "sources"}
    return [without_sources(inner) for inner in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=examples(300))
@given(st.one_of(SPECS, ACCUMULATORS), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_only_sources(specs: list[dict[str, Any]], rng: random.Random) -> None:
    listed = rows(*specs)
    shuffled = rng.sample(listed, len(listed))
    first, second = read_271(listed, INQUIRY.service), read_271(shuffled, INQUIRY.service)
    if isinstance(first, Failure) or isinstance(second, Failure):
        assert first == second
    else:
        assert without_sources(derived(first)) == without_sources(derived(second))


@settings(deadline=None, max_examples=examples(300))
@given(st.one_of(SPECS, ACCUMULATORS))
def test_every_number_equals_what_its_sources_point_at(specs: list[dict[str, Any]]) -> None:
    found = read_271(rows(*specs), INQUIRY.service)
    if isinstance(found, Failure):
        return
    for benefit in derived(found)["benefits"]:
        for name in ("amount", "percent", "total", "used", "remaining"):
            if benefit[name] is None:
                assert name not in benefit["sources"]
                continue
            texts = [_pointed(specs, pointer) for pointer in benefit["sources"][name]]
            assert Decimal(str(benefit[name])) in _readings(texts, name)
        if benefit["quantity"] is not None:
            texts = [_pointed(specs, pointer) for pointer in benefit["sources"]["quantity"]]
            counts = [benefit["quantity"][name] for name in ("total", "used", "remaining")]
            assert all(Decimal(str(count)) in _readings(texts, "remaining") for count in counts if count is not None)


@settings(deadline=None, max_examples=examples(200))
@given(st.one_of(SPECS, ACCUMULATORS))
def test_every_stated_number_is_in_the_result(specs: list[dict[str, Any]]) -> None:
    """Nothing a row states is lost in joining: its EB07, EB08 and EB10 are pointed at, or warned of, or of no known part."""
    found = read_271(rows(*specs), INQUIRY.service)
    if isinstance(found, Failure):
        return
    pointed = {
        pointer
        for sources in [row.sources for row in found.benefits] + [warning.sources for warning in found.warnings]
        for pointers in (sources.values() if isinstance(sources, dict) else [sources])
        for pointer in pointers
    }
    for index, spec in enumerate(specs):
        for name in ("eb07", "eb08", "eb10"):
            unknown_part = (
                name == "eb10"
                and (spec.get("eb06") or "").strip() not in {*EB06_NAMES, ""}
                and (spec.get("eb09") or "").strip() != "99"
            )
            if (spec.get(name) or "").strip() and not unknown_part:
                assert f"/{index}/{name}" in pointed


@settings(deadline=None, max_examples=examples(200))
@given(SPECS, st.lists(st.builds(Aaa, code=one_of(["42", "72", "79"]), follow_up=st.sampled_from([None, "S", "C"]))))
def test_nothing_crashes_and_a_reject_is_never_inactive(specs: list[dict[str, Any]], aaas: list[Aaa]) -> None:
    found = read_271(rows(*specs), MH, aaas)
    if isinstance(found, Reading) and found.coverage is Coverage.INACTIVE:
        assert any((spec.get("eb01") or "").strip() in ("6", "7", "8") for spec in specs)


@given(st.none() | st.text() | st.integers(), st.text() | st.integers() | st.none())
def test_any_date_text_is_read_or_left(qualifier: Any, text: Any) -> None:
    assert isinstance(dtp(qualifier, text, "/x"), Days | None)


def _pointed(specs: list[dict[str, Any]], pointer: str) -> str:
    _, index, *path = pointer.split("/")
    value: Any = specs[int(index)]
    for step in path:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return str(value)


def _readings(texts: list[str], name: str) -> set[Decimal]:
    numbers = [number for number in map(_decimal, texts) if number is not None]
    if name == "percent":
        return {number * 100 for number in numbers}
    if name == "remaining":
        numbers += [one - other for one in numbers for other in numbers]
    rounded = {number.quantize(Decimal("0.01")) if abs(number) < 10**12 else number for number in numbers}
    return rounded | ({Decimal(0)} if any(number <= 0 for number in numbers) else set())


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip().replace("$", "").replace(",", "").replace(" ", ""))
    except InvalidOperation:
        return None


@pytest.mark.parametrize(("asking", "is_another"), [("1234567893", True), ("1992999999", False), (None, False)])
def test_services_that_only_another_provider_may_give(asking: str | None, is_another: bool) -> None:
    provider = {"code": "1P", "name": "SAMPLE CLINIC", "npi": "1992999999"}
    found = reading(eb("1**30"), eb("N**30", entities=[provider]), asking_npi=asking)
    warned = [warning for warning in found.warnings if warning.code is WarningCode.LIMITED_BENEFIT]
    assert bool(warned) is is_another
    assert [warning.sources for warning in warned] == ([["/1/entities/0/npi"]] if is_another else [])
    elsewhere = reading(eb("1**30"), eb("N**35", entities=[provider]), asking_npi="1234567893")
    assert not elsewhere.warnings
