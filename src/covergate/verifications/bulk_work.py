"""A worker at bulk jobs: one verification after the other, each in a transaction of its own.

A job is claimed with a lease like everything else (`db/queue.py`), for a slice of a few seconds; then it is due again, for
whichever worker comes. Which verifications are left stands in `bulk_items`, so a slice that died is gone on with where it was.
Under a verification's lock it is looked at once more: one that changed since the job was made is skipped, with the reason.

A resubmission costs a fee, so it counts against its tenant's quota of creates, of which a job leaves half to the tenant's own
requests: if there is no more, the job waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import crash_points, instruments
from covergate.access.caller import Caller, CallerKind, Origin
from covergate.access.quotas import QuotaPolicy, Quotas, creates_policy
from covergate.access.vendor_accounts import refresh_accounts
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.queue import announce, due, renewing, taking
from covergate.db.sealing import GATEWAY, SealError
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.states import BulkAction, BulkOutcome, BulkStatus
from covergate.verifications.bulk_jobs import BULK_JOBS, NOT_RETRIED, place_of_corrections, read_filters
from covergate.verifications.cancel import cancel_in
from covergate.verifications.create import Acceptance
from covergate.verifications.operator import Resolution, lock_callers, resolve_in
from covergate.verifications.queries import Filters, matching
from covergate.verifications.request import CreateVerification
from covergate.verifications.resubmit import resubmit
from covergate.verifications.view import JOINED
from covergate.webhooks.deliveries import redeliver_all

log = structlog.get_logger(__name__)

JOBS_AT_ONCE = 2
"""In one worker; each takes one connection."""
SLICE_SECONDS = 5.0
LOOKED_AT = 100
LEFT_TO_REQUESTS = 0.5
"""The part of a tenant's quota that jobs do not touch."""

NO_LONGER_MATCHES, NOTHING_TO_DELIVER, INTERNAL = "no_longer_matches", "nothing_to_deliver", "internal_error"
ALREADY_RETRIED = "already_retried"
SKIPS = frozenset(
    {"already_ended", "not_ended", ALREADY_RETRIED, "inquiry_erased", "not_waiting_for_operator", "not_found"}
)
"""Problems that say that there is nothing to be done, or not any more; any other is a failure."""

_CLAIM = Query(f"""
WITH lanes AS (SELECT 'bulk' AS lane, CAST(:room AS int) AS room), due AS MATERIALIZED (
{due("bulk_jobs", "id", "lanes", "t.due_at IS NOT NULL")}
), {taking("bulk_jobs", "id")}
SELECT * FROM taken""")
_RENEW = Query(renewing("bulk_jobs", "id"))
_NEXT_IN = Query(
    "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM bulk_jobs WHERE due_at > now()"
)
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
_LOCK_ORIGINAL = Query("SELECT id FROM verifications WHERE id = :verification FOR NO KEY UPDATE")
_MAY_BE_RETRIED = Query(f"SELECT true FROM verifications v WHERE v.id = :verification AND {NOT_RETRIED}")
_TENANT_OF = Query("SELECT tenant_id FROM verifications WHERE id = :verification")


class _Stopped(Exception):
    """The job is another worker's, or was stopped, or this verification was done."""


class _Skipped(Exception):
    """There is nothing to be done to this one, or not any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job of this worker's, for a slice. Its caller is who ordered it, with what that one may see."""

    id: str
    step: int
    action: BulkAction
    caller: Caller
    filters: Filters
    resolution: Resolution | None
    again: bool
    corrections_sealed: bytes | None = field(repr=False)

    @property
    def key(self) -> str:
        return self.id

    @property
    def named(self) -> dict[str, Any]:
        return {"id": self.id, "step": self.step}


class BulkQueue:
    """The queue of jobs."""

    channel = BULK_JOBS

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.more = False

    async def claim(self, under_way: Collection[ClaimedJob]) -> Sequence[ClaimedJob]:
        room = JOBS_AT_ONCE - len(under_way)
        self.more = room <= 0
        if room <= 0:
            return ()
        async with self._gateway.connection() as db:
            rows = await _CLAIM.all(db, {"room": room})
        return [_claimed(row) for row in rows]

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            seconds: float | None = await _NEXT_IN.scalar(db)
        return seconds

    async def renew(self, rows: Sequence[ClaimedJob]) -> None:
        async with self._gateway.connection() as db:
            await _RENEW.run(db, {"keys": [row.id for row in rows], "steps": [row.step for row in rows]})


def _claimed(row: Record) -> ClaimedJob:
    kind = CallerKind(row.actor_kind)
    scopes = frozenset({"verifications:read" if kind is CallerKind.KEY else "phi"} if row.sees_phi else ())
    origin = Origin(row.request_id, row.address, row.acting_user)
    return ClaimedJob(
        row.id,
        row.step,
        BulkAction(row.action),
        Caller(row.tenant_id, row.mode, row.actor_id, scopes, kind=kind, origin=origin),
        read_filters(row["filter"]),
        None if row.resolution is None else Resolution(row.resolution),
        row.again,
        row.corrections_sealed,
    )


class BulkWork:
    """Does slices. `stopping`: no further verification is begun."""

    def __init__(self, gateway: Gateway, stopping: Callable[[], bool], slice_seconds: float = SLICE_SECONDS) -> None:
        self.gateway = gateway
        self.quotas = Quotas(gateway)
        self._stopping = stopping
        self._slice_seconds = slice_seconds
        self._creates: QuotaPolicy = creates_policy(gateway.settings)
        self._acceptance = Acceptance(gateway)
        self._payers = DirectoryCache(gateway)

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
            for row in rows:
                if self._stopping() or asyncio.get_running_loop().time() > until:
                    return await self._go_on_in(job, 0.0)
                try:
                    await self._one(job, row.verification_id, corrections)
                except _Stopped:
                    if not await self._is_ours(job):
                        return None
                except Problem as problem:
                    return await self._go_on_in(job, float(problem.retry_after or 1))

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

    async def _one(self, job: ClaimedJob, verification_id: str, corrections: Mapping[str, Any] | None) -> None:
        """Raises _Stopped, and Problem `rate_limited`. Whatever else is wrong with one is noted, and the others go on."""
        try:
            if job.action is BulkAction.RESUBMIT:
                await self._resubmit(job, verification_id, corrections)
            else:
                async with self.gateway.transaction() as db:
                    await self._take(db, job, verification_id)
                    redelivered = await self._act(db, job, verification_id)
                    await _NOTE.run(db, _noted(job, verification_id, BulkOutcome.DONE))
                    crash_points.point("before_bulk_commit")
                instruments.count_redeliveries("bulk", redelivered)
            return
        except (_Stopped, *DATABASE_ERRORS):
            raise
        except _Skipped as skipped:
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

    async def _take(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> None:
        """The verification is this job's to be done, until the transaction is over."""
        if not await _TAKE.scalar(db, {"id": job.id, "verification": verification_id}):
            raise _Stopped

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
                    raise _Skipped(NOTHING_TO_DELIVER)
                return redelivered
        return 0

    async def _require_match(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> None:
        conditions, values, types = matching(self.gateway, job.caller, job.filters)
        query = Query(f"SELECT true FROM {JOINED} WHERE v.id = :item AND {' AND '.join(conditions)}", **types)
        if not await query.scalar(db, {**values, "item": verification_id}):
            raise _Skipped(NO_LONGER_MATCHES)

    async def _resubmit(self, job: ClaimedJob, verification_id: str, corrections: Mapping[str, Any] | None) -> None:
        """A tenant's quota is asked last, right before the fee."""
        if corrections is None:
            raise Problem("inquiry_erased", "the job's corrections cannot be opened any more")
        async with self.gateway.connection() as db:
            await self._require_match(db, job, verification_id)
            tenant_id = await _TENANT_OF.scalar(db, {"verification": verification_id})
            await self._require_unretried(db, job, verification_id)
        self.quotas.take(self._creates, tenant_id, leaving=LEFT_TO_REQUESTS)

        async def claim(db: AsyncConnection) -> None:
            await self._take(db, job, verification_id)
            # Two jobs at the same original: the second sees what the first has made of it.
            await _LOCK_ORIGINAL.run(db, {"verification": verification_id})
            await self._require_unretried(db, job, verification_id)
            await _NOTE.run(db, _noted(job, verification_id, BulkOutcome.DONE))

        await resubmit(
            self._acceptance,
            self._payers,
            job.caller,
            verification_id,
            corrections,
            read=partial(CreateVerification.model_validate_json, strict=True),
            claim=claim,
        )
        crash_points.point("after_bulk_resubmit")

    async def _require_unretried(self, db: AsyncConnection, job: ClaimedJob, verification_id: str) -> None:
        if not job.again and not await _MAY_BE_RETRIED.scalar(db, {"verification": verification_id}):
            raise _Skipped(ALREADY_RETRIED)


def _noted(job: ClaimedJob, verification_id: str, outcome: BulkOutcome, reason: str | None = None) -> dict[str, Any]:
    return {"id": job.id, "verification": verification_id, "outcome": outcome, "reason": reason}
