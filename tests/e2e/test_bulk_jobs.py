"""A worker is killed amid a bulk job; another one goes on, and nothing is paid twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.e2e.house import House
from tests.e2e.processes import StartWorker
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

POINTS = [
    ("resubmit", "before_bulk_commit", {0}),
    ("resubmit", "after_bulk_resubmit", {1, 2, 3, 4}),
    ("cancel", "before_bulk_commit:2", {0, 1}),
]
"""The action, where the worker dies, and how many may be done by then."""
EACH = 4


@pytest.mark.parametrize(("action", "point", "done"), POINTS)
async def test_what_a_dead_worker_had_begun_is_gone_on_with(
    bare_house: House, workers: StartWorker, nobody_left: None, action: str, point: str, done: set[int]
) -> None:
    house = bare_house
    named = [f"{point}-{action}-{number}" for number in range(EACH)]
    made = [await house.create("sohar", f"ELIGIBLE-{name}", external_id=point + action) for name in named]
    if action == "resubmit":
        for id_ in made:
            await house.client.post(f"/v1/verifications/{id_}/cancel")
    before = await house.submissions_by_member()
    status = ["canceled"] if action == "resubmit" else ["queued"]
    order = {"action": action, "filter": {"status": status, "external_id": point + action}, "dry_run": False}
    reply = await house.client.post("/v1/verifications/bulk", json=order)
    assert reply.status_code == 202 and reply.json()["matched"] == EACH, reply.text
    path = f"/v1/bulk-jobs/{reply.json()['id']}"
    await house.put_aside()  # so that the workers have the job alone

    async def left() -> Any:
        return (await house.client.get(path)).json()

    worker = await workers(COVERGATE_TEST_KILL_AT=point)
    assert await worker.ended() == -signal.SIGKILL
    await house.sql("UPDATE bulk_jobs SET due_at = now() WHERE due_at IS NOT NULL RETURNING 1")  # its lease is over
    seen = await left()
    # What is noted is what was done.
    effect = "retry_of = ANY(:ids)" if action == "resubmit" else "id = ANY(:ids) AND status = 'canceled'"
    effects = len(await house.sql(f"SELECT 1 FROM verifications WHERE {effect}", ids=made))
    assert seen["done"] == effects and effects in done
    assert (seen["status"], seen["left"]) == ("running", EACH - effects)

    await workers()

    async def over() -> Any:
        seen = await left()
        return seen if seen["status"] == "completed" else None

    seen = await eventually(over, 60, what="the end of the job")
    assert (seen["done"], seen["left"], seen["skipped"]["count"], seen["failed"]["count"]) == (EACH, 0, 0, 0)
    if action == "cancel":
        assert {(await house.read(id_))["status"] for id_ in made} == {"canceled"}
        return
    for id_, name in zip(made, named, strict=True):
        family = (await house.client.get("/v1/verifications", params={"family": id_})).json()["data"]
        assert [row["retry_of"] for row in family] == [id_, None]
        assert (await house.settled(family[0]["id"]))["outcome"] == "eligible"
        assert (await house.submissions_by_member())[f"ELIGIBLE-{name}"] == before[f"ELIGIBLE-{name}"] + 1
