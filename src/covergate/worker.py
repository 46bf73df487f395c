"""The worker: works on what is due, sweeps for what is late, prunes and erases what is old.

Verifications and deliveries each have a dispatcher (`db/queue.py`), so that neither waits for the other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from covergate.access.audit_chain import CLOSE_SECONDS, Chain
from covergate.access.credentials import CREDENTIALS_CHANGED
from covergate.access.vendor_accounts import ACCOUNTS_CHANGED, AccountsWatch
from covergate.backlog import SWEEP_NAME
from covergate.db.listen import listen
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.partitions import Partitions
from covergate.db.queue import ClaimedRow, Dispatcher, is_canceled
from covergate.erasure import erase_old
from covergate.gateway import Gateway
from covergate.payers.sync import sync_if_due
from covergate.retention import prune
from covergate.server import DRAIN_SECONDS
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import FLUSH_SECONDS, CircuitBreakers
from covergate.vendor_health.history import COUNT_SECONDS, count_ended
from covergate.vendors import VENDORS
from covergate.verifications.bulk_queue import BulkQueue
from covergate.verifications.bulk_work import BulkWork
from covergate.verifications.engine import Engine
from covergate.verifications.lanes import Lanes
from covergate.verifications.sweep import CLOSERS, close_late, wake_for_trials, wake_held_back
from covergate.webhooks.endpoint_health import tell_of_health
from covergate.webhooks.places import Places, WorkersDesk
from covergate.webhooks.sender import TIMEOUT_SECONDS, Deliverer

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 2.0
SWEEP_LIMIT_SECONDS = 60.0
"""A sweep that has not ended by then is begun again, over other connections."""
UNDONE_SECONDS = 30.0
"""A worker whose sweep was last done, or whose queue was last read, so long ago is not well."""
FLUSH_LIMIT_SECONDS = 30.0
LANES_SECONDS = 60.0
"""How often a worker looks for work of vendors that it does not know."""
HEALTH_SECONDS = 10.0
"""How often a worker looks whether an endpoint fails, or is well again."""
PRUNE_SECONDS = 600.0
PRUNE_LIMIT_SECONDS = 3600.0
CLOSE_LIMIT_SECONDS = 300.0
COUNT_LIMIT_SECONDS = 300.0
PAYERS_SECONDS = 300.0
"""How often a worker looks whether a vendor's payer list is a day old."""
PAYERS_LIMIT_SECONDS = 1800.0
HAND_OVER_SECONDS = 5.0
"""So long after the time limit of a submission's call its reply is, at the latest, with `Engine.drain`, which writes it down."""
QUEUE_CONNECTIONS = 4
"""For claims and leases, which must not wait behind everything else."""

_Row = TypeVar("_Row", bound=ClaimedRow)


@dataclass
class Worker:
    """`run` ends after `stop` was called and what is under way is done.

    The transport is its maker's, who closes it when `run` has ended.
    """

    gateway: Gateway
    transport: Transport
    breakers: CircuitBreakers
    drain_seconds: float = DRAIN_SECONDS
    hand_over_seconds: float = HAND_OVER_SECONDS
    delivery_seconds: float = TIMEOUT_SECONDS
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _dispatchers: dict[str, Dispatcher[Any]] = field(default_factory=dict, init=False)
    _sweeps_done: dict[str, float] = field(default_factory=dict, init=False)
    """Sweep → the loop's time when it was last done, or when the worker began."""

    def __post_init__(self) -> None:
        self._accounts = AccountsWatch(self.gateway)

    def stop(self) -> None:
        self._stopping.set()
        self._wake_all()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def troubles(self) -> dict[str, str | None]:
        """Queue or sweep → why it is not well, None if it is. Empty before `run`."""
        now = asyncio.get_running_loop().time()
        done = {name: queue.looked_at for name, queue in self._dispatchers.items()} | self._sweeps_done
        silent = {name: now - at for name, at in done.items()}
        found = {
            name: f"last done {for_:.0f} s ago" if for_ > UNDONE_SECONDS else None for name, for_ in silent.items()
        }
        return found | {
            name: f"cannot be read: {queue.error}"
            for name, queue in self._dispatchers.items()
            if queue.error is not None
        }

    async def run(self) -> None:
        word = secrets.token_hex(4)
        apart = self.gateway.database.apart
        async with (
            # Deadlines are kept also while steps wait for connections.
            apart(pool_size=CLOSERS + 1, application_name=f"{SWEEP_NAME} {word}") as for_sweeps,
            apart(pool_size=QUEUE_CONNECTIONS, application_name="covergate queue") as for_queues,
            AsyncExitStack() as parts,
        ):
            sweeping, claiming = replace(self.gateway, database=for_sweeps), replace(self.gateway, database=for_queues)
            places = Places(claiming, self.gateway.settings.worker_tasks)
            deliverer = await parts.enter_async_context(
                Deliverer(self.gateway, places, timeout_seconds=self.delivery_seconds)
            )
            deliveries = Dispatcher(places, self._guarded(deliverer.deliver, deliverer.failed_inside))
            desk = WorkersDesk(places, deliveries, self._stopping.is_set)
            engine = Engine(self.gateway, self.transport, self.breakers, desk, draining=self._stopping.is_set)
            lanes = Lanes(claiming, {vendor.name: vendor.concurrent_steps for vendor in VENDORS.values()})
            bulk = BulkWork(self.gateway, self._stopping.is_set)
            self._dispatchers = {
                "verifications": Dispatcher(lanes, self._guarded(engine.advance, engine.failed_inside)),
                "deliveries": deliveries,
                "bulk_jobs": Dispatcher(BulkQueue(claiming), self._guarded(bulk.do, bulk.failed_inside)),
            }
            sweeps = (partial(close_late, sweeping), partial(wake_held_back, sweeping))
            pruning = partial(prune, self.gateway, Partitions(self.gateway.transaction))
            erasing = partial(erase_old, self.gateway)
            chain = Chain(self.gateway)
            sync_payers = partial(sync_if_due, self.gateway, self.transport)
            counting = partial(count_ended, self.gateway)
            trying = partial(wake_for_trials, sweeping, self.breakers.credentials)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen())
                working = [tasks.create_task(one.run(self._stopping)) for one in self._dispatchers.values()]
                for sweep in sweeps:
                    self._sweeps_done[_name_of(sweep)] = asyncio.get_running_loop().time()
                    tasks.create_task(self._regularly(SWEEP_SECONDS, sweep, SWEEP_LIMIT_SECONDS))
                watching = tasks.create_task(self._accounts.run())
                saying = tasks.create_task(bulk.quotas.run())
                tasks.create_task(self._regularly(PRUNE_SECONDS, pruning, PRUNE_LIMIT_SECONDS))
                tasks.create_task(self._regularly(PRUNE_SECONDS, erasing, PRUNE_LIMIT_SECONDS, at_once=False))
                tasks.create_task(self._regularly(CLOSE_SECONDS, chain.close, CLOSE_LIMIT_SECONDS))
                tasks.create_task(self._regularly(LANES_SECONDS, lanes.meet_others, SWEEP_LIMIT_SECONDS))
                tasks.create_task(
                    self._regularly(HEALTH_SECONDS, partial(tell_of_health, sweeping), SWEEP_LIMIT_SECONDS)
                )
                tasks.create_task(self._regularly(FLUSH_SECONDS, self.breakers.flush, FLUSH_LIMIT_SECONDS))
                tasks.create_task(self._regularly(SWEEP_SECONDS, trying, SWEEP_LIMIT_SECONDS))
                tasks.create_task(self._regularly(COUNT_SECONDS, counting, COUNT_LIMIT_SECONDS))
                tasks.create_task(self._regularly(PAYERS_SECONDS, sync_payers, PAYERS_LIMIT_SECONDS, at_once=False))
                await self._limit_drain(working, engine.submitting)
                listening.cancel()
                watching.cancel()
                saying.cancel()
            await engine.drain()

    async def _listen(self) -> None:
        channels: dict[str, Callable[[str], None]] = {one.channel: one.wake for one in self._dispatchers.values()}
        channels[CREDENTIALS_CHANGED] = lambda _: self._forget()
        channels[ACCOUNTS_CHANGED] = self._accounts.wake
        await listen(self.gateway.database.url, "covergate worker", channels, self._missed)

    def _forget(self) -> None:
        """Tenants or accounts may be others now."""
        self.gateway.tenancy.forget()
        self._accounts.wake()

    def _missed(self) -> None:
        self._forget()
        self._wake_all()

    def _wake_all(self) -> None:
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()

    async def _limit_drain(
        self, working: list[asyncio.Task[None]], submitting: Mapping[asyncio.Future[Any] | None, float]
    ) -> None:
        """Cuts off what takes too long; a submission only past its call's own time limit."""
        clock = asyncio.get_running_loop().time
        await self._stopping.wait()
        _, unfinished = await asyncio.wait(working, timeout=self.drain_seconds)
        while unfinished:
            under_way = [task for one in self._dispatchers.values() for task in one.under_way]
            ends = {task: submitting.get(task, float("-inf")) + self.hand_over_seconds for task in under_way}
            late = [task for task, at in ends.items() if at <= clock()]
            if late:
                log.warning("drain_cut_short", steps=len(late))
            for task in late:
                task.cancel()
            waiting = [at - clock() for task, at in ends.items() if task not in late]
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
                if is_canceled():
                    raise
                log.error("background_task_failed", task=_name_of(action), error="CancelledError")
            # Broad on purpose: these are the safety net under everything else, and come again in a moment.
            except Exception as error:
                log.error("background_task_failed", task=_name_of(action), error=_name(error), exc_info=_trace(error))
            await self._rest(seconds)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _guarded(
        self, work: Callable[[_Row], Awaitable[None]], failed: Callable[[_Row], Awaitable[None]]
    ) -> Callable[[_Row], Awaitable[None]]:
        """`failed` is told of rows in which our own code failed; one that could not be worked on comes again."""

        async def guarded(row: _Row) -> None:
            try:
                await work(row)
            except asyncio.CancelledError:
                log.warning("step_cut_short", key=row.key)
                raise
            except DATABASE_ERRORS as error:
                log.error("step_failed", key=row.key, error=_name(error))
            # Broad on purpose: whatever is wrong with our code, the row is noted and the worker goes on.
            except Exception as error:
                log.error("step_failed", key=row.key, error=_name(error), exc_info=error)
                await self._note_failure(row, failed)

        return guarded

    async def _note_failure(self, row: _Row, failed: Callable[[_Row], Awaitable[None]]) -> None:
        try:
            await failed(row)
        # Broad on purpose, see above.
        except Exception as error:
            log.error("failure_not_recorded", key=row.key, error=_name(error), exc_info=_trace(error))


def _name_of(action: Callable[[], Awaitable[Any]]) -> str:
    return getattr(action, "func", action).__name__


def _name(error: BaseException) -> str:
    return type(error).__name__


def _trace(error: BaseException) -> BaseException | None:
    """Our own mistakes are worth a traceback; a database that is away is not, and its errors may quote values."""
    return None if isinstance(error, DATABASE_ERRORS) else error
