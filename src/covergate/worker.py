"""The worker: takes jobs from PgQueuer, sweeps for what lost its job, prunes what is old.

Each group of jobs has its own queue manager and budget, so that a backlog stays in its group. Handlers never let an
exception out, because PgQueuer deletes a job that raises; a group whose connections died is built again. On `stop` the
worker takes no more jobs, lets the running ones end and cancels what is left after 25 seconds: the sweep brings those back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job
from pgqueuer.domain.types import Channel
from sqlalchemy.exc import SQLAlchemyError

from covergate import jobs
from covergate.db.engine import asyncpg_dsn
from covergate.db.queue_schema import make_queries, queue_settings
from covergate.gateway import Gateway
from covergate.prune import prune
from covergate.vendors.transport import Transport
from covergate.verifications.advance import Advancer
from covergate.verifications.sweep import sweep
from covergate.webhooks.delivery import Deliverer, sweep_deliveries

log = structlog.get_logger(__name__)

DATABASE_TROUBLE = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
HEARTBEAT_TIMEOUT = timedelta(seconds=30)
DEQUEUE_TIMEOUT = timedelta(seconds=5)
DRAIN_SECONDS = 25.0
SWEEP_SECONDS = 2.0
PRUNE_SECONDS = 600.0
LONGEST_REST = 5.0
"""Seconds at most before a group whose connections died is built again."""

Handler = Callable[[str], Awaitable[None]]


@dataclass
class Worker:
    """`run` ends after `stop` was called and the running jobs are done."""

    gateway: Gateway
    transport: Transport
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: asyncio.Event = field(default_factory=asyncio.Event)
    _managers: list[QueueManager] = field(default_factory=list)

    def stop(self) -> None:
        self._stopping.set()
        for manager in self._managers:
            manager.shutdown.set()

    async def run(self) -> None:
        advancer = Advancer(self.gateway, self.transport)
        async with Deliverer(self.gateway) as deliverer:
            groups: dict[str, tuple[Handler, Handler | None]] = {
                jobs.ADVANCE: (advancer.advance, advancer.failed_inside),
                jobs.DELIVER: (deliverer.deliver, None),
                jobs.DELIVER_SLOWLY: (deliverer.deliver, None),
            }
            async with asyncio.TaskGroup() as tasks:
                for name, (handle, failed) in groups.items():
                    tasks.create_task(self._supervise(name, handle, failed))
                tasks.create_task(self._regularly(SWEEP_SECONDS, self._sweep))
                tasks.create_task(self._regularly(PRUNE_SECONDS, self._prune))
                tasks.create_task(self._limit_drain())

    async def _sweep(self) -> None:
        await sweep(self.gateway)
        await sweep_deliveries(self.gateway)

    async def _prune(self) -> None:
        await prune(self.gateway)

    async def _limit_drain(self) -> None:
        await self._stopping.wait()
        if not self._managers:
            self._idle.set()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain_cut_short")
        self._drained.set()

    async def _regularly(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                await action()
            except DATABASE_TROUBLE as error:
                log.warning("background_task_failed", task=action.__name__.strip("_"), error=type(error).__name__)
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                continue

    async def _supervise(self, name: str, handle: Handler, failed: Handler | None) -> None:
        rest = 0.1
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            try:
                await self._run_group(name, handle, failed)
            except* DATABASE_TROUBLE as group:
                log.warning("queue_connection_lost", group=name, error=type(group.exceptions[0]).__name__)
            except* RuntimeError as group:
                # PgQueuer's own: a failed listener, or a schema that is being migrated right now.
                log.warning("queue_failed", group=name, error=str(group.exceptions[0]))
            if self._stopping.is_set():
                return
            rest = 0.1 if asyncio.get_running_loop().time() - started > 30 else min(rest * 2, LONGEST_REST)
            await asyncio.sleep(rest)

    async def _run_group(self, name: str, handle: Handler, failed: Handler | None) -> None:
        tasks = self.gateway.settings.worker_tasks
        async with asyncpg.create_pool(
            asyncpg_dsn(self.gateway.database.url),
            min_size=2,
            max_size=4,
            server_settings={"application_name": f"covergate {name}", "jit": "off"},
            command_timeout=30,
        ) as pool:
            manager = QueueManager(make_queries(AsyncpgPoolDriver(pool)), channel=Channel(queue_settings().channel))

            @manager.entrypoint(name)
            async def handler(job: Job) -> None:
                await self._handle(name, handle, failed, (job.payload or b"").decode())

            self._managers.append(manager)
            self._idle.clear()
            try:
                if self._stopping.is_set():
                    return
                await manager.run(
                    dequeue_timeout=DEQUEUE_TIMEOUT,
                    batch_size=max(tasks // 2, 1),
                    max_concurrent_tasks=max(tasks, 2),
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                )
            finally:
                self._managers = [running for running in self._managers if running is not manager]
                if not self._managers:
                    self._idle.set()

    async def _handle(self, name: str, handle: Handler, failed: Handler | None, key: str) -> None:
        task = asyncio.ensure_future(handle(key))
        drained = asyncio.ensure_future(self._drained.wait())
        await asyncio.wait({task, drained}, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if task.cancelled():
            log.warning("job_cut_short", group=name, key=key)
            return
        error = task.exception()
        if error is None:
            return
        # Whatever it was, the job must not raise: PgQueuer would delete it. What it should have done is found by the sweep.
        log.error("job_failed", group=name, key=key, error=type(error).__name__, exc_info=_trace(error))
        if failed is not None and not isinstance(error, DATABASE_TROUBLE):
            try:
                await failed(key)
            except DATABASE_TROUBLE as trouble:
                log.error("job_failure_not_recorded", group=name, key=key, error=type(trouble).__name__)


def _trace(error: BaseException) -> BaseException | None:
    """Our own mistakes are worth a traceback; a database that is away is not, and its errors may quote values."""
    return None if isinstance(error, DATABASE_TROUBLE) else error
