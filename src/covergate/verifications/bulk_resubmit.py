"""Resubmissions of bulk jobs: looked at and read some at a time, and written together, as those are that come by requests.

Invariant: what is made of a verification, the note of it and its audit are one transaction, under a lock of the original.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import crash_points
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.access.quotas import Quotas, creates_policy
from covergate.db.group_commit import GroupCommit
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.states import BulkOutcome, BulkStatus, SubjectKind
from covergate.verifications.bulk_jobs import NOT_RETRIED
from covergate.verifications.bulk_queue import ALREADY_RETRIED, NO_LONGER_MATCHES, BulkSkipped, BulkStopped, ClaimedJob
from covergate.verifications.create import Acceptance, insert_all
from covergate.verifications.queries import matching
from covergate.verifications.request import CreateVerification
from covergate.verifications.resubmit import find_originals, resubmit
from covergate.verifications.view import JOINED

LEFT_TO_REQUESTS = 0.5
"""The part of a tenant's quota that jobs do not touch."""

_TAKE = Query(f"""
SELECT i.job_id, i.verification_id FROM bulk_items i JOIN bulk_jobs j ON j.id = i.job_id
WHERE (i.job_id, i.verification_id) IN (
    SELECT * FROM unnest(CAST(:jobs AS text[]), CAST(:verifications AS text[])))
  AND i.outcome IS NULL AND j.status = '{BulkStatus.RUNNING}'
ORDER BY i.job_id, i.verification_id FOR NO KEY UPDATE OF i""")
_LOCK = Query("SELECT id FROM verifications WHERE id = ANY(:verifications) ORDER BY id FOR NO KEY UPDATE")
_UNRETRIED = Query(f"SELECT v.id FROM verifications v WHERE v.id = ANY(:verifications) AND {NOT_RETRIED}")
_DONE = Query(f"""
UPDATE bulk_items i SET outcome = '{BulkOutcome.DONE}'
FROM unnest(CAST(:jobs AS text[]), CAST(:verifications AS text[])) AS done(job_id, verification_id)
WHERE i.job_id = done.job_id AND i.verification_id = done.verification_id""")


class _Item(NamedTuple):
    """A verification of a job."""

    job_id: str
    original: str
    again: bool


class _Ready(NamedTuple):
    """One that can be written: the values of the new verification, and for whom."""

    item: _Item
    caller: Caller
    values: dict[str, Any]


class Resubmissions:
    """Of all jobs of one worker."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.quotas = Quotas(gateway)
        self._creates = creates_policy(gateway.settings)
        self._acceptance = Acceptance(gateway)
        self._payers = DirectoryCache(gateway)
        # Two jobs at one original: the second sees what the first has made of it.
        self._inserts = GroupCommit(self._insert_together, key=lambda ready: ready.item.original)

    async def of(
        self, job: ClaimedJob, verification_ids: Sequence[str], corrections: Mapping[str, Any] | None
    ) -> Callable[[str], Awaitable[None]]:
        """Does one of these, which were looked at just now."""
        conditions, values, types = matching(self.gateway, job.caller, job.filters)
        query = Query(
            f"SELECT v.id, {NOT_RETRIED} AS unretried FROM {JOINED}"
            f" WHERE v.id = ANY(CAST(:items AS text[])) AND {' AND '.join(conditions)}",
            **types,
        )
        async with self.gateway.connection() as db:
            rows = await query.all(db, {**values, "items": list(verification_ids)})
        unretried = {row.id: row.unretried for row in rows}
        originals = await find_originals(self.gateway, job.caller, verification_ids)

        async def do(verification_id: str) -> None:
            if corrections is None:
                raise Problem("inquiry_erased", "the job's corrections cannot be opened any more")
            if verification_id not in unretried:
                raise BulkSkipped(NO_LONGER_MATCHES)
            if not job.again and not unretried[verification_id]:
                raise BulkSkipped(ALREADY_RETRIED)
            await self._resubmit(job, originals[verification_id], corrections)

        return do

    async def _resubmit(self, job: ClaimedJob, original: Record, corrections: Mapping[str, Any]) -> None:
        # Right before the fee.
        self.quotas.take(self._creates, original.tenant_id, leaving=LEFT_TO_REQUESTS)

        item = _Item(job.id, original.id, job.again)

        async def claim(db: AsyncConnection) -> None:
            for error in (await _claim(db, [item])).values():
                raise error
            await _DONE.run(db, _named([item]))

        async def insert(caller: Caller, values: dict[str, Any]) -> Record | None:
            written = await self._inserts.add(_Ready(item, caller, values))
            if isinstance(written, Exception):
                raise written
            return written

        await resubmit(
            self._acceptance,
            self._payers,
            job.caller,
            original.id,
            corrections,
            read=partial(CreateVerification.model_validate_json, strict=True),
            original=original,
            claim=claim,
            insert=insert,
        )
        crash_points.point("after_bulk_resubmit")

    async def _insert_together(self, some: Sequence[_Ready]) -> list[Record | Exception | None]:
        """Of each its row, or why there is none."""
        async with self.gateway.transaction() as db:
            refused = await _claim(db, [one.item for one in some])
            left = [one for one in some if one.item not in refused]
            created = await insert_all(db, [one.values for one in left]) if left else {}
            made = [one for one in left if one.values["id"] in created]
            await _DONE.run(db, _named([one.item for one in made]))
            for caller in {one.caller for one in made}:
                originals = [one.item.original for one in made if one.caller == caller]
                await audit.record(db, caller, "verification.retry", SubjectKind.VERIFICATION, originals)
            crash_points.point("before_bulk_commit")
        return [refused.get(one.item) or created.get(one.values["id"]) for one in some]


async def _claim(db: AsyncConnection, items: Sequence[_Item]) -> dict[_Item, Exception]:
    """They are the jobs' to be done until the transaction is over, but for these."""
    taken = {(row.job_id, row.verification_id) for row in await _TAKE.all(db, _named(items))}
    originals = {"verifications": [item.original for item in items]}
    await _LOCK.all(db, originals)
    unretried = {row.id for row in await _UNRETRIED.all(db, originals)}
    refused: dict[_Item, Exception] = {}
    for item in items:
        if (item.job_id, item.original) not in taken:
            refused[item] = BulkStopped()
        elif not item.again and item.original not in unretried:
            refused[item] = BulkSkipped(ALREADY_RETRIED)
    return refused


def _named(items: Sequence[_Item]) -> dict[str, Any]:
    return {"jobs": [item.job_id for item in items], "verifications": [item.original for item in items]}
