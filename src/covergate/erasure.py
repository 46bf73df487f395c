"""Erasing what tells of a patient: by age, of one patient, of a whole tenant.

The verification's row stays, with ids, outcome, failure code and times, so that what the audit names can still be found; what is
sealed goes, with the digests by which a search would find it. Batches are short transactions with pauses between them. What is
erased is known by `erased_at`, so that a run that was killed is run again, and two at once do no harm.

Invariant: under the lock under which `erased_at` is set nothing sealed is left; and nothing is written to such a verification
(`verifications/commit.py`, `verifications/vendor_events.py`), whatever a vendor still answers. What was accepted up to the
instant at which an erasure began is erased by it, also if it is committed later: whoever was writing then is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access import audit
from covergate.access.caller import Caller
from covergate.access.credentials import CREDENTIALS_CHANGED
from covergate.db.data_keys import destroy_all
from covergate.db.sql import Query
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.states import IS_OPEN, AuditOutcome, DeliveryStatus, EndpointStatus, SubjectKind
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.create import IDEMPOTENCY_KEPT
from covergate.verifications.digests import birth_digest_parts, member_digest_parts

FIRST_BATCH, BATCH = 10, 200
"""Verifications in a transaction, at first and at most; between them as many as are done in `BATCH_SECONDS`."""
BATCH_SECONDS = 0.03
"""For so long a transaction holds its locks, for which only late answers of the same verifications wait."""
LEAST_PAUSE_SECONDS = 0.01
"""Between two batches: as long as the last one took, and at least so long."""
ANSWER_WITHIN_SECONDS = 20.0
"""A request erases for so long; then it says that there is more."""
WRITERS_SECONDS = 90.0
"""Longer than any statement or idle transaction of ours lasts (`db/connect.py`)."""

_GIVEN = "ANY(CAST(:ids AS text[]))"
_EVENT_BODIES = f"SELECT message_id FROM vendor_events WHERE verification_id = {_GIVEN} AND message_id IS NOT NULL"
_OF_THEIR_EVENTS = f"FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.verification_id = {_GIVEN}"
_IDEMPOTENCY_KEYS = f"""
FROM verifications v JOIN idempotency_keys k ON k.verification_id = v.id AND k.tenant_id = v.tenant_id
  AND k.created_at BETWEEN v.created_at - interval '1 minute' AND v.created_at + interval '5 minutes'
WHERE v.id = {_GIVEN} AND v.created_at > now() - interval '{IDEMPOTENCY_KEPT}' - interval '1 hour'"""
"""Both are made by one statement; by their time the index finds them."""

ERASED_KINDS: dict[str, str] = {
    "verifications": f"SELECT count(*) FROM verifications WHERE id = {_GIVEN}",
    "canceled": f"SELECT count(*) FROM verifications WHERE id = {_GIVEN} AND {IS_OPEN}",
    "inquiries": f"SELECT count(inquiry_sealed) FROM verifications WHERE id = {_GIVEN}",
    "results": f"SELECT count(*) FROM results WHERE verification_id = {_GIVEN}",
    "readings": f"SELECT count(sealed) FROM readings WHERE verification_id = {_GIVEN}",
    "late_results": f"SELECT count(late_result_sealed) FROM verifications WHERE id = {_GIVEN}",
    "failures": f"SELECT count(failure_sealed) + count(late_failure_sealed) FROM verifications WHERE id = {_GIVEN}",
    "raw_replies": f"SELECT coalesce(sum(cardinality(contents_sealed)), 0) FROM history WHERE verification_id = {_GIVEN}",
    "event_bodies": f"SELECT count(*) FROM vendor_messages WHERE id IN ({_EVENT_BODIES})",
    "full_payloads": f"SELECT count(full_sealed) FROM events WHERE verification_id = {_GIVEN}",
    "partner_answers": f"""
SELECT (SELECT count(d.last_answer_sealed) {_OF_THEIR_EVENTS}) + (
  SELECT count(*) FROM delivery_attempts WHERE answer_sealed IS NOT NULL AND delivery_id IN (SELECT d.id {_OF_THEIR_EVENTS}))""",
    "idempotency_keys": f"SELECT count(*) {_IDEMPOTENCY_KEYS}",
}
"""Kind of what is erased → how much of it these verifications have. `canceled`: those that were still open."""
_COUNT = Query("SELECT " + ", ".join(f"CAST(({sql}) AS bigint) AS {kind}" for kind, sql in ERASED_KINDS.items()))


# With the locks of verifications and deliveries, so it sees what was written before: nobody writes to these rows meanwhile.
# It is one statement, because each costs two changes of process, and on a busy machine these are most of the time.
def _statement(main: str, *parts: str, deliveries: str) -> Query:
    return Query(f"""
WITH raw AS (
  UPDATE history SET contents_sealed = NULL WHERE verification_id = {_GIVEN} AND at >= :since AND contents_sealed IS NOT NULL
), messages AS (
  DELETE FROM vendor_messages WHERE id IN ({_EVENT_BODIES})
), bodies AS (
  UPDATE vendor_events SET body_sealed = NULL WHERE verification_id = {_GIVEN} AND body_sealed IS NOT NULL
), theirs AS MATERIALIZED (
  SELECT d.id {_OF_THEIR_EVENTS}
), answers AS (
  UPDATE delivery_attempts SET answer_sealed = NULL FROM theirs WHERE delivery_id = theirs.id AND answer_sealed IS NOT NULL
), last_answers AS (
  UPDATE deliveries d SET last_answer_sealed = NULL{deliveries}
){"".join(f", {part}" for part in parts)}
{main}""")


_THEIRS = "FROM theirs WHERE d.id = theirs.id AND (last_answer_sealed IS NOT NULL"
# A try that is on the line is not recorded: the partner's answer to a full payload may repeat it.
_NOT_RECORDED = f", step = step + CASE status WHEN '{DeliveryStatus.PENDING}' THEN 1 ELSE 0 END"
_CONTENT = (
    f"answered AS (DELETE FROM results WHERE verification_id = {_GIVEN})",
    f"read AS (DELETE FROM readings WHERE verification_id = {_GIVEN})",
    f"due AS (DELETE FROM work WHERE verification_id = {_GIVEN})",
    f"""keys AS (
  DELETE FROM idempotency_keys WHERE (tenant_id, mode, key) IN (SELECT k.tenant_id, k.mode, k.key {_IDEMPOTENCY_KEYS}))""",
)
_FULL = f"full_payloads AS (UPDATE events SET full_sealed = NULL WHERE verification_id = {_GIVEN} AND full_sealed IS NOT NULL)"
_WORDLESS = f"""full_payloads AS (
  UPDATE events SET full_sealed = NULL, data = data || '{{"external_id": null, "metadata": {{}}}}'
  WHERE verification_id = {_GIVEN})"""
_MARK = """
UPDATE verifications SET inquiry_sealed = NULL, late_result_sealed = NULL, failure_sealed = NULL,
  late_failure_sealed = NULL, member_digest = '', birth_digest = '', inquiry_digest = '', erased_at = clock_timestamp(),
  raw_erased_at = coalesce(raw_erased_at, clock_timestamp())"""
_CHANGED = f"{_THEIRS} OR status = '{DeliveryStatus.PENDING}')"

_ERASE_RAW = _statement(
    f"UPDATE verifications SET raw_erased_at = clock_timestamp() WHERE id = {_GIVEN} AND raw_erased_at IS NULL",
    deliveries=f" {_THEIRS})",
)
_ERASE_OLD = _statement(f"{_MARK} WHERE id = {_GIVEN}", *_CONTENT, _FULL, deliveries=f"{_NOT_RECORDED} {_CHANGED}")
_ERASE_ALL = _statement(
    f"{_MARK}, external_id = NULL, metadata = '{{}}' WHERE id = {_GIVEN}",
    *_CONTENT,
    _WORDLESS,
    deliveries=f"{_NOT_RECORDED} {_CHANGED}",
)
"""Partners' words too, which may not hold PHI: who keeps the contract loses little, but a partner may have broken it."""

_LOCK = Query(
    f"SELECT id, created_at FROM verifications WHERE id = {_GIVEN} AND erased_at IS NULL ORDER BY id FOR NO KEY UPDATE"
)
_LOCK_DELIVERIES = Query(f"SELECT d.id {_OF_THEIR_EVENTS} ORDER BY d.id FOR NO KEY UPDATE OF d")
_NO_WAIT = Query("SET LOCAL synchronous_commit = off")
"""With its locks held a batch does not wait for the disk, which may take half a second: it is on the disk before the next one
begins. What a crash undoes is a whole batch, with what the audit says of it, and that is erased again."""
_WAIT = Query("SET LOCAL synchronous_commit TO DEFAULT")
_KEEP = Query("SELECT pg_logical_emit_message(true, 'covergate', 'erased')")
"""As good as any write: when it is committed, all that was committed before stands on the disk, too."""
_OPEN_ONES = Query(f"SELECT id FROM verifications WHERE id = {_GIVEN} AND {IS_OPEN}")
_CLOCK = Query("SELECT clock_timestamp()")
# A statement has its table's lock before it takes its snapshot and tells the time, and until others see what it wrote.
_WRITERS = Query("""
SELECT DISTINCT virtualtransaction AS id FROM pg_locks
WHERE relation = 'verifications'::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""")


# Reads what a batch will write, with no lock: whatever has to come from the disk, or to go there to make room, does so before.
_READ = Query(f"""
SELECT (SELECT count(substr(inquiry_sealed, 1, 1)) FROM verifications WHERE id = {_GIVEN}),
  (SELECT count(substr(sealed, 1, 1)) FROM results WHERE verification_id = {_GIVEN}),
  (SELECT count(substr(sealed, 1, 1)) FROM readings WHERE verification_id = {_GIVEN}),
  (SELECT sum(cardinality(contents_sealed)) FROM history WHERE verification_id = {_GIVEN} AND at >= (
    SELECT min(created_at) - interval '1 hour' FROM verifications WHERE id = {_GIVEN})),
  (SELECT count(substr(body_sealed, 1, 1)) FROM vendor_messages WHERE id IN ({_EVENT_BODIES})),
  (SELECT count(substr(full_sealed, 1, 1)) FROM events WHERE verification_id = {_GIVEN}),
  (SELECT count(substr(d.last_answer_sealed, 1, 1)) {_OF_THEIR_EVENTS}),
  (SELECT count(substr(answer_sealed, 1, 1)) FROM delivery_attempts WHERE delivery_id IN (SELECT d.id {_OF_THEIR_EVENTS}))""")


@dataclass(frozen=True, slots=True)
class _Old:
    """What of a tenant has outlived its days: how it is found, locked unless another has it, and erased."""

    find: Query
    lock: Query
    erase: Query


def _old(held: str, erase: Query) -> _Old:
    find = Query(
        f"""
SELECT id, created_at FROM verifications
WHERE tenant_id = :tenant AND {held} IS NULL AND created_at >= :after AND created_at < now() - make_interval(days => :days)
  AND completed_at < now() - make_interval(days => :days)
ORDER BY created_at LIMIT :batch""",
        days="int",
        after="timestamptz",
    )
    lock = Query(f"""
SELECT id, created_at FROM verifications WHERE id = {_GIVEN} AND {held} IS NULL ORDER BY id FOR NO KEY UPDATE SKIP LOCKED""")
    return _Old(find, lock, erase)


_OLD_RAW, _OLD_CONTENT = _old("raw_erased_at", _ERASE_RAW), _old("erased_at", _ERASE_OLD)
_TENANTS = Query("SELECT id, raw_days, content_days FROM tenants ORDER BY id")

# The same question is about the same patient, however the member id was spelt.
_OF_PATIENT = Query(
    """
WITH p AS MATERIALIZED (
  SELECT id, inquiry_digest FROM verifications
  WHERE tenant_id = :tenant AND mode = :mode AND member_digest = ANY(:members) AND birth_digest = ANY(:births)
    AND created_at <= :until
)
SELECT id FROM (
  SELECT id FROM p
  UNION SELECT v.id FROM p JOIN verifications v USING (inquiry_digest)
  WHERE v.tenant_id = :tenant AND v.mode = :mode AND v.created_at <= :until) AS theirs
WHERE id > :after ORDER BY id LIMIT :batch""",
    members="bytea[]",
    births="bytea[]",
    until="timestamptz",
)
_OF_TENANT = Query("SELECT id FROM verifications WHERE tenant_id = :tenant AND id > :after ORDER BY id LIMIT :batch")
_HELD_OF_TENANT = Query(
    "SELECT id FROM verifications WHERE tenant_id = :tenant AND erased_at IS NULL AND id > :after ORDER BY id LIMIT :batch"
)

_FIND_TENANT = Query("SELECT id, erased_at FROM tenants WHERE name = :name")
_CLOSE_TENANT = Query(
    f"""
WITH t AS (UPDATE tenants SET erased_at = coalesce(erased_at, clock_timestamp()) WHERE id = :tenant
), e AS (
  UPDATE webhook_endpoints SET deleted_at = coalesce(deleted_at, clock_timestamp()), status = '{EndpointStatus.DISABLED}',
    url = '', description = NULL, secret_sealed = NULL, previous_secret_sealed = NULL, previous_secret_until = NULL,
    older_secrets_sealed = '{{}}', older_secrets_until = '{{}}'
  WHERE tenant_id = :tenant
), a AS (
  UPDATE vendor_accounts SET removed_at = coalesce(removed_at, clock_timestamp()), changed_at = clock_timestamp(),
    credentials_sealed = NULL, hint = '', fingerprint = ''
  WHERE tenant_id = :tenant
), k AS (
  UPDATE api_keys SET revoked_at = clock_timestamp() WHERE tenant_id = :tenant AND revoked_at IS NULL RETURNING id
)
SELECT pg_notify(:channel, id) FROM k UNION ALL SELECT pg_notify(:channel, :tenant)""",
    tenant="text",
    channel="text",
)
_HAS = {
    "api_keys": "SELECT count(*) FROM api_keys WHERE tenant_id = :tenant AND revoked_at IS NULL",
    "webhook_endpoints": "SELECT count(*) FROM webhook_endpoints WHERE tenant_id = :tenant AND deleted_at IS NULL",
    "vendor_accounts": "SELECT count(*) FROM vendor_accounts WHERE tenant_id = :tenant AND removed_at IS NULL",
}
_COUNT_OF_TENANT = Query("SELECT " + ", ".join(f"({sql}) AS {kind}" for kind, sql in _HAS.items()), tenant="text")
_ROWS_OF_TENANT = tuple(
    Query(
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE tenant_id = :tenant LIMIT :batch))"
    )
    for table in ("events", "idempotency_keys", "bulk_jobs", "saved_views", "open_tenant_samples")
)
"""Deliveries go with their events."""

Ids = Callable[[AsyncConnection, str, int], Awaitable[list[str]]]
"""The next verifications after an id, so many at most, in the order of ids."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was, or would be, erased of what was accepted until then: kind → how much. Not `complete`: there is more."""

    counts: Mapping[str, int]
    dry_run: bool
    until: datetime
    complete: bool = True


async def erase_patient(
    gateway: Gateway,
    caller: Caller,
    member_id: str,
    born: date,
    *,
    dry_run: bool,
    by: audit.Actor | None = None,
    within_seconds: float | None = None,
) -> Erasure:
    """Everything of one patient of the caller's tenant and mode that was there when it began. What is open is canceled first.

    `by`: who does it, if that is not the caller.
    """
    begun = time.monotonic()
    until, seen = await _all_accepted(gateway, WRITERS_SECONDS if within_seconds is None else within_seconds)
    await gateway.meet(caller.tenant_id)
    values = {
        "tenant": caller.tenant_id,
        "mode": caller.mode,
        "members": gateway.sealer.digests(caller.tenant_id, "member", *member_digest_parts(caller, member_id)),
        "births": gateway.sealer.digests(caller.tenant_id, "birth", *birth_digest_parts(caller, born)),
        "until": until,
    }

    async def theirs(db: AsyncConnection, after: str, batch: int) -> list[str]:
        return [row.id for row in await _OF_PATIENT.all(db, {**values, "after": after, "batch": batch})]

    action = "patient.erase_preview" if dry_run else "patient.erase"

    async def note(db: AsyncConnection, ids: Sequence[str]) -> None:
        await audit.record(db, by or caller, action, SubjectKind.VERIFICATION, ids)

    counts, complete = await _run(gateway, theirs, note, dry_run=dry_run, begun=begun, within_seconds=within_seconds)
    if not counts["verifications"]:
        # That nobody is known is an answer about the person, too.
        async with gateway.connection() as db:
            await audit.record(db, by or caller, action, SubjectKind.VERIFICATION, outcome=AuditOutcome.NOT_FOUND)
    return Erasure(counts, dry_run, until, seen and complete)


async def erase_tenant(gateway: Gateway, tenant: str, *, dry_run: bool) -> Erasure:
    """All that a tenant has: its API keys are revoked and its endpoints closed first, then its verifications are erased, at last
    its data keys are destroyed.

    Their bare rows, by which late answers are known for what they are, are deleted a month later (`retention.py`). Raises
    ConfigurationError if there is no such tenant.
    """
    async with gateway.connection() as db:
        found = await _FIND_TENANT.one(db, {"name": tenant})
        if found is None:
            raise ConfigurationError("there is no such tenant: see `covergate tenants list`")
        of_tenant = {"tenant": found.id}
        more: dict[str, int] = dict((await _COUNT_OF_TENANT.all(db, of_tenant))[0].items())
        action = "tenant.erase_preview" if dry_run else "tenant.erase"
        await audit.record(db, audit.command_line(found.id), action, SubjectKind.TENANT, [found.id])
        if not dry_run:
            await _CLOSE_TENANT.all(db, {**of_tenant, "channel": CREDENTIALS_CHANGED})
    # A create that began before that does not see that the tenant is erased.
    until, seen = await _all_accepted(gateway, WRITERS_SECONDS)
    if not seen:
        raise ConfigurationError("a transaction has been writing for too long: end it, and run this again")

    async def theirs(db: AsyncConnection, after: str, batch: int) -> list[str]:
        query = _OF_TENANT if dry_run else _HELD_OF_TENANT
        return [row.id for row in await query.all(db, {**of_tenant, "after": after, "batch": batch})]

    async def note(db: AsyncConnection, ids: Sequence[str]) -> None:
        """The tenant's row stands for all of them."""

    counts, _ = await _run(gateway, theirs, note, dry_run=dry_run)
    if not dry_run:
        for rows in _ROWS_OF_TENANT:
            async for _ in _batches(gateway, rows, of_tenant):
                pass
        async with gateway.transaction() as db:
            # Again: a process that had not heard of it may have taken an account or an endpoint in meanwhile.
            await _CLOSE_TENANT.all(db, {**of_tenant, "channel": CREDENTIALS_CHANGED})
            await destroy_all(db, found.id)  # after the last value under them
    return Erasure({**more, **counts}, dry_run, until)


async def erase_old(gateway: Gateway) -> int:
    """What has outlived its tenant's days since its end; how many verifications lost something."""
    settings = gateway.settings
    async with gateway.connection() as db:
        tenants = await _TENANTS.all(db)
    erased = 0
    for tenant in tenants:
        content = settings.content_days if tenant.content_days is None else tenant.content_days
        raw = settings.raw_days if tenant.raw_days is None else tenant.raw_days
        if content:
            erased += await _erase_older(gateway, tenant.id, content, _OLD_CONTENT)
        if raw and not 0 < content <= raw:
            erased += await _erase_older(gateway, tenant.id, raw, _OLD_RAW)
    return erased


async def _erase_older(gateway: Gateway, tenant: str, days: int, old: _Old) -> int:
    erased, batch, values = 0, min(FIRST_BATCH, BATCH), {"tenant": tenant, "days": days}
    # Not from the beginning each time: until a vacuum the index also leads to what was erased.
    after = datetime(1970, 1, 1).astimezone()
    while True:
        began = time.monotonic()
        async with gateway.connection() as db:
            found = await old.find.all(db, {**values, "after": after, "batch": batch})
            if not found:
                return erased
            ids = [row.id for row in found]
            await _READ.all(db, {"ids": ids})
        locked_at = time.monotonic()
        async with gateway.transaction() as db:
            await _NO_WAIT.run(db)
            rows = await old.lock.all(db, {"ids": ids})
            if rows:
                await _erase(db, old.erase, rows)
        held = time.monotonic() - locked_at
        if rows:
            await _keep(gateway)
        erased += len(rows)
        if len(found) < batch:
            return erased
        after = found[-1].created_at
        batch = await _pause(began, held, batch, len(rows))


async def _all_accepted(gateway: Gateway, within_seconds: float) -> tuple[datetime, bool]:
    """An instant, and whether all that was accepted up to it can be seen by now: those who were writing then are waited for."""
    async with gateway.connection() as db:
        until: datetime = await _CLOCK.scalar(db)
        waited_for = now = await _writers(db)
        give_up = time.monotonic() + within_seconds
        while (waited_for := waited_for & now) and time.monotonic() < give_up:
            await asyncio.sleep(LEAST_PAUSE_SECONDS)
            now = await _writers(db)
    return until, not waited_for


async def _writers(db: AsyncConnection) -> set[str]:
    """Transactions that may be accepting something."""
    return {row.id for row in await _WRITERS.all(db)}


async def _run(
    gateway: Gateway,
    ids_after: Ids,
    note: Callable[[AsyncConnection, Sequence[str]], Awaitable[None]],
    *,
    dry_run: bool,
    begun: float = 0.0,
    within_seconds: float | None = None,
) -> tuple[Counter[str], bool]:
    """What was done, and whether that was all."""
    counts: Counter[str] = Counter(dict.fromkeys(ERASED_KINDS, 0))
    after, batch = "", min(FIRST_BATCH, BATCH)
    while True:
        began = time.monotonic()
        async with gateway.connection() as db:
            ids = await ids_after(db, after, batch)
            if not ids:
                return counts, True
            await _READ.all(db, {"ids": ids})
        locked_at = time.monotonic()
        async with gateway.transaction() as db:
            await _NO_WAIT.run(db)
            counts.update(await _count(db, ids) if dry_run else await _erase_all(gateway, db, ids))
            await note(db, ids)
        held = time.monotonic() - locked_at
        await _keep(gateway)
        if len(ids) < batch:
            return counts, True
        if within_seconds is not None and time.monotonic() - begun > within_seconds:
            return counts, False
        after = ids[-1]
        batch = await _pause(began, held, batch, len(ids))


async def _keep(gateway: Gateway) -> None:
    """Has what was committed on the disk: what is reported to be erased stays so, whatever crashes afterwards. And to make
    room in its memory PostgreSQL first brings to the disk what was written about a page: the next batch finds that done."""
    async with gateway.connection() as db:
        await _KEEP.scalar(db)


async def _erase_all(gateway: Gateway, db: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    """Everything of these verifications, those that are open canceled first. What can not be opened any more goes, too."""
    sealer = gateway.sealer
    still_open = [row.id for row in await _OPEN_ONES.all(db, {"ids": list(ids)})]
    canceled = 0
    if still_open:
        await _WAIT.run(db)  # partners are told
        locked = await store.lock(db, sealer, still_open)
        changes = [lifecycle.canceled(replace(v, inquiry_with_ssn=None)) for v in locked.values() if v.open]
        await apply(db, sealer, changes, full=False)
        canceled = len(changes)
    # In statements of their own: what those brought who had the lock before is to be seen by the next ones.
    rows = await _LOCK.all(db, {"ids": list(ids)})
    if not rows:
        return {}
    counts = await _count(db, [row.id for row in rows])
    await _erase(db, _ERASE_ALL, rows)
    return {**counts, "canceled": canceled}


async def _count(db: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    return dict((await _COUNT.all(db, {"ids": list(ids)}))[0].items())


async def _erase(db: AsyncConnection, statement: Query, rows: Sequence[Any]) -> None:
    """Of verifications that the transaction has locked. What a partner answered last is recorded under its delivery's lock."""
    since = min(row.created_at for row in rows) - timedelta(hours=1)
    values = {"ids": [row.id for row in rows], "since": since}
    await _LOCK_DELIVERIES.run(db, values)
    await statement.run(db, values)


async def _batches(gateway: Gateway, delete: Query, values: Mapping[str, Any]) -> AsyncIterator[int]:
    batch = deleted = min(FIRST_BATCH, BATCH)
    while deleted == batch:
        began = time.monotonic()
        async with gateway.transaction() as db:
            await _NO_WAIT.run(db)
            deleted = await delete.run(db, {**values, "batch": batch})
        held = time.monotonic() - began
        await _keep(gateway)
        yield deleted
        if deleted == batch:
            batch = deleted = await _pause(began, held, batch, deleted)


async def _pause(began: float, held: float, batch: int, done: int) -> int:
    """The size of the next batch: on a slow day it is smaller. `held`: for so many seconds its locks were."""
    await asyncio.sleep(max(time.monotonic() - began, LEAST_PAUSE_SECONDS))
    if not done:
        return batch  # another eraser had all of it
    return min(max(int(done * BATCH_SECONDS / held), 1), 2 * batch, BATCH)
