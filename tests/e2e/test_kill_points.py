"""A worker is killed at every point between two instructions where it matters, at every vendor; then another one goes on.

What the vendors counted decides: no submission made twice, none lost. Where a vendor offers no way to look one up, and
only there, an interrupted submission waits for an operator.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio

from covergate.vendors import VENDORS
from tests.e2e.house import HERE, REQUEST, House, waits_for_operator
from tests.e2e.processes import Nursery, StartWorker
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

ELIGIBLE, OPERATOR = "eligible", "operator"

POINTS: dict[str, dict[str, str]] = {
    # Nothing was sent, and the gateway knows it.
    "before_intent": {},
    # Nothing was sent, but the gateway cannot know: only Health Harbor's empty list proves that there is no inquiry.
    "after_intent": {"sohar": OPERATOR, "integrex": OPERATOR, "vsee": OPERATOR, "healthie": OPERATOR},
    # The vendor has it, the gateway has no reply: Sohar's event names it, the others but Integrex can be asked.
    "after_send": {"integrex": OPERATOR},
    "after_reply": {"integrex": OPERATOR},
    "before_commit": {"integrex": OPERATOR},
    # All is on disk.
    "after_commit": {},
}
"""Point → vendors for which it does not end `eligible`."""

CELLS = [(vendor, point) for point in POINTS for vendor in VENDORS]

Rested: TypeAlias = dict[tuple[str, str], dict[str, Any] | BaseException]
"""(vendor, point) → the verification as it came to rest, or why it did not."""


def _member(vendor: str, point: str) -> str:
    return f"ELIGIBLE-{point.replace('_', '')}-{vendor.replace('_', '')}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def interrupted(bare_house: House, workers: StartWorker) -> Rested:
    """A worker died at that point, and another one went on."""
    house = bare_house
    made = {}
    for vendor, point in CELLS:
        made[vendor, point] = await house.create(vendor, _member(vendor, point))
        if point == "after_send":
            await _killed_while_sent(house, workers)
        else:
            worker = await workers(COVERGATE_TEST_KILL_AT=point)
            assert await worker.ended() == -signal.SIGKILL, (vendor, point)
        await house.vendors_rest()
        await house.put_aside()  # what a dead worker left is not for the next one, which has a death of its own
    # It is an hour later.
    await house.end_leases()
    await house.sql("UPDATE work SET intent_at = intent_at - interval '1 hour'")
    worker = await workers()
    async with house.fast_clock(minutes=70):
        rested = await asyncio.gather(*(house.settled(id_) for id_ in made.values()), return_exceptions=True)
    await worker.kill()
    return dict(zip(made, rested, strict=True))


async def _killed_while_sent(house: House, workers: StartWorker) -> None:
    """The vendor did what it was asked to do, and the worker dies before the reply is on its way."""
    held = house.held
    held.holding, held.caught = True, 0
    worker = await workers()
    await held.caught_one()
    await worker.kill()
    held.holding = False
    held.release.set()
    held.release = asyncio.Event()


@pytest.mark.parametrize(("vendor", "point"), CELLS)
async def test_nothing_is_lost_and_nothing_is_submitted_twice(
    bare_house: House, interrupted: Rested, vendor: str, point: str
) -> None:
    seen = interrupted[vendor, point]
    if isinstance(seen, BaseException):
        raise seen
    reading = seen["outcome"] or (seen["failure"] or {}).get("code") or seen["waiting_for"]["kind"]
    assert reading == POINTS[point].get(vendor, ELIGIBLE), await bare_house.timeline(seen["id"])
    submitted = (await bare_house.submissions_by_member())[_member(vendor, point)]
    nothing_was_sent = point == "after_intent" and reading == OPERATOR
    assert submitted == (0 if nothing_was_sent else 1)


TOGETHER = {
    "before_intents": False,
    "after_intents": True,
    "before_commit": True,
    "after_commit": True,
    "before_delivered": True,
    "after_delivered": True,
}
"""Point → whether some may wait for an operator: those that were intended and not sent, or on the line, in the batch that died or
beside it. Never Health Harbor's: its list proves either.
"""
EACH = 4


@pytest.mark.parametrize("point", TOGETHER)
async def test_what_is_written_together_and_dies_with_its_worker(
    bare_house: House, workers: StartWorker, point: str
) -> None:
    """Four of each vendor, so that one worker intends, records and announces several in one statement."""
    house = bare_house
    made = {}
    for vendor in VENDORS:
        for number in range(EACH):
            member = f"{_member(vendor, point)}{number}"
            made[await house.create(vendor, member)] = (vendor, member)
    worker = await workers(COVERGATE_TEST_KILL_AT=point)
    assert await worker.ended() == -signal.SIGKILL
    await house.vendors_rest()
    await house.end_leases()
    await house.sql("UPDATE work SET intent_at = intent_at - interval '1 hour'")
    worker = await workers()
    async with house.fast_clock(minutes=70):
        seen = await asyncio.gather(*(house.settled(id_) for id_ in made))
        submitted = await house.submissions_by_member()
        for one in seen:
            vendor, member = made[one["id"]]
            if waits_for_operator(one):
                assert TOGETHER[point] and vendor != "health_harbor", (point, vendor)
                assert submitted[member] <= 1
                await house.give_up(one["id"])
            else:
                assert (one["outcome"], submitted[member]) == ("eligible", 1), (point, vendor)
        for id_ in made:
            await house.receiver.end_of(id_, seconds=60)
    await worker.kill()


@pytest.mark.parametrize(("point", "least_kept"), [("before_accepts", 0), ("after_accepts", 1)])
async def test_an_api_that_dies_while_it_accepts_leaves_each_once_or_not_at_all(
    bare_house: House, nursery: Nursery, point: str, least_kept: int
) -> None:
    """Its clients hear nothing and ask again under their keys: then there is one of each, whichever side of the commit it was."""
    house = bare_house
    keys = [f"{point}-{number}" for number in range(EACH)]
    with socket.socket() as free:
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    api = await nursery.start("serve", COVERGATE_PORT=str(port), COVERGATE_TEST_KILL_AT=point)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response | BaseException]:
        body = {
            **REQUEST,
            "vendor": "integrex",
            "patient": REQUEST["patient"] | {"member_id": _member("integrex", point)},
        }
        posts = (client.post("/v1/verifications", json=body, headers={"Idempotency-Key": key}) for key in keys)
        return await asyncio.gather(*posts, return_exceptions=True)

    async def kept() -> int:
        return len(
            await house.sql(
                "SELECT 1 FROM idempotency_keys JOIN work USING (verification_id) WHERE key = ANY(:k)", k=keys
            )
        )

    async with httpx.AsyncClient(base_url=f"http://{HERE}:{port}", headers=house.client.headers) as client:

        async def listens() -> bool:
            with suppress(httpx.TransportError):
                return (await client.get("/healthz")).status_code == 200
            return False

        await eventually(listens)
        assert [reply for reply in await ask(client) if not isinstance(reply, httpx.TransportError)] == []
    assert await api.ended() == -signal.SIGKILL
    before = await kept()
    assert least_kept <= before <= least_kept * EACH
    replies = [reply for reply in await ask(house.client) if isinstance(reply, httpx.Response)]
    assert [reply.status_code for reply in replies] == [202] * EACH
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == before
    assert len({reply.json()["id"] for reply in replies}) == await kept() == EACH
    await house.put_aside()
