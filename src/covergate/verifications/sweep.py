"""The safety net under the queue: closes what is late, wakes what is due and has lost its job, or was held back too long.

Every worker sweeps every two seconds; an advisory lock lets one of them do it at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog
from sqlalchemy import text

from covergate import jobs
from covergate.gateway import Gateway
from covergate.standing.circuits import wake_held_back
from covergate.verifications.record import finish, time_out
from covergate.verifications.state import locked

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15
"""How long after its time a step may be under way, or wait in the queue, before the sweep sends another job for it."""
BATCH = 500
CLOSERS = 4
"""So many late verifications are closed at once: thousands with one deadline end within seconds of it."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('covergate sweep', 0))")
_LATE = text("""
SELECT id FROM verifications
WHERE status IN ('queued', 'in_progress') AND deadline <= clock_timestamp() ORDER BY deadline LIMIT :batch""")
_OVERDUE = text("""
UPDATE verifications
SET next_check_at = least(clock_timestamp() + make_interval(secs => :lease), deadline)
WHERE id IN (
  SELECT id FROM verifications
  WHERE status IN ('queued', 'in_progress') AND next_check_at < clock_timestamp() - make_interval(secs => :lease)
    AND deadline > clock_timestamp()
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
    while closed := await _close_late(gateway):
        done += closed
    return done


async def _close_late(gateway: Gateway) -> int:
    """A batch of them: how many were closed. Several workers may be at it; each closes what it finds open."""
    async with gateway.autocommit.connect() as db:
        late = iter((await db.execute(_LATE, {"batch": BATCH})).scalars().all())
    return sum(await asyncio.gather(*(_close_each(gateway, late) for _ in range(CLOSERS))))


async def _close_each(gateway: Gateway, late: Iterator[str]) -> int:
    closed = 0
    for verification_id in late:
        try:
            closed += await _close(gateway, verification_id)
        # Nothing narrower will do: one verification that cannot be closed must not keep the others open.
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
