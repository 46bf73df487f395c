"""A sandbox on a real socket, so that cut connections are really cut, and an HTTP client for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.world import World
from tests.support.gateways import SANDBOX_SECRET
from tests.support.waiting import eventually


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals, which belong to pytest, and without its 0.1 s ticks."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """`app` on `listener` for the length of the block."""
    server = _Server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await eventually(lambda: server.started or task.done(), what="the server", every=0.001)
        assert not task.done(), "the server did not start"
        yield
    finally:
        server.stop.set()
        await task


@dataclass(frozen=True)
class ReceivedEvent:
    vendor: str
    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]


@dataclass
class Gateway:
    """Stands in for the gateway's vendor-event route: keeps what it got, answers with the statuses it is told to."""

    events: list[ReceivedEvent] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """The next answers, in order; 202 once they are used up."""

    async def receive(self, request: Request) -> Response:
        body = await request.body()
        self.events.append(
            ReceivedEvent(
                request.path_params["vendor"],
                body,
                dict(request.headers),
                dict(request.query_params),
            )
        )
        return Response(status_code=self.statuses.pop(0) if self.statuses else 202)


@dataclass(frozen=True)
class Sandbox:
    http: httpx.AsyncClient
    """Its base URL is the sandbox's root; a vendor's paths begin with the vendor's name."""
    world: World
    gateway: Gateway


class StartSandbox(Protocol):
    """Starts a sandbox with these settings, its events going to its `gateway`."""

    async def __call__(self, **settings: Any) -> Sandbox: ...


@asynccontextmanager
async def sandboxes() -> AsyncIterator[StartSandbox]:
    """Those that are started in the block end with it."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Sandbox:
            # With the protocol unnamed asyncio would leave Nagle's algorithm on: 40 ms for every reply.
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.bind(("127.0.0.1", 0))
            base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            gateway = Gateway()
            app = create_sandbox(
                SandboxSettings(gateway_url=f"{base_url}/gateway", **{"secret": SANDBOX_SECRET, **settings})
            )
            # One server plays both parts: each server costs a tenth of a second at shutdown.
            app.add_route("/gateway/v1/vendor-events/{vendor}", gateway.receive, methods=["POST"])
            await stack.enter_async_context(serving(app, listener))
            # Before the server: an event that connects while it shuts down would leave an open transport behind.
            stack.push_async_callback(app.state.world.close)
            # No TLS here, and loading the certificate authorities takes longer than most tests.
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=base_url, verify=False, trust_env=False))
            return Sandbox(http, app.state.world, gateway)

        yield start
