"""One experiment: clients at work, one fault that comes and goes, fresh verifications to see the recovery, then the ledger.

What still waits when the fault has been over for a while is what backs off for minutes or waits for a person; then the clock is
moved and the operator does the rounds, so that every run ends with everything ended.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import httpx

from covergate.access.api_keys import create_key
from covergate.access.caller import Caller
from covergate.errors import Problem
from covergate.verifications.operator import Resolution, resolve
from tests.chaos import clock
from tests.chaos.cluster import Cluster
from tests.chaos.ledger import Account, partner_lines, settle_accounts
from tests.chaos.load import MIX, VENDORS, Clients

CALM_SECONDS = 1.0
"""Load before the fault comes."""
MOVE_SECONDS = 1.0
LOOKED_UP_SECONDS = 30.0
"""Of moved clocks; what is still open then waits for its deadline, which comes."""
SETTLE_SECONDS = 90.0
MOVED_MINUTES = 4 * 60
FRESH_PER_VENDOR = 2

_OPEN = """
SELECT count(*) FROM verifications WHERE tenant_id = $1 AND status IN ('queued', 'in_progress')"""
_PENDING = """
SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.tenant_id = $1 AND d.status = 'pending'"""
_FOR_OPERATOR = """
SELECT v.id, a.id AS attempt_id FROM verifications v JOIN attempts a ON a.id = v.attempt_id
WHERE v.tenant_id = $1 AND v.status = 'in_progress' AND v.waiting_for = 'operator'
  AND v.waiting_since < clock_timestamp() - interval '3 seconds'"""
_CLOSE_CIRCUITS = ("DELETE FROM vendor_standing", "DELETE FROM vendor_calls")

Inject = Callable[["Stage"], Awaitable[None]]


class Skipped(Exception):
    """This machine does not allow the experiment; the text says why."""


@dataclass(frozen=True)
class Fault:
    """`blackout`: while it lasts nobody can close anything, so lateness counts from its end. `quiet`: the vendors and the
    processes are left alone, so no verification may end otherwise than its scenario says. `prepares`: it says itself when the
    clients begin.
    """

    name: str
    text: str
    inject: Inject
    short: bool = False
    verifications: int = 60
    seconds: float = 10.0
    blackout: bool = False
    quiet: bool = False
    prepares: bool = False
    paths: tuple[str, ...] = ("main",)
    mix: tuple[str, ...] = MIX
    vendors: tuple[str, ...] = VENDORS


@dataclass(frozen=True)
class Pace:
    """How long a run takes its time. `patience`: after the fault, before the clock is moved and the operator comes."""

    patience: float = 12.0
    short_deadline: float = 25.0
    """Of what the vendor never answers; long enough for an outage in which its client has to ask again."""
    share: float = 1.0
    """Of the fault's number of verifications, and of its turns."""


THOROUGH = Pace()
HURRIED = Pace(patience=2.0, short_deadline=8.0, share=0.5)


@dataclass
class Stage:
    """What a fault can reach. `problems` is what it found itself that no ledger shows."""

    cluster: Cluster
    fault: Fault
    pace: Pace
    clients: Clients
    tenant_id: str
    endpoints: dict[str, str] = field(default_factory=dict)
    """Path → endpoint id."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    changed: set[str] = field(default_factory=set)
    """Processes with other settings than usual, to be started anew when all is over."""
    load: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The clients go to work; returns after a moment of calm."""
        seconds = CALM_SECONDS + self.fault.seconds * self.pace.share
        self.load = asyncio.create_task(
            self.clients.post_many(round(self.fault.verifications * self.pace.share), seconds)
        )
        await asyncio.sleep(CALM_SECONDS)

    async def change(self, name: str, **settings: Any) -> None:
        self.changed.add(name)
        await self.cluster.restart(name, **settings)

    def turns(self, number: int) -> range:
        return range(round(number * self.pace.share))

    def path(self, name: str = "main") -> str:
        return f"/{self.clients.name}/{name}"


@dataclass(frozen=True)
class Row:
    """A line of the table; seconds are counted from the end of the fault."""

    fault: Fault
    account: Account | None
    recovery: list[float]
    all_ended: float
    clock_moved: bool
    problems: list[str]
    notes: list[str]
    skipped: str | None = None

    @property
    def ok(self) -> bool:
        return self.account is None or (self.account.clean and not self.problems)

    def explained(self) -> str:
        if self.account is None:
            return f"{self.fault.name}: skipped, {self.skipped}"
        account = self.account
        lines = [
            (
                f"{self.fault.name}: {account.verifications} accepted, {dict(account.statuses)}, {dict(account.failures)}, "
                f"{account.exhausted} exhausted, recovery p50 {p50(self.recovery):.1f} s max {max(self.recovery):.1f} s, "
                f"all ended after {self.all_ended:.1f} s{' (clock moved)' if self.clock_moved else ''} {' '.join(self.notes)}"
            )
        ]
        for kind in ("lost", "doubled", "wrong"):
            lines += [f"  {kind} {id_}: {why}" for id_, why in getattr(account, kind).items()]
        return "\n".join(lines + [f"  problem: {problem}" for problem in self.problems])


def p50(values: list[float]) -> float:
    return statistics.median(values)


async def run(cluster: Cluster, fault: Fault, pace: Pace = THOROUGH) -> Row:
    stage = await _stage(cluster, fault, pace)
    try:
        return await _run(stage)
    except Skipped as why:
        return Row(fault, None, [], 0, clock_moved=False, problems=[], notes=[], skipped=str(why))
    finally:
        if stage.load is not None:
            await stage.load
        await asyncio.gather(*(cluster.restart(name) for name in stage.changed if cluster.processes[name].running))


async def _run(stage: Stage) -> Row:
    cluster, fault, pace = stage.cluster, stage.fault, stage.pace
    if not fault.prepares:
        await stage.begin()
    await fault.inject(stage)
    ended = time.time()
    fresh = await stage.clients.post_fresh(FRESH_PER_VENDOR)
    blackout_until = await _now(cluster) if fault.blackout else None
    if stage.load is not None:
        await stage.load
    stage.notes.append(f"accepted after {max(asked.accepted_at for asked in fresh) - ended:.1f} s" if fresh else "")
    settling = _Settling(stage, pace)
    await settling.finish()
    recovery = _recovery(cluster, stage, [asked.id for asked in fresh], ended)
    account = await settle_accounts(
        cluster, stage.tenant_id, stage.clients, settling.resubmitted, blackout_until, len(stage.endpoints)
    )
    if fault.quiet:
        for id_, asked in stage.clients.accepted.items():
            if asked.expected not in ("eligible", "ineligible") or id_ in stage.clients.canceled:
                continue
            if account.failures and id_ in await _failed(cluster, stage.tenant_id):
                account.wrong[id_] = f"{asked.member_id} at {asked.vendor} failed, and nothing stood in its way"
    if len(fresh) < FRESH_PER_VENDOR * len(fault.vendors):
        stage.problems.append("a fresh verification was not accepted")
    return Row(fault, account, recovery, settling.ended_at - ended, settling.clock_moved, stage.problems, stage.notes)


async def _now(cluster: Cluster) -> datetime:
    now: datetime = await cluster.scalar("SELECT clock_timestamp()")
    return now


async def _failed(cluster: Cluster, tenant_id: str) -> set[str]:
    rows = await cluster.rows("SELECT id FROM verifications WHERE tenant_id = $1 AND status = 'failed'", tenant_id)
    return {row["id"] for row in rows}


async def _stage(cluster: Cluster, fault: Fault, pace: Pace) -> Stage:
    """A tenant of its own, so that no experiment sees another's."""
    await cluster.mend()
    await cluster.trouble()
    for statement in _CLOSE_CIRCUITS:
        await cluster.rows(statement)
    name = f"{fault.name}-{time.time_ns() % 10**9}"
    async with cluster.gateway() as gateway:
        key = await create_key(gateway, tenant=name, mode="test")
    tenant_id = await cluster.scalar("SELECT id FROM tenants WHERE name = $1", name)
    stage = Stage(
        cluster,
        fault,
        pace,
        Clients(cluster.api_urls, key, name, fault.vendors, fault.mix, pace.short_deadline),
        tenant_id,
    )
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        for path in map(stage.path, fault.paths):
            reply = await http.post(
                f"{cluster.api_urls[0]}/v1/webhook-endpoints",
                json={
                    "url": cluster.url("partner") + path,
                    "event_types": ["verification.completed", "verification.failed", "verification.canceled"],
                },
                headers={"Authorization": f"Bearer {key}"},
            )
            reply.raise_for_status()
            stage.endpoints[path] = reply.json()["id"]
            await cluster.partner_behaves(path, secret=reply.json()["secret"])
    return stage


class _Settling:
    """Waits for every end and every delivery; later helps with a moved clock and the operator's word."""

    def __init__(self, stage: Stage, pace: Pace) -> None:
        self._stage = stage
        self._pace = pace
        self.resubmitted: list[str] = []
        self.clock_moved = False
        self.ended_at = 0.0

    async def finish(self) -> None:
        cluster, tenant_id = self._stage.cluster, self._stage.tenant_id
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_SECONDS:
            # A fault may have left the database recovering.
            with suppress(OSError, asyncpg.PostgresError):
                if not self.ended_at and not await cluster.scalar(_OPEN, tenant_id):
                    self.ended_at = time.time()
                if self.ended_at and not await cluster.scalar(_PENDING, tenant_id):
                    return
                if time.monotonic() - began > self._pace.patience:
                    self.clock_moved = True
                    await clock.move(cluster, MOVED_MINUTES)
                    await self._do_the_rounds()
                    await asyncio.sleep(MOVE_SECONDS)
                if time.monotonic() - began > self._pace.patience + LOOKED_UP_SECONDS:
                    await clock.bring_deadlines(cluster, tenant_id)
            await asyncio.sleep(0.25)
        self.ended_at = self.ended_at or time.time()

    async def _do_the_rounds(self) -> None:
        """The operator looks at the vendor's own list: what is there is given up, what is not is submitted again."""
        cluster = self._stage.cluster
        waiting = await cluster.rows(_FOR_OPERATOR, self._stage.tenant_id)
        if not waiting:
            return
        known = {submission["member_id"] for submission in await cluster.submissions()}
        async with cluster.gateway() as gateway:
            caller = Caller(self._stage.tenant_id, "test", "key_chaos", frozenset())
            for row in waiting:
                asked = self._stage.clients.accepted.get(row["id"])
                there = asked is None or asked.member_id in known
                with suppress(Problem):  # an event was faster
                    word = Resolution.GIVE_UP if there else Resolution.RESUBMIT
                    await resolve(gateway, caller, row["id"], word)
                    if not there:
                        self.resubmitted.append(row["id"])


def _recovery(cluster: Cluster, stage: Stage, ids: list[str], ended: float) -> list[float]:
    """For each fresh verification: from the end of the fault until the partner was told its end."""
    told: dict[str, float] = {}
    for line in partner_lines(cluster):
        if line["path"] == stage.path() and 200 <= line["status"] < 300:
            told.setdefault(line["verification"], line["at"])
    return [told[id_] - ended if id_ in told else float("inf") for id_ in ids] or [float("inf")]
