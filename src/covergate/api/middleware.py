"""The outermost layer: names every request, counts it, and turns unexpected errors into 500 problems."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from covergate import ids
from covergate.api.metrics import Metrics
from covergate.api.problems import problem_answer, unexpected

CLIENT_WENT_AWAY = 499


class Middleware:
    """Pure ASGI: costs a few microseconds and passes a streamed body through untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = ids.new(ids.REQUEST)
        scope.setdefault("state", {})["request_id"] = request_id
        named = (b"x-request-id", request_id.encode())
        started = time.perf_counter()
        status: int | None = None

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            status = CLIENT_WENT_AWAY
        # Broad on purpose: whatever a handler raises, the caller gets a problem and the log a line without PHI.
        except Exception as error:
            problem = unexpected(error, request_id, matched_route(scope))
            if status is not None:
                raise
            await problem_answer(problem, request_id)(scope, receive, send_named)
        finally:
            seconds = time.perf_counter() - started
            waited = scope["state"].get("waited", False)
            self._metrics.request(
                scope["method"], matched_route(scope), status or CLIENT_WENT_AWAY, seconds, waited=waited
            )


def matched_route(scope: Scope) -> str:
    """The route's template, never the path: paths are unbounded and hold what a caller puts there."""
    route: Any = scope.get("route")
    return getattr(route, "path", "unmatched")
