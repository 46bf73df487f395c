"""What VSee's case files cannot say: the callback's token, any shape of raw reply at all, and the tree of the 271."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import jsonpointer
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from covergate.api.http import MOST_BODY_BYTES
from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import derive
from covergate.eligibility.failure import Failure, FailureCode
from covergate.eligibility.inquiry import Inquiry
from covergate.errors import ConfigurationError
from covergate.gateway import connections_of
from covergate.settings import Settings
from covergate.startup import named_variables
from covergate.vendors.document import Node
from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.vsee import VENDOR
from covergate.vendors.vsee.advancedmd import read_response
from covergate.vendors.vsee.answer import answer_of
from covergate.vendors.vsee.connection import VSeeConnection
from covergate.vendors.vsee.options import VSeeOptions
from covergate.vendors.vsee.segments import LoopLevel, segments
from tests.support.cases import read_case
from tests.support.examples import examples

NOW = datetime(2026, 11, 21, 17, tzinfo=UTC)
INQUIRY = Inquiry.model_validate(
    {
        "payer": {"id": "60054"},
        "patient": {
            "first_name": "Jane",
            "last_name": "Sample",
            "date_of_birth": "1990-09-20",
            "member_id": "W100200300",
        },
    }
).resolved(NOW)


TOKEN = "5f0c2c7d9a1e4b685f0c2c7d9a1e4b68"


def connection(**fields: Any) -> VSeeConnection:
    return VSeeConnection(_env_file=None, **{"callback_token": TOKEN} | fields)


def inbound(query: str) -> Inbound:
    return Inbound("POST", "/v1/vendor-events/vsee", query, {}, b"{}")


def test_the_callback_token_opens_the_door() -> None:
    assert VENDOR.verify_event is not None
    VENDOR.verify_event(inbound(f"token={TOKEN}"), connection())


@pytest.mark.parametrize(
    "query", ["", "token=", "token=other", f"token={TOKEN}&token=other", f"Token={TOKEN}", "token=ä"]
)
def test_any_other_query_is_forged(query: str) -> None:
    assert VENDOR.verify_event is not None
    with pytest.raises(ForgedEvent):
        VENDOR.verify_event(inbound(query), connection())


def test_without_a_configured_token_every_event_is_forged() -> None:
    assert VENDOR.verify_event is not None
    with pytest.raises(ForgedEvent):
        VENDOR.verify_event(inbound("token="), connection(callback_token=""))


@pytest.mark.parametrize(
    "token",
    [
        "secret",
        "5f0c2c7d9a1e4b685f0c2c7d9a1e4b6",  # 124 bits
        "13579135791357913579135791357",  # digits
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabcabcabcabcabcabcabcabcabc",
        "kJ8_xW2-pQ9rT4vB7nM1z",  # 126 bits
        "kJ8 xW2 pQ9 rT4 vB7 nM1 zL5",
    ],
)
def test_a_callback_token_that_can_be_guessed_ends_the_start(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("COVERGATE_VSEE_CALLBACK_TOKEN", token)
    with pytest.raises(ConfigurationError, match="COVERGATE_VSEE_CALLBACK_TOKEN") as told, named_variables():
        connections_of(Settings(_env_file=None))
    assert "\n" not in str(told.value) and token not in str(told.value)


@pytest.mark.parametrize("token", ["", TOKEN, TOKEN.upper(), "kJ8_xW2-pQ9rT4vB7nM1zL"])
def test_a_callback_token_of_128_bits(token: str) -> None:
    assert connection(callback_token=token).callback_token == token


def test_the_connection_is_complete_without_a_callback_token() -> None:
    given = {"base_url": "https://vsee.example/api_v3", "account_code": "a", "api_key": "k", "api_secret": "s"}
    assert not connection(**given).complete
    assert connection(**given, api_token="t", callback_token="").complete
    assert VENDOR.connection.sandbox("http://127.0.0.1:9", "s").complete


def test_secrets_stay_out_of_sight() -> None:
    shown = repr(connection(api_key="key-1", api_secret="secret-1", api_token="token-1"))
    assert not any(secret in shown for secret in ("key-1", "secret-1", "token-1", TOKEN))
    assert {"token", "refresh_token"} <= VENDOR.secrets


@pytest.mark.parametrize("path", ["/insurances/", "/insurance/"])
def test_both_spellings_of_the_list_of_insurers(path: str) -> None:
    assert VENDOR.list_payers is not None
    assert next(VENDOR.list_payers(connection(insurances_path=path))).path == path


def eligible_raw() -> Any:
    """The tree of a whole answer."""
    case = read_case("vsee", "check_eligible")
    return case["exchanges"][0]["reply"]["body"]["data"]["insurance"]["primary"]["raw_response"]


def section(raw: Any, **more: Any) -> Node:
    return Node({"eligibility_id": "1", "last_checked": 1_795_280_340, "raw_response": raw} | more, "/s")


def concluded(raw: Any) -> dict[str, Any]:
    answer = answer_of(section(raw), INQUIRY, "1", NOW)
    assert isinstance(answer, Answer)
    return derive(answer, INQUIRY, frozenset(), NOW.date()).result.model_dump(mode="json")


def without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_sources(inner) for key, inner in value.items() if key != "sources"}
    return [without_sources(inner) for inner in value] if isinstance(value, list) else value


def renamed(value: Any) -> Any:
    """The same tree with other words after each element's number, and every single child as a list of one."""
    if isinstance(value, dict):
        return {
            (f"{key.split('_')[0]}_Other" if key.startswith("@") and "_" in key else key): (
                [renamed(inner)] if isinstance(inner, dict) and key.endswith("Segment") else renamed(inner)
            )
            for key, inner in value.items()
        }
    return [renamed(inner) for inner in value] if isinstance(value, list) else value


def test_only_the_prefix_of_a_name_counts_and_one_child_may_be_a_list() -> None:
    assert without_sources(concluded(renamed(eligible_raw()))) == without_sources(concluded(eligible_raw()))


def test_repeated_elements_and_composites_may_be_children() -> None:
    row = {
        "EligibilityOrBenefitInformation": {
            "@EB01_Code": "B",
            "EB03_ServiceTypeCode": ["30", {"#text": "x"}, "MH"],
            "EB07_MonetaryAmount": {"#text": "30", "@currency": "USD"},
            "Composite": {"@EB13_01_Qualifier": "HC", "@EB13_02_Code": "90837"},
        },
        "MessageTexts": {"MSGSegment": {"@MSG01_Text": "PER VISIT"}},
    }
    (found,) = read_response({"SubscriberDetail": {"Name": {"Rows": [row]}}}, "/raw").rows
    assert [code.value for code in found.eb03] == ["30", "MH"]
    assert found.eb07.value == "30"
    assert [code.value for code in found.procedures] == ["90837"]
    assert [message.value for message in found.msgs] == ["PER VISIT"]


@pytest.mark.parametrize(
    ("text", "code"), [("HC:90837", "90837"), ("HC|90837|95", "90837"), ("ND:123", None), ("9", None)]
)
def test_procedure_in_one_string(text: str, code: str | None) -> None:
    (found,) = read_response({"SubscriberDetail": {"Row": {"EB": {"@EB01_": "1", "@EB13_": text}}}}, "/raw").rows
    assert [procedure.value for procedure in found.procedures] == ([code] if code else [])


def test_rows_that_share_one_object_keep_their_elements_apart() -> None:
    rows = [{"@EB01_Code": "1", "@EB03_": "30"}, {"@EB01_Code": "B", "@EB07_": "30"}]
    tree = {"SubscriberDetail": {"EB": rows, "MSGSegment": {"@MSG01_Text": "WHOSE IS THIS"}}}
    found = read_response(tree, "/raw")
    assert [(row.code, row.eb07.value) for row in found.rows] == [("1", None), ("B", "30")]
    assert [row.msgs for row in found.rows] == [(), ()]
    assert [note.value for note in found.notes] == ["WHOSE IS THIS"]


def test_levels_by_hl_where_the_names_say_nothing() -> None:
    tree = {
        "Loop": [
            {"HLSegment": {"@HL03_Code": "22"}, "Name": {"@NM101_": "IL"}},
            {"HLSegment": {"@HL03_Code": "23"}, "Name": {"@NM101_": "03"}},
        ]
    }
    named = [segment for segment in segments(tree, "") if segment.name == "NM1"]
    assert [segment.level for segment in named] == [LoopLevel.SUBSCRIBER, LoopLevel.DEPENDENT]


def _child(first_name: str, born: str, code: str) -> dict[str, Any]:
    return {
        "HierarchicalLevel": {"@HL03_": "23"},
        "Name": {
            "Name": {"@NM101_": "03", "@NM103_": "SAMPLE", "@NM104_": first_name},
            "Demographics": {"DMGSegment": {"@DMG02_": born}},
            "EligibilityOrBenefitInformation": {"EligibilityOrBenefitInformation": {"@EB01_": code, "@EB03_": "30"}},
        },
    }


@pytest.mark.parametrize(
    ("children", "coverage"),
    [
        ([("JANE", "19900920", "1"), ("PETER", "19930704", "6")], "active"),
        ([("PETER", "19930704", "1"), ("JANE", "19900920", "6")], "inactive"),
        ([("JANE", "19900920", "1"), ("PETRA", "19900920", "6")], "active"),
        ([("JANE", "19900920", "1"), ("JANE", "19900920", "6")], None),
        ([("PAUL", "19910101", "1"), ("PETER", "19930704", "1")], None),
        ([("PAUL", "19910101", "1")], "active"),
    ],
    ids=["the first", "the second", "twins", "namesakes", "two strangers", "one with another birthday"],
)
def test_of_several_dependents_only_the_one_who_was_asked_about_counts(
    children: list[tuple[str, str, str]], coverage: str | None
) -> None:
    raw = {"DependentDetail": [_child(*child) for child in children]}
    answer = answer_of(section(raw), INQUIRY, "1", NOW)
    if coverage is None:
        assert isinstance(answer, Failure)
        assert answer.code is FailureCode.MEMBER_AMBIGUOUS
    else:
        assert isinstance(answer, Answer)
        assert answer.coverage == coverage


def test_a_very_deep_tree_is_walked() -> None:
    tree: Any = {"@AAA03_": "72"}
    for _ in range(5000):
        tree = {"x": [tree]}
    assert [segment.name for segment in segments(tree, "")] == ["AAA"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(
    [
        "@EB01_X", "@EB03_X", "@EB06_X", "@EB07_X", "@EB08_X", "@EB13_X", "@AAA03_X", "@AAA04_X", "@DTP01_X", "@DTP03_X",
        "@MSG01_X", "@NM101_X",
        "@NM103_X", "@NM109_X", "@DMG02_X", "@INS02_X", "@REF01_X", "@REF02_X", "@REF03_X",
        "@III02_X", "@III04_X", "@HSD02_X", "@NM104_X",
        "@PER03_X", "@PER04_X",
        "@N301_X", "@MPI01_X", "@HI01_X", "@BHT03_X", "@HL03_X",
        "SubscriberDetail", "DependentDetail", "EB03_X", "PPMDResults", "x", "#text",
    ]
)  # fmt: skip
CODES = st.sampled_from(
    ["1", "6", "I", "B", "C", "V", "U", "R", "30", "MH", "72", "42", "23", "29", "100", "0.2", "20260101"]
)
TREES = st.recursive(
    LEAVES | CODES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


@settings(deadline=None, max_examples=examples(300))
@given(TREES, st.dictionaries(st.sampled_from(["eligibility_response", "eligibility_text", "last_checked"]), LEAVES))
def test_no_raw_reply_crashes_and_every_source_is_there(raw: Any, more: dict[str, Any]) -> None:
    answer = answer_of(section(raw, **more), INQUIRY, "1", NOW)
    document = {"s": {"eligibility_id": "1", "last_checked": 1_795_280_340, "raw_response": raw} | more}
    if isinstance(answer, Failure):
        shown = answer.model_dump(mode="json")
    else:
        assert isinstance(answer, Answer)
        shown = derive(answer, INQUIRY, frozenset(), NOW.date()).result.model_dump(mode="json")
    for at in pointers_of(shown):
        jsonpointer.resolve_pointer(document, at)


@settings(deadline=None, max_examples=examples(100))
@given(st.data())
def test_a_damaged_answer_never_crashes(data: st.DataObject) -> None:
    raw = copy.deepcopy(eligible_raw())
    for _ in range(data.draw(st.integers(1, 4))):
        place: Any = raw
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], (dict, list)) or data.draw(st.integers(0, 9)) == 0:
                place[key] = data.draw(LEAVES | CODES | st.lists(CODES, max_size=2))
                break
            place = place[key]
    assert isinstance(answer_of(section(raw), INQUIRY, "1", NOW), (Answer, Failure))


def pointers_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        sources = value.get("sources", [])
        own = sources if isinstance(sources, list) else [at for found in sources.values() for at in found]
        return own + [at for key, inner in value.items() if key != "sources" for at in pointers_of(inner)]
    return [at for inner in value for at in pointers_of(inner)] if isinstance(value, list) else []


def row_of(**more: Any) -> dict[str, Any]:
    return {"SubscriberDetail": {"Rows": [{"EB": {"@EB01_": "1", "@EB03_": "30"}, **more}]}}


def test_group_and_network_inside_a_row() -> None:
    references = [
        {"@REF01_": "1L", "@REF02_": "90123", "@REF03_": "SAMPLE EMPLOYER"},
        {"@REF01_": "N6", "@REF02_": "H0000-001"},
    ]
    plan = concluded(row_of(References=references))["plan"]
    assert (plan["group_number"], plan["group_name"], plan["network_id"]) == ("90123", "SAMPLE EMPLOYER", "H0000-001")


@pytest.mark.parametrize(
    "loops",
    [
        {
            "Loop2120": [
                {
                    "Name": {"@NM101_": "PR", "@NM103_": "SAMPLE HEALTH"},
                    "Contact": {"@PER03_": "UR", "@PER04_": "PAYER.EXAMPLE"},
                },
                {
                    "Name": {"@NM101_": "X3", "@NM103_": "SAMPLE MEDICAL"},
                    "Street": {"@N301_": "2 MAIN ST"},
                    "Contact": {"@PER03_": "WP", "@PER04_": "5550100003", "@PER05_": "FX", "@PER06_": "5550100004"},
                },
            ]
        },
        {
            "Segments": [
                {"@NM101_": "PR", "@NM103_": "SAMPLE HEALTH"},
                {"@PER03_": "UR", "@PER04_": "PAYER.EXAMPLE"},
                {"@NM101_": "X3", "@NM103_": "SAMPLE MEDICAL"},
                {"@N301_": "2 MAIN ST"},
                {"@PER03_": "WP", "@PER04_": "5550100003", "@PER05_": "FX", "@PER06_": "5550100004"},
            ]
        },
    ],
)
def test_two_entities_of_a_row_each_have_their_own_contacts(loops: dict[str, Any]) -> None:
    (row,) = read_response(row_of(**loops), "/raw").rows
    payer, manager = row.entities
    assert (payer.website.value, payer.phone.value, payer.address.value) == ("PAYER.EXAMPLE", None, None)
    assert (manager.phone.value, manager.fax.value, manager.website.value) == ("5550100003", "5550100004", None)
    assert manager.address.value is not None and manager.address.value.line1 == "2 MAIN ST"


def test_a_contact_that_may_be_of_either_entity_is_nobodys() -> None:
    names = [{"@NM101_": "PR", "@NM103_": "A"}, {"@NM101_": "X3", "@NM103_": "B"}]
    (row,) = read_response(row_of(Names=names, Contact={"@PER03_": "TE", "@PER04_": "5550100003"}), "/raw").rows
    assert [entity.phone.value for entity in row.entities] == [None, None]


def test_first_name_count_and_other_limits_of_a_row() -> None:
    (row,) = read_response(
        row_of(
            Name={"@NM101_": "P3", "@NM103_": "JONES", "@NM104_": "CAMERON"},
            DeliveryPattern={"@HSD01_": "VS", "@HSD02_": "20", "@HSD05_": "34", "@HSD06_": "12"},
            Where=[{"@III01_": "ZZ", "@III02_": "11"}, {"@III01_": "NI", "@III04_": "AUTO ACCIDENT"}],
        ),
        "/raw",
    ).rows
    assert [entity.first_name.value for entity in row.entities] == ["CAMERON"]
    assert [(one.hsd01.value, one.hsd02.value, one.hsd06.value) for one in row.deliveries] == [("VS", "20", "12")]
    assert [place.value for place in row.places] == ["11"]
    assert [limit.value for limit in row.limits] == ["AUTO ACCIDENT"]


@pytest.mark.parametrize(
    ("description", "number"), [("EVC NUMBER", "25291M1"), ("evc number", "25291M1"), (None, None), ("OTHER", None)]
)
def test_the_payers_number_of_the_inquiry(description: str | None, number: str | None) -> None:
    tree = row_of()
    tree["SubscriberDetail"]["Ref"] = {"@REF01_": "NQ", "@REF02_": "25291M1", "@REF03_": description}
    assert concluded(tree)["references"]["verification_number"] == number


def test_the_transactions_own_number_if_there_is_no_trace() -> None:
    header = {"Header": {"BHTSegment": {"@BHT03_": "Prod1"}}}
    assert concluded(header | row_of())["references"]["trace_number"] == "Prod1"
    traced = header | row_of()
    traced["SubscriberDetail"]["Trace"] = {"@TRN01_": "1", "@TRN02_": "T-1"}
    assert concluded(traced)["references"]["trace_number"] == "T-1"


def test_military_service_and_diagnosis_are_notes() -> None:
    tree = row_of()
    tree["SubscriberDetail"]["More"] = [{"@MPI01_": "C", "@MPI02_": "AO"}, {"@HI01_": "BK:F411"}]
    assert {"Military service (MPI): C AO", "Diagnosis (HI): BK:F411"} <= set(concluded(tree)["notes"])


def test_a_request_with_two_pictures_of_the_card_fits() -> None:
    pictures = {"card_front": "x" * 100_000, "card_back": "x" * 100_000}
    assert len(orjson.dumps(VSeeOptions(**pictures).model_dump())) < MOST_BODY_BYTES * 4 // 5
    with pytest.raises(ValidationError):
        VSeeOptions(card_front="x" * 100_001)
