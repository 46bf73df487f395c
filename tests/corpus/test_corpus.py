"""Each sample is read as a biller reads it, whatever the order of its rows and whatever else stands beside them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import jsonpointer
import orjson
import pytest
from pydantic import BaseModel

from covergate.eligibility import derive
from covergate.eligibility.part import ResultPart
from covergate.eligibility.phrases import Book, apply_phrases
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Program, WarningCode
from tests.corpus.page import PAGE, page
from tests.corpus.reading import NETWORKS, differences, null_cells, reading
from tests.corpus.record import RECORD, changed, record
from tests.corpus.samples import Read, Sample, names, read, sample, with_block, with_rows
from tests.support.examples import examples
from tests.support.parts import check_types

SAMPLES = {name: sample(name) for name in names()}
each_sample = pytest.mark.parametrize("one", SAMPLES.values(), ids=SAMPLES)
each_answer = pytest.mark.parametrize(
    "one", [one for one in SAMPLES.values() if "failure" not in one.biller], ids=lambda one: one.name
)

BLOCKS = {
    "dental": (
        {"35", "23", "24", "25", "26", "27", "28", "36", "37", "38", "39", "40", "41"},
        [
            "EB*1**35**SAMPLE BRIGHT SMILES",
            "EB*C*IND*35**SAMPLE BRIGHT SMILES*23*75*****Y",
            "EB*C*IND*35**SAMPLE BRIGHT SMILES*29*75*****Y",
            "EB*A*IND*35**SAMPLE BRIGHT SMILES*27**.2****Y",
        ],
    ),
    "vision": (
        {"AL", "AM", "AN", "AO"},
        [
            "EB*1**30**SAMPLE VISION PLAN",
            "EB*1**AL**SAMPLE VISION PLAN",
            "EB*B*IND*AL**SAMPLE VISION PLAN*27*15*****Y",
            "EB*G*IND*30**SAMPLE VISION PLAN*23*0*****Y",
            "EB*G*FAM*30**SAMPLE VISION PLAN*23*0*****Y",
        ],
    ),
    "pharmacy": (
        {"88", "89", "90", "91", "92", "BW", "BX"},
        [
            "EB*1**88**SAMPLE DRUG PLAN",
            "EB*C*IND*88**SAMPLE DRUG PLAN*23*200*****Y",
            "EB*B*IND*88**SAMPLE DRUG PLAN*27*10*****Y",
        ],
    ),
}
"""Plans that have nothing to do with an asked service, unless it is one of these service types."""


@each_sample
def test_the_reading_is_the_billers(one: Sample) -> None:
    assert differences(one.biller, reading(read(one))) == []


@each_answer
def test_every_null_is_explained(one: Sample) -> None:
    derived = read(one).derived
    assert derived is not None
    why = {path: reason.value for path, reason in derived.result.summary.why_null.items()}
    assert [path for path in null_cells(derived.result) if path not in why] == []
    assert {path: why.get(path) for path in one.why_null} == one.why_null


@each_answer
def test_the_order_of_the_rows_changes_only_sources(one: Sample) -> None:
    def shuffled(rows: list[Any]) -> list[Any]:
        return random.Random(len(rows)).sample(rows, len(rows))

    stated = _but_for_sources(read(one))
    assert _but_for_sources(read(with_rows(one, shuffled))) == stated
    assert _but_for_sources(read(with_rows(one, lambda rows: rows[::-1]))) == stated


def _but_for_sources(found: Read) -> Any:
    derived = found.derived
    assert derived is not None
    return _without_sources([derived.outcome, derived.reason, derived.result.model_dump(mode="json")])


def _without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_sources(part) for key, part in value.items() if key != "sources"}
    return [_without_sources(part) for part in value] if isinstance(value, list) else value


@each_answer
@pytest.mark.parametrize("kind", BLOCKS)
def test_another_plan_changes_no_cell_of_the_asked_service(one: Sample, kind: str) -> None:
    services, block = BLOCKS[kind]
    if services & set(one.asked.get("service_type_codes", [])):
        pytest.skip("this is what was asked")
    before, after = reading(read(one)), reading(read(with_block(one, block)))
    assert {key: after[key] for key in _MEDICAL} == {key: before[key] for key in _MEDICAL}


@each_answer
def test_without_the_phrase_book_amounts_can_only_be_null(one: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = read(one)
    monkeypatch.setattr(derive, "apply_phrases", partial(apply_phrases, book=Book()))
    without_it = read(one)
    assert with_it.derived is not None and without_it.derived is not None
    stated = dict(_amounts(with_it.derived.result.summary.model_dump(mode="json")))
    left = dict(_amounts(without_it.derived.result.summary.model_dump(mode="json")))
    assert left.items() <= stated.items()


def _amounts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers in it that are stated, each by its path."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _amounts(part, f"{path}/{name}") if name not in ("sources", "why_null") else ()
    elif path.rpartition("/")[2] in (
        "copay",
        "coinsurance_percent",
        "total",
        "used",
        "remaining",
        "effective_remaining",
    ):
        yield from [(path, value)] if value is not None else ()


@each_answer
def test_every_value_is_of_its_fields_type(one: Sample) -> None:
    found = read(one)
    assert found.derived is not None
    check_types(found.derived.result)


def test_nothing_changes_what_all_parts_share() -> None:
    """A part without a stated list has the one list of its class: whoever added to it would add to every result."""
    before = {part: copy.deepcopy(part.not_stated) for part in _parts(ResultPart)}
    for one in SAMPLES.values():
        read(one)
    assert {part: part.not_stated for part in before} == before
    assert len(before) > 20


def _parts(part: type[ResultPart]) -> list[type[ResultPart]]:
    return [one for below in part.__subclasses__() for one in (below, *_parts(below))]


@each_answer
def test_every_source_leads_to_the_value(one: Sample) -> None:
    found = read(one)
    assert found.derived is not None
    wrong = [
        f"{field} is {value!r}, but {pointer} says {pointed!r}"
        for field, value, pointers in _sourced(found.derived.result)
        for pointer, pointed in [(" ".join(pointers), [_resolved(found.raw, at) for at in pointers])]
        if not _agrees(value, pointed)
    ]
    assert wrong == []


def _sourced(part: Any) -> Iterator[tuple[str, Any, list[str]]]:
    """Field, value and pointers of all that has sources."""
    if isinstance(part, BaseModel):
        sources = getattr(part, "sources", None)
        if isinstance(sources, dict):
            yield from ((field, getattr(part, field, None), pointers_at(sources, field)) for field in sources)
        elif isinstance(sources, list):
            yield "sources", None, sources
        for field in type(part).model_fields:
            yield from _sourced(getattr(part, field))
    elif isinstance(part, list):
        for one in part:
            yield from _sourced(one)


def _resolved(document: Any, pointer: str) -> Any:
    path, hash_sign, rest = pointer.partition("#")
    value = jsonpointer.resolve_pointer(document, path)
    return _resolved(orjson.loads(value), rest) if hash_sign else value


def _agrees(value: Any, pointed: list[Any]) -> bool:
    """Numbers and days as stated, as a percentage or a difference; anything else has been given a word of ours."""
    if isinstance(value, Decimal):
        numbers = [number for number in map(_number, pointed) if number is not None]
        readings = {number * unit for number in numbers for unit in (1, 100)}
        readings |= {max(one - other, Decimal(0)) for one in numbers for other in numbers}
        return value in readings
    if isinstance(value, date):
        return any(f"{value:%Y%m%d}" in str(text) or value.isoformat() in str(text) for text in pointed)
    return bool(pointed) or value is None


def _number(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


OTHERS: dict[str, dict[str, Any]] = {
    "the plan": {"service_type_codes": ["30"]},
    "primary care": {"service_type_codes": ["98"], "place_of_service_code": "11", "specialty": "PRC"},
    "psychotherapy by video": {"procedure_codes": ["90837"], "place_of_service_code": "02", "specialty": "PSY"},
    "urgent care": {"service_type_codes": ["UC"], "place_of_service_code": "20", "specialty": "UGC"},
    "imaging": {"service_type_codes": ["62"], "procedure_codes": ["70551"], "place_of_service_code": "22"},
    "a stay": {"service_type_codes": ["48"], "place_of_service_code": "21"},
}
"""Questions that any of the answers may be asked; nobody has written down what a biller reads for each."""

REPLIES = {orjson.dumps(one.reply): one for one in SAMPLES.values() if "failure" not in one.biller}


@pytest.mark.parametrize("asked", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("one", REPLIES.values(), ids=lambda one: one.name)
def test_any_other_question_is_answered_with_the_same_care(one: Sample, asked: dict[str, Any]) -> None:
    of_person = {name: value for name, value in one.asked.items() if name in ("date", "npi", "of_a_dependent")}
    other = replace(one, asked=of_person | asked)
    found = read(other)
    assert found.derived is not None
    result = found.derived.result
    warned = {warning.code for warning in result.warnings}
    # What contradicts itself does so whatever is asked.
    assert (WarningCode.CONFLICTING_AMOUNTS in warned) == ("conflicting_amounts" in one.biller["warnings"]["expected"])
    assert [path for path in null_cells(result) if path not in result.summary.why_null] == []
    assert all(_agrees(value, [_resolved(found.raw, at) for at in pointers]) for _, value, pointers in _sourced(result))
    assert _but_for_sources(read(with_rows(other, lambda rows: rows[::-1]))) == _but_for_sources(found)
    if not any(plan.program in _OTHER_LINES for plan in result.plans):
        before = reading(found)
        for _, block in _beside(one, asked):
            after = reading(read(with_block(other, block)))
            assert {name: after[name] for name in _MEDICAL} == {name: before[name] for name in _MEDICAL}


def _beside(one: Sample, asked: dict[str, Any]) -> list[tuple[set[str], list[str]]]:
    """One plan in turn, so that each stands beside each answer at two of the questions; all of them in `make fuzz`."""
    blocks = list(BLOCKS.values())
    turn = (list(OTHERS.values()).index(asked) + len(one.name)) % len(blocks)
    return [*blocks[turn:], *blocks[:turn]][: examples(1)]


_OTHER_LINES = (Program.DENTAL, Program.VISION, Program.PHARMACY)
_MEDICAL = ("outcome", "outcome_reason", "coverage", "bill_to", "plan", "service", *NETWORKS)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "python -m tests.corpus --write"


def test_rules_that_read_anything_differently_have_another_name() -> None:
    now, recorded = record(), RECORD.read_text()
    assert changed(now, recorded) == [], "raise MAPPING_VERSION"
    assert recorded == now, "python -m tests.corpus --write"


def test_people_are_invented() -> None:
    wrong = [
        f"{one.name}: {segment}"
        for one in SAMPLES.values()
        for segment in one.reply.get("segments", [])
        if segment.startswith(("NM1*IL", "NM1*03")) and segment.split("*")[3] not in ("SAMPLE", "MUESTRA NUÑEZ")
    ]
    assert wrong == []
