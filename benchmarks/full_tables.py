"""Years of use: 1,000,000 ended and 300,000 parked verifications with what hangs on them, made by SQL.

They are copies of one real verification, sealed values included (nothing here opens them), with ids older than any real one
and digests, references and times of their own. The parked ones wait for their vendor; their jobs are due in two days.
Long sealed values are cut to `SEALED_BYTES`: whole they would be another 14 GB, in TOAST tables that no measured path reads.
"""

from __future__ import annotations

import time

import asyncpg

from benchmarks.gateway import Setup

ENDED, PARKED = 1_000_000, 300_000
SEALED_BYTES = 256

_COPIES = """
CREATE TEMPORARY TABLE copies ON COMMIT DROP AS
SELECT n, n > {ended} AS parked, lpad(to_hex(n), 26, '0') AS id, now() - n * interval '20 seconds' AS at,
       decode(md5('a' || n) || md5('b' || n), 'hex') AS digest
FROM generate_series(1, {all}) AS n"""
_VERIFICATIONS = """
INSERT INTO verifications (
  id, tenant_id, mode, external_id, status, outcome, vendor, payer_id, attempt_id, route, step, waiting_for, waiting_since,
  next_check_at, deadline, created_at, completed_at, not_asked, metadata, exchange_count, member_digest, birth_digest,
  inquiry_digest, digest_key_id, inquiry_sealed, result_sealed)
SELECT 'ver_' || c.id, v.tenant_id, v.mode, 'old-' || c.n, CASE WHEN parked THEN 'in_progress' ELSE v.status END,
       CASE WHEN NOT parked THEN v.outcome END, v.vendor, v.payer_id, 'att_' || c.id, v.route, v.step,
       CASE WHEN parked THEN 'vendor' END, CASE WHEN parked THEN c.at END,
       CASE WHEN parked THEN now() + interval '2 days' END, CASE WHEN parked THEN now() + interval '9 days' ELSE c.at END,
       c.at, CASE WHEN NOT parked THEN c.at END, v.not_asked, v.metadata, 2, c.digest, c.digest, c.digest, v.digest_key_id,
       substr(v.inquiry_sealed, 1, {sealed}), CASE WHEN NOT parked THEN substr(v.result_sealed, 1, {sealed}) END
FROM copies c, (SELECT * FROM verifications WHERE status = 'completed' LIMIT 1) v"""
_ATTEMPTS = """
INSERT INTO attempts (
  id, verification_id, vendor, mode, payer_id, vendor_ref, state, created_at, intent_at, submitted_at, ended_at)
SELECT 'att_' || c.id, 'ver_' || c.id, a.vendor, a.mode, a.payer_id, 'old-' || c.n,
       CASE WHEN parked THEN 'waiting' ELSE a.state END, c.at, c.at, c.at, CASE WHEN NOT parked THEN c.at END
FROM copies c, (SELECT * FROM attempts WHERE state = 'answered' LIMIT 1) a"""
_TIMELINE = """
INSERT INTO timeline (verification_id, at, type, attempt_id, vendor, message)
SELECT 'ver_' || c.id, c.at, t.type, 'att_' || c.id, t.vendor, t.message
FROM copies c, (SELECT DISTINCT ON (type) * FROM timeline WHERE type IN ('created', 'submitted')) t"""
_EXCHANGES = """
INSERT INTO exchanges (verification_id, position, public_id, attempt_id, at, call, status, content_type, content_sealed)
SELECT 'ver_' || c.id, 0, 'exc_' || c.id, 'att_' || c.id, c.at, x.call, x.status, x.content_type,
       substr(x.content_sealed, 1, {sealed})
FROM copies c, (SELECT * FROM exchanges LIMIT 1) x"""
_EVENTS = """
INSERT INTO events (id, tenant_id, mode, type, verification_id, data, created_at)
SELECT 'evt_' || c.id, e.tenant_id, e.mode, e.type, 'ver_' || c.id, e.data, c.at
FROM copies c, (SELECT * FROM events LIMIT 1) e WHERE NOT parked"""
_DELIVERIES = """
INSERT INTO deliveries (id, event_id, endpoint_id, status, step, tries, created_at, ended_at)
SELECT 'dlv_' || c.id, 'evt_' || c.id, d.endpoint_id, 'delivered', 1, 1, c.at, c.at
FROM copies c, (SELECT * FROM deliveries LIMIT 1) d WHERE NOT parked"""
_TRIES = """
INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms)
SELECT 'dlv_' || id, at, 204, 5 FROM copies WHERE NOT parked"""
_JOBS = """
INSERT INTO pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
SELECT 0, 'advance:' || v.vendor, convert_to(v.id || ':' || v.step, 'UTF8'), v.next_check_at, v.id || ':' || v.step, 'queued'
FROM verifications v JOIN copies c ON v.id = 'ver_' || c.id WHERE c.parked"""


async def fill(setup: Setup) -> str:
    """What was made, in a line."""
    started = time.monotonic()
    db = await asyncpg.connect(setup.database_url)
    try:
        async with db.transaction():
            # The copies refer to each other as they should; checking each reference would double the time.
            await db.execute("SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = off")
            parts = (_COPIES, _VERIFICATIONS, _ATTEMPTS, _TIMELINE, _EXCHANGES, _EVENTS, _DELIVERIES, _TRIES, _JOBS)
            for part in parts:
                await db.execute(part.format(ended=ENDED, all=ENDED + PARKED, sealed=SEALED_BYTES))
        await db.execute("VACUUM ANALYZE")
        await db.execute("CHECKPOINT")
        size = await db.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    finally:
        await db.close()
    seconds = time.monotonic() - started
    return f"Full tables: {ENDED:,} ended and {PARKED:,} parked verifications, {size}, made in {seconds:.0f} s."
