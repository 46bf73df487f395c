"""The database goes away around a submission: nothing that was paid is lost, and nobody is asked what can be known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import make_url

from covergate.db.sealing import Sealer
from covergate.gateway import Gateway
from covergate.verifications import conversation
from tests.support.engine import Engine, running_engine
from tests.support.postgres import opened_database
from tests.support.relay import Relay, relaying
from tests.support.sql import run_sql
from tests.support.wire import SUBMIT, Wire


@dataclass
class Far:
    """An engine with a network between it and its database; `near` is a gateway beside that database."""

    engine: Engine
    near: Gateway
    relay: Relay


@pytest.fixture
async def far(gateway: Gateway, postgres_url: str, database_url: str, sealer: Sealer, wire: Wire) -> AsyncIterator[Far]:
    async with relaying(postgres_url) as relay:
        url = relay.url(make_url(database_url).database or "")
        async with opened_database(url, sealer) as database:
            distant = Gateway(gateway.settings, database, gateway.connections)
            async with running_engine(distant, wire) as engine:
                yield Far(engine, gateway, relay)


@pytest.mark.parametrize("another_comes", [False, True])
async def test_an_intent_whose_acknowledgement_is_lost_is_no_submission_of_unknown_fate(
    far: Far, engine: Engine, wire: Wire, another_comes: bool
) -> None:
    """The connection breaks when the intent is on disk and before anybody is told; another worker may look at it then."""

    async def intended() -> bool:
        if not await run_sql(far.near, "SELECT 1 FROM attempts WHERE state = 'submitting'"):
            return False
        if another_comes:
            await engine.advance(key)
        return True

    id_ = await far.engine.create()
    key = await far.engine.take()
    far.relay.reply_lost = intended
    await far.engine.advance(key)
    assert far.relay.reply_lost is None
    view = await far.engine.view(id_)
    assert (view["attempts"][0]["state"], wire.calls) == ("waiting", [SUBMIT])
    seen = ["submission_in_flight"] if another_comes else []
    assert await far.engine.timeline(id_) == ["created", *seen, "submitted"]


async def test_an_intent_that_was_confirmed_too_late_is_taken_back(
    far: Far, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away for so long that the call must not be made any more: nothing was sent, and that is known."""

    async def intended() -> bool:
        return bool(await run_sql(far.near, "SELECT 1 FROM attempts WHERE state = 'submitting'"))

    id_ = await far.engine.create()
    key = await far.engine.take()
    far.relay.reply_lost = intended
    monkeypatch.setattr(conversation, "SEND_WITHIN", 0.0)
    await far.engine.advance(key)
    view = await far.engine.view(id_)
    assert (view["attempts"][0]["state"], view["waiting_for"]["kind"], wire.calls) == ("preparing", "vendor_retry", [])
    monkeypatch.undo()
    await far.engine.step()
    assert ((await far.engine.view(id_))["attempts"][0]["state"], wire.calls) == ("waiting", [SUBMIT])
