"""Quotas: how much one subject may do in a time, over all processes. One bucket per policy and subject, one row in PostgreSQL.

A bucket is the instant at which it will be full again (the generic cell rate algorithm): what is done puts it off. A process
decides by its own copy, at once, and tells PostgreSQL afterwards what was done, for all its buckets in one statement every
`SYNC_SECONDS`; the answer is what all processes did together. So a request costs no round trip, and while the database is away
each process goes on by its own copy: nobody waits, and nobody is refused who would not be refused by one process alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from covergate.db.kept import Kept
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sql import Query
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.settings import Settings

log = structlog.get_logger(__name__)

SYNC_SECONDS = 0.2
MOST_SYNCED = 1000
"""Buckets in one statement; of more, the busiest."""
MOST_BUCKETS = 50_000
"""In one process. Past it those that are full are forgotten, which changes nothing, and if most are not, all."""

KEPT = (Kept("quotas", "until the bucket has long been full", "1 day", "full_at"),)

_SPEND = Query("""
INSERT INTO quotas AS q (policy, subject, full_at)
SELECT policy, subject, now() + make_interval(secs => seconds)
FROM unnest(CAST(:policies AS text[]), CAST(:subjects AS text[]), CAST(:seconds AS double precision[]))
  AS s(policy, subject, seconds)
ORDER BY policy, subject
ON CONFLICT (policy, subject) DO UPDATE SET full_at = greatest(q.full_at, now()) + (excluded.full_at - now())
RETURNING policy, subject, extract(epoch FROM full_at - now())::double precision AS seconds""")


@dataclass(frozen=True, slots=True)
class QuotaPolicy:
    """`quota` in `window` seconds: a bucket of that size, which fills in that time. A quota of 0: no limit."""

    name: str
    what: str
    quota: int
    window: int


BURST_SECONDS = 10
"""So many seconds' worth may come at once."""


def per_second(name: str, what: str, number: int) -> QuotaPolicy:
    return QuotaPolicy(name, what, number * BURST_SECONDS, BURST_SECONDS)


def creates_policy(settings: Settings) -> QuotaPolicy:
    """What a tenant may create, by its requests, in the console and by bulk jobs together."""
    return per_second("creates", "verifications created by this tenant", settings.creates_per_second)


def searches_policy(settings: Settings) -> QuotaPolicy:
    return per_second("searches", "lists and searches of this tenant", settings.searches_per_second)


def endpoint_tests_policy(settings: Settings) -> QuotaPolicy:
    """Each is posted to whatever address the tenant gave, from ours."""
    return QuotaPolicy("test_events", "test events of this tenant", settings.test_events_per_minute, 60)


ACCOUNT_CHANGES = QuotaPolicy("account_changes", "changes and tests of vendor accounts by this tenant", 120, 60)
"""Each change leaves a row and wakes every process, and a test calls the vendor from our address."""
REDELIVERIES = QuotaPolicy("redeliveries", "redeliveries and recoveries of this tenant", 600, 60)
"""Each posts again what was posted, from our address; a recovery may be thousands, and is one."""


@dataclass(slots=True)
class _Bucket:
    full_at: float
    """By this process's clock."""
    unsaid: float = 0.0
    """Seconds by which `full_at` was put off since PostgreSQL was told."""


class Quotas:
    """`run` tells PostgreSQL until it is canceled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, policy: QuotaPolicy, subject: str, *, leaving: float = 0.0) -> None:
        """Raises Problem `rate_limited` if the bucket is empty, or would hold less than this part of it."""
        if not policy.quota:
            return
        now = time.monotonic()
        bucket = self._buckets.get((policy.name, subject))
        if bucket is None:
            bucket = self._new(policy, subject, now)
        each = policy.window / policy.quota
        full_at = max(bucket.full_at, now) + each
        usable = policy.window * (1 - leaving)
        if full_at > now + max(usable, each) + 1e-6:
            raise rate_limited(policy, full_at - now - usable)
        bucket.full_at = full_at
        bucket.unsaid += each

    def owe(self, policy: QuotaPolicy, subject: str, number: int) -> None:
        """What turned out to be more than was taken: the next ones wait until it is paid."""
        bucket = self._buckets.get((policy.name, subject))
        if policy.quota and bucket is not None and number > 0:
            each = policy.window / policy.quota
            bucket.full_at += number * each
            bucket.unsaid += number * each

    def give_back(self, policy: QuotaPolicy, subject: str) -> None:
        """What was taken, and then was not that."""
        bucket = self._buckets.get((policy.name, subject))
        if policy.quota and bucket is not None:
            each = policy.window / policy.quota
            bucket.full_at -= each
            bucket.unsaid -= each

    def _new(self, policy: QuotaPolicy, subject: str, now: float) -> _Bucket:
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets = {key: old for key, old in self._buckets.items() if old.full_at > now or old.unsaid}
            if len(self._buckets) > MOST_BUCKETS // 2:
                self._buckets.clear()
        bucket = self._buckets[policy.name, subject] = _Bucket(now)
        return bucket

    async def run(self) -> None:
        away = False
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                await self.sync()
                away = False
            except DATABASE_ERRORS as error:
                if not away:
                    log.warning("quotas_not_shared", error=type(error).__name__)
                away = True

    async def sync(self) -> None:
        """What was done since the last time goes to PostgreSQL, and what all did comes back."""
        spent = {key: bucket.unsaid for key, bucket in self._buckets.items() if bucket.unsaid > 0}
        if not spent:
            return
        if len(spent) > MOST_SYNCED:
            spent = dict(sorted(spent.items(), key=lambda item: -item[1])[:MOST_SYNCED])
        values: Mapping[str, list[str] | list[float]] = {
            "policies": [policy for policy, _ in spent],
            "subjects": [subject for _, subject in spent],
            "seconds": list(spent.values()),
        }
        async with self._gateway.connection() as db:
            rows = await _SPEND.all(db, values)
        now = time.monotonic()
        for row in rows:
            key = (row.policy, row.subject)
            if (bucket := self._buckets.get(key)) is not None:
                bucket.unsaid -= spent[key]
                bucket.full_at = now + row.seconds + bucket.unsaid


def rate_limited(policy: QuotaPolicy, seconds: float) -> Problem:
    """`seconds` until there is something in the bucket again. The fields are those of draft-ietf-httpapi-ratelimit-headers."""
    wait = max(1, math.ceil(seconds))
    fields = {
        "ratelimit-policy": f'"{policy.name}";q={policy.quota};w={policy.window}',
        "ratelimit": f'"{policy.name}";r=0;t={wait}',
    }
    return Problem("rate_limited", f"too many {policy.what}; Retry-After says when", retry_after=wait, headers=fields)
