"""Listening sockets and the HTTP server on them, as parts of a process that owns its signals itself.

Invariant: uvicorn never touches a signal and never ends the process; what stops a server is its `Part.stop`.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from covergate.errors import ConfigurationError, PartFailed
from covergate.http_bounds import BoundedHttp, Doorkeeper

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 25
"""The time that requests in flight get after `stop`; the worker gives what it has under way as long."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the usual 60 s of load balancers, so that an idle connection is closed from their side."""

TICK_SECONDS = 1.0

OTHER_FILES = 256
"""File descriptors that stay free of HTTP connections: for the database, the vendors, the webhooks' endpoints."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what is shown, not bound)


@dataclass(frozen=True)
class Part:
    """Something that runs in this process until `stop` is called; then `task` ends by itself."""

    name: str
    task: asyncio.Task[None]
    stop: Callable[[], None]


@dataclass(frozen=True)
class Peers:
    """How many connections a server takes, and the proxies whose word on a client's address counts."""

    most: int = 4000
    most_per_address: int = 1000
    trusted_proxies: tuple[str, ...] = ()


@asynccontextmanager
async def running(*parts: Part) -> AsyncIterator[None]:
    """At the end of the block all parts are told to stop, together, and waited for. Raises PartFailed."""
    try:
        yield
    finally:
        for part in parts:
            part.stop()
        if parts:
            await asyncio.wait([part.task for part in parts])
    for part in parts:
        if error := part.task.exception():
            log.error("part_failed", part=part.name, exc_info=error)
            raise PartFailed(f"the {part.name} failed; the log says why")


async def until_stopped(parts: Sequence[Part], stop: asyncio.Event) -> None:
    """Returns once `stop` is set. Raises PartFailed when a part ends by itself, which none should."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, *(part.task for part in parts)}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    for part in parts:
        if part.task.done() and not stop.is_set():
            error = part.task.exception()
            if isinstance(error, ConfigurationError):
                # Its text is for operators. The other parts still have to end, which may take a while.
                log.error("part_ended", part=part.name, reason=str(error))
                raise error
            log.error("part_ended", part=part.name, exc_info=error)
            raise PartFailed(f"the {part.name} ended by itself; the log says why")


@contextmanager
def listening(host: str, port: int, variable: str) -> Iterator[socket.socket]:
    """A bound and listening socket (port 0: a free one). `variable` is the setting to change if that is impossible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(f"{host} is not an address of this machine: set {variable}_HOST") from None
    # With any other protocol number asyncio leaves Nagle's algorithm on, and small answers wait 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            raise ConfigurationError(_why(error, host, port, variable)) from None
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket) -> str:
    """The URL for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def start_server(
    name: str,
    app: ASGIApp,
    listener: socket.socket,
    before_stop: Callable[[], None] = lambda: None,
    peers: Peers = Peers(),
) -> Part:
    """Returns when the app has started and answers; `before_stop` is what lets waiting requests end."""
    most = min(peers.most, _files(peers.most + OTHER_FILES) - OTHER_FILES)
    if most < peers.most:
        log.warning(
            "fewer_connections", part=name, wanted=peers.most, taken=most, advice="raise the limit of open files"
        )
    doorkeeper = Doorkeeper(most, peers.most_per_address, peers.trusted_proxies)
    protocol: Any = partial(BoundedHttp, doorkeeper)
    server = _Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(peers.trusted_proxies),
            forwarded_allow_ips=list(peers.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name=name)

    def stop() -> None:
        before_stop()
        server.stopping.set()

    starting = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    except asyncio.CancelledError:
        stop()
        raise
    finally:
        starting.cancel()
    return Part(name, task, stop)


class _Server(uvicorn.Server):
    """uvicorn that leaves signals alone, raises instead of ending the process, and stops without a tick's delay."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ConfigurationError("the HTTP server could not start; the log says why") from None
        self.ready.set()

    async def main_loop(self) -> None:
        counter = 0
        while not self.stopping.is_set():
            await self.on_tick(counter)  # the Date header
            counter = (counter + 10) % 864000
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, BoundedHttp)
                connection.look(now)
            try:
                await asyncio.wait_for(self.stopping.wait(), TICK_SECONDS)
            except TimeoutError:
                continue


def _files(wanted: int) -> int:
    """How many files this process may have open, after asking for so many."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return wanted if allowed == resource.RLIM_INFINITY else allowed


def _why(error: OSError, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: stop what listens there, or set {variable}_PORT"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges that this process does not have: set {variable}_PORT"
    return f"cannot listen on {host} port {port}: {error.strerror}; set {variable}_HOST or {variable}_PORT"
