"""One experiment: clients at work, one fault that comes and goes, fresh verifications to see the recovery, then the ledger.

What still waits when the fault has been over for a while is what backs off for minutes or waits for a person; then the clock is
moved and the operator does the rounds, so that every run ends with everything ended.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import httpx

from covergate.access.caller import Caller
from covergate.errors import Problem
from covergate.verifications.operator import Resolution, resolve
from tests.chaos import books, clock
from tests.chaos.cluster import Cluster
from tests.chaos.ledger import TERMINAL, Account, Period, partner_lines, settle_accounts
from tests.chaos.load import MIX, VENDORS, Clients

CALL_SECONDS = 3.0
"""How long a committing call is on the line before and during a fault."""
FILL_SECONDS = 10.0
"""Of waiting until enough of them are."""
MOVE_SECONDS = 1.0
LOOKED_UP_SECONDS = 15.0
"""Of moved clocks; what is still open then waits for its deadline, which comes."""
SETTLE_SECONDS = 90.0
MOVED_MINUTES = 4 * 60
FRESH_PER_VENDOR = 2

ENDS = tuple(TERMINAL.values())

Inject = Callable[["Stage"], Awaitable[None]]


class Skipped(Exception):
    """This machine does not allow the experiment; the text says why."""


@dataclass(frozen=True)
class Fault:
    """`at_once` verifications are posted before it and `verifications` more during it. `blackout`: while it lasts nobody can
    close anything, so lateness counts from its end. `quiet`: the vendors and the processes are left alone, so no verification
    may end otherwise than its scenario says. `prepares`: it says itself when the clients begin. `patience`: seconds that it
    needs beyond the pace's. `before`: what is done to the cluster before there is a tenant.
    """

    name: str
    text: str
    inject: Inject
    short: bool = False
    at_once: int = 100
    verifications: int = 30
    seconds: float = 10.0
    blackout: bool = False
    quiet: bool = False
    prepares: bool = False
    paths: tuple[str, ...] = ("main",)
    mix: tuple[str, ...] = MIX
    vendors: tuple[str, ...] = VENDORS
    patience: float = 0.0
    before: Callable[[Cluster], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Pace:
    """How long a run takes its time. `patience`: after the fault, before the clock is moved and the operator comes."""

    patience: float = 8.0
    short_deadline: float = 15.0
    """Of what the vendor never answers."""
    share: float = 1.0
    """Of the fault's number of verifications, and of its turns."""
    on_the_line: int = 50
    """Committing calls that a fault meets, at least."""


THOROUGH = Pace()
HURRIED = Pace(patience=2.0, short_deadline=8.0, share=0.5, on_the_line=20)


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
    lasting: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What has to outlive the fault, to the end of the experiment."""
    load: asyncio.Task[None] | None = None
    on_the_line: int = 0
    """Committing calls when the fault came."""
    began: float = field(default_factory=time.time)

    async def begin(self) -> None:
        """The clients go to work; returns when enough calls are on the line."""
        cluster, share = self.cluster, self.pace.share
        await cluster.stretch_calls(CALL_SECONDS)
        at_once, count = round(self.fault.at_once * share), round(self.fault.verifications * share)
        self.load = asyncio.create_task(self.clients.post_many(at_once, count, self.fault.seconds * share))
        await self.until_on_the_line(self.pace.on_the_line)

    async def until_on_the_line(self, least: int) -> None:
        """Counts the committing calls; too few are a problem of their own."""
        gives_up = time.monotonic() + FILL_SECONDS
        while self.on_the_line < least:
            self.on_the_line = (await self.cluster.proxy_state())["on_the_line"]
            if time.monotonic() > gives_up:
                self.problems.append(f"{self.on_the_line} calls were on the line, not {least}")
                return
            await asyncio.sleep(0.02)

    async def change(self, name: str, **how: Any) -> None:
        """Starts the process anew as `Cluster.start` takes it, until the experiment is over."""
        self.changed.add(name)
        await self.cluster.restart(name, **how)

    async def neighbour(self, *urls: str) -> Neighbour:
        """Another tenant with these endpoints, whose verifications are in nobody's ledger."""
        name = f"{self.clients.name}-neighbour"
        key, tenant_id = await _new_tenant(self.cluster, name)
        endpoints = [(await _new_endpoint(self.cluster, key, url))["id"] for url in urls]
        clients = Clients(self.cluster.api_urls, key, name, self.fault.vendors, ("ELIGIBLE",))
        return Neighbour(self.cluster, clients, tenant_id, endpoints)

    async def address(self, path: str, url: str) -> None:
        """A further endpoint of the partner's, under an address of one's own choice that ends in its path."""
        endpoint = await _new_endpoint(self.cluster, self.clients.api_key, url)
        self.endpoints[self.path(path)] = endpoint["id"]
        await self.cluster.partner_behaves(self.path(path), secret=endpoint["secret"])

    async def webhook_delays(self, path: str = "main") -> list[float]:
        """Seconds from an end's event until the partner had it, in rising order."""
        path = self.path(path)
        told = {line["id"]: line["at"] for line in reversed(partner_lines(self.cluster)) if line["path"] == path}
        events = await books.events(self.cluster, self.tenant_id, ENDS)
        return sorted(told[event["id"]] - event["at"] for event in events if event["id"] in told)

    def turns(self, number: int) -> range:
        return range(round(number * self.pace.share))

    def path(self, name: str = "main") -> str:
        return f"/{self.clients.name}/{name}"


@dataclass
class Neighbour:
    cluster: Cluster
    clients: Clients
    tenant_id: str
    endpoints: Sequence[str]

    async def leave(self) -> None:
        """Its endpoints are deleted: nothing is tried for them any more."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            for id_ in self.endpoints:
                reply = await http.delete(
                    f"{self.cluster.api_urls[0]}/v1/webhook-endpoints/{id_}",
                    headers={"Authorization": f"Bearer {self.clients.api_key}"},
                )
                reply.raise_for_status()


@dataclass(frozen=True)
class Row:
    """A line of the table; seconds are counted from the end of the fault."""

    fault: Fault
    account: Account | None
    seconds: float
    """That the experiment took."""
    on_the_line: int = 0
    recovery: Sequence[float] = ()
    all_ended: float = 0.0
    clock_moved: bool = False
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
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
                f"{self.fault.name}: {account.verifications} accepted, {self.on_the_line} calls on the line, "
                f"{dict(account.statuses)}, {dict(account.failures)}, {account.exhausted} exhausted, "
                f"{account.needs_attention} need attention, {account.replies_lost} replies lost, "
                f"{account.resolutions} resolved, recovery p50 {p50(self.recovery):.1f} s max {max(self.recovery):.1f} s, "
                f"all ended after {self.all_ended:.1f} s{' (clock moved)' if self.clock_moved else ''}, "
                f"took {self.seconds:.0f} s; {', '.join(filter(None, self.notes))}"
            )
        ]
        for kind in ("lost", "doubled", "wrong", "avoidable"):
            lines += [f"  {kind} {id_}: {why}" for id_, why in getattr(account, kind).items()]
        return "\n".join(lines + [f"  problem: {problem}" for problem in self.problems])


def p50(values: Sequence[float]) -> float:
    return statistics.median(values)


async def run(cluster: Cluster, fault: Fault, pace: Pace = THOROUGH) -> Row:
    began = time.monotonic()
    try:
        stage = await _stage(cluster, fault, pace)
    except Skipped as why:
        return Row(fault, None, time.monotonic() - began, skipped=str(why))
    try:
        return await _run(stage, began)
    except Skipped as why:
        return Row(fault, None, time.monotonic() - began, skipped=str(why))
    finally:
        if stage.load is not None:
            await stage.load
        await asyncio.gather(*(cluster.restart(name) for name in stage.changed if cluster.processes[name].running))
        await stage.lasting.aclose()


async def _run(stage: Stage, began: float) -> Row:
    cluster, fault, pace = stage.cluster, stage.fault, stage.pace
    if not fault.prepares:
        await stage.begin()
    await fault.inject(stage)
    await cluster.stretch_calls(0)
    ended = time.time()
    fresh = await stage.clients.post_fresh(FRESH_PER_VENDOR)
    blackout_until = await _now(cluster) if fault.blackout else None
    if stage.load is not None:
        await stage.load
    stage.notes.append(f"accepted after {max(asked.accepted_at for asked in fresh) - ended:.1f} s" if fresh else "")
    settling = _Settling(stage, pace)
    await settling.finish()
    recovery = _recovery(cluster, stage, [asked.id for asked in fresh], ended)
    period = Period(
        stage.began, blackout_until, len(stage.endpoints), settling.resubmitted, settling.given_up, settling.intents
    )
    account = await settle_accounts(cluster, stage.tenant_id, stage.clients, period)
    if fault.quiet:
        rows = await books.verifications(cluster, stage.tenant_id, None)
        for id_, asked in stage.clients.accepted.items():
            if asked.expected not in ("eligible", "ineligible") or id_ in stage.clients.canceled:
                continue
            if id_ in rows and rows[id_]["status"] == "failed":
                account.wrong[id_] = f"{asked.member_id} at {asked.vendor} failed, and nothing stood in its way"
    if len(fresh) < FRESH_PER_VENDOR * len(fault.vendors):
        stage.problems.append("a fresh verification was not accepted")
    return Row(
        fault,
        account,
        time.monotonic() - began,
        stage.on_the_line,
        recovery,
        settling.ended_at - ended,
        settling.clock_moved,
        stage.problems,
        stage.notes,
    )


async def _now(cluster: Cluster) -> datetime:
    now: datetime = await cluster.scalar("SELECT clock_timestamp()")
    return now


async def _stage(cluster: Cluster, fault: Fault, pace: Pace) -> Stage:
    """A tenant of its own, so that no experiment sees another's."""
    if fault.before is not None:
        await fault.before(cluster)
    await cluster.mend()
    await cluster.trouble()
    await cluster.stretch_calls(0)
    await books.close_circuits(cluster)
    name = f"{fault.name}-{time.time_ns() % 10**9}"
    key, tenant_id = await _new_tenant(cluster, name)
    clients = Clients(cluster.api_urls, key, name, fault.vendors, fault.mix, pace.short_deadline)
    stage = Stage(cluster, fault, pace, clients, tenant_id)
    for path in map(stage.path, fault.paths):
        endpoint = await _new_endpoint(cluster, key, cluster.url("partner") + path)
        stage.endpoints[path] = endpoint["id"]
        await cluster.partner_behaves(path, secret=endpoint["secret"])
    return stage


async def _new_tenant(cluster: Cluster, name: str) -> tuple[str, str]:
    """Its API key and its id; made by the release that runs, whose tables may be an earlier version's."""
    key = await cluster.answer("keys", "create", "--tenant", name, "--mode", "test")
    return key, await books.tenant_named(cluster, name)


async def _new_endpoint(cluster: Cluster, key: str, url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        reply = await http.post(
            f"{cluster.api_urls[0]}/v1/webhook-endpoints",
            json={"url": url, "event_types": list(ENDS)},
            headers={"Authorization": f"Bearer {key}"},
        )
        reply.raise_for_status()
        return dict(reply.json())


class _Settling:
    """Waits for every end and every delivery; later helps with a moved clock and the operator's word."""

    def __init__(self, stage: Stage, pace: Pace) -> None:
        self._stage = stage
        self._pace = pace
        self.resubmitted: list[str] = []
        self.given_up: list[str] = []
        self.intents: list[Any] = []
        self.clock_moved = False
        self.ended_at = 0.0

    async def finish(self) -> None:
        cluster, tenant_id = self._stage.cluster, self._stage.tenant_id
        began = time.monotonic()
        patience = self._pace.patience + self._stage.fault.patience
        while time.monotonic() - began < SETTLE_SECONDS:
            # A fault may have left the database recovering.
            with suppress(OSError, asyncpg.PostgresError):
                if not self.clock_moved:
                    self.intents = await books.intents(cluster, tenant_id)
                if not self.ended_at and not await books.open_count(cluster, tenant_id):
                    self.ended_at = time.time()
                if self.ended_at and not await books.pending_count(cluster, tenant_id):
                    return
                if time.monotonic() - began > patience:
                    self.clock_moved = True
                    await clock.move(cluster, MOVED_MINUTES)
                    await self._do_the_rounds()
                    await asyncio.sleep(MOVE_SECONDS)
                if time.monotonic() - began > patience + LOOKED_UP_SECONDS:
                    await books.bring_deadlines(cluster, tenant_id)
            await asyncio.sleep(0.25)
        self.ended_at = self.ended_at or time.time()

    async def _do_the_rounds(self) -> None:
        """The operator looks at the vendor's own list: what is there is given up, what is not is submitted again."""
        cluster = self._stage.cluster
        waiting = await books.waiting_for_operator(cluster, self._stage.tenant_id)
        if not waiting:
            return
        known = {submission["member_id"] for submission in await cluster.submissions()}
        async with cluster.gateway() as gateway:
            caller = Caller(self._stage.tenant_id, "test", "key_chaos", frozenset())
            for id_ in waiting:
                asked = self._stage.clients.accepted.get(id_)
                there = asked is None or asked.member_id in known
                with suppress(Problem):  # an event was faster
                    await resolve(gateway, caller, id_, Resolution.GIVE_UP if there else Resolution.RESUBMIT)
                    (self.given_up if there else self.resubmitted).append(id_)


def _recovery(cluster: Cluster, stage: Stage, ids: list[str], ended: float) -> list[float]:
    """For each fresh verification: from the end of the fault until the partner was told its end."""
    told: dict[str, float] = {}
    for line in partner_lines(cluster):
        if line["path"] == stage.path() and 200 <= line["status"] < 300:
            told.setdefault(line["verification"], line["at"])
    return [told[id_] - ended if id_ in told else float("inf") for id_ in ids] or [float("inf")]
