"""Workers die, freeze and lose their database in the middle of many verifications; afterwards the ledger has to balance.

By id, not by count: everything accepted has one end that was announced once, or waits for an operator, who then ends it; and
no vendor was asked twice.
"""

from __future__ import annotations

import asyncio
import itertools
import signal

import pytest

from covergate.vendors import VENDORS
from tests.e2e.house import House, waits_for_operator
from tests.e2e.processes import StartWorker
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("nobody_left")]

KILLS = 3
CUTS = 3
BATCH, SOME = 20, 5
KILLED_BATCH, KILLED_SOME = 30, 10
"""A fault strikes when some of a batch have been submitted, counted from before the batch was asked: more always come."""
SENT_BY_SECONDS = 6.0
"""Five seconds after its intent nobody sends any more, and the sandbox has then seen what was sent."""
_UNDER_WAY = """
SELECT 1 FROM work
WHERE verification_id = ANY(:ids) AND late_tries IS NULL AND waiting_for IS DISTINCT FROM 'operator' LIMIT 1"""
INTERRUPTED = "('submission_in_flight', 'submission_found', 'reply_lost', 'needs_attention', 'next_attempt')"


async def test_workers_that_are_killed_lose_nothing_and_repeat_nothing(bare_house: House, workers: StartWorker) -> None:
    house = bare_house
    asked: dict[str, str] = {}
    async with house.fast_clock(minutes=90):
        for kill in range(KILLS):
            before = house.submitted
            asked |= await _ask(house, f"killed{kill}", KILLED_BATCH)
            worker = await workers()
            await house.submitted_since(before, KILLED_SOME)
            await worker.kill()
            await house.end_leases()
        await workers()
        await _ledger_balances(house, asked)


async def test_cut_database_connections_lose_nothing_and_repeat_nothing(
    bare_house: House, workers: StartWorker
) -> None:
    house = bare_house
    asked: dict[str, str] = {}
    await workers()
    async with house.fast_clock(minutes=90, sent_by=SENT_BY_SECONDS):
        for cut in range(CUTS):
            before = house.submitted
            asked |= await _ask(house, f"cut{cut}", BATCH)
            await house.submitted_since(before, SOME)
            await house.cut_connections()
            await house.end_leases()
        # Replies are held and intents confirmed while the connections come back: as a rule nothing shows an interruption.
        await _ledger_balances(house, asked, interrupts=False)


async def test_a_worker_that_froze_past_its_heartbeat_repeats_nothing_when_it_goes_on(
    bare_house: House, workers: StartWorker
) -> None:
    house = bare_house
    before = house.submitted
    asked = await _ask(house, "frozen", 2 * BATCH)
    frozen = await workers()
    await house.submitted_since(before, SOME)
    frozen.signal(signal.SIGSTOP)
    await house.end_leases()
    before = house.submitted
    asked |= await _ask(house, "meanwhile", BATCH)
    await workers()
    async with house.fast_clock(minutes=90, sent_by=SENT_BY_SECONDS):
        await house.submitted_since(before, 2 * SOME)
        frozen.signal(signal.SIGCONT)
        await _ledger_balances(house, asked)


async def test_a_worker_that_froze_between_intent_and_sending_sends_no_more(
    bare_house: House, workers: StartWorker
) -> None:
    """Meanwhile the other one was told that the vendor has nothing, and made the submission again."""
    house, member = bare_house, "ELIGIBLE-frozenbeforesending"
    verification_id = await house.create("health_harbor", member)
    frozen = await workers(COVERGATE_TEST_STOP_AT="after_intent")
    await house.intended(verification_id)
    # One that still runs would take its own work up again, and then stop.
    await frozen.stopped()
    await house.end_leases()
    await workers()
    async with house.fast_clock(minutes=90, sent_by=SENT_BY_SECONDS):
        seen = await house.settled(verification_id)
        assert [attempt["state"] for attempt in seen["attempts"]] == ["failed", "answered"]
        frozen.signal(signal.SIGCONT)
        await house.happens(verification_id, "stray_end")
    assert (await house.submissions_by_member())[member] == 1


async def _ask(house: House, name: str, count: int) -> dict[str, str]:
    """Verification id → member id; the vendors in turn."""
    vendors = itertools.islice(itertools.cycle(VENDORS), count)
    pairs = [(vendor, f"ELIGIBLE-{name}{number}") for number, vendor in enumerate(vendors)]
    made = await asyncio.gather(*(house.create(*pair) for pair in pairs))
    return {id_: member for id_, (_, member) in zip(made, pairs, strict=True)}


async def _ledger_balances(house: House, asked: dict[str, str], *, interrupts: bool = True) -> None:
    """Ends what waits for an operator, as an operator would, and then looks at each one."""

    async def rested() -> bool:
        return not await house.sql(_UNDER_WAY, ids=list(asked))

    # Health Harbor's lists are read several times, by the moved clock, before they prove anything.
    await eventually(rested, 120, what="rest")
    waiting = [id_ for id_ in asked if waits_for_operator(await house.read(id_))]
    for id_ in waiting:
        await house.give_up(id_)
    submitted = await house.submissions_by_member()
    for id_, member in asked.items():
        seen = await house.settled(id_)
        told = await house.receiver.end_of(id_)
        assert told["type"] == f"verification.{seen['status']}"
        if seen["status"] == "completed":
            assert (seen["outcome"], submitted[member]) == ("eligible", 1)
        else:
            assert (seen["failure"]["code"], id_ in waiting) == ("submission_unknown", True)
            assert submitted[member] <= 1
    touched = await house.sql(
        "SELECT DISTINCT verification_id FROM history, jsonb_array_elements(entries) AS e"
        f" WHERE e ->> 'type' IN {INTERRUPTED} AND verification_id = ANY(:ids)",
        ids=list(asked),
    )
    assert touched or not interrupts, "nothing was interrupted: the test tested nothing"
