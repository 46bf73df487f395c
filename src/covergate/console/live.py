"""Live pages: one stream of server-sent events per page says that something changed; the page then asks for its parts anew.

An event carries nothing, so no page can be told what it may not see. A stream ends with its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from covergate.access.console_sessions import find_session
from covergate.console.page import HEADERS
from covergate.console.visitor import gateway_behind, idle_time, session_of
from covergate.db.listen import listen
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.verifications.commit import ENDED

router = APIRouter()

LEAST_SECONDS = 1.0
"""Between two events of a stream."""
MOST_SECONDS = 5.0
"""What is told by no notification is seen so late."""
ENDED_EVENT, CHANGED_EVENT = "event: ended\ndata: \n\n", "event: changed\ndata: \n\n"
MOST_STREAMS = 500
"""Of one process."""


class Pulse:
    """Wakes the streams when verifications end. `run` listens until it is canceled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._beat = asyncio.Event()
        self.streams = 0
        self.closing = False

    async def run(self) -> None:
        await listen(self._gateway.database.url, "covergate console", {ENDED: self._wake}, lambda: self._wake(""))

    def _wake(self, _: str) -> None:
        self._beat.set()
        self._beat = asyncio.Event()

    def close(self) -> None:
        """Shutting down: every stream ends."""
        self.closing = True
        self._wake("")

    async def wait(self) -> None:
        """For the next change, `MOST_SECONDS` at most."""
        beat = self._beat
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await beat.wait()
        except TimeoutError:
            return


@router.get("/live")
async def live(request: Request) -> Response:
    """Without a session it says so and ends: a redirect to the sign-in page would be no stream."""
    session, pulse = await session_of(request, touch=False), cast(Pulse, request.app.state.pulse)
    if session is not None and pulse.streams >= MOST_STREAMS:
        raise Problem("unavailable", "Too many pages are live. Reload this one by hand.", retry_after=60)
    beats = _beats(request, session.token, pulse) if session is not None else _over()
    return StreamingResponse(beats, media_type="text/event-stream", headers=HEADERS)


async def _over() -> AsyncIterator[str]:
    yield ENDED_EVENT


async def _beats(request: Request, token: str, pulse: Pulse) -> AsyncIterator[str]:
    gateway = gateway_behind(request)
    pulse.streams += 1
    try:
        while not pulse.closing and not await request.is_disconnected():
            await pulse.wait()
            if await find_session(gateway, token, idle_time(gateway), touch=False) is None:
                yield ENDED_EVENT
                return
            yield CHANGED_EVENT
            await asyncio.sleep(LEAST_SECONDS)
    finally:
        pulse.streams -= 1
