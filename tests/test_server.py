from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from covergate.errors import ConfigurationError, PartFailed
from covergate.server import Part, listening, running, start_server, until_stopped, url_of


class Waiting:
    """An app with one route that answers when it is released, as a request with `Prefer: wait` does."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.entered = asyncio.Event()
        self.app = Starlette(routes=[Route("/", self._wait)])

    async def _wait(self, request: Request) -> Response:
        self.entered.set()
        await self.released.wait()
        return Response("released")


async def test_stopping_releases_what_waits_answers_it_and_then_takes_no_more() -> None:
    waiting = Waiting()
    with listening("127.0.0.1", 0, "COVERGATE") as listener:
        url = url_of(listener)
        async with httpx.AsyncClient() as client:
            part = await start_server("api", waiting.app, listener, before_stop=waiting.released.set)
            async with running(part):
                asked = asyncio.create_task(client.get(url))
                await asyncio.wait_for(waiting.entered.wait(), 5)
            assert (await asked).text == "released"
            with pytest.raises(httpx.TransportError):
                await client.get(url)


async def test_the_servers_signals_stay_the_processes_own() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with listening("127.0.0.1", 0, "COVERGATE") as listener:
        async with running(await start_server("api", Waiting().app, listener)):
            assert signal.getsignal(signal.SIGTERM) is before


async def test_an_app_that_cannot_start_is_an_error_and_not_the_end_of_the_process() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError
        yield

    with (
        listening("127.0.0.1", 0, "COVERGATE") as listener,
        pytest.raises(ConfigurationError, match="could not start"),
    ):
        await start_server("api", Starlette(lifespan=lifespan), listener)


async def test_a_connection_accepted_from_the_socket_has_no_delay() -> None:
    with listening("127.0.0.1", 0, "COVERGATE") as listener:
        # What asyncio looks at before it switches Nagle's algorithm off for the connections of a listener.
        assert listener.proto == socket.IPPROTO_TCP


def test_an_address_in_use_names_the_variable_to_change() -> None:
    with listening("127.0.0.1", 0, "COVERGATE") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} .* is in use.* COVERGATE_SANDBOX_PORT"):  # noqa: SIM117
            with listening("127.0.0.1", port, "COVERGATE_SANDBOX"):
                pass


def test_everywhere_is_shown_as_an_address_one_can_go_to() -> None:
    with listening("0.0.0.0", 0, "COVERGATE") as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_part_that_ends_by_itself_ends_the_process_and_the_other_parts_are_stopped() -> None:
    stopped = asyncio.Event()

    async def ends() -> None:
        raise ZeroDivisionError

    async def stays() -> None:
        await stopped.wait()

    parts = [
        Part("worker", asyncio.create_task(ends()), lambda: None),
        Part("api", asyncio.create_task(stays()), stopped.set),
    ]
    with pytest.raises(PartFailed, match="the worker ended by itself"):
        async with running(*parts):
            await until_stopped(parts, asyncio.Event())
    assert parts[1].task.done()


async def test_a_part_that_ends_for_a_reason_that_an_operator_can_act_on_says_so() -> None:
    async def ends() -> None:
        raise ConfigurationError("PostgreSQL does not start: the disk is full")

    parts = [Part("embedded PostgreSQL", asyncio.create_task(ends()), lambda: None)]
    with pytest.raises(ConfigurationError, match="the disk is full"):
        async with running(*parts):
            await until_stopped(parts, asyncio.Event())


async def test_a_part_that_fails_while_it_stops_is_told() -> None:
    stop = asyncio.Event()

    async def fails_at_the_end() -> None:
        await stop.wait()
        raise ZeroDivisionError

    part = Part("worker", asyncio.create_task(fails_at_the_end()), stop.set)
    with pytest.raises(PartFailed, match="the worker failed"):
        async with running(part):
            pass
