"""A worker at bulk jobs: a few verifications at a time, each in a transaction of its own; resubmissions are written together.

A job is claimed with a lease like everything else (`db/queue.py`), for a slice of a few seconds; then it is due again, for
whichever worker comes. Which verifications are left stands in `bulk_items`, so a slice that died is gone on with where it was.
Under a verification's lock it is looked at once more: one that changed since the job was made is skipped, with the reason.

A resubmission costs a fee, so it counts against its tenant's quota of creates, of which a job leaves half to the tenant's own
requests: if there is no more, the job waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import crash_points, instruments
from covergate.access.vendor_accounts import refresh_accounts
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.queue import announce
from covergate.db.sealing import GATEWAY, SealError
from covergate.db.sql import Query
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import BulkAction, BulkOutcome, BulkStatus
from covergate.verifications.bulk_jobs import BULK_JOBS, place_of_corrections
from covergate.verifications.bulk_queue import (
    ALREADY_RETRIED,
    NO_LONGER_MATCHES,
    BulkSkipped,
    BulkStopped,
    ClaimedJob,
)
from covergate.verifications.bulk_resubmit import Resubmissions
from covergate.verifications.cancel import cancel_in
from covergate.verifications.operator import lock_callers, resolve_in
from covergate.verifications.queries import matching
from covergate.verifications.view import JOINED
from covergate.webhooks.deliveries import redeliver_all

log = structlog.get_logger(__name__)

SLICE_SECONDS = 5.0
LOOKED_AT = 100
TOGETHER = {
    BulkAction.RESUBMIT: 50,
    BulkAction.CANCEL: 4,
    BulkAction.RESOLVE: 4,
    BulkAction.REDELIVER: 4,
}
"""Verifications that a job does at the same time: resubmissions are written together, each of the others has its connection."""

NOTHING_TO_DELIVER, INTERNAL = "nothing_to_deliver", "internal_error"
SKIPS = frozenset(
    {"already_ended", "not_ended", ALREADY_RETRIED, "inquiry_erased", "not_waiting_for_operator", "not_found"}
)
"""Problems that say that there is nothing to be done, or not any more; any other is a failure."""

_OURS = "id = :id AND step = :step AND due_at IS NOT NULL"
_BEGIN = Query(f"""
UPDATE bulk_jobs SET status = '{BulkStatus.RUNNING}', started_at = coalesce(started_at, clock_timestamp())
WHERE {_OURS}""")
_AGAIN = Query(
    f"UPDATE bulk_jobs SET step = step + 1, due_at = clock_timestamp() + make_interval(secs => :seconds) WHERE {_OURS}",
    seconds="double precision",
)
_COMPLETE = Query(f"""
UPDATE bulk_jobs SET status = '{BulkStatus.COMPLETED}', ended_at = clock_timestamp(), due_at = NULL, step = step + 1,
  corrections_sealed = NULL
WHERE {_OURS}""")
_LEFT = Query("""
SELECT verification_id FROM bulk_items WHERE job_id = :id AND outcome IS NULL ORDER BY verification_id LIMIT :batch""")
_TAKE = Query(f"""
SELECT true FROM bulk_items i JOIN bulk_jobs j ON j.id = i.job_id
WHERE i.job_id = :id AND i.verification_id = :verification AND i.outcome IS NULL AND j.status = '{BulkStatus.RUNNING}'
FOR NO KEY UPDATE OF i""")
_NOTE = Query("""
UPDATE bulk_items SET outcome = :outcome, reason = :reason
WHERE job_id = :id AND verification_id = :verification AND outcome IS NULL""")


class BulkWork:
    """Does slices. `stopping`: no further verification is begun."""

    def __init__(self, gateway: Gateway, stopping: Callable[[], bool], slice_seconds: float = SLICE_SECONDS) -> None:
        self.gateway = gateway
        self._resubmissions = Resubmissions(gateway)
        self.quotas = self._resubmissions.quotas
        self._stopping = stopping
        self._slice_seconds = slice_seconds

    async def do(self, job: ClaimedJob) -> None:
        """One slice."""
        gateway = self.gateway
        async with gateway.connection() as db:
            if not await _BEGIN.run(db, job.named):
                return None
        if not gateway.accounts.loaded:
            # Nothing of a tenant's with an account of its own may go to the shared one.
            await refresh_accounts(gateway)
        corrections = await self._corrections(job)
        until = asyncio.get_running_loop().time() + self._slice_seconds
        while True:
            async with gateway.connection() as db:
                rows = await _LEFT.all(db, {"id": job.id, "batch": LOOKED_AT})
            if not rows:
                async with gateway.connection() as db:
                    await _COMPLETE.run(db, job.named)
                return None
            items = deque(row.verification_id for row in rows)
            while items:
                if self._stopping() or asyncio.get_running_loop().time() > until:
                    return await self._go_on_in(job, 0.0)
                some = [items.popleft() for _ in range(min(TOGETHER[job.action], len(items)))]
                errors = await self._some(job, some, corrections)
                if any(isinstance(error, BulkStopped) for error in errors) and not await self._is_ours(job):
                    return None
                if waits := [error.retry_after or 1 for error in errors if isinstance(error, Problem)]:
                    return await self._go_on_in(job, float(max(waits)))

    async def failed_inside(self, job: ClaimedJob) -> None:
        """It comes again when its lease ends."""

    async def _go_on_in(self, job: ClaimedJob, seconds: float) -> None:
        async with self.gateway.transaction() as db:
            if await _AGAIN.run(db, {**job.named, "seconds": seconds}):
                announce(db, BULK_JOBS, seconds)

    async def _is_ours(self, job: ClaimedJob) -> bool:
        async with self.gateway.connection() as db:
            return bool(await _BEGIN.run(db, job.named))

    async def _corrections(self, job: ClaimedJob) -> Mapping[str, Any] | None:
        """None if they do not open: then nothing is asked without them."""
        if job.corrections_sealed is None:
            return {}
        tenant_id, mode = job.caller.within_tenant, job.caller.within_mode
        await self.gateway.meet(tenant_id or GATEWAY, sealed=[job.corrections_sealed])
        try:
            place = place_of_corrections(tenant_id, mode, job.id)
            opened: dict[str, Any] = self.gateway.sealer.open_json(place, job.corrections_sealed)
        except SealError as error:
            log.error("value_not_opened", job_id=job.id, column="corrections", reason=str(error))
            return None
        return opened

    async def _some(
        self, job: ClaimedJob, verification_ids: Sequence[str], corrections: Mapping[str, Any] | None
    ) -> list[BulkStopped | Problem]:
        """Does these at the same time; which were stopped, and which there is no quota for."""
        do: Callable[[str], Awaitable[None]] = partial(self._do_alone, job)
        if job.action is BulkAction.RESUBMIT:
            do = await self._resubmissions.of(job, verification_ids, corrections)
        ends = await asyncio.gather(*(self._one(job, id_, do) for id_ in verification_ids), return_exceptions=True)
        errors = [end for end in ends if isinstance(end, BaseException)]
        for error in errors:
            if not isinstance(error, BulkStopped | Problem):
                raise error
        return [error for error in errors if isinstance(error, BulkStopped | Problem)]

    async def _one(self, job: ClaimedJob, verification_id: str, do: Callable[[str], Awaitable[None]]) -> None:
        """Raises BulkStopped, and Problem `rate_limited`. Whatever else is wrong with one is noted, and the others go on."""
        try:
            await do(verification_id)
            return
        except (BulkStopped, *DATABASE_ERRORS):
            raise
        except BulkSkipped as skipped:
            reason, outcome = skipped.reason, BulkOutcome.SKIPPED
        except Problem as problem:
            if problem.code == "rate_limited":
                raise
            reason, outcome = problem.code, BulkOutcome.SKIPPED if problem.code in SKIPS else BulkOutcome.FAILED
        except ValidationError:
            reason, outcome = "invalid_request", BulkOutcome.FAILED
        # Broad on purpose: our own mistake at one verification must not keep the others from being done.
        except Exception as error:
            log.error("bulk_item_failed", job_id=job.id, verification_id=verification_id, exc_info=error)
            reason, outcome = INTERNAL, BulkOutcome.FAILED
        async with self.gateway.connection() as db:
            await _NOTE.run(db, _noted(job, verification_id, outcome, reason))

    async def _do_alone(self, job: ClaimedJob, verification_id: str) -> None:
        async with self.gateway.transaction() as db:
            await self._take(db, job, verification_id)
            redelivered = await self._act(db, job, verification_id)
            await _NOTE.run(db, _noted(job, verification_id, BulkOutcome.DONE))
            crash_points.point("before_bulk_commit")
        instruments.count_redeliveries("bulk", redelivered)

    async def _take(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> None:
        """The verification is this job's to be done, until the transaction is over."""
        if not await _TAKE.scalar(db, {"id": job.id, "verification": verification_id}):
            raise BulkStopped

    async def _act(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> int:
        """How many deliveries are sent again."""
        gateway, caller = self.gateway, job.caller
        match job.action:
            case BulkAction.CANCEL:
                v = await lock_callers(db, gateway.sealer, caller, verification_id)
                if not v.open:
                    raise Problem("already_ended", f"the verification is {v.status}")
                await self._require_match(db, job, verification_id)
                await cancel_in(db, gateway, caller, verification_id)
            case BulkAction.RESOLVE:
                assert job.resolution is not None, "an order to resolve says how"
                await resolve_in(
                    db,
                    gateway,
                    caller,
                    verification_id,
                    job.resolution,
                    before=lambda: self._require_match(db, job, verification_id),
                )
            case _:
                await self._require_match(db, job, verification_id)
                redelivered = await redeliver_all(db, caller, verification_id)
                if not redelivered:
                    raise BulkSkipped(NOTHING_TO_DELIVER)
                return redelivered
        return 0

    async def _require_match(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> None:
        conditions, values, types = matching(self.gateway, job.caller, job.filters)
        query = Query(f"SELECT true FROM {JOINED} WHERE v.id = :item AND {' AND '.join(conditions)}", **types)
        if not await query.scalar(db, {**values, "item": verification_id}):
            raise BulkSkipped(NO_LONGER_MATCHES)


def _noted(job: ClaimedJob, verification_id: str, outcome: BulkOutcome, reason: str | None = None) -> dict[str, Any]:
    return {"id": job.id, "verification": verification_id, "outcome": outcome, "reason": reason}
