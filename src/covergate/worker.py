"""The worker: takes jobs from PgQueuer, sweeps for what lost its job, prunes what is old.

Each group of jobs has its own queue manager and budget, and each vendor a lane in its group, so that a backlog stays
where it is. Handlers never let an exception out, because PgQueuer deletes a job that raises; a group that lost a
                tasks.create_task(self._limit_drain(supervised, engine.submitting))
            await engine.drain()
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job

from covergate.backlog import SWEEP_NAME
from covergate.db import jobs
from covergate.db.database import asyncpg_dsn
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.queue_schema import channel_of, make_queries
from covergate.gateway import Gateway
from covergate.payers.sync import sync_if_due
from covergate.retention import prune
from covergate.server import DRAIN_SECONDS
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import FLUSH_SECONDS, CircuitBreakers
from covergate.vendors import VENDORS
from covergate.verifications.engine import Engine
from covergate.verifications.sweep import CLOSERS, close_late, wake_overdue
from covergate.webhooks.sender import TIMEOUT_SECONDS, Deliverer, sweep_deliveries

log = structlog.get_logger(__name__)

HEARTBEAT_TIMEOUT = timedelta(seconds=30)
DEQUEUE_TIMEOUT = timedelta(seconds=5)
LOOK_AGAIN = timedelta(seconds=0.2)
"""While a lane is full and more is due in it, its group looks so often for a free place. Each look takes some milliseconds, which
whoever comes just then waits: this keeps it to one in forty."""
SWEEP_SECONDS = 2.0
SWEEP_LIMIT_SECONDS = 60.0
"""A sweep that has not ended by then is begun again, over other connections."""
SWEEP_SILENT_SECONDS = 30.0
"""A worker whose sweep was last done so long ago is not well."""
FLUSH_LIMIT_SECONDS = 30.0
PRUNE_SECONDS = 600.0
PRUNE_LIMIT_SECONDS = 3600.0
PAYERS_SECONDS = 300.0
"""How often a worker looks whether a vendor's payer list is a day old."""
PAYERS_LIMIT_SECONDS = 1800.0
LARGEST_BATCH = 50
HAND_OVER_SECONDS = 5.0
"""So long after the time limit of a submission's call its reply is, at the latest, with `Engine.drain`, which writes it down."""
QUEUE_CONNECT_SECONDS = 10
COMMAND_SECONDS = 30
CLOSE_SECONDS = 5.0
FIRST_REST, LONGEST_REST = 0.1, 1.0
"""Seconds before a group whose connections died is built again; doubled each time until it ran for a while."""

Handler = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Group:
    """Jobs that share a budget. `failed` is told of jobs in which our own code failed.

    `lanes`: entrypoint → how many of its jobs run at once in all workers together, 0 for any number. The budget of one
    worker (`tasks`) is no less than all its lanes, so that a full lane leaves room for the others.
    """

    name: str
    handle: Handler
    failed: Handler
    lanes: Mapping[str, int]
    tasks: int


@dataclass
class Worker:
    """`run` ends after `stop` was called and the running jobs are done.

    The transport is its maker's, who closes it when `run` has ended.
    """

    gateway: Gateway
    transport: Transport
    breakers: CircuitBreakers
    drain_seconds: float = DRAIN_SECONDS
    hand_over_seconds: float = HAND_OVER_SECONDS
    delivery_seconds: float = TIMEOUT_SECONDS
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _managers: list[tuple[str, QueueManager]] = field(default_factory=list, init=False)
    _sweeps_done: dict[str, float] = field(default_factory=dict, init=False)
    """Sweep → the loop's time when it was last done, or when the worker began."""
    _groups: tuple[str, ...] = field(default=(), init=False)
    _running: set[asyncio.Future[None]] = field(default_factory=set, init=False)
    _cut: bool = field(default=False, init=False)

    def stop(self) -> None:
        self._stopping.set()
        for _, manager in self._managers:
            manager.shutdown.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def troubles(self) -> dict[str, str | None]:
        """Group or sweep → why it is not well, None if it is. Empty before `run`."""
        now = asyncio.get_running_loop().time()
        taking = {name for name, manager in self._managers if not manager.shutdown.is_set()}
        found = {name: None if name in taking else "takes no jobs" for name in self._groups}
        for sweep, at in self._sweeps_done.items():
            silent = now - at
            found[sweep] = None if silent <= SWEEP_SILENT_SECONDS else f"last done {silent:.0f} s ago"
        return found

    async def run(self) -> None:
        engine = Engine(self.gateway, self.transport, self.breakers, draining=self._stopping.is_set)
        async with (
            Deliverer(self.gateway, timeout_seconds=self.delivery_seconds) as deliverer,
            # Deadlines are kept also while steps wait for connections.
            self.gateway.database.apart(
                pool_size=CLOSERS + 1, application_name=f"{SWEEP_NAME} {secrets.token_hex(4)}"
            ) as apart,
        ):
            lanes = {jobs.lane(vendor.name): vendor.concurrent_steps for vendor in VENDORS.values()}
            budget = self.gateway.settings.worker_tasks
            groups = (
                Group(jobs.ADVANCE, engine.advance, engine.failed_inside, lanes, max(budget, sum(lanes.values()))),
                _group(jobs.DELIVER, deliverer.deliver, deliverer.failed_inside, budget),
                _group(jobs.DELIVER_SLOWLY, deliverer.deliver_slowly, deliverer.failed_inside, budget),
            )
            self._groups = tuple(group.name for group in groups)
            sweeping = replace(self.gateway, database=apart)
            sweeps = (
                partial(close_late, sweeping),
                partial(wake_overdue, sweeping),
                partial(sweep_deliveries, self.gateway),
            )
            sync_payers = partial(sync_if_due, self.gateway, self.transport)
            async with asyncio.TaskGroup() as tasks:
                supervised = [tasks.create_task(self._supervise(group)) for group in groups]
                for sweep in sweeps:
                    self._sweeps_done[_name_of(sweep)] = asyncio.get_running_loop().time()
                    tasks.create_task(self._regularly(SWEEP_SECONDS, sweep, SWEEP_LIMIT_SECONDS))
                tasks.create_task(self._regularly(PRUNE_SECONDS, partial(prune, self.gateway), PRUNE_LIMIT_SECONDS))
                tasks.create_task(self._regularly(FLUSH_SECONDS, self.breakers.flush, FLUSH_LIMIT_SECONDS))
                tasks.create_task(self._regularly(PAYERS_SECONDS, sync_payers, PAYERS_LIMIT_SECONDS, at_once=False))
                tasks.create_task(self._limit_drain(supervised, engine.submitting))
            await engine.drain()

    async def _limit_drain(
        self, groups: list[asyncio.Task[None]], submitting: Mapping[asyncio.Future[Any] | None, float]
    ) -> None:
        """Cuts off what takes too long; a submission only past its call's own time limit."""
        clock = asyncio.get_running_loop().time
        await self._stopping.wait()
        _, unfinished = await asyncio.wait(groups, timeout=self.drain_seconds)
        while unfinished:
            self._cut = True
            ends = {job: submitting.get(job, float("-inf")) + self.hand_over_seconds for job in self._running}
            late = [job for job, at in ends.items() if at <= clock()]
            if late:
                log.warning("drain_cut_short", jobs=len(late))
            for job in late:
                job.cancel()
            waiting = [at - clock() for job, at in ends.items() if job not in late]
            _, unfinished = await asyncio.wait(unfinished, timeout=max(min(waiting, default=1.0), 0.0))

    async def _regularly(
        self,
        seconds: float,
        action: Callable[[], Awaitable[Any]],
        limit_seconds: float,
        *,
        at_once: bool = True,
    ) -> None:
        if not at_once:
            await self._rest(seconds)
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(limit_seconds):
                    await action()
                if _name_of(action) in self._sweeps_done:
                    self._sweeps_done[_name_of(action)] = asyncio.get_running_loop().time()
            except asyncio.CancelledError:
                # Something that it waited for was canceled, or it was itself.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.error("background_task_failed", task=_name_of(action), error="CancelledError")
            # Broad on purpose: these are the safety net under everything else, and come again in a moment.
            except Exception as error:
                log.error("background_task_failed", task=_name_of(action), error=_name(error), exc_info=_trace(error))
            await self._rest(seconds)

    async def _supervise(self, group: Group) -> None:
        """A group whose connections died ends its running jobs while the next one already takes new ones."""
        clock = asyncio.get_running_loop().time
        rest = FIRST_REST
        async with asyncio.TaskGroup() as generations:
            while not self._stopping.is_set():
                started, over = clock(), asyncio.Event()
                generations.create_task(self._run_group(group, over))
                await over.wait()
                rest = FIRST_REST if clock() - started > 30 else min(rest * 2, LONGEST_REST)
                await self._rest(rest)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_group(self, group: Group, over: asyncio.Event) -> None:
        """Sets `over` when it takes no more jobs."""
        try:
            await self._take_jobs(group, over)
        # Broad on purpose: asyncpg and PgQueuer each raise their own when connections die or the schema is being
        # migrated, and whatever it was, a group that is not built again is work that nobody does.
        except Exception as error:
            log.warning("queue_failed", group=group.name, error=_name(error), exc_info=_trace(error))
        finally:
            over.set()

    async def _take_jobs(self, group: Group, over: asyncio.Event) -> None:
        def lost(_: object) -> None:
            # PgQueuer alone would notice a dead LISTEN connection after 20 seconds.
            if not over.is_set():
                log.warning("queue_connection_lost", group=group.name)
            over.set()
            manager.shutdown.set()

        async def watch(connection: asyncpg.Connection) -> None:
            connection.add_termination_listener(lost)

        pool = asyncpg.create_pool(
            asyncpg_dsn(self.gateway.database.url),
            min_size=2,
            max_size=4,
            max_inactive_connection_lifetime=0,
            init=watch,
            reset=_leave_as_it_is,
            # A job that was taken or done and is forgotten in a crash comes again and finds its step done.
            server_settings={
                "application_name": f"covergate {group.name}",
                "jit": "off",
                "synchronous_commit": "off",
                # A take that is planned each time takes 8 ms with 2,000 due in limited lanes, 20 to 50 with 300,000 parked
                # besides; planned once, 3 and 12.
                "plan_cache_mode": "force_generic_plan",
            },
            timeout=QUEUE_CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
        )
        driver, channel = AsyncpgPoolDriver(pool), channel_of(group.name)
        manager = QueueManager(make_queries(driver, group.name), channel=channel)
        manager.min_dequeue_poll_interval = LOOK_AGAIN

        async def handler(job: Job) -> None:
            await self._handle(group, (job.payload or b"").decode())

        for lane, limit in group.lanes.items():
            manager.entrypoint(lane, concurrency_limit=limit)(handler)
        await pool
        self._managers.append((group.name, manager))
        try:
            if self._stopping.is_set():
                return
            # PgQueuer probes its listener while it still sets it up; a probe that is lost so ends the group 10 s later.
            await driver.add_listener(channel, lambda _: None)
            await manager.run(
                dequeue_timeout=DEQUEUE_TIMEOUT,
                batch_size=max(min(group.tasks // 2, LARGEST_BATCH), 1),
                max_concurrent_tasks=max(group.tasks, 2),
                shutdown_on_listener_failure=True,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                log_aggregation_interval=timedelta(0),  # nobody reads PgQueuer's statistics
            )
        finally:
            over.set()
            self._managers = [(name, running) for name, running in self._managers if running is not manager]
            # A connection that nobody gave back, because it is dead, would be waited for without end.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await pool.close()

    async def _handle(self, group: Group, key: str) -> None:
        """Never raises, so PgQueuer takes the job as done: whatever it should have done is found by the sweep."""
        if self._cut:
            return
        job = asyncio.ensure_future(group.handle(key))
        self._running.add(job)
        job.add_done_callback(self._running.discard)
        await asyncio.wait({job})
        if job.cancelled():
            log.warning("job_cut_short", group=group.name, key=key)
        elif error := job.exception():
            log.error("job_failed", group=group.name, key=key, error=_name(error), exc_info=_trace(error))
            if not isinstance(error, DATABASE_ERRORS):
                await self._note_failure(group, key)

    async def _note_failure(self, group: Group, key: str) -> None:
        try:
            await group.failed(key)
        # Broad on purpose, see above.
        except Exception as error:
            log.error("job_failure_not_recorded", group=group.name, key=key, error=_name(error), exc_info=_trace(error))


def _group(name: str, handle: Handler, failed: Handler, tasks: int) -> Group:
    return Group(name, handle, failed, {name: 0}, tasks)


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """PgQueuer sets nothing on its connections but LISTEN, on one that it keeps: a reset after each query is for nothing."""


def _name_of(action: Callable[[], Awaitable[Any]]) -> str:
    return getattr(action, "func", action).__name__


def _name(error: BaseException) -> str:
    return type(error).__name__


def _trace(error: BaseException) -> BaseException | None:
    """Our own mistakes are worth a traceback; a database that is away is not, and its errors may quote values."""
    return None if isinstance(error, DATABASE_ERRORS) else error
