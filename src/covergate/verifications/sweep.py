"""The safety net under the queue: closes what is late, wakes what is due and has lost its job, or was held back too long.

Every worker sweeps every two seconds: at closing they share the work, an advisory lock lets one of them wake at a time.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import text

from covergate.db import jobs
from covergate.gateway import Gateway
from covergate.vendor_health.circuit_breaker import wake_held_back
from covergate.verifications.record import database_is_away, finish, finish_all, time_out
from covergate.verifications.state import State, locked, locked_late

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15
"""How long after its time a step may be under way, or wait in the queue, before the sweep sends another job for it."""
BATCH = 500
CLOSERS, CLOSED_TOGETHER = 2, 250
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
    return sum(await asyncio.gather(*(_close_late(gateway) for _ in range(CLOSERS)))) + await _wake(gateway)


async def _wake(gateway: Gateway) -> int:
    async with gateway.transaction() as db:
        if not (await db.execute(_TRY_LOCK)).scalar_one():
            return 0
        overdue = (await db.execute(_OVERDUE, {"lease": LEASE_SECONDS, "batch": BATCH})).all()
        await jobs.enqueue(db, [jobs.advance(row.vendor, row.id, row.step) for row in overdue])
        return len(overdue) + await wake_held_back(db)


async def _close_late(gateway: Gateway) -> int:
    """Until none is late, many in one transaction; other closers, here or in other workers, take others meanwhile."""
    closed = 0
    stuck: list[str] = []
    while True:
        late: list[State] = []
        try:
            async with gateway.transaction() as db:
                late = await locked_late(db, CLOSED_TOGETHER, but=stuck)
                if late:
                    await finish_all(db, [(state, time_out(gateway.sealer, state)) for state in late])
            closed += len(late)
        # Nothing narrower will do: one verification that cannot be closed must not keep the others open.
        except Exception as error:
            if not late or database_is_away(error):
                raise
            log.error("late_verifications_not_closed", error=type(error).__name__)
            left = await _close_each(gateway, [state.id for state in late])
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
        # Nothing narrower will do, see above.
        except Exception as error:
            log.error("late_verification_not_closed", verification_id=verification_id, error=type(error).__name__)
            closed = False
        if not closed:
            left.append(verification_id)
    return left


async def _close(gateway: Gateway, verification_id: str) -> bool:
    async with gateway.transaction() as db:
        state = await locked(db, verification_id)
        if state is None or not state.late:
            return False
        await finish(db, gateway.sealer, state, time_out(gateway.sealer, state))
        return True
