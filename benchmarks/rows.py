"""All SQL of the benchmark that names tables of the gateway: a change of the schema is a change of this file.

`fill` makes years of use: a million ended and 300,000 parked verifications with what hangs on them, as copies of one real
verification, sealed values included (nothing here opens them), with ids older than any real one and digests, references and
times of their own. The parked ones wait for their vendor and are due in two days. Long sealed values are cut to
`SEALED_BYTES`: whole they would be another 14 GB, in TOAST tables that no measured path reads.

`python -m benchmarks.rows URL ENDED PARKED` fills a database of this version: so the benchmark of a later one does it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import text

from covergate.db.database import open_database
from covergate.gateway import Gateway
from covergate.settings import Settings
from covergate.verifications import lanes
from covergate.webhooks.endpoints import place_of_secret
from covergate.webhooks.events import News, publish

SEALED_BYTES = 256
LANE = "integrex"

_COPIES = """(
  SELECT n, n > {ended} AS parked, lpad(to_hex(n), 26, '0') AS id, now() - n * interval '20 seconds' AS at,
         decode(md5('a' || n) || md5('b' || n), 'hex') AS digest
  FROM generate_series(1, {all}) AS n)"""
_SAMPLE = "(SELECT * FROM verifications WHERE status = 'completed' AND id >= 'ver_01' ORDER BY id LIMIT 1)"
_VERIFICATIONS = f"""
INSERT INTO verifications (
  id, tenant_id, mode, external_id, status, outcome, vendor, payer_id, attempt_id, deadline, created_at, completed_at,
  not_asked, metadata, history_count, exchange_count, member_digest, birth_digest, inquiry_digest, digest_key_id,
  inquiry_sealed)
SELECT 'ver_' || c.id, v.tenant_id, v.mode, 'old-' || c.n, CASE WHEN NOT parked THEN v.status END,
       CASE WHEN NOT parked THEN v.outcome END, v.vendor, v.payer_id, CASE WHEN NOT parked THEN 'att_' || c.id END,
       CASE WHEN parked THEN now() + interval '9 days' ELSE c.at END, c.at, CASE WHEN NOT parked THEN c.at END,
       v.not_asked, v.metadata, CASE WHEN parked THEN 0 ELSE 2 END, CASE WHEN parked THEN 0 ELSE 1 END,
       c.digest, c.digest, c.digest, v.digest_key_id, substr(v.inquiry_sealed, 1, {{sealed}})
FROM {_COPIES} c, {_SAMPLE} v"""
_WORK = f"""
INSERT INTO work (
  verification_id, vendor, mode, payer, due_at, step, deadline, status, waiting_for, waiting_since, next_check_at, route,
  not_asked, history_count, exchange_count, attempt_id, state, attempt_created_at, vendor_ref, intent_at, submitted_at)
SELECT 'ver_' || c.id, v.vendor, v.mode, coalesce(v.payer_id, ''), now() + interval '2 days', 1, now() + interval '9 days',
       'in_progress', 'vendor', c.at, now() + interval '2 days', '{{{{}}}}', v.not_asked, 2, 1, 'att_' || c.id, 'waiting', c.at,
       'old-' || c.n, c.at, c.at
FROM {_COPIES} c, {_SAMPLE} v WHERE parked"""
_RESULTS = f"""
INSERT INTO results (verification_id, sealed)
SELECT 'ver_' || c.id, substr(r.sealed, 1, {{sealed}}) FROM {_COPIES} c, (SELECT * FROM results LIMIT 1) r WHERE NOT parked"""
_ATTEMPTS = f"""
INSERT INTO attempts (
  id, verification_id, vendor, mode, payer_id, vendor_ref, state, created_at, intent_at, submitted_at, ended_at)
SELECT 'att_' || c.id, 'ver_' || c.id, a.vendor, a.mode, a.payer_id, 'old-' || c.n, a.state, c.at, c.at, c.at, c.at
FROM {_COPIES} c, (SELECT * FROM attempts WHERE state = 'answered' LIMIT 1) a WHERE NOT parked"""
_HISTORY = f"""
INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries, exchanges, contents_sealed)
SELECT 'ver_' || c.id, h.n, c.at, 'att_' || c.id, h.vendor, h.entries, h.exchanges, h.contents
FROM {_COPIES} c, (
  SELECT h.*, CASE WHEN exchanges IS NOT NULL THEN ARRAY(SELECT substr(x, 1, {{sealed}}) FROM unnest(contents_sealed) x) END
    AS contents
  FROM history h JOIN {_SAMPLE} v ON v.id = h.verification_id WHERE n < 2) h"""
_EVENTS = f"""
INSERT INTO events (id, tenant_id, mode, type, verification_id, data, created_at, position)
SELECT 'evt_' || c.id, e.tenant_id, e.mode, e.type, 'ver_' || c.id, e.data, c.at, -c.n
FROM {_COPIES} c, (SELECT * FROM events WHERE verification_id IS NOT NULL LIMIT 1) e WHERE NOT parked"""
_DELIVERIES = f"""
INSERT INTO deliveries (
  id, event_id, endpoint_id, status, step, tries, last_at, last_status, last_duration_ms, created_at, ended_at)
SELECT 'dlv_' || c.id, 'evt_' || c.id, d.endpoint_id, 'delivered', 1, 1, c.at, 204, 5, c.at, c.at
FROM {_COPIES} c, (SELECT * FROM deliveries LIMIT 1) d WHERE NOT parked"""
_FILLING = (
    {"verifications": _VERIFICATIONS, "events": _EVENTS},
    {"work": _WORK, "results": _RESULTS, "attempts": _ATTEMPTS, "history": _HISTORY, "deliveries": _DELIVERIES},
)
"""Table → what is put into it; each of these is filled over a connection of its own, so that both cores have work."""

_MONTHS = """
DO $$ DECLARE month timestamp; BEGIN
  FOR month IN SELECT generate_series(
    date_trunc('month', (now() - {all} * interval '20 seconds') AT TIME ZONE 'UTC'),
    date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month', interval '1 month')
  LOOP
    EXECUTE format('CREATE TABLE history_%s PARTITION OF history FOR VALUES FROM (%L) TO (%L)', to_char(month, 'YYYY_MM'),
      month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
  END LOOP;
END $$"""
"""The partitions of `history` that would have been made in their time."""
_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS made_by FROM pg_index i
WHERE i.indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"""
_OPEN = {
    "pgqueuer": "DELETE FROM pgqueuer WHERE execute_after < now() + interval '1 day'",
    "verifications": """
DELETE FROM verifications WHERE id >= 'ver_01' AND (status IS NULL OR status IN ('queued', 'in_progress'))""",
    "idempotency_keys": "DELETE FROM idempotency_keys",
    "work": "",
    "history": "",
    "attempts": "",
    "timeline": "",
}
"""Table → what empties it of what is open; where there is none, another's cascade. Ids of our time begin with 01, those of `fill`
with 00. A table that the gateway does not have is passed over: it may be an earlier version."""


async def fill(database_url: str, ended: int, parked: int) -> str:
    """Beside at least one verification that has ended and was told of. Says in a line what was made."""
    started = time.monotonic()
    db = await asyncpg.connect(database_url)
    try:
        await db.execute(_MONTHS.format(all=ended + parked))
    finally:
        await db.close()
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


async def claims(settings: Settings, number: int, times: int) -> list[float]:
    """Seconds of each claim of so many that are due, as a worker makes it; all are rolled back."""
    database = await open_database(settings, pool_size=1, application_name="benchmark", migrate=False)
    taken = []
    try:
        for _ in range(times + 5):  # the first ones are planned
            with suppress(_Undone):
                async with database.transaction() as db:
                    started = time.perf_counter()
                    claimed = await lanes.claim(db, database.sealer, {LANE: number}, {LANE: number})
                    taken.append(time.perf_counter() - started)
                    if len(claimed) != number:
                        raise RuntimeError(f"a claim of {number} brought {len(claimed)}")
                    raise _Undone
    finally:
        await database.aclose()
    return taken[5:]


class _Undone(Exception):
    """Rolls a transaction back."""


# bulkheads.py and endpoints.py

_ENDS = "SELECT extract(epoch FROM completed_at - created_at) * 1000 AS ms FROM verifications WHERE id = ANY(:ids)"
_POSTPONE = """
UPDATE work SET step = step + 1, due_at = due_at + interval '1 hour', next_check_at = next_check_at + interval '1 hour'
WHERE vendor = :vendor AND due_at <= clock_timestamp()"""
_PUT_BACK = """
UPDATE work SET step = step + 1, due_at = due_at - interval '1 hour', next_check_at = next_check_at - interval '1 hour'
WHERE vendor = :vendor AND due_at > clock_timestamp() + interval '30 minutes'"""
_OVERDUE = """
WITH late AS (
  UPDATE work SET deadline = now(), next_check_at = least(next_check_at, now())
  WHERE vendor = :vendor AND late_tries IS NULL RETURNING verification_id, deadline)
UPDATE verifications v SET deadline = late.deadline FROM late WHERE v.id = late.verification_id"""
_OPEN_OF = "SELECT 1 FROM work WHERE vendor = :vendor AND late_tries IS NULL LIMIT 1"
_LATENESS = "SELECT extract(epoch FROM max(completed_at - deadline)) AS s FROM verifications WHERE vendor = :vendor"
_ENDPOINT = """
INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)
VALUES (:id, :tenant, 'test', :url, '{*}', 'thin', 'enabled', :secret)"""
_GIVE_UP = """
UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL, step = step + 1, ended_at = clock_timestamp()
WHERE status = 'pending'"""


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
    """Puts off what waits in a vendor's lane, or has it due again; what is under way goes on."""
    await run(gateway, _PUT_BACK if due else _POSTPONE, vendor=vendor)
    await run(gateway, "VACUUM work")  # what the update left behind is the benchmark's own


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
    await gateway.meet(tenant_id)
    sealed = gateway.sealer.seal(place_of_secret(tenant_id, "test", endpoint_id, "secret"), secret)
    await run(gateway, _ENDPOINT, id=endpoint_id, tenant=tenant_id, url=url, secret=sealed)


async def announce(gateway: Gateway, news: News) -> None:
    async with gateway.transaction() as db:
        await publish(db, [news])


async def give_up_deliveries(gateway: Gateway) -> None:
    await run(gateway, _GIVE_UP)


if __name__ == "__main__":
    print(asyncio.run(fill(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
