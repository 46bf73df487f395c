"""All SQL of the benchmark that names tables of the gateway: a change of the schema is a change of this file.

`fill` makes years of use: a million ended and 300,000 parked verifications with what hangs on them, as copies of one real
verification, sealed values included (nothing here opens them), with ids older than any real one and digests, references and
times of their own. The parked ones wait for their vendor and are due in two days. Long sealed values are cut to
`SEALED_BYTES`: whole they would be another 14 GB, in TOAST tables that no measured path reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from sqlalchemy import text

from covergate.db import jobs
from covergate.db.queue_schema import make_queries
from covergate.gateway import Gateway
from covergate.webhooks.events import News, publish

SEALED_BYTES = 256

_COPIES = """(
  SELECT n, n > {ended} AS parked, lpad(to_hex(n), 26, '0') AS id, now() - n * interval '20 seconds' AS at,
         decode(md5('a' || n) || md5('b' || n), 'hex') AS digest
  FROM generate_series(1, {all}) AS n)"""
_VERIFICATIONS = f"""
INSERT INTO verifications (
  id, tenant_id, mode, external_id, status, outcome, vendor, payer_id, attempt_id, route, step, waiting_for, waiting_since,
  next_check_at, deadline, created_at, completed_at, not_asked, metadata, exchange_count, member_digest, birth_digest,
  inquiry_digest, digest_key_id, inquiry_sealed, result_sealed)
SELECT 'ver_' || c.id, v.tenant_id, v.mode, 'old-' || c.n, CASE WHEN parked THEN 'in_progress' ELSE v.status END,
       CASE WHEN NOT parked THEN v.outcome END, v.vendor, v.payer_id, 'att_' || c.id, v.route, v.step,
       CASE WHEN parked THEN 'vendor' END, CASE WHEN parked THEN c.at END,
       CASE WHEN parked THEN now() + interval '2 days' END, CASE WHEN parked THEN now() + interval '9 days' ELSE c.at END,
       c.at, CASE WHEN NOT parked THEN c.at END, v.not_asked, v.metadata, 2, c.digest, c.digest, c.digest, v.digest_key_id,
       substr(v.inquiry_sealed, 1, {{sealed}}), CASE WHEN NOT parked THEN substr(v.result_sealed, 1, {{sealed}}) END
FROM {_COPIES} c, (SELECT * FROM verifications WHERE status = 'completed' LIMIT 1) v"""
_JOBS = f"""
INSERT INTO pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
SELECT 0, 'advance:' || v.vendor, convert_to('ver_' || c.id || ':' || v.step, 'UTF8'), now() + interval '2 days',
       'ver_' || c.id || ':' || v.step, 'queued'
FROM {_COPIES} c, (SELECT * FROM verifications WHERE status = 'completed' LIMIT 1) v WHERE c.parked"""
_ATTEMPTS = f"""
INSERT INTO attempts (
  id, verification_id, vendor, mode, payer_id, vendor_ref, state, created_at, intent_at, submitted_at, ended_at)
SELECT 'att_' || c.id, 'ver_' || c.id, a.vendor, a.mode, a.payer_id, 'old-' || c.n,
       CASE WHEN parked THEN 'waiting' ELSE a.state END, c.at, c.at, c.at, CASE WHEN NOT parked THEN c.at END
FROM {_COPIES} c, (SELECT * FROM attempts WHERE state = 'answered' LIMIT 1) a"""
_TIMELINE = f"""
INSERT INTO timeline (verification_id, at, type, attempt_id, vendor, message)
SELECT 'ver_' || c.id, c.at, t.type, 'att_' || c.id, t.vendor, t.message
FROM {_COPIES} c, (SELECT DISTINCT ON (type) * FROM timeline WHERE type IN ('created', 'submitted')) t"""
_EXCHANGES = f"""
INSERT INTO exchanges (verification_id, position, public_id, attempt_id, at, call, status, content_type, content_sealed)
SELECT 'ver_' || c.id, 0, 'exc_' || c.id, 'att_' || c.id, c.at, x.call, x.status, x.content_type,
       substr(x.content_sealed, 1, {{sealed}})
FROM {_COPIES} c, (SELECT * FROM exchanges LIMIT 1) x"""
_EVENTS = f"""
INSERT INTO events (id, tenant_id, mode, type, verification_id, data, created_at)
SELECT 'evt_' || c.id, e.tenant_id, e.mode, e.type, 'ver_' || c.id, e.data, c.at
FROM {_COPIES} c, (SELECT * FROM events WHERE verification_id IS NOT NULL LIMIT 1) e WHERE NOT parked"""
_DELIVERIES = f"""
INSERT INTO deliveries (id, event_id, endpoint_id, status, step, tries, created_at, ended_at)
SELECT 'dlv_' || c.id, 'evt_' || c.id, d.endpoint_id, 'delivered', 1, 1, c.at, c.at
FROM {_COPIES} c, (SELECT * FROM deliveries LIMIT 1) d WHERE NOT parked"""
_TRIES = f"""
INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms)
SELECT 'dlv_' || c.id, c.at, 204, 5 FROM {_COPIES} c WHERE NOT parked"""
_FILLING = (
    {"verifications": _VERIFICATIONS, "pgqueuer": _JOBS, "events": _EVENTS},
    {
        "attempts": _ATTEMPTS,
        "timeline": _TIMELINE,
        "exchanges": _EXCHANGES,
        "deliveries": _DELIVERIES,
        "delivery_attempts": _TRIES,
    },
)
"""Table → what is put into it; each of these is filled over a connection of its own, so that both cores have work."""

_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS made_by FROM pg_index i
WHERE i.indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"""
_OPEN = {
    "pgqueuer": "DELETE FROM pgqueuer WHERE execute_after < now() + interval '1 day'",
    "verifications": "DELETE FROM verifications WHERE id >= 'ver_01' AND status IN ('queued', 'in_progress')",
    "attempts": "",
    "timeline": "",
    "idempotency_keys": "DELETE FROM idempotency_keys",
}
"""Table → what empties it of what is open; where there is none, another's cascade. Ids of our time begin with 01, those of `fill`
with 00. A table that the gateway does not have is passed over: it may be an earlier version."""


async def fill(database_url: str, ended: int, parked: int) -> str:
    """Beside at least one verification that has ended and was told of. Says in a line what was made."""
    started = time.monotonic()
    await asyncio.gather(*(_fill(database_url, tables, ended, parked) for tables in _FILLING))
    db = await asyncpg.connect(database_url)
    try:
        await db.execute("VACUUM (FREEZE, ANALYZE)")
        await db.execute("CHECKPOINT")
        size = await db.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    finally:
        await db.close()
    seconds = time.monotonic() - started
    return f"Full tables: {ended:,} ended and {parked:,} parked verifications, {size}, made in {seconds:.0f} s."


async def _fill(database_url: str, tables: dict[str, str], ended: int, parked: int) -> None:
    db = await asyncpg.connect(database_url)
    try:
        # The copies refer to each other as they should; to check each reference would double the time.
        await db.execute(
            "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'"
        )
        for table, statement in tables.items():
            indexes = await db.fetch(_INDEXES, table)
            async with db.transaction():
                # To build an index at the end takes a third of the time of keeping it up to date.
                for index in indexes:
                    await db.execute(f"DROP INDEX {index['name']}")
                await db.execute(statement.format(ended=ended, all=ended + parked, sealed=SEALED_BYTES))
                for index in indexes:
                    await db.execute(index["made_by"])
    finally:
        await db.close()


async def forget_open(database_url: str) -> None:
    """Removes what was accepted and is not ended; leaves what `fill` made."""
    db = await asyncpg.connect(database_url)
    try:
        for table, statement in _OPEN.items():
            if await db.fetchval("SELECT to_regclass($1)", table) is not None:
                if statement:
                    await db.execute(statement)
                await db.execute(f"VACUUM ANALYZE {table}")
    finally:
        await db.close()


async def claims(database_url: str, number: int, times: int) -> list[float]:
    """Seconds of each claim of so many that are due, as a worker makes it; all are rolled back."""
    db = await asyncpg.connect(database_url, server_settings={"jit": "off", "plan_cache_mode": "force_generic_plan"})
    try:
        queries = make_queries(AsyncpgDriver(db), jobs.ADVANCE)
        lanes: Any = {jobs.lane("integrex"): EntrypointExecutionParameter(50)}
        taken = []
        for _ in range(times + 5):
            transaction = db.transaction()
            await transaction.start()
            started = time.perf_counter()
            found = await queries.dequeue(number, lanes, uuid4(), None, timedelta(seconds=30))  # type: ignore[arg-type]
            taken.append(time.perf_counter() - started)
            await transaction.rollback()
            if len(found) != number:
                raise RuntimeError(f"a claim of {number} brought {len(found)}")
        return taken[5:]
    finally:
        await db.close()


# bulkheads.py and endpoints.py

_ENDS = "SELECT extract(epoch FROM completed_at - created_at) * 1000 AS ms FROM verifications WHERE id = ANY(:ids)"
_TAKE_OUT = "UPDATE pgqueuer SET execute_after = {after} WHERE status = 'queued' AND entrypoint = :lane"
_OVERDUE = """
UPDATE verifications SET deadline = clock_timestamp(), next_check_at = clock_timestamp()
WHERE vendor = :vendor AND completed_at IS NULL"""
_OPEN_OF = "SELECT 1 FROM verifications WHERE vendor = :vendor AND completed_at IS NULL LIMIT 1"
_LATENESS = "SELECT extract(epoch FROM max(completed_at - deadline)) AS s FROM verifications WHERE vendor = :vendor"
_ENDPOINT = """
INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)
VALUES (:id, :tenant, 'test', :url, '{*}', 'thin', 'enabled', :secret)"""
_GIVE_UP = """
UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, ended_at = clock_timestamp() WHERE status = 'pending'"""


async def run(gateway: Gateway, statement: str, **values: Any) -> list[Any]:
    async with gateway.connection() as db:
        result = await db.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


async def make_tenant(gateway: Gateway, tenant_id: str) -> None:
    await run(gateway, "INSERT INTO tenants (id, name) VALUES (:id, :id)", id=tenant_id)


async def durations(gateway: Gateway, ids: Sequence[str]) -> list[float | None]:
    """Milliseconds from acceptance to the end, None for what is open."""
    return [None if row.ms is None else float(row.ms) for row in await run(gateway, _ENDS, ids=list(ids))]


async def show_backlog(gateway: Gateway, vendor: str, *, due: bool) -> None:
    """Takes what waits in a vendor's lane out of it, or puts it back; what is under way goes on."""
    after = "clock_timestamp()" if due else "clock_timestamp() + interval '1 hour'"
    await run(gateway, _TAKE_OUT.format(after=after), lane=jobs.lane(vendor))
    await run(gateway, "VACUUM pgqueuer")  # what the update left behind is the benchmark's own


async def end_deadlines(gateway: Gateway, vendor: str) -> None:
    """Everything that is open for a vendor is at its deadline now."""
    await run(gateway, _OVERDUE, vendor=vendor)


async def any_open(gateway: Gateway, vendor: str) -> bool:
    return bool(await run(gateway, _OPEN_OF, vendor=vendor))


async def latest_end(gateway: Gateway, vendor: str) -> float:
    """Seconds by which the last of a vendor's verifications ended after its deadline."""
    [late] = await run(gateway, _LATENESS, vendor=vendor)
    return float(late.s)


async def make_endpoint(gateway: Gateway, endpoint_id: str, tenant_id: str, url: str, secret: bytes) -> None:
    sealed = gateway.sealer.seal("webhook_endpoints", "secret", endpoint_id, secret)
    await run(gateway, _ENDPOINT, id=endpoint_id, tenant=tenant_id, url=url, secret=sealed)


async def announce(gateway: Gateway, news: News) -> None:
    async with gateway.transaction() as db:
        await jobs.enqueue(db, (await publish(db, [news])).jobs)


async def give_up_deliveries(gateway: Gateway) -> None:
    await run(gateway, _GIVE_UP)
    await run(gateway, "DELETE FROM pgqueuer WHERE status = 'queued'")
