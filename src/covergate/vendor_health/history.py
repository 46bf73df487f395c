"""How vendors and payers did, hour by hour and day by day, and what ended: counted once a minute from what is new.

A worker counts the attempts that ended since the last count into `vendor_history` and `ended_hours`, so that a page reads
a few hundred rows however many verifications there are. What ended is counted `SETTLED_SECONDS` later at the earliest; a
change that took longer to be committed is not counted. Waits are kept in steps of 5/4, so p50 and p95 are within an
eighth. Invariant: numbers of vendors and payers are the fleet's, for operators; `ended_hours` tells tenants apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.kept import Kept
from covergate.db.sql import Query, Record
from covergate.gateway import Gateway
from covergate.vendor_health.statistics import OURS, THE_PAYERS, THE_VENDORS
from covergate.vendors import VENDORS

COUNT_SECONDS = 60.0
SETTLED_SECONDS = 30
"""What ended so long ago is committed."""
FIRST_COUNT_DAYS = 8
"""So far back goes the first count of an installation that had none."""
CHUNK = timedelta(hours=1)
"""Counted in one transaction at most."""

SHORTEST_WAIT, GROWTH, STEPS = 0.05, 1.25, 80
"""Seconds of the first step, each step's size in those of the one before, and how many there are: two weeks fit in."""

KEPT = (
    Kept("vendor_history", "hours for the pages' week, days for a year", "400 days", "at"),
    Kept("ended_hours", "as long as a page looks back", "31 days", "at"),
    Kept("open_samples", "as long as a page looks back", "3 days", "at"),
    Kept("open_tenant_samples", "as long as a page looks back", "1 day", "at"),
    Kept("counting_cursor", "one row"),
)
HOURS_KEPT_DAYS = 15
MOST_PRUNED = 5000

_BEGIN = Query("""
INSERT INTO counting_cursor (id, counted_until)
VALUES (1, date_trunc('minute', now() - CASE WHEN EXISTS (SELECT FROM attempts)
  THEN make_interval(days => :days) ELSE interval '1 hour' END))
ON CONFLICT DO NOTHING""")
_LOCK = Query(
    f"""
SELECT counted_until, date_trunc('minute', clock_timestamp() - interval '{SETTLED_SECONDS} seconds') AS settled
FROM counting_cursor FOR NO KEY UPDATE SKIP LOCKED"""
)
_MOVE = Query("UPDATE counting_cursor SET counted_until = :until")
_ENDED_ATTEMPTS = Query(
    f"""
WITH ended AS (
  SELECT date_trunc('hour', ended_at, 'UTC') AS at, mode, vendor, payer_id,
         coalesce(failure_code = ANY(:ours), false) AS ours, coalesce(failure_code = ANY(:vendors), false) AS vendors,
         coalesce(failure_code = ANY(:payers), false) AS payers,
         greatest(extract(epoch FROM ended_at - coalesce(intent_at, submitted_at)), {SHORTEST_WAIT})::float8 AS wait
  FROM attempts
  WHERE vendor = ANY(:names) AND mode IN ('test', 'live') AND ended_at >= :since AND ended_at < :until
    AND NOT (state = 'abandoned' AND failure_code IS NULL)
), stepped AS (
  SELECT *, CASE WHEN ours OR vendors OR payers THEN NULL
    ELSE least(ceil(ln(wait / {SHORTEST_WAIT}) / ln({GROWTH})), {STEPS - 1})::int END AS step
  FROM ended
)
SELECT at, mode, vendor, payer_id, grouping(payer_id) = 1 AS whole, step, count(*) AS ended,
       count(*) FILTER (WHERE ours) AS ours, count(*) FILTER (WHERE vendors) AS vendors,
       count(*) FILTER (WHERE payers) AS payers
FROM stepped GROUP BY GROUPING SETS ((at, mode, vendor, step), (at, mode, vendor, payer_id, step))""",
    **dict.fromkeys(("ours", "vendors", "payers", "names"), "text[]"),
    since="timestamptz",
    until="timestamptz",
)
_ADD_HISTORY = Query("""
INSERT INTO vendor_history AS h (span, at, mode, vendor, payer_id, ended, ours, vendors, payers, waits)
SELECT span, date_trunc(span, at, 'UTC'), mode, vendor, payer, ended, ours, vendors, payers, CAST(waits AS int[])
FROM unnest(CAST(:spans AS text[]), CAST(:ats AS timestamptz[]), CAST(:modes AS text[]), CAST(:names AS text[]),
            CAST(:payer_ids AS text[]), CAST(:ended AS int[]), CAST(:ours AS int[]), CAST(:vendors AS int[]),
            CAST(:payers AS int[]), CAST(:waits AS text[]))
  AS n(span, at, mode, vendor, payer, ended, ours, vendors, payers, waits)
ON CONFLICT (span, mode, vendor, payer_id, at) DO UPDATE
SET ended = h.ended + excluded.ended, ours = h.ours + excluded.ours, vendors = h.vendors + excluded.vendors,
  payers = h.payers + excluded.payers, waits = ARRAY(
    SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(h.waits, excluded.waits) WITH ORDINALITY AS t(a, b, n) ORDER BY n)""")
_ADD_ENDED = Query(
    """
INSERT INTO ended_hours AS e (at, tenant_id, mode, vendor, outcome, failure_code, number)
SELECT date_trunc('hour', a.ended_at, 'UTC'), v.tenant_id, v.mode, v.vendor, coalesce(v.outcome, v.status),
       coalesce(v.failure_code, ''), count(*)
FROM attempts a JOIN verifications v ON v.id = a.verification_id AND v.attempt_id = a.id AND v.completed_at IS NOT NULL
WHERE a.vendor = ANY(:names) AND a.mode IN ('test', 'live') AND a.ended_at >= :since AND a.ended_at < :until
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (at, tenant_id, mode, vendor, outcome, failure_code) DO UPDATE SET number = e.number + excluded.number""",
    names="text[]",
    since="timestamptz",
    until="timestamptz",
)
_SAMPLE = Query("""
INSERT INTO open_samples (at, mode, waiting_for, number)
SELECT date_trunc('minute', now()), mode, waiting_for, sum(number)
FROM (SELECT mode, coalesce(waiting_for, 'start') AS waiting_for, count(*) AS number
      FROM work WHERE late_tries IS NULL GROUP BY 1, 2
      -- that nothing is open is a sample, too
      UNION ALL SELECT mode, 'start', 0 FROM (VALUES ('test'), ('live')) AS modes(mode)) AS counted
GROUP BY mode, waiting_for ON CONFLICT DO NOTHING""")
TENANT_SAMPLE_MINUTES = 5
"""Its statement looks up each open verification: a second beside 300,000."""
# By one worker at a time.
_SAMPLE_TENANTS = Query(
    """
INSERT INTO open_tenant_samples (tenant_id, mode, at, waiting_for, number)
SELECT v.tenant_id, w.mode, date_trunc('minute', now()), coalesce(w.waiting_for, 'start'), count(*)
FROM (SELECT pg_try_advisory_xact_lock(hashtextextended('open_tenant_samples', 0)) AS mine OFFSET 0) AS turn
  JOIN work w ON turn.mine AND w.late_tries IS NULL
  CROSS JOIN LATERAL (SELECT tenant_id FROM verifications WHERE id = w.verification_id OFFSET 0) AS v
WHERE extract(minute FROM now())::int % :every = 0
  AND NOT EXISTS (SELECT FROM open_tenant_samples WHERE at = date_trunc('minute', now()))
GROUP BY v.tenant_id, w.mode, coalesce(w.waiting_for, 'start') ON CONFLICT DO NOTHING""",
    every="int",
)
_PRUNE_HOURS = Query(f"""
DELETE FROM vendor_history WHERE ctid IN (
  SELECT ctid FROM vendor_history WHERE span = 'hour' AND at < now() - interval '{HOURS_KEPT_DAYS} days' LIMIT :batch)""")
_READ = """
SELECT {at} AS at, vendor, payer_id, sum(ended)::int AS ended, sum(ours)::int AS ours, sum(vendors)::int AS vendors,
       sum(payers)::int AS payers, array_agg(array_to_string(waits, ',')) AS waits
FROM vendor_history
WHERE span = :span AND mode = :mode AND vendor = ANY(:names) AND {whose} AND at >= :since
GROUP BY 1, vendor, payer_id ORDER BY 1 NULLS FIRST, sum(ended) DESC, vendor, payer_id LIMIT :most"""
_TYPES = {"names": "text[]", "since": "timestamptz"}
_VENDORS_OVER_TIME = Query(_READ.format(at="at", whose="payer_id = ''"), **_TYPES)
_PAYER_OVER_TIME = Query(_READ.format(at="at", whose="payer_id = :payer_id"), **_TYPES)
_NEVER = "CAST(NULL AS timestamptz)"
_VENDORS_TOGETHER = Query(_READ.format(at=_NEVER, whose="payer_id = ''"), **_TYPES)
_PAYERS_TOGETHER = Query(_READ.format(at=_NEVER, whose="payer_id <> ''"), **_TYPES)

MOST_POINTS = 20_000


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """Attempts that ended in an hour or a day from `at`, or in the whole span (None), at a vendor or for one payer there.

    `ours`, `vendors`, `payers`: those that failed, by whose doing. `waits`: answers by the step of their wait.
    """

    at: datetime | None
    vendor: str
    payer_id: str | None
    ended: int
    ours: int
    vendors: int
    payers: int
    waits: Sequence[int]

    @property
    def success_rate(self) -> float | None:
        """None where nothing ended."""
        return (self.ended - self.ours - self.vendors - self.payers) / self.ended if self.ended else None

    @property
    def p50(self) -> float | None:
        return self.wait(0.5)

    @property
    def p95(self) -> float | None:
        return self.wait(0.95)

    def wait(self, share: float) -> float | None:
        """Seconds within which this share of the answers came, within an eighth; None where none did."""
        total = sum(self.waits)
        if not total:
            return None
        left = share * total
        for step, number in enumerate(self.waits):
            if number and left <= number:
                top = SHORTEST_WAIT * GROWTH**step
                bottom = top / GROWTH if step else 0.0
                return bottom + (top - bottom) * left / number
            left -= number
        return SHORTEST_WAIT * GROWTH ** (len(self.waits) - 1)


# --- counting ---------------------------------------------------------------------------------------------------------


async def count_ended(gateway: Gateway) -> None:
    """Counts what ended since the last count, and samples what is open; one worker does it at a time."""
    async with gateway.connection() as db:
        await _BEGIN.run(db, {"days": FIRST_COUNT_DAYS})
    while await _count_chunk(gateway):
        continue
    # Of one instant: a tenant without a row at a minute of `open_samples` had nothing open.
    async with gateway.transaction() as db:
        await _SAMPLE.run(db)
        await _SAMPLE_TENANTS.run(db, {"every": TENANT_SAMPLE_MINUTES})
    async with gateway.connection() as db:
        await _PRUNE_HOURS.run(db, {"batch": MOST_PRUNED})


async def _count_chunk(gateway: Gateway) -> bool:
    """Whether there is more."""
    async with gateway.transaction() as db:
        row = await _LOCK.one(db)
        if row is None or row.counted_until >= row.settled:
            return False
        until = min(row.counted_until + CHUNK, row.settled)
        values: dict[str, Any] = {"names": list(VENDORS), "since": row.counted_until, "until": until}
        sides = {"ours": sorted(OURS), "vendors": sorted(THE_VENDORS), "payers": sorted(THE_PAYERS)}
        counted = _together(await _ENDED_ATTEMPTS.all(db, {**values, **sides}))
        if counted:
            await _ADD_HISTORY.run(db, _columns(counted))
            await _ADD_ENDED.run(db, values)
        await _MOVE.run(db, {"until": until})
    return bool(until < row.settled)


@dataclass(slots=True)
class _Count:
    ended: int
    ours: int
    vendors: int
    payers: int
    waits: list[int]


def _together(rows: Iterable[Record]) -> dict[tuple[datetime, str, str, str], _Count]:
    """(Hour, mode, vendor, payer) → what ended; the payer is empty for all together."""
    counted: dict[tuple[datetime, str, str, str], _Count] = {}
    for row in rows:
        if not row.whole and not row.payer_id:
            continue
        key = (row.at, row.mode, row.vendor, "" if row.whole else row.payer_id)
        count = counted.setdefault(key, _Count(0, 0, 0, 0, [0] * STEPS))
        count.ended += row.ended
        count.ours += row.ours
        count.vendors += row.vendors
        count.payers += row.payers
        if row.step is not None:
            count.waits[row.step] += row.ended
    return counted


def _columns(counted: dict[tuple[datetime, str, str, str], _Count]) -> dict[str, list[Any]]:
    """Each count once for its hour and once for its day, by key: two workers would lock them in the same order."""
    days: dict[tuple[datetime, str, str, str], _Count] = {}
    for (at, *rest), count in counted.items():
        key = (at.replace(hour=0), *rest)
        day = days.setdefault(key, _Count(0, 0, 0, 0, [0] * STEPS))  # type: ignore[arg-type]
        day.ended += count.ended
        day.ours += count.ours
        day.vendors += count.vendors
        day.payers += count.payers
        day.waits = [a + b for a, b in zip(day.waits, count.waits, strict=True)]
    rows = [("day", *key, count) for key, count in sorted(days.items())]
    rows += [("hour", *key, count) for key, count in sorted(counted.items())]
    return {
        "spans": [row[0] for row in rows],
        "ats": [row[1] for row in rows],
        "modes": [row[2] for row in rows],
        "names": [row[3] for row in rows],
        "payer_ids": [row[4] for row in rows],
        "ended": [row[5].ended for row in rows],
        "ours": [row[5].ours for row in rows],
        "vendors": [row[5].vendors for row in rows],
        "payers": [row[5].payers for row in rows],
        "waits": [_as_array(row[5].waits) for row in rows],
    }


def _as_array(waits: Sequence[int]) -> str:
    last = max((step for step, number in enumerate(waits) if number), default=-1)
    return "{" + ",".join(map(str, waits[: last + 1])) + "}"


# --- reading ----------------------------------------------------------------------------------------------------------


async def vendors_over_time(
    db: AsyncConnection, mode: str, span: str, since: datetime, vendor: str | None = None
) -> list[HistoryPoint]:
    """By hour or day (`span`), the oldest first: of one vendor or of each."""
    return await _read(_VENDORS_OVER_TIME, db, mode, span, since, vendor)


async def payer_over_time(
    db: AsyncConnection, mode: str, span: str, since: datetime, vendor: str, payer_id: str
) -> list[HistoryPoint]:
    return await _read(_PAYER_OVER_TIME, db, mode, span, since, vendor, payer_id=payer_id)


async def vendors_together(
    db: AsyncConnection, mode: str, span: str, since: datetime, vendor: str | None = None
) -> list[HistoryPoint]:
    """All that ended since then, one row for each vendor."""
    return await _read(_VENDORS_TOGETHER, db, mode, span, since, vendor)


async def payers_together(
    db: AsyncConnection, mode: str, span: str, since: datetime, vendor: str | None = None, most: int = 500
) -> list[HistoryPoint]:
    """One row for each vendor and payer, the busiest first."""
    return await _read(_PAYERS_TOGETHER, db, mode, span, since, vendor, most=most)


async def _read(
    query: Query,
    db: AsyncConnection,
    mode: str,
    span: str,
    since: datetime,
    vendor: str | None,
    payer_id: str = "",
    most: int = MOST_POINTS,
) -> list[HistoryPoint]:
    names = list(VENDORS) if vendor is None else [vendor]
    values = {"mode": mode, "span": span, "since": since, "names": names, "payer_id": payer_id, "most": most}
    return [
        HistoryPoint(
            row.at,
            row.vendor,
            row.payer_id or None,
            row.ended,
            row.ours,
            row.vendors,
            row.payers,
            _added(row.waits),
        )
        for row in await query.all(db, values)
    ]


def _added(waits: Sequence[str]) -> list[int]:
    total = [0] * STEPS
    for one in waits:
        for step, number in enumerate(one.split(",") if one else ()):
            total[step] += int(number)
    return total
