"""The safety net under the queue: closes what is late, wakes what is due and has lost its job, or was held back too long.

Every worker sweeps every two seconds: at closing they share the work, an advisory lock lets one of them wake at a time.
"""

from __future__ import annotations

import asyncio

import structlog

from covergate.db import jobs
from covergate.db.outage import is_away
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import IS_OPEN, CircuitState, WaitingFor
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.model import Verification

log = structlog.get_logger(__name__)

STEP_LEASE_SECONDS = 15
"""How long after its time a step may be under way, or wait in the queue, before the sweep sends another job for it."""
OVERDUE_BATCH = 500
CLOSERS, CLOSED_TOGETHER = 2, 250
"""So many transactions at once, so many late verifications in each: thousands with one deadline end within seconds of it."""
WAKE_BATCH = 1000
WAKE_SPREAD_SECONDS = 2.0
"""Woken work comes back spread over so long, so that a vendor that has just recovered is not buried at once."""

_TRY_LOCK = Query("SELECT pg_try_advisory_xact_lock(hashtextextended('covergate sweep', 0))")
# now() and not clock_timestamp(): only a stable function lets an index end the search, here before the parked ones.
_OVERDUE = Query(
    f"""
UPDATE verifications
SET next_check_at = least(clock_timestamp() + make_interval(secs => :lease), deadline)
WHERE id IN (
  SELECT id FROM verifications
  WHERE {IS_OPEN} AND next_check_at < now() - make_interval(secs => :lease) AND deadline > now()
  ORDER BY next_check_at LIMIT :batch FOR UPDATE SKIP LOCKED)
RETURNING id, step, vendor""",
    lease="double precision",
)
_WAKE = Query(
    f"""
UPDATE verifications v
SET step = step + 1, next_check_at = least(clock_timestamp() + random() * make_interval(secs => :spread), deadline)
FROM (SELECT held.id
      FROM vendor_standing s JOIN verifications held ON held.vendor = s.vendor AND held.mode = s.mode
      WHERE s.held_at IS NULL AND held.waiting_for IN ('{WaitingFor.HOLD}', '{WaitingFor.CIRCUIT}')
        AND (held.waiting_for = '{WaitingFor.HOLD}' OR s.circuit = '{CircuitState.CLOSED}')
        AND held.{IS_OPEN} AND held.next_check_at > clock_timestamp() + make_interval(secs => :spread)
      ORDER BY held.id LIMIT :batch FOR UPDATE OF held SKIP LOCKED) w
WHERE v.id = w.id RETURNING v.id, v.step, v.vendor, v.next_check_at - clock_timestamp() AS after""",
    spread="double precision",
)


async def sweep(gateway: Gateway) -> int:
    """How many verifications were closed or woken. A worker does the two apart: neither must keep the other from its work."""
    return await close_late(gateway) + await wake_overdue(gateway)


async def close_late(gateway: Gateway) -> int:
    return sum(await asyncio.gather(*(_close_late(gateway) for _ in range(CLOSERS))))


async def wake_held_back(gateway: Gateway) -> int:
    """Wakes work that waits for a hold or a circuit that is over; how much that was.

    `operator.resume` calls it; the sweep does too, for a worker that has not heard of the end may still put work aside. Each
    batch is a transaction: tens of thousands of locked rows would keep others from them.
    """
    total = 0
    while True:
        async with gateway.transaction() as db:
            woken = await _WAKE.all(db, {"batch": WAKE_BATCH, "spread": WAKE_SPREAD_SECONDS})
            await jobs.enqueue(db, [jobs.advance(row.vendor, row.id, row.step, row.after) for row in woken])
        total += len(woken)
        if len(woken) < WAKE_BATCH:
            return total


async def wake_overdue(gateway: Gateway) -> int:
    async with gateway.transaction() as db:
        if not await _TRY_LOCK.scalar(db):
            return 0
        overdue = await _OVERDUE.all(db, {"lease": STEP_LEASE_SECONDS, "batch": OVERDUE_BATCH})
        await jobs.enqueue(db, [jobs.advance(row.vendor, row.id, row.step) for row in overdue])
    return len(overdue) + await wake_held_back(gateway)


async def _close_late(gateway: Gateway) -> int:
    """Until none is late, many in one transaction; other closers, here or in other workers, take others meanwhile."""
    closed = 0
    stuck: list[str] = []
    while True:
        late: list[Verification] = []
        try:
            async with gateway.transaction() as db:
                late = await store.lock_late(db, gateway.sealer, CLOSED_TOGETHER, but=stuck)
                if late:
                    await apply(db, gateway.sealer, [lifecycle.deadline_passed(v) for v in late])
                    # Stale jobs are harmless alone; thousands at once are not.
                    await jobs.withdraw(db, [jobs.advance(v.attempt.vendor, v.id, v.step) for v in late])
            closed += len(late)
        # Broad on purpose: one verification that cannot be closed must not keep the others open.
        except Exception as error:
            if not late or is_away(error):
                raise
            log.error("late_verifications_not_closed", error=type(error).__name__)
            left = await _close_each(gateway, [v.id for v in late])
            closed += len(late) - len(left)
            stuck += left
        if len(late) < CLOSED_TOGETHER:
            return closed


async def _close_each(gateway: Gateway, late: list[str]) -> list[str]:
    """Those that could not be closed, or need not be any more."""
    left = []
    for verification_id in late:
        try:
            closed = await _close(gateway, verification_id)
        # Broad on purpose, see above.
        except Exception as error:
            log.error("late_verification_not_closed", verification_id=verification_id, error=type(error).__name__)
            closed = False
        if not closed:
            left.append(verification_id)
    return left


async def _close(gateway: Gateway, verification_id: str) -> bool:
    async with gateway.transaction() as db:
        v = (await store.lock(db, gateway.sealer, [verification_id])).get(verification_id)
        if v is None or not v.late:
            return False
        await apply(db, gateway.sealer, [lifecycle.deadline_passed(v)])
        return True
