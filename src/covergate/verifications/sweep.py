"""The safety net under the queue: closes what is late, wakes what is due and has lost its job, or was held back too long.

Every worker sweeps every two seconds; an advisory lock lets one of them do it at a time.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import text

from covergate import jobs
from covergate.gateway import Gateway
from covergate.standing.circuits import wake_held_back
from covergate.verifications.record import finish, settle, time_out
from covergate.verifications.state import State, locked, locked_late

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15
"""How long after its time a step may be under way, or wait in the queue, before the sweep sends another job for it."""
BATCH = 500
CLOSERS, CLOSED_TOGETHER = 4, 25
"""So many transactions at once, so many late verifications in each: thousands with one deadline end within seconds of it."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('covergate sweep', 0))")
# now() and not clock_timestamp(): only a stable function lets an index end the search, here before the parked ones.
_OVERDUE = text("""
UPDATE verifications
SET next_check_at = least(clock_timestamp() + make_interval(secs => :lease), deadline)
WHERE id IN (
  SELECT id FROM verifications
  WHERE status IN ('queued', 'in_progress') AND next_check_at < now() - make_interval(secs => :lease)
    AND deadline > now()
  ORDER BY next_check_at LIMIT :batch FOR UPDATE SKIP LOCKED)
RETURNING id, step, vendor""")


async def sweep(gateway: Gateway) -> int:
    """How many verifications were closed or woken."""
    done = 0
    async with gateway.engine.begin() as db:
        if not (await db.execute(_TRY_LOCK)).scalar_one():
            return 0
        overdue = (await db.execute(_OVERDUE, {"lease": LEASE_SECONDS, "batch": BATCH})).all()
        await jobs.enqueue(db, [jobs.advance(row.vendor, row.id, row.step) for row in overdue])
        done += len(overdue) + await wake_held_back(db)
    return done + sum(await asyncio.gather(*(_close_late(gateway) for _ in range(CLOSERS))))


async def _close_late(gateway: Gateway) -> int:
    """Until none is late, many in one transaction; other closers, here or in other workers, take others meanwhile."""
    closed = 0
    while True:
        late: list[State] = []
        try:
            async with gateway.engine.begin() as db:
                late = await locked_late(db, CLOSED_TOGETHER)
                wanted: list[jobs.Job] = []
                for state in late:
                    wanted += await settle(db, gateway.sealer, state, time_out(gateway.sealer, state))
                await jobs.enqueue(db, wanted)
        # Nothing narrower will do: one verification that cannot be closed must not keep the others open.
        except Exception as error:
            log.error("late_verifications_not_closed", error=type(error).__name__)
            return closed + await _close_each(gateway, [state.id for state in late])
        closed += len(late)
        if len(late) < CLOSED_TOGETHER:
            return closed


async def _close_each(gateway: Gateway, late: list[str]) -> int:
    closed = 0
    for verification_id in late:
        try:
            closed += await _close(gateway, verification_id)
        # Nothing narrower will do, see above.
        except Exception as error:
            log.error("late_verification_not_closed", verification_id=verification_id, error=type(error).__name__)
    return closed


async def _close(gateway: Gateway, verification_id: str) -> bool:
    async with gateway.engine.begin() as db:
        state = await locked(db, verification_id)
        if state is None or not state.late:
            return False
        await finish(db, gateway.sealer, state, time_out(gateway.sealer, state))
        return True
