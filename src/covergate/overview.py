"""How the installation stands, as the operator's pages and `covergate top` show it: read models, plain values, no PHI.

Nothing here reads more than the open work's index entries it shows or rows that a worker counted (`vendor_health/history.py`),
so each costs milliseconds beside a million ended verifications. What is counted or sampled says from when it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.backlog import oldest_due, workers_alive
from covergate.db.sql import Query, Record
from covergate.eligibility.failure import FailureCode, FixBy, failure
from covergate.states import DeliveryStatus
from covergate.vendor_health.circuit_breaker import Standing, read_standing
from covergate.vendor_health.history import TENANT_SAMPLE_MINUTES
from covergate.vendor_health.refused_credentials import Refusal, read_refusals
from covergate.vendors import VENDORS

MOST_COUNTED = 1000
"""Deadlines beyond so many are not counted one by one: the number says that there are more."""

_MINE = "(:mode IS NULL OR mode = :mode)"
_SAMPLES = Query(
    f"SELECT at, waiting_for, sum(number)::int AS number FROM open_samples WHERE at >= :since AND {_MINE}"
    " GROUP BY at, waiting_for ORDER BY at, waiting_for",
    mode="text",
    since="timestamptz",
)
_TENANT_SAMPLES = Query(
    """
SELECT s.at, t.waiting_for, t.number
FROM (SELECT DISTINCT at FROM open_samples WHERE at >= :since AND mode = :mode
        AND extract(minute FROM at)::int % :every = 0
        AND at >= (SELECT min(at) FROM open_tenant_samples)) AS s
  LEFT JOIN open_tenant_samples t ON t.at = s.at AND t.tenant_id = :tenant_id AND t.mode = :mode
ORDER BY s.at, t.waiting_for""",
    mode="text",
    tenant_id="text",
    since="timestamptz",
    every="int",
)
_LAST_SAMPLE = Query(
    f"SELECT at, waiting_for, sum(number)::int AS number FROM open_samples"
    f" WHERE at = (SELECT max(at) FROM open_samples) AND {_MINE} GROUP BY at, waiting_for",
    mode="text",
)
_ENDED_HOURS = Query(
    f"SELECT at, outcome, failure_code, sum(number)::int AS number FROM ended_hours"
    f" WHERE at >= :since AND (:tenant_id IS NULL OR tenant_id = :tenant_id) AND {_MINE}"
    " GROUP BY at, outcome, failure_code ORDER BY at, outcome, failure_code",
    mode="text",
    tenant_id="text",
    since="timestamptz",
)
_ENDED_LATELY = Query(
    f"""
SELECT vendor, coalesce(failure_code, CASE state WHEN 'answered' THEN 'answered' ELSE 'canceled' END) AS what,
       count(*) AS number
FROM attempts
WHERE vendor = ANY(:names) AND mode IN ('test', 'live') AND {_MINE}
  AND ended_at >= statement_timestamp() - make_interval(secs => :seconds)
GROUP BY 1, 2 ORDER BY 1, 3 DESC""",
    names="text[]",
    mode="text",
    seconds="double precision",
)
_OLDEST = Query(
    f"""
SELECT verification_id, vendor, mode, waiting_for, waiting_since, next_check_at, deadline, attempt_created_at
FROM work WHERE late_tries IS NULL AND {_MINE} ORDER BY verification_id LIMIT :most""",
    mode="text",
)
_DEADLINES = Query(
    f"""
SELECT verification_id, vendor, mode, waiting_for, waiting_since, next_check_at, deadline, attempt_created_at
FROM work WHERE late_tries IS NULL AND deadline < statement_timestamp() + make_interval(secs => :seconds) AND {_MINE}
ORDER BY deadline LIMIT :most""",
    mode="text",
    seconds="double precision",
)
_FAILING = Query(
    f"""
SELECT w.id, w.tenant_id, w.mode, w.status, f.pending, f.tries, f.last_status, f.last_error, f.next_attempt_at
FROM (
  SELECT endpoint_id, count(*) AS pending, max(tries) AS tries, min(next_attempt_at) AS next_attempt_at,
         (array_agg(last_status ORDER BY last_at DESC NULLS LAST))[1] AS last_status,
         (array_agg(last_error ORDER BY last_at DESC NULLS LAST))[1] AS last_error
  FROM deliveries WHERE status = '{DeliveryStatus.PENDING}' AND tries > 0 GROUP BY endpoint_id) AS f
JOIN webhook_endpoints w ON w.id = f.endpoint_id
WHERE (:tenant_id IS NULL OR w.tenant_id = :tenant_id) AND (:mode IS NULL OR w.mode = :mode)
ORDER BY f.pending DESC LIMIT :most""",
    tenant_id="text",
    mode="text",
)


@dataclass(frozen=True, slots=True)
class OpenSample:
    """What was open at a minute: `waiting_for` → how many; `start`: the first step is still to come."""

    at: datetime
    waiting_for: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EndedHour:
    """So many ended in the hour from `at`. `fix_by` is None for an answer and for what was canceled."""

    at: datetime
    outcome: str
    failure_code: str | None
    fix_by: FixBy | None
    number: int


@dataclass(frozen=True, slots=True)
class WaitingOne:
    """An open verification, without anything that tells of its patient."""

    verification_id: str
    vendor: str
    mode: str
    waiting_for: str | None
    since: datetime
    next_check_at: datetime
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Those that end soonest; `number` of all is `MOST_COUNTED` if there are as many or more."""

    first: list[WaitingOne]
    number: int


@dataclass(frozen=True, slots=True)
class FailingEndpoint:
    """An endpoint with deliveries that failed at least once and are tried again; its last answer."""

    endpoint_id: str
    tenant_id: str
    mode: str
    status: str
    pending: int
    tries: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class VendorNow:
    """A vendor in one mode: the shared account's circuit, the hold, and the accounts that are in trouble.

    `refused` and `resting`: account → its refused credentials, its circuit that is not closed; the shared one is empty.
    """

    vendor: str
    mode: str
    standing: Standing | None
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    resting: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return self.standing is not None and self.standing.held_at is not None

    @property
    def accounts_in_trouble(self) -> list[str]:
        return sorted({*self.refused, *self.resting})

    def state_of(self, account: str) -> tuple[str, datetime | None, str | None]:
        """`ok`, `held`, `credentials` (refused), `open` or `half_open` (its circuit); since when, and what there is to say."""
        if self.held:
            assert self.standing is not None
            until = self.standing.held_until
            ends = None if until is None else f"until {until:%Y-%m-%d %H:%M} UTC"
            said = "; ".join(part for part in (self.standing.held_reason, ends) if part)
            return "held", self.standing.held_at, said or None
        if account in self.refused:
            refusal = self.refused[account]
            return "credentials", refusal.since, f"refused; tried again at {refusal.trial_at:%H:%M:%S} UTC"
        if account in self.resting:
            rests = self.resting[account]
            until = rests.rests_until
            return rests.circuit, rests.since, None if until is None else f"rests until {until:%H:%M:%S} UTC"
        return "ok", None, None


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it at once, for `covergate top`."""

    open: OpenSample | None
    oldest_due_seconds: Mapping[str, float]
    ended: Mapping[str, Mapping[str, int]]
    oldest: list[WaitingOne]
    deadlines: Deadlines
    vendors: list[VendorNow]
    failing: list[FailingEndpoint]
    workers: int


async def open_over_time(db: AsyncConnection, since: datetime, mode: str | None = None) -> list[OpenSample]:
    """The fleet's, sampled each minute by a worker; a minute without one had no worker. The oldest first."""
    samples: dict[datetime, dict[str, int]] = {}
    for row in await _SAMPLES.all(db, {"since": since, "mode": mode}):
        samples.setdefault(row.at, {})[row.waiting_for] = row.number
    return [OpenSample(at, numbers) for at, numbers in samples.items()]


async def tenant_open_over_time(db: AsyncConnection, since: datetime, tenant_id: str, mode: str) -> list[OpenSample]:
    """One tenant's, sampled every `TENANT_SAMPLE_MINUTES`. The oldest first."""
    values = {"since": since, "tenant_id": tenant_id, "mode": mode, "every": TENANT_SAMPLE_MINUTES}
    samples: dict[datetime, dict[str, int]] = {}
    for row in await _TENANT_SAMPLES.all(db, values):
        numbers = samples.setdefault(row.at, {})
        if row.number is not None:
            numbers[row.waiting_for] = row.number
    return [OpenSample(at, numbers) for at, numbers in samples.items()]


async def open_lately(db: AsyncConnection, mode: str | None = None) -> OpenSample | None:
    """The last sample; None if no worker ever made one."""
    rows = await _LAST_SAMPLE.all(db, {"mode": mode})
    return OpenSample(rows[0].at, {row.waiting_for: row.number for row in rows}) if rows else None


async def ended_by_hour(
    db: AsyncConnection, since: datetime, tenant_id: str | None = None, mode: str | None = None
) -> list[EndedHour]:
    """Of one tenant or of the fleet, up to a minute or two ago. The oldest first."""
    rows = await _ENDED_HOURS.all(db, {"since": since, "tenant_id": tenant_id, "mode": mode})
    return [
        EndedHour(row.at, row.outcome, row.failure_code or None, _fix_by(row.failure_code), row.number) for row in rows
    ]


async def ended_lately(db: AsyncConnection, seconds: float, mode: str | None = None) -> dict[str, dict[str, int]]:
    """Vendor → `answered`, `canceled` or failure code → attempts that ended in the last seconds: keep it to minutes."""
    ended: dict[str, dict[str, int]] = {}
    for row in await _ENDED_LATELY.all(db, {"names": list(VENDORS), "seconds": seconds, "mode": mode}):
        ended.setdefault(row.vendor, {})[row.what] = row.number
    return ended


async def oldest_open(db: AsyncConnection, most: int = 20, mode: str | None = None) -> list[WaitingOne]:
    """By when they were accepted."""
    return [_waiting(row) for row in await _OLDEST.all(db, {"most": most, "mode": mode})]


async def deadlines_within(db: AsyncConnection, seconds: float, most: int = 20, mode: str | None = None) -> Deadlines:
    rows = await _DEADLINES.all(db, {"seconds": seconds, "most": MOST_COUNTED, "mode": mode})
    return Deadlines([_waiting(row) for row in rows[:most]], len(rows))


async def failing_endpoints(
    db: AsyncConnection, most: int = 50, tenant_id: str | None = None, mode: str | None = None
) -> list[FailingEndpoint]:
    """The one with the most waiting deliveries first."""
    return [
        FailingEndpoint(
            row.id,
            row.tenant_id,
            row.mode,
            row.status,
            row.pending,
            row.tries,
            row.last_status,
            row.last_error,
            row.next_attempt_at,
        )
        for row in await _FAILING.all(db, {"most": most, "tenant_id": tenant_id, "mode": mode})
    ]


async def vendors_now(db: AsyncConnection, *modes: str) -> list[VendorNow]:
    """Every vendor in each of these modes."""
    standing, refusals = await read_standing(db), await read_refusals(db)
    return [
        VendorNow(
            vendor,
            mode,
            standing.get((vendor, mode, "")),
            {key[2]: one for key, one in refusals.items() if key[:2] == (vendor, mode) and one.since is not None},
            {key[2]: one for key, one in standing.items() if key[:2] == (vendor, mode) and one.circuit != "closed"},
        )
        for mode in modes
        for vendor in VENDORS
    ]


async def overview_of(db: AsyncConnection, *modes: str, seconds: float = 300) -> Overview:
    """`seconds`: how long ago the latest ends are."""
    mode = modes[0] if len(modes) == 1 else None
    return Overview(
        await open_lately(db, mode),
        await oldest_due(db),
        await ended_lately(db, seconds, mode),
        await oldest_open(db, 10, mode),
        await deadlines_within(db, 3600, 10, mode),
        await vendors_now(db, *modes),
        await failing_endpoints(db, 10, None, mode),
        await workers_alive(db),
    )


def _waiting(row: Record) -> WaitingOne:
    return WaitingOne(
        row.verification_id,
        row.vendor,
        row.mode,
        row.waiting_for,
        row.waiting_since or row.attempt_created_at,
        row.next_check_at,
        row.deadline,
    )


def _fix_by(code: str) -> FixBy | None:
    return failure(FailureCode(code)).fix_by if code in {one.value for one in FailureCode} else None
