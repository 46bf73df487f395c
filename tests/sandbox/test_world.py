"""The frame that every simulated vendor stands on: what it counts, sends, cuts and cleans up."""

from __future__ import annotations

import asyncio

from tests.support.sandboxes import Sandbox, StartSandbox
from tests.support.waiting import eventually


async def test_healthz_and_an_empty_record(sandbox: Sandbox) -> None:
    assert (await sandbox.http.get("/healthz")).json() == {"status": "ok"}
    assert (await sandbox.http.get("/_sandbox/submissions")).json() == []


async def test_submissions_are_listed_in_order(sandbox: Sandbox) -> None:
    sandbox.world.record_submission("sohar", "att_1", "ELIGIBLE1", "ref-1")
    sandbox.world.record_submission("vsee", None, "SLOW2", "ref-2")
    rows = (await sandbox.http.get("/_sandbox/submissions")).json()
    assert [(row["vendor"], row["echo"], row["member_id"], row["ref"]) for row in rows] == [
        ("sohar", "att_1", "ELIGIBLE1", "ref-1"),
        ("vsee", None, "SLOW2", "ref-2"),
    ]
    assert all(row["at"].endswith("+00:00") for row in rows)


async def test_once_is_true_once_for_each_key(sandbox: Sandbox) -> None:
    assert [sandbox.world.once(key) for key in ("a", "a", ("a", 1), ("a", 1), "b")] == [True, False, True, False, True]


async def test_an_event_is_sent_again_until_it_is_taken(sandbox: Sandbox) -> None:
    sandbox.gateway.statuses = [500, 401]
    assert await sandbox.world.post_event("vsee", b"{}", {"x-test": "1"}, params={"token": "t"})
    assert [(event.vendor, event.query, event.headers["x-test"]) for event in sandbox.gateway.events] == [
        ("vsee", {"token": "t"}, "1")
    ] * 3


async def test_a_background_task_that_fails_or_hangs_stops_nothing(start_sandbox: StartSandbox) -> None:
    sandbox = await start_sandbox()
    ended: list[str] = []

    async def fails() -> None:
        ended.append("failed")
        raise RuntimeError("the simulated vendor's own mistake")

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("canceled")

    sandbox.world.spawn(hangs())
    sandbox.world.spawn(fails())
    await eventually(lambda: "failed" in ended)
    assert (await sandbox.http.get("/healthz")).status_code == 200
    await sandbox.world.close()
    assert ended == ["failed", "canceled"]


async def test_two_sandboxes_do_not_share_state(start_sandbox: StartSandbox) -> None:
    first, second = await start_sandbox(), await start_sandbox()
    first.world.record_submission("sohar", None, "ELIGIBLE", "ref")
    assert (await second.http.get("/_sandbox/submissions")).json() == []
