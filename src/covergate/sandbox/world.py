"""The state of one sandbox: its clock, its background work, its outgoing webhooks and the record of submissions.

Invariant: a `World` belongs to one event loop and one `create_sandbox` app; nothing is kept in module globals, so two
sandboxes in one process do not see each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.settings import SandboxSettings

log = structlog.get_logger(__name__)

_EVENT_RETRY_WAITS = (0.2, 0.5, 1.0, 2.0)
"""Seconds before each retry of an event that was not answered with 2xx: five tries in all."""

_EVENT_TIMEOUT = aiohttp.ClientTimeout(total=15)
"""Sohar's limit; the strictest of the five, and the others name none."""

_SLOW_FACTOR = 5


@dataclass(frozen=True, slots=True)
class _Submission:
    """One call that a real vendor would have charged for or begun work on."""

    vendor: str
    echo: str | None
    """The caller's own reference: the vendor's `id`, `external_id` or account number field."""
    member_id: str
    ref: str
    """The reference that the vendor gave out for it."""
    at: str


class World:
    """One sandbox's state, given to each vendor's `build(world)`."""

    def __init__(self, settings: SandboxSettings, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.now = now
        """Unix seconds: tokens expire and answers become ready by this clock. Tests may replace it."""
        self.submissions: list[_Submission] = []
        self._seen: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: aiohttp.ClientSession | None = None

    def delay(self, scenario: Scenario) -> float:
        """The seconds that a vendor works on a request of this scenario."""
        return self.settings.delay_seconds * (_SLOW_FACTOR if scenario is Scenario.SLOW else 1)

    def once(self, key: Hashable) -> bool:
        """True the first time that `key` is seen, False ever after."""
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def record_submission(self, vendor: str, echo: str | None, member_id: str, ref: str) -> None:
        """Count a call that costs money or starts work; `GET /_sandbox/submissions` lists them."""
        at = datetime.fromtimestamp(self.now(), UTC).isoformat()
        self.submissions.append(_Submission(vendor, echo, member_id, ref, at))

    def drop_connection(self, request: Request) -> Response:
        """A response that cuts the connection: the client sees neither a reply nor an error status."""
        return _DroppedReply()

    def spawn(self, coro: Coroutine[object, object, None]) -> None:
        """Run `coro` in the background; it is cancelled at shutdown and its exception, if any, is logged."""
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def post_event(
        self,
        vendor: str,
        body: bytes,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> bool:
        """POST one webhook to the gateway until it answers 2xx, as a vendor would; False if it never did.

        `params` become the query string, for a vendor whose callback address carries a token.
        """
        url = f"{self.settings.gateway_url.rstrip('/')}/v1/vendor-events/{vendor}"
        for wait in (*_EVENT_RETRY_WAITS, None):
            try:
                async with self._session().post(url, data=body, headers=headers, params=params) as reply:
                    if 200 <= reply.status < 300:
                        return True
                    error = f"http_{reply.status}"
            except (aiohttp.ClientError, TimeoutError) as exc:
                error = type(exc).__name__
            if wait is not None:
                await asyncio.sleep(wait)
        log.warning("sandbox_event_not_delivered", vendor=vendor, error=error)
        return False

    async def close(self) -> None:
        """Cancel the background work and close the HTTP client."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=_EVENT_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._http

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("sandbox_task_failed", error=type(exc).__name__, exc_info=exc)


class _DroppedReply(Response):
    """Promises one byte, sends none and returns: uvicorn then closes the connection in the middle of the reply.

    ASGI has no message for "hang up", and this needs no knowledge of the server's internals.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"1")],
            }
        )
