"""The safety net under the queue: closes what is past its deadline, wakes what was held back and need not be any more.

Every worker sweeps every two seconds: at closing they share the work, an advisory lock lets one of them wake at a time.
"""

from __future__ import annotations

import asyncio

import structlog

from covergate.db.outage import is_away, is_locked
from covergate.db.queue import announce
from covergate.db.sql import Query
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.states import CircuitState, WaitingFor
from covergate.vendor_health.refused_credentials import RefusedCredentials
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.model import Verification
from covergate.verifications.store import WORK

log = structlog.get_logger(__name__)

CLOSERS, CLOSED_TOGETHER = 2, 250
"""So many transactions at once, so many late verifications in each: thousands with one deadline end within seconds of it."""
LOCK_MILLISECONDS = 200
"""The wait for a lock of one that is closed alone, whose follower somebody has: dozens of them must not take all of a sweep."""
WAKE_BATCH = 1000
WAKE_SPREAD_SECONDS = 2.0
"""Woken work comes back spread over so long, so that a vendor that has just recovered is not buried at once."""

_TRY_LOCK = Query("SELECT pg_try_advisory_xact_lock(hashtextextended('covergate sweep', 0))")
_WAKE = Query(
    f"""
UPDATE work SET step = step + 1, next_check_at = woken.at, due_at = woken.at
FROM (SELECT held.verification_id AS id,
             least(clock_timestamp() + random() * make_interval(secs => :spread), held.deadline) AS at
      FROM vendor_standing s JOIN work held ON held.vendor = s.vendor AND held.mode = s.mode
        AND s.account = CASE held.waiting_for WHEN '{WaitingFor.HOLD}' THEN '' ELSE held.account END
      WHERE s.held_at IS NULL AND held.waiting_for IN ('{WaitingFor.HOLD}', '{WaitingFor.CIRCUIT}')
        AND (held.waiting_for = '{WaitingFor.HOLD}' OR s.circuit = '{CircuitState.CLOSED}')
        AND held.next_check_at > clock_timestamp() + make_interval(secs => :spread)
      ORDER BY held.verification_id LIMIT :batch FOR NO KEY UPDATE OF held SKIP LOCKED) AS woken
WHERE verification_id = woken.id""",
    spread="double precision",
)

_WAKE_TRUSTED = Query(
    f"""
UPDATE work SET step = step + 1, next_check_at = woken.at, due_at = woken.at
FROM (SELECT held.verification_id AS id,
             least(clock_timestamp() + random() * make_interval(secs => :spread), held.deadline) AS at
      FROM refused_credentials r LEFT JOIN vendor_accounts a ON a.id = r.account
      JOIN work held ON held.vendor = r.vendor AND held.mode = r.mode AND held.account = r.account
      WHERE (r.refused_at IS NULL OR a.removed_at IS NOT NULL)
        AND held.waiting_for = '{WaitingFor.CREDENTIALS}' AND held.follows IS NULL
        AND held.next_check_at > clock_timestamp() + make_interval(secs => :spread)
      ORDER BY held.verification_id LIMIT :batch FOR NO KEY UPDATE OF held SKIP LOCKED) AS woken
WHERE verification_id = woken.id""",
    spread="double precision",
)
# Another one each time: there may be something about the first that the vendor refuses.
_WAKE_ONE = Query(f"""
UPDATE work SET step = step + 1, next_check_at = least(clock_timestamp(), deadline), due_at = least(clock_timestamp(), deadline)
WHERE verification_id = (
  SELECT verification_id FROM work
  WHERE vendor = :vendor AND mode = :mode AND account = :account AND waiting_for = '{WaitingFor.CREDENTIALS}'
    AND follows IS NULL AND late_tries IS NULL AND next_check_at > clock_timestamp()
  ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)""")
_CLOCK = Query("SELECT clock_timestamp()")
_WAIT_LITTLE = Query(f"SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}ms', true)")
_WAKE_REFUSED = Query(
    f"""
UPDATE work w SET step = step + 1, next_check_at = woken.at, due_at = woken.at
FROM (SELECT verification_id AS id, least(clock_timestamp() + random() * make_interval(secs => :spread), deadline) AS at
      FROM work
      WHERE account = :account AND waiting_for = '{WaitingFor.VENDOR_RETRY}' AND late_tries IS NULL
        AND attempt_failure_code = '{FailureCode.VENDOR_AUTH_FAILED}'
      ORDER BY verification_id FOR NO KEY UPDATE SKIP LOCKED) AS woken
WHERE w.verification_id = woken.id""",
    spread="double precision",
)


async def close_late(gateway: Gateway) -> int:
    return sum(await asyncio.gather(*(_close_late(gateway) for _ in range(CLOSERS))))


async def wake_held_back(gateway: Gateway) -> int:
    """Wakes work that waits for a hold, a circuit or credentials that are over or mended; how much that was.

    `operator.resume` calls it; the sweep does too, for a worker that has not heard of the end may still put work aside. Each
    batch is a transaction: tens of thousands of locked rows would keep others from them.
    """
    total = 0
    while True:
        async with gateway.transaction() as db:
            if not await _TRY_LOCK.scalar(db):
                return total
            values = {"batch": WAKE_BATCH, "spread": WAKE_SPREAD_SECONDS}
            woken = await _WAKE.run(db, values)
            if woken < WAKE_BATCH:
                woken += await _WAKE_TRUSTED.run(db, {**values, "batch": WAKE_BATCH - woken})
            if woken:
                announce(db, WORK)
        total += woken
        if woken < WAKE_BATCH:
            return total


async def wake_refused(gateway: Gateway, account: str) -> None:
    """The account's credentials were changed: what waits because they were refused is tried again now."""
    async with gateway.transaction() as db:
        if await _WAKE_REFUSED.run(db, {"account": account, "spread": WAKE_SPREAD_SECONDS}):
            announce(db, WORK)


async def wake_for_trials(gateway: Gateway, credentials: RefusedCredentials) -> None:
    """Wakes one verification of each account whose credentials may be tried now."""
    if not credentials.any_refused:
        return
    async with gateway.connection() as db:
        now = await _CLOCK.scalar(db)
    for vendor, mode, account in await credentials.awaiting_trial(now):
        async with gateway.transaction() as db:
            if await _WAKE_ONE.run(db, {"vendor": vendor, "mode": mode, "account": account}):
                announce(db, WORK)


async def _close_late(gateway: Gateway) -> int:
    """Until none is late, many in one transaction; other closers, here or in other workers, take others meanwhile."""
    closed = 0
    stuck: list[str] = []
    while True:
        late: list[Verification] = []
        try:
            async with gateway.transaction() as db:
                late = await store.lock_past_deadline(db, gateway.sealer, CLOSED_TOGETHER, but=stuck)
                if late:
                    await apply(db, gateway.sealer, [lifecycle.deadline_passed(v) for v in late])
            closed += len(late)
        # Broad on purpose: one verification that cannot be closed, or whose followers are locked, must not keep the others open.
        except Exception as error:
            if not late or (is_away(error) and not is_locked(error)):
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
        await _WAIT_LITTLE.scalar(db)
        v = (await store.lock(db, gateway.sealer, [verification_id])).get(verification_id)
        if v is None or not v.late:
            return False
        await apply(db, gateway.sealer, [lifecycle.deadline_passed(v)])
        return True
