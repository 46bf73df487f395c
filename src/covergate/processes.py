"""The processes that run for long: `up`, `serve`, `worker` and `sandbox`, and how they end.

Invariant: the first SIGTERM or SIGINT stops the intake, lets what runs end within 25 s (submissions on the line within
their own time limit) and closes everything in reverse order, the embedded server last; a second one ends the process at
once, which loses nothing that was accepted.

What only one kind of process needs is imported there: a worker holds no API, and neither holds the sandbox.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta

import structlog

from covergate import logs
from covergate.access.console_sessions import make_link
from covergate.db.connect import is_this_machine
from covergate.gateway import Gateway
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox_secret import refuse_known_secret, sandbox_secret
from covergate.server import Part, Peers, listening, running, start_server, until_stopped, url_of
from covergate.settings import Settings
from covergate.startup import named_variables, opened, warn_of_settings
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.worker import Worker
from covergate.worker_port import create_worker_app

log = structlog.get_logger(__name__)

NOT_YET = "found when its port is known to be free"
CONSOLE_LINK_LIVES = timedelta(minutes=15)
OBJECTS_BETWEEN_LOOKS = 20_000
"""So many more made than gone before the garbage collector looks at them."""
KEYS_HINT = "covergate keys create --tenant NAME --mode test"


async def up(settings: Settings, *, sandbox: bool) -> None:
    """Everything in one process; `sandbox` adds the simulated vendors and points test mode at them."""
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        api_socket = stack.enter_context(listening(settings.host, settings.port, "COVERGATE"))
        worker_socket = listening_for_worker(stack, settings)
        simulated = []
        settings = with_sandbox_secret(settings, wanted=sandbox or settings.sandbox_url is not None)
        if sandbox:
            gateway_url, secret = url_of(api_socket), settings.sandbox_secret
            part, url = await start_sandbox(stack, sandbox_settings(gateway_url=gateway_url, secret=secret))
            simulated.append(part)
            settings = settings.model_copy(update={"sandbox_url": settings.sandbox_url or url})
        size = settings.api_pool_size + settings.worker_pool_size
        gateway = await stack.enter_async_context(opened(settings, size, "covergate", migrate=True))
        parts = await start_gateway(stack, gateway, api_socket, worker=True, worker_socket=worker_socket)
        if is_this_machine(settings.host):
            log.info("console", open_once=await console_link(gateway, url_of(api_socket)))
        await until_stopped([*parts, *simulated], stop)
    log.info("stopped")


async def console_link(gateway: Gateway, url: str) -> str:
    """Lets whoever sits at this machine in, once and soon. PHI is among what is shown only if no live vendor is enabled."""
    roles = ("operations",) if gateway.enabled("live") else ("operations", "phi")
    code = await make_link(gateway, name="this machine", roles=roles, lives=CONSOLE_LINK_LIVES)
    return f"{url}/console/enter#{code}"


async def serve(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        api_socket = stack.enter_context(listening(settings.host, settings.port, "COVERGATE"))
        settings = with_sandbox_secret(settings, wanted=settings.sandbox_url is not None)
        gateway = await stack.enter_async_context(opened(settings, settings.api_pool_size, "covergate api"))
        parts = await start_gateway(stack, gateway, api_socket, worker=False)
        await until_stopped(parts, stop)
    log.info("stopped")


async def run_worker(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        worker_socket = listening_for_worker(stack, settings)
        gateway = await stack.enter_async_context(opened(settings, settings.worker_pool_size, "covergate worker"))
        parts = await start_gateway(stack, gateway, None, worker=True, worker_socket=worker_socket)
        await until_stopped(parts, stop)
    log.info("stopped")


async def simulate(settings: Settings) -> None:
    """The sandbox alone; it calls the gateway back at `COVERGATE_SANDBOX_GATEWAY_URL`."""
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        simulated, _ = await start_sandbox(stack, sandbox_settings(secret=NOT_YET), settings)
        await until_stopped([simulated], stop)
    log.info("stopped")


def with_sandbox_secret(settings: Settings, *, wanted: bool) -> Settings:
    """For a process that listens for events of test mode, if there is to be one: no known secret but on this machine."""
    if not wanted:
        return settings
    secret = sandbox_secret(settings)
    refuse_known_secret(secret, host=settings.host, public_url=settings.public_url)
    return settings.model_copy(update={"sandbox_secret": secret})


def listening_for_worker(stack: AsyncExitStack, settings: Settings) -> socket.socket | None:
    """None if the worker is to have no port."""
    if not settings.worker_port:
        return None
    return stack.enter_context(listening(settings.worker_host, settings.worker_port, "COVERGATE_WORKER"))


async def start_gateway(
    stack: AsyncExitStack,
    gateway: Gateway,
    api_socket: socket.socket | None,
    *,
    worker: bool,
    worker_socket: socket.socket | None = None,
) -> list[Part]:
    """The API, if there is a socket for it, and the worker; the stack stops them together."""
    parts: list[Part] = []
    if (server := gateway.database.server) is not None:
        stop = asyncio.Event()
        parts.append(Part("embedded PostgreSQL", asyncio.create_task(server.watch(stop)), stop.set))
    breakers = CircuitBreakers(gateway)
    transport = await stack.enter_async_context(
        Transport(allow_private_network=gateway.settings.allow_private_network, ended=breakers.count)
    )
    if api_socket is not None:
        from covergate.api.app import create_app
        from covergate.console.app import create_console

        app = create_app(gateway, console=create_console(gateway))
        peers = peers_of(gateway.settings)
        parts.append(await start_server("api", app, api_socket, app.state.waiters.close, peers))
    if worker:
        working = Worker(gateway, transport, breakers)
        task = asyncio.create_task(working.run(), name="worker")
        parts.append(Part("worker", task, working.stop))
        if worker_socket is not None:
            parts.append(await start_worker_port(working, task, worker_socket))
    await stack.enter_async_context(running(*parts))
    collect_seldom()
    warn_of_settings(gateway)
    vendors = {mode: [vendor.name for vendor in gateway.enabled(mode)] for mode in ("live", "test")}
    if api_socket is not None:
        url = url_of(api_socket)
        log.info("ready", url=url, docs=f"{url}/docs", worker=worker, **vendors, make_a_key=KEYS_HINT)
    else:
        log.info("ready", worker=worker, **vendors)
    return parts


def collect_seldom() -> None:
    """What is loaded by now stays: the garbage collector looks at it no more, and at the rest only once in a while.

    A step makes thousands of objects that are gone by its end without its help, and its looking after each 700 of them took
    a tenth of a worker's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS, 20, 20)


def peers_of(settings: Settings) -> Peers:
    trusted = (settings.trusted_proxies or "").split(",")
    return Peers(settings.most_connections, settings.most_connections_per_address, tuple(filter(None, trusted)))


async def start_worker_port(worker: Worker, running: asyncio.Task[None], listener: socket.socket) -> Part:
    """It answers as long as the worker drains, so it ends with the worker."""
    part = await start_server("worker port", create_worker_app(worker), listener)
    running.add_done_callback(lambda _: part.stop())
    return Part(part.name, part.task, lambda: None)


async def start_sandbox(
    stack: AsyncExitStack, settings: SandboxSettings, beside: Settings | None = None
) -> tuple[Part, str]:
    """`beside`: the gateway's settings, whose secret it is to share; found when the port is known to be free."""
    listener = stack.enter_context(listening(settings.host, settings.port, "COVERGATE_SANDBOX"))
    if beside is not None:
        settings = settings.model_copy(update={"secret": sandbox_secret(beside)})
    refuse_known_secret(settings.secret, host=settings.host)
    from covergate.sandbox.app import create_sandbox

    part = await start_server("sandbox", create_sandbox(settings), listener)
    await stack.enter_async_context(running(part))
    log.info("sandbox_ready", url=url_of(listener), calls_back=settings.gateway_url)
    return part, url_of(listener)


def sandbox_settings(**given: str) -> SandboxSettings:
    """From the environment, except what is given."""
    with named_variables():
        return SandboxSettings(**given)  # type: ignore[arg-type]


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def received(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("ended_at_once", signal=number.name)
            logs.drain()
            os._exit(128 + number)
        log.info("stopping", signal=number.name, advice="once more ends it at once")
        stop.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, received, number)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
