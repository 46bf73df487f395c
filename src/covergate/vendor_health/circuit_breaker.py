"""One circuit per vendor, mode and account, and the operator's hold, which is of a vendor and mode: both decide whether a
vendor may be called now.

    closed → open            too large a share of the window's calls failed
    open → half_open         its rest is over; one process makes one trial
    half_open → closed       the trial got a readable reply
    half_open → open         the trial failed, or was never heard of again; a longer rest

Only a trial closes a circuit: a slow success that began before it opened proves nothing. A failure while it rests never
shortens the rest. Calls are counted in this process and flushed once a second, so a call costs no round trip of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.kept import Kept
from covergate.db.sql import Query, turn
from covergate.gateway import Gateway
from covergate.states import CircuitState, EventType, WaitingFor
from covergate.vendor_health.announcements import VendorPlace, announce_vendor
from covergate.vendor_health.refused_credentials import RefusedCredentials
from covergate.vendors.account import SHARED
from covergate.vendors.errors import VendorBroken, VendorError, VendorUnavailable

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0
LONGEST_REST_SECONDS = 300.0
TRIAL_SECONDS = 90
"""After which a trial whose process said nothing counts as lost."""

KEPT = (
    Kept("vendor_standing", "one row for each vendor, mode and account"),
    Kept("vendor_calls", "the longest window of a circuit is an hour", "1 day", "bucket"),
)

_ITS = "vendor = :vendor AND mode = :mode AND account = :account"
_READ = Query(
    "SELECT vendor, mode, account, circuit, since, rests_until, held_at, held_by, held_reason, held_until FROM vendor_standing"
)
_BEGIN_ROW = Query(
    "INSERT INTO vendor_standing (vendor, mode, account) VALUES (:vendor, :mode, :account) ON CONFLICT DO NOTHING"
)
_LOCK = Query(
    "SELECT circuit, since, rests_until, held_at, held_reason, held_until FROM vendor_standing"
    f" WHERE {_ITS} FOR NO KEY UPDATE"
)
_TURN = turn("covergate circuits")
"""Counts and circuits are written in either order: one process at a time."""
_COUNT = Query("""
INSERT INTO vendor_calls (vendor, mode, account, bucket, answered, failed)
SELECT vendor, mode, account, to_timestamp(floor(extract(epoch FROM clock_timestamp()) / 10) * 10), answered, failed
FROM unnest(CAST(:vendors AS text[]), CAST(:modes AS text[]), CAST(:accounts AS text[]), CAST(:answered AS int[]),
            CAST(:failed AS int[])) AS c(vendor, mode, account, answered, failed)
ORDER BY vendor, mode, account
ON CONFLICT (vendor, mode, account, bucket) DO UPDATE
  SET answered = vendor_calls.answered + excluded.answered, failed = vendor_calls.failed + excluded.failed""")
_OPEN = Query(f"""
WITH recent AS (
  SELECT vendor, mode, account, sum(failed) AS failed, sum(answered + failed) AS calls FROM vendor_calls
  WHERE bucket >= now() - make_interval(secs => :window) GROUP BY vendor, mode, account
)
INSERT INTO vendor_standing AS s (vendor, mode, account, circuit, since, rests_until, rests)
SELECT vendor, mode, account, '{CircuitState.OPEN}', clock_timestamp(), clock_timestamp() + make_interval(secs => :rest), 1
FROM recent
WHERE calls >= :least AND failed >= CAST(:rate AS double precision) * calls
ON CONFLICT (vendor, mode, account) DO UPDATE
  SET circuit = '{CircuitState.OPEN}', since = excluded.since, rests_until = excluded.rests_until, rests = 1
  WHERE s.circuit = '{CircuitState.CLOSED}'
RETURNING vendor, mode, account""")
_TRY = Query(f"""
UPDATE vendor_standing SET circuit = '{CircuitState.HALF_OPEN}', rests_until = clock_timestamp() + make_interval(secs => :trial)
WHERE {_ITS} AND circuit <> '{CircuitState.CLOSED}' AND rests_until <= clock_timestamp()
RETURNING rests_until""")
_CLOSE = Query(f"""
UPDATE vendor_standing SET circuit = '{CircuitState.CLOSED}', since = clock_timestamp(), rests_until = NULL, rests = 0
WHERE {_ITS} AND circuit = '{CircuitState.HALF_OPEN}' AND rests_until = :trial_until
RETURNING vendor""")
_FORGET = Query(f"DELETE FROM vendor_calls WHERE {_ITS}")
_REST_AGAIN = Query(f"""
UPDATE vendor_standing SET circuit = '{CircuitState.OPEN}', rests = rests + 1,
  rests_until = clock_timestamp() + make_interval(secs => least(:rest * power(2, least(rests, 20)), :longest))
WHERE {_ITS} AND circuit = '{CircuitState.HALF_OPEN}' AND rests_until = :trial_until""")
_HOLD = Query("""
INSERT INTO vendor_standing AS s (vendor, mode, held_at, held_by, held_reason, held_until)
VALUES (:vendor, :mode, clock_timestamp(), :by, :reason, :until)
ON CONFLICT (vendor, mode, account) DO UPDATE SET held_at = coalesce(s.held_at, excluded.held_at),
  held_by = CASE WHEN s.held_at IS NULL THEN excluded.held_by ELSE s.held_by END,
  held_reason = coalesce(excluded.held_reason, s.held_reason), held_until = coalesce(excluded.held_until, s.held_until)
RETURNING held_at >= statement_timestamp()""")
_HELD = "held_at = NULL, held_by = NULL, held_reason = NULL, held_until = NULL"
_RESUME = Query(f"""
UPDATE vendor_standing SET {_HELD}
WHERE vendor = :vendor AND mode = :mode AND account = '' AND held_at IS NOT NULL RETURNING vendor""")
_END_OVERDUE = Query(f"""
UPDATE vendor_standing SET {_HELD} WHERE held_at IS NOT NULL AND held_until <= clock_timestamp()
RETURNING vendor, mode""")
_RELEASE = Query(f"""
UPDATE vendor_standing SET rests_until = clock_timestamp()
WHERE {_ITS} AND circuit = '{CircuitState.HALF_OPEN}' AND rests_until = :trial_until""")


class Verdict(StrEnum):
    GO = "go"
    TRIAL = "trial"
    CIRCUIT = "circuit"
    HOLD = "hold"
    CREDENTIALS = "credentials"


@dataclass(frozen=True, slots=True)
class Standing:
    """`since` is None for a circuit that never left `closed`."""

    circuit: str
    since: datetime | None
    rests_until: datetime | None
    held_at: datetime | None
    held_by: str | None = None
    held_reason: str | None = None
    held_until: datetime | None = None

    @property
    def hold_mark(self) -> str:
        """Of this hold as it stands now, its reason and end included; empty if there is none. Says nothing of either."""
        if self.held_at is None:
            return ""
        parts = (self.held_at.isoformat(), str(self.held_until), self.held_reason or "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on a call to a vendor. `until`: when to ask again (circuit). `trial_until` names the circuit's trial,
    `credentials_until` that of credentials.
    """

    verdict: Verdict
    until: datetime | None = None
    trial_until: datetime | None = None
    credentials_until: datetime | None = None

    @property
    def granted(self) -> bool:
        return self.verdict in (Verdict.GO, Verdict.TRIAL)


GO = Admission(Verdict.GO)


class CircuitBreakers:
    """This process's view of the circuits and of refused credentials, and its counts of calls; `flush` once a second keeps
    all up to date.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.credentials = RefusedCredentials(gateway)
        self._standing: dict[VendorPlace, Standing] = {}
        self._answered: Counter[VendorPlace] = Counter()
        self._failed: Counter[VendorPlace] = Counter()

    async def admit(self, vendor: str, mode: str, now: datetime, account: str = SHARED) -> Admission:
        """`now` is the database's clock. At most one caller in the fleet is granted the trial of a circuit."""
        shared = self._standing.get((vendor, mode, SHARED))
        if shared is not None and shared.held_at is not None:
            return Admission(Verdict.HOLD)
        standing = shared if account == SHARED else self._standing.get((vendor, mode, account))
        if standing is None or standing.rests_until is None:
            return GO
        if standing.rests_until > now:
            return Admission(Verdict.CIRCUIT, until=standing.rests_until)
        async with self.gateway.connection() as db:
            values = {"vendor": vendor, "mode": mode, "account": account, "trial": TRIAL_SECONDS}
            trial_until = await _TRY.scalar(db, values)
            if trial_until is not None:
                return Admission(Verdict.TRIAL, trial_until=trial_until)
            await self._refresh(db)
        standing = self._standing.get((vendor, mode, account))
        if standing is None or standing.rests_until is None:
            return GO
        return Admission(Verdict.CIRCUIT, until=max(standing.rests_until, now + timedelta(seconds=1)))

    def count(self, vendor: str, mode: str, error: VendorError | None, account: str = SHARED) -> None:
        """One finished call. Refused credentials and rate limits are not the vendor's failure to answer."""
        if isinstance(error, VendorUnavailable | VendorBroken):
            self._failed[vendor, mode, account] += 1
        else:
            self._answered[vendor, mode, account] += 1

    async def conclude(
        self, vendor: str, mode: str, admission: Admission, error: VendorError | None, account: str = SHARED
    ) -> None:
        """The trial's outcome decides the circuit."""
        if admission.verdict is not Verdict.TRIAL:
            return
        values = {"vendor": vendor, "mode": mode, "account": account, "trial_until": admission.trial_until}
        async with self.gateway.transaction() as db:
            await _TURN.run(db)
            if isinstance(error, VendorUnavailable | VendorBroken):
                rest = self.gateway.settings.circuit_rest_seconds
                await _REST_AGAIN.run(db, {**values, "rest": rest, "longest": LONGEST_REST_SECONDS})
            elif await _CLOSE.one(db, values) is not None:
                await _FORGET.run(db, {"vendor": vendor, "mode": mode, "account": account})
                place = (vendor, mode, account)
                await announce_vendor(db, place, EventType.VENDOR_RECOVERED, CircuitState.CLOSED, WaitingFor.CIRCUIT)
            await self._refresh(db)

    async def release(self, vendor: str, mode: str, admission: Admission, account: str = SHARED) -> None:
        """Gives up a trial that was not made: another worker may make it."""
        if admission.verdict is Verdict.TRIAL:
            async with self.gateway.connection() as db:
                values = {"vendor": vendor, "mode": mode, "account": account, "trial_until": admission.trial_until}
                await _RELEASE.run(db, values)

    async def flush(self) -> None:
        """Write the counts, open the circuits that have to be, read how everybody stands."""
        answered, failed = self._answered, self._failed
        self._answered, self._failed = Counter(), Counter()
        try:
            await self._flush(answered, failed)
        # Broad on purpose: a flush that is cut off has written nothing either, and the next one writes what it had.
        except BaseException:
            self._answered += answered
            self._failed += failed
            raise

    async def _flush(self, answered: Counter[VendorPlace], failed: Counter[VendorPlace]) -> None:
        keys = sorted({*answered, *failed})
        settings = self.gateway.settings
        async with self.gateway.transaction() as db:
            if keys:
                await _TURN.run(db)
                await _COUNT.run(
                    db,
                    {
                        "vendors": [vendor for vendor, _, _ in keys],
                        "modes": [mode for _, mode, _ in keys],
                        "accounts": [account for _, _, account in keys],
                        "answered": [answered[key] for key in keys],
                        "failed": [failed[key] for key in keys],
                    },
                )
            if failed:
                opened = await _OPEN.all(
                    db,
                    {
                        "window": settings.circuit_window_seconds,
                        "rest": settings.circuit_rest_seconds,
                        "least": settings.circuit_least_calls,
                        "rate": settings.circuit_failure_rate,
                    },
                )
                for row in opened:
                    log.warning("circuit_opened", vendor=row.vendor, mode=row.mode, account=row.account or "shared")
                    place = (row.vendor, row.mode, row.account)
                    await announce_vendor(db, place, EventType.VENDOR_DEGRADED, CircuitState.OPEN, WaitingFor.CIRCUIT)
            if any(stands.held_until is not None for stands in self._standing.values()):
                await _end_overdue_holds(db)
            await self._refresh(db)
            await self.credentials.refresh(db)

    async def _refresh(self, db: AsyncConnection) -> None:
        self._standing = await read_standing(db)


async def read_standing(db: AsyncConnection) -> dict[VendorPlace, Standing]:
    """Those that ever were anything but closed. A hold stands with the shared account, and is of all accounts."""
    return {
        (row.vendor, row.mode, row.account): Standing(
            row.circuit, row.since, row.rests_until, row.held_at, row.held_by, row.held_reason, row.held_until
        )
        for row in await _READ.all(db)
    }


async def lock_hold(db: AsyncConnection, vendor: str, mode: str) -> str:
    """Its `hold_mark`; until the transaction ends nobody else holds or resumes the vendor."""
    place = {"vendor": vendor, "mode": mode, "account": SHARED}
    await _BEGIN_ROW.run(db, place)
    row = await _LOCK.one(db, place)
    assert row is not None
    return Standing(
        row.circuit, row.since, row.rests_until, row.held_at, None, row.held_reason, row.held_until
    ).hold_mark


async def begin_hold(
    db: AsyncConnection,
    vendor: str,
    mode: str,
    *,
    by: str | None = None,
    reason: str | None = None,
    until: datetime | None = None,
) -> bool:
    """Nothing is sent to the vendor, on no account, until it is resumed or `until` has come; whether this call made it so.

    `by`: the operator's id. Of a vendor that is held already a given `reason` or `until` is changed.
    """
    values = {"vendor": vendor, "mode": mode, "by": by, "reason": reason, "until": until}
    if not await _HOLD.scalar(db, values):
        return False
    await announce_vendor(db, (vendor, mode, SHARED), EventType.VENDOR_DEGRADED, "held", WaitingFor.HOLD)
    return True


async def end_hold(db: AsyncConnection, vendor: str, mode: str) -> bool:
    """Calls may go out again; whether it was held at all. `operator.resume` also wakes the held work."""
    if await _RESUME.one(db, {"vendor": vendor, "mode": mode}) is None:
        return False
    await announce_vendor(db, (vendor, mode, SHARED), EventType.VENDOR_RECOVERED, "resumed", WaitingFor.HOLD)
    return True


async def _end_overdue_holds(db: AsyncConnection) -> None:
    """Their time has come. The sweep wakes what waited."""
    await _TURN.run(db)
    for row in await _END_OVERDUE.all(db):
        log.info("hold_ended", vendor=row.vendor, mode=row.mode)
        place = (row.vendor, row.mode, SHARED)
        await announce_vendor(db, place, EventType.VENDOR_RECOVERED, "resumed", WaitingFor.HOLD)
