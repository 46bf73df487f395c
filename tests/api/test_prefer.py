from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request

from covergate.api.http import wait_seconds
from covergate.api.waiters import Waiters
from covergate.gateway import Gateway
from tests.support.clients import Body, Keys, Rows
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["wait=10"], 10),
        (["Wait=10"], 10),
        (["wait = 10"], 10),
        (['wait="10"'], 10),
        (["wait=0"], 0),
        (["wait=007"], 7),
        (["wait=61"], 60),
        (["wait=" + "9" * 6000], 60),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5; strict=true, return=minimal"], 5),
        (["wait=5, wait=9"], 5),
        (['note="wait=9, wait=8", wait=5'], 5),
        (["foo; wait=9, wait=5"], 5),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon, wait=5"], 5),
        (["wait=１"], None),
        (['wait="10'], None),
        (["wait=10s"], None),
    ],
)
def test_what_wait_means(headers: list[str], seconds: int | None) -> None:
    raw = [(b"prefer", header.encode()) for header in headers]
    assert wait_seconds(Request({"type": "http", "headers": raw})) == seconds


async def test_an_end_whose_notification_was_lost_is_seen_when_the_wait_is_over(
    client: httpx.AsyncClient, app: FastAPI, keys: Keys, body: Body, rows: Rows
) -> None:
    waiting = asyncio.create_task(
        client.post("/v1/verifications", json=body(), headers={**keys.full, "prefer": "wait=2"})
    )
    [created] = await eventually(lambda: rows("SELECT id FROM verifications"))
    await eventually(lambda: app.state.waiters._events.get(created.id))
    await rows(
        "WITH w AS (DELETE FROM work RETURNING attempt_id) UPDATE verifications"
        " SET status = 'canceled', completed_at = clock_timestamp(), attempt_id = w.attempt_id FROM w"
    )
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert answer.headers["preference-applied"] == "wait=2"


async def test_whatever_fails_while_it_listens_it_goes_on(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covergate.db.listen.RECONNECT_SECONDS", 0.01)
    told = 0

    def forget() -> None:
        nonlocal told
        told += 1
        if told < 4:
            raise LookupError("not a database error")

    listening = Waiters(gateway.database.url, on_keys_changed=forget)
    task = asyncio.create_task(listening.run())
    await eventually(lambda: told >= 4 or task.done())
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
