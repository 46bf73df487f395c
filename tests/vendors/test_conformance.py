"""Every vendor's cases: `tests/vendors/<name>/*.json`, one case a file, run through the vendor's own flows.

A file may be `"like"` another and say only what differs: `tests/support/cases.py` has the rules. In full, a case is one of

    {"title", "flow": "submit" | "check" | "find", "ref", "question", "not_asked", "first_exchange", "exchanges", "progress"}
    {"title", "question", "missing": [pointer, …]}
    {"title", "event": {"method", "path", "query", "headers", "body" | "text"}, "events": [{"dedupe_key", "kind", …, "said"?}]}

`question`: `inquiry` as in docs/api.md#2-the-request, `options`, `connection` (overrides), `attempt_id`, `patient_key`, `now`,
`submitted_at`, `checks`, `look_ups`, `payer_codes`; all but the inquiry optional.

`exchanges`: `{"call": {…}, "reply": {"status", "headers", "body" | "text"}}`. A call lists what it has of method, path, json,
form, multipart, params, headers and commits, and nothing else; it is compared exactly. The first exchange stands at
`/exchanges/<first_exchange>` in the raw document (default 0).

`progress`: `{"pending": {"ref", "again_in", "unexplained"}}` (seconds), `{"refused": {"code", …}}`,
`{"not_found": {"proven"}}`, `{"not_yet": {"again_in"}}`, `{"raises": "VendorBroken"}`, or `{"answered": {"outcome", "reason",
"ref", "result"}}`, what `derive` makes of the answer.
Objects in `refused` and `result` are compared by the keys that the case names, at every depth; lists by all their elements.
`"complete": true` beside `result` compares it whole, but for the wording of its warnings.

Whatever a case says, each pointer in `sources` must resolve in the raw document, and each number must equal what it points at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import jsonpointer
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.cli.vendor_template import left_to_fill_in
from covergate.eligibility.derive import derive
from covergate.eligibility.inquiry import today_eastern
from covergate.vendors import VENDORS, errors
from covergate.vendors.event import Inbound
from covergate.vendors.flow import Answered, Call, NotFound, NotYet, Pending, Refused, Reply, drive
from covergate.vendors.vendor import Recovery, Vendor
from tests.support.cases import case_names, read_case, read_patch, repeated
from tests.support.examples import examples
from tests.support.flows import flow, question, reply
from tests.support.parts import check_types

HERE = Path(__file__).parent
CASES = [(vendor, name, read_case(vendor, name)) for vendor, name in case_names()]


def cases(kind: str) -> pytest.MarkDecorator:
    chosen = [(vendor, case) for vendor, _, case in CASES if kind in case]
    names = [f"{vendor}-{stem}" for vendor, stem, case in CASES if kind in case]
    return pytest.mark.parametrize(("vendor", "case"), chosen, ids=names)


@cases("progress")
def test_flow(vendor: str, case: dict[str, Any]) -> None:
    told = question(VENDORS[vendor], case["question"])
    first = case.get("first_exchange", 0)
    replies = [
        reply(exchange["reply"], first + index, told.now) for index, exchange in enumerate(case.get("exchanges", []))
    ]
    expected_calls = [exchange["call"] for exchange in case.get("exchanges", [])]
    if "not_asked" in case:
        assert sorted(VENDORS[vendor].asked_nothing_of(told.inquiry, told.today)) == sorted(case["not_asked"])

    if "raises" in case["progress"]:
        with pytest.raises(getattr(errors, case["progress"]["raises"])):
            drive(flow(VENDORS[vendor], case, told), replies)
        return
    calls, progress = drive(flow(VENDORS[vendor], case, told), replies)
    assert [shown(call) for call in calls] == expected_calls
    ((kind, expected),) = case["progress"].items()
    match progress:
        case Pending(ref=ref, again_in=again_in):
            seen: dict[str, Any] = {"ref": ref, "again_in": again_in.total_seconds()}
            if progress.unexplained is not None:
                seen["unexplained"] = progress.unexplained
            assert ("pending", seen) == (kind, expected)
        case Refused(failure=failure):
            assert kind == "refused"
            assert "code" in expected
            compare(failure.model_dump(mode="json"), expected, "failure")
            check_sources(failure.model_dump(mode="json"), raw(replies, first))
        case NotFound(proven=proven):
            assert ("not_found", {"proven": proven}) == (kind, expected)
        case NotYet(again_in=again_in):
            assert again_in > timedelta(0)
            assert ("not_yet", {"again_in": again_in.total_seconds()}) == (kind, expected)
        case Answered(answer=answer):
            assert kind == "answered"
            not_asked = VENDORS[vendor].asked_nothing_of(told.inquiry, told.today)
            conclusion = derive(answer, told.inquiry, not_asked, today_eastern(told.now))
            check_types(answer)
            check_types(conclusion.result)
            result = conclusion.result.model_dump(mode="json")
            check_sources(result, raw(replies, first))
            assert (conclusion.outcome, conclusion.reason) == (expected["outcome"], expected["reason"])
            if "ref" in expected:
                assert progress.ref == expected["ref"]
            if expected.get("complete"):
                assert {**result, "warnings": []} == {**expected["result"], "warnings": []}
            compare(result, expected["result"], "result")
        case _:
            pytest.fail(f"the replies ran out: {progress!r}")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates cannot come out of a JSON parser.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["", "18", "-1", "1e9", "12/31/2026"]),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.sampled_from(["", "a", "~", "/"]), children, max_size=2)
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_no_reply_breaks_a_flow(vendor: Vendor) -> None:
    """A part of an answer replaced by anything: the flow still ends in a progress or a typed error, and points rightly."""
    answered = [
        case
        for name, _, case in CASES
        if name == vendor.name
        and "answered" in case.get("progress", {})
        and all("body" in exchange["reply"] for exchange in case["exchanges"])
    ]

    @settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        case = data.draw(st.sampled_from(answered))
        bodies = [exchange["reply"]["body"] for exchange in case["exchanges"]]
        odd = data.draw(st.sampled_from(list(places(bodies, ()))))
        bodies = replaced(bodies, odd, data.draw(JSON))
        told = question(vendor, case["question"])
        first = case.get("first_exchange", 0)
        replies = [
            reply({**exchange["reply"], "body": body}, first + index, told.now)
            for index, (exchange, body) in enumerate(zip(case["exchanges"], bodies, strict=True))
        ]
        try:
            _, progress = drive(flow(vendor, case, told), replies)
        except errors.VendorError:
            return
        if isinstance(progress, Refused):
            check_sources(progress.failure.model_dump(mode="json"), raw(replies, first))
        if isinstance(progress, Answered):
            not_asked = vendor.asked_nothing_of(told.inquiry, told.today)
            conclusion = derive(progress.answer, told.inquiry, not_asked, told.today)
            orjson.dumps(conclusion.result.model_dump(mode="json"))
            check_sources(conclusion.result.model_dump(mode="json"), raw(replies, first))

    run()


def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced: every element of every list and object, at every depth."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*path, key)
        yield from places(member, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


@cases("missing")
def test_missing_fields(vendor: str, case: dict[str, Any]) -> None:
    told = question(VENDORS[vendor], case["question"])
    found = VENDORS[vendor].missing_fields(told.inquiry, told.options, told.payer_codes)
    assert sorted(missing.pointer for missing in found) == sorted(case["missing"])


@cases("event")
def test_event(vendor: str, case: dict[str, Any]) -> None:
    sent = case["event"]
    inbound = Inbound(
        method=sent.get("method", "POST"),
        path=sent.get("path", f"/v1/vendor-events/{vendor}"),
        query=sent.get("query", ""),
        headers=sent.get("headers", {}),
        body=sent["text"].encode() if "text" in sent else orjson.dumps(sent["body"]),
    )
    read_event = VENDORS[vendor].read_event
    assert read_event is not None
    seen = [
        {
            "dedupe_key": event.dedupe_key,
            "kind": event.kind,
            "ref": event.ref,
            "echo": event.echo,
            "wakes": event.wakes,
            **({} if event.said is None else {"said": event.said}),
        }
        for event in read_event(inbound)
    ]
    assert seen == case["events"]


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_vendor_has_the_cases_it_needs(vendor: Vendor) -> None:
    own = [case for name, _, case in CASES if name == vendor.name]
    kinds = {kind for case in own for kind in case.get("progress", {})}
    needed = {"answered", "refused"} | ({"pending"} if vendor.check is not None else set())
    lacking = sorted(needed - kinds)
    if not any("progress" in case and case["question"]["inquiry"].get("subscriber") for case in own):
        lacking.append("a dependent")
    if vendor.find is not None:
        found = _progress_of(own, "find")
        lacking += [] if "not_found" in found else ["find: not_found"]
        lacking += [] if found - {"not_found", "not_yet", "raises"} else ["find: something found"]
    if vendor.read_event is not None and not any("event" in case for case in own):
        lacking.append("an event")
    if vendor.recovery is Recovery.EVENT and not any(event["echo"] for case in own for event in case.get("events", [])):
        lacking.append("an event that carries our id: without one a lost reply is not found again")
    if vendor.required_fields and not any(case.get("missing") for case in own):
        lacking.append("missing fields")
    assert not lacking, f"tests/vendors/{vendor.name} lacks cases: {', '.join(lacking)}"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_case_that_is_like_another_says_only_what_differs(vendor: str) -> None:
    wrong = []
    for name in [name for of, name, _ in CASES if of == vendor]:
        patch = read_patch(vendor, name)
        if "like" not in patch:
            continue
        base = read_case(vendor, patch.pop("like"))
        wrong += [f"{name} says again what it is like: {pointer}" for pointer in repeated(base, patch)]
        if "title" not in patch:
            wrong.append(f"{name} has no title of its own")
        if not patch.keys() - {"title"}:
            wrong.append(f"{name} differs in nothing")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_to_fill_in() -> None:
    """`covergate vendors new` leaves a mark wherever a fact of the vendor is missing."""
    left = left_to_fill_in(HERE.parents[1])
    assert not left, "left to fill in:\n" + "\n".join(left)


def test_every_folder_of_cases_is_a_vendor() -> None:
    assert {name for name, _, _ in CASES} == set(VENDORS)


def _progress_of(own: list[dict[str, Any]], flow_name: str) -> set[str]:
    return {kind for case in own if case.get("flow") == flow_name for kind in case["progress"]}


def shown(call: Call) -> dict[str, Any]:
    """The call as a case writes it: nothing that it does not have."""
    found: dict[str, Any] = {"method": call.method, "path": call.path}
    for name in ("json", "form", "params", "headers"):
        value = getattr(call, name)
        if value is not None:
            found[name] = dict(value) if isinstance(value, Mapping) else value
    for name in ("multipart", "commits"):
        if getattr(call, name):
            found[name] = True
    return found


def raw(replies: list[Reply], first: int) -> dict[str, Any]:
    """The document that `sources` point into (docs/api.md#1-routes, `/raw`)."""
    earlier: list[dict[str, Any]] = [{"body": None}] * first
    return {
        "exchanges": [
            *earlier,
            *(
                {"status": reply.status, "body": reply.body, "text": None if reply.body else reply.content.decode()}
                for reply in replies
            ),
        ]
    }


def compare(seen: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(seen, dict), f"{where}: {seen!r} is not {expected!r}"
        for key, value in expected.items():
            assert key in seen, f"{where}/{key} is absent"
            compare(seen[key], value, f"{where}/{key}")
    elif isinstance(expected, list):
        assert isinstance(seen, list), f"{where}: {seen!r} is not {expected!r}"
        assert len(seen) == len(expected), f"{where}: {len(seen)} elements, not {len(expected)}: {seen!r}"
        for index, (one, other) in enumerate(zip(seen, expected, strict=True)):
            compare(one, other, f"{where}/{index}")
    else:
        assert seen == expected, f"{where}: {seen!r} is not {expected!r}"


NUMBERS = {"amount", "percent", "total", "used", "remaining"}


def check_sources(document: Any, raw_document: dict[str, Any]) -> None:
    for row in rows_with_sources(document):
        sources = row["sources"]
        if isinstance(sources, list):
            for pointer in sources:
                resolve(raw_document, pointer)
            continue
        for name, source in sources.items():
            # A value that a phrase gives names the phrase beside its pointers.
            pointers = source["pointers"] if isinstance(source, dict) else source
            assert name in row, f"sources name {name}, which the row does not have"
            assert row[name] not in (None, [], ""), f"sources name {name}, which is not stated"
            values = [resolve(raw_document, pointer) for pointer in pointers]
            if name in NUMBERS:
                assert numbers_agree(row[name], values), f"{name} is {row[name]} but {pointers} say {values}"
        unsourced = {name for name in NUMBERS & row.keys() if row[name] is not None} - sources.keys()
        assert not unsourced, f"{sorted(unsourced)} without sources: {row}"


def rows_with_sources(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        if "sources" in document:
            yield document
        for value in document.values():
            yield from rows_with_sources(value)
    elif isinstance(document, list):
        for value in document:
            yield from rows_with_sources(value)


def resolve(document: Any, pointer: str) -> Any:
    """A JSON pointer; `#` enters a string that holds JSON."""
    path, hash_sign, rest = pointer.partition("#")
    value = jsonpointer.resolve_pointer(document, path)
    return resolve(orjson.loads(value), rest) if hash_sign else value


def numbers_agree(value: str | float, pointed: list[Any]) -> bool:
    """Equal after a unit conversion (fraction to percent, cents to dollars) or a subtraction; never below zero."""
    number = Decimal(str(value))
    stated = [found for found in map(decimal, pointed) if found is not None]
    readings = {amount * unit for amount in stated for unit in (Decimal(1), Decimal(100), Decimal("0.01"))}
    readings |= {one - other for one in stated for other in stated}
    return number in {max(reading, Decimal(0)) for reading in readings}


def decimal(value: Any) -> Decimal | None:
    """A number as vendors write it, or people say it; None for a value that only qualifies one, such as a code."""
    text = str(value)
    if text.casefold() in ("met", "no deductible"):
        return Decimal(0)
    if said := re.fullmatch(r"(\$?[0-9][0-9,.]*%?) [a-z, -]+", text):
        text = said[1]
    for sign in "$%, ":
        text = text.replace(sign, "")
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
