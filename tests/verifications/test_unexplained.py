"""A status that no document explains: a person hears of it once, an hour after the submission, and the vendor is asked on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.sohar import READ, REF, SUBMIT
from tests.support.wire import Wire


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (201, {"verificationId": REF})).on(READ, (200, answer("error.system.limit")))


@pytest.mark.parametrize("status", ["error.system.limit", "complete.partially"])
async def test_a_person_hears_of_it_once(engine: Engine, wire: Wire, status: str) -> None:
    wire.on(READ, (200, answer(status)))
    id_ = await submitted(engine)
    await engine.step()
    assert await engine.events() == []
    await an_hour_later(engine)
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "vendor")
    assert await engine.events() == ["verification.needs_attention"]
    assert await engine.timeline(id_) == ["created", "submitted", "checked", "checked", "needs_attention"]
    told = (await engine.entries(id_))[-1]["message"]
    assert told == f"the vendor's status is {status}, which no document explains: a person should ask the vendor"
    for _ in range(2):
        await at_once(engine)
        await engine.step()
    assert await engine.events() == ["verification.needs_attention"]
    wire.on(READ, (200, answer("complete.eligible")))
    await at_once(engine)
    await engine.step()
    assert (await engine.view(id_))["outcome"] == "eligible"


async def test_it_is_looked_at_in_time(engine: Engine) -> None:
    """The next look would be long after the hour, for the vendor is slow by now."""
    id_ = await submitted(engine)
    await engine.run_sql("UPDATE work SET checks = 50")
    await engine.run_sql("UPDATE work SET submitted_at = now() - interval '50 minutes'")
    await engine.step()
    assert await engine.events() == []
    view = await engine.view(id_)
    due = datetime.fromisoformat(view["next_check_at"])
    [row] = await engine.rows("SELECT submitted_at FROM work")
    assert abs(due - row.submitted_at - timedelta(hours=1)) < timedelta(seconds=1)


async def test_a_status_that_becomes_odd_later_is_told_at_once(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (200, answer("pending")))
    await submitted(engine)
    await an_hour_later(engine)
    await engine.step()
    assert await engine.events() == []
    wire.on(READ, (200, answer("error.system.limit")))
    await at_once(engine)
    await engine.step()
    assert await engine.events() == ["verification.needs_attention"]


async def test_an_outage_in_between_changes_nothing(engine: Engine, wire: Wire) -> None:
    id_ = await submitted(engine)
    wire.on(READ, (503, {}), (200, answer("error.system.limit")), (503, {}), (200, answer("error.system.limit")))
    await an_hour_later(engine)
    for _ in range(4):
        await at_once(engine)
        await engine.step()
    assert await engine.events() == ["verification.needs_attention"]
    assert (await engine.timeline(id_)).count("needs_attention") == 1


async def test_what_is_no_word_is_not_repeated(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (200, answer("Jane-Sample-1990")))
    id_ = await submitted(engine)
    await an_hour_later(engine)
    await engine.step()
    assert "the vendor's status is not a word" in (await engine.entries(id_))[-1]["message"]


def answer(status: str) -> dict[str, Any]:
    return {"verificationId": REF, "status": status}


async def submitted(engine: Engine) -> str:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    return id_


async def an_hour_later(engine: Engine) -> None:
    await engine.run_sql("UPDATE work SET submitted_at = submitted_at - interval '1 hour'")
    await at_once(engine)


async def at_once(engine: Engine) -> None:
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now()")
