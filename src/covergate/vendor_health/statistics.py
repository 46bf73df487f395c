"""Each vendor's numbers of the last hour and day, and the side that is to blame for trouble: ours, the vendor's, a payer's.

The blame is judged by all tenants of a mode together, because it is about the vendor. Numbers are shown to a tenant of its own
attempts alone, and of the fleet's to operators. They are read from the attempts that ended and kept for seconds (the hour) or
minutes (the day), so that polling them costs nothing; one caller reads anew while the others are shown what is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.vendors import VENDORS

ENOUGH = 20
"""Ended attempts below which no share means anything."""
MOST_PAYERS = 20
MOST_SPANS = 3_000
"""Spans of tenants whose numbers a process remembers."""
TROUBLE = 0.2
"""The share of failed attempts from which on there is trouble."""
FAILING = 0.5
"""The share from which on one payer counts as failing."""
HEALTHY = 0.9
"""The share of answered attempts above which the rest counts as working while one payer fails."""

_C = FailureCode
OURS = frozenset({_C.VENDOR_AUTH_FAILED, _C.INTERNAL_ERROR})
THE_VENDORS = frozenset(
    {
        _C.VENDOR_UNAVAILABLE,
        _C.VENDOR_RATE_LIMITED,
        _C.VENDOR_PROTOCOL_ERROR,
        _C.VENDOR_COULD_NOT_ANSWER,
        _C.SUBMISSION_UNKNOWN,
        _C.DEADLINE_EXCEEDED,
    }
)
THE_PAYERS = frozenset({_C.PAYER_UNAVAILABLE})
"""The side to blame for a failure code. Any other code is a payer's word on the request: a success of the vendor."""

_READ = """
WITH ended AS (
  SELECT vendor, payer_id, failure_code = ANY(:ours) AS ours, failure_code = ANY(:vendors) AS vendors,
         failure_code = ANY(:payers) AS payers,
         CASE WHEN failure_code IS NULL OR failure_code <> ALL(:ours || :vendors || :payers)
              THEN greatest(extract(epoch FROM ended_at - coalesce(intent_at, submitted_at)), 0)::float8 END AS wait
  FROM attempts
  WHERE {whose} AND mode = :mode AND ended_at >= statement_timestamp() - make_interval(secs => :seconds)
    -- what was canceled, or taken over from another verification, tells nothing about the vendor
    AND NOT (state = 'abandoned' AND failure_code IS NULL)
)
SELECT vendor, payer_id, grouping(payer_id) = 1 AS whole, count(*) AS ended,
       count(*) FILTER (WHERE ours) AS ours, count(*) FILTER (WHERE vendors) AS vendors,
       count(*) FILTER (WHERE payers) AS payers,
       percentile_cont(ARRAY[0.5, 0.95]::float8[]) WITHIN GROUP (ORDER BY wait) AS waits
FROM ended GROUP BY GROUPING SETS ((vendor), (vendor, payer_id))
HAVING grouping(payer_id) = 1
  OR payer_id IS NOT NULL AND (count(*) >= :enough OR count(*) FILTER (WHERE vendors OR payers) > 0)"""
_LISTS = dict.fromkeys(("ours", "vendors", "payers"), "text[]")
_READ_FLEET = Query(_READ.format(whose="vendor = ANY(:names)"), **_LISTS, names="text[]")
_READ_TENANT = Query(_READ.format(whose="tenant_id = :tenant_id"), **_LISTS, tenant_id="text")
"""Each by its own index: a tenant's numbers cost what the tenant asked for, however much the others did."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Attempts that ended, and how many of them failed by whose doing; seconds from submission to answer."""

    ended: int = 0
    ours: int = 0
    vendors: int = 0
    payers: int = 0
    p50: float | None = None
    p95: float | None = None

    @property
    def success_rate(self) -> float | None:
        """None where nothing ended."""
        return (self.ended - self.ours - self.vendors - self.payers) / self.ended if self.ended else None

    @property
    def failed(self) -> int:
        """By the vendor's or the payer's doing."""
        return self.vendors + self.payers

    @property
    def trouble(self) -> float:
        """The share that failed by the vendor's or the payer's doing."""
        return self.failed / self.ended if self.ended else 0.0

    def without(self, other: Numbers) -> Numbers:
        return Numbers(
            self.ended - other.ended, self.ours - other.ours, self.vendors - other.vendors, self.payers - other.payers
        )


@dataclass(frozen=True, slots=True)
class Window:
    """One vendor's numbers over a span: as a whole, and by payer, the busiest first. Of the fleet's payers those with enough,
    and those at which something failed by the vendor's or the payer's doing.
    """

    whole: Numbers = Numbers()
    payers: Mapping[str, Numbers] = field(default_factory=dict)

    @property
    def busy_payers(self) -> dict[str, Numbers]:
        return {payer_id: numbers for payer_id, numbers in self.payers.items() if numbers.ended >= ENOUGH}


class Trouble(StrEnum):
    NONE = "none"
    OURS = "ours"
    VENDOR = "vendor"
    PAYER = "payer"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` is a constant of ours; `payer_id` names the payer if the trouble is a payer's."""

    trouble: Trouble
    reason: str
    payer_id: str | None = None


def judge(circuit: str, hour: Window, *, credentials_refused: bool = False) -> Judgement:
    """The side to blame, judged by a vendor's circuit and its last hour."""
    whole = hour.whole
    if credentials_refused:
        return Judgement(Trouble.OURS, "the vendor refuses the credentials")
    if whole.ended >= ENOUGH and whole.ours >= max(TROUBLE * whole.ended, whole.vendors, whole.payers):
        return Judgement(Trouble.OURS, "most attempts that fail end in vendor_auth_failed or internal_error")
    if circuit != "closed":
        return Judgement(Trouble.VENDOR, "its calls fail, and its circuit is not closed")
    if whole.ended < ENOUGH:
        return Judgement(Trouble.NONE, "too few attempts ended in the last hour to tell")
    return (
        _payers_trouble(hour)
        or _one_payers_trouble(hour)
        or (
            Judgement(Trouble.VENDOR, "attempts fail over all payers")
            if whole.trouble >= TROUBLE
            else Judgement(Trouble.NONE, "attempts are answered")
        )
    )


def judge_payer(payer_id: str, hour: Window) -> Trouble:
    """The side to blame for what fails at one payer, judged by a vendor's last hour."""
    numbers = hour.payers.get(payer_id, Numbers())
    if numbers.ended < ENOUGH or numbers.trouble < TROUBLE:
        return Trouble.NONE
    rest = hour.whole.without(numbers)
    others_answer = rest.ended > 0 and (rest.success_rate or 0) > HEALTHY
    return Trouble.PAYER if others_answer or numbers.payers > numbers.vendors else Trouble.VENDOR


def judge_for(judgement: Judgement, asked: Collection[str]) -> Judgement:
    """What a tenant is told that asked for these payers: whom others ask for is not its business."""
    if judgement.trouble is Trouble.PAYER and judgement.payer_id not in asked:
        return Judgement(Trouble.NONE, "attempts fail only at a payer that you did not ask for in the last day")
    return judgement


def _payers_trouble(hour: Window) -> Judgement | None:
    """One payer fails while the others answer, or the vendor itself says that the only one it was asked for is down."""
    failing = {payer_id: numbers for payer_id, numbers in hour.busy_payers.items() if numbers.trouble >= FAILING}
    if not failing:
        return None
    rest = hour.whole
    for numbers in failing.values():
        rest = rest.without(numbers)
    payer_id, worst = max(failing.items(), key=lambda item: item[1].vendors + item[1].payers)
    if rest.ended >= ENOUGH and (rest.success_rate or 0) > HEALTHY:
        return Judgement(Trouble.PAYER, "attempts fail at this payer and are answered at the others", payer_id)
    if rest.ended < ENOUGH and len(failing) == 1 and worst.payers > worst.vendors:
        return Judgement(Trouble.PAYER, "the vendor says that this payer does not respond", payer_id)
    return None


def _one_payers_trouble(hour: Window) -> Judgement | None:
    """All that failed was asked of one payer, and others are answered: at any number the vendor is not to blame."""
    failing = [(payer_id, numbers) for payer_id, numbers in hour.payers.items() if numbers.failed]
    if len(failing) != 1 or hour.whole.trouble < TROUBLE:
        return None
    [(payer_id, numbers)] = failing
    rest = hour.whole.without(numbers)
    if numbers.failed < hour.whole.failed or rest.ended <= rest.ours:
        return None
    return Judgement(Trouble.PAYER, "attempts fail at this payer alone and are answered at others", payer_id)


@dataclass(frozen=True, slots=True)
class Span:
    seconds: int
    kept_seconds: float


HOUR = Span(3600, kept_seconds=10.0)
DAY = Span(86_400, kept_seconds=120.0)


_Key = tuple[str | None, str, Span]


class Statistics:
    """The numbers that this process knows; one per API process."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._known: dict[_Key, tuple[dict[str, Window], float]] = {}
        self._locks: dict[_Key, asyncio.Lock] = {}

    async def windows(self, mode: str, span: Span, tenant_id: str | None = None) -> dict[str, Window]:
        """Vendor → its numbers, of one tenant or of all; a vendor of which nothing ended is left out."""
        key = (tenant_id, mode, span)
        if len(self._locks) >= MOST_SPANS:
            self._forget()
        lock = self._locks.setdefault(key, asyncio.Lock())
        known = self._known.get(key)
        if known is not None and (lock.locked() or known[1] > time.monotonic()):
            return known[0]
        async with lock:
            known = self._known.get(key)
            if known is None or known[1] <= time.monotonic():
                async with self.gateway.connection() as db:
                    windows = await read_windows(db, mode, span.seconds, tenant_id)
                known = (windows, time.monotonic() + span.kept_seconds)
                self._known[key] = known
            return known[0]

    def _forget(self) -> None:
        """What is too old to be shown, or all if that is nothing; but for what is being read."""
        now = time.monotonic()
        gone = [key for key, lock in self._locks.items() if not lock.locked()]
        old = [key for key in gone if key not in self._known or self._known[key][1] <= now]
        for key in old or gone:
            self._known.pop(key, None)
            del self._locks[key]


async def read_windows(db: AsyncConnection, mode: str, seconds: int, tenant_id: str | None = None) -> dict[str, Window]:
    """The numbers of the last `seconds`; of one tenant with each payer, however seldom it was asked for."""
    values = {"mode": mode, "seconds": seconds, "enough": ENOUGH if tenant_id is None else 1}
    values |= {"names": list(VENDORS), "tenant_id": tenant_id}
    values |= {"ours": sorted(OURS), "vendors": sorted(THE_VENDORS), "payers": sorted(THE_PAYERS)}
    whole: dict[str, Numbers] = {}
    payers: dict[str, dict[str, Numbers]] = {}
    for row in sorted(
        await (_READ_FLEET if tenant_id is None else _READ_TENANT).all(db, values), key=lambda row: -row.ended
    ):
        p50, p95 = row.waits or (None, None)
        numbers = Numbers(row.ended, row.ours, row.vendors, row.payers, p50, p95)
        if row.whole:
            whole[row.vendor] = numbers
        else:
            payers.setdefault(row.vendor, {})[row.payer_id] = numbers
    return {vendor: Window(numbers, payers.get(vendor, {})) for vendor, numbers in whole.items()}
