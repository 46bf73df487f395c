"""Our own code fails on a reply that was paid for: the reply is kept, and interpreted again once the mistake is mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from covergate.vendors import VENDORS
from covergate.vendors.flow import Answered, Flow, Pending, Question
from covergate.verifications.queries import read_raw
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.wire import POLL, SUBMIT, Wire

INTEGREX = VENDORS["integrex"]


def failing(question: Question) -> Flow:
    """Takes the reply for something it is not."""
    yield from _committing(question)
    raise AssertionError("a mistake of ours")


def answering_nonsense(question: Question) -> Flow:
    """`derive` fails on what it returns."""
    yield from _committing(question)
    nonsense: Any = None
    return Answered(nonsense)


def going_on(question: Question) -> Flow:
    """Has a call after the committing one."""
    yield from _committing(question)
    yield from _committing(question)
    return Pending("1", INTEGREX.find_delay)


def _committing(question: Question) -> Any:
    flow = INTEGREX.submit(question)
    yield next(flow)
    flow.close()


@pytest.mark.parametrize("mistaken", [failing, answering_nonsense, going_on])
async def test_a_reply_that_our_code_fails_on_is_kept_and_interpreted_again(
    engine: Engine, wire: Wire, monkeypatch: pytest.MonkeyPatch, mistaken: Callable[[Question], Flow]
) -> None:
    monkeypatch.setitem(VENDORS, "integrex", replace(INTEGREX, submit=mistaken))
    id_ = await engine.create()
    for _ in range(2):
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "vendor_retry")
    assert view["attempts"][0]["submitted_at"] is not None
    entries = await engine.entries(id_)
    assert [entry["message"] for entry in entries[1:]] == [
        "internal_error (error 1 in a row)",
        "internal_error (error 2 in a row)",
    ]
    raw = await read_raw(engine.gateway, CALLER, id_)
    [exchange] = orjson.loads(orjson.dumps(raw))["exchanges"]
    assert (exchange["call"], exchange["body"]) == (SUBMIT, {"id": "1234567890987654321"})
    monkeypatch.setitem(VENDORS, "integrex", INTEGREX)
    await engine.step()
    view = await engine.view(id_)
    assert (view["attempts"][0]["state"], view["attempts"][0]["vendor_ref"]) == ("waiting", "1234567890987654321")
    await engine.step()
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    assert wire.calls == [SUBMIT, POLL, POLL]
