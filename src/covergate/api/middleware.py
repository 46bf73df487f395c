"""The outermost layer: names every request, logs and counts it, and turns unexpected errors into 500 problems.

Each request leaves one line, `http_request`: ids, the route's template, status and time; never a path, a query or a header's
text but the client's own id for the request, which is taken only if it has the shape of one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from covergate import ids
from covergate.api.metrics import Metrics, known_method
from covergate.api.problems import problem_answer, unexpected

log = structlog.get_logger(__name__)

CLIENT_WENT_AWAY = 499
PROBED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: logged only at level debug, unless they fail."""

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context; versions after 00 may append fields."""


class Middleware:
    """Pure ASGI: costs a few microseconds and passes a streamed body through untouched.

    `behind_tls`: browsers are told to come by https only.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, behind_tls: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._every_answer = (NO_SNIFFING, HTTPS_ONLY) if behind_tls else (NO_SNIFFING,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = ids.new(ids.REQUEST)
        scope.setdefault("state", {})["request_id"] = request_id
        named_by_caller = dict(_named_by_caller(scope))
        named = (b"x-request-id", request_id.encode())
        started = time.perf_counter()
        status: int | None = None

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], named, *self._every_answer]
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id, **named_by_caller):
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
            self._note(scope, status or CLIENT_WENT_AWAY, seconds, request_id=request_id, **named_by_caller)

    def _note(self, scope: Scope, status: int, seconds: float, **names: str) -> None:
        route, state = matched_route(scope), scope["state"]
        self._metrics.request(scope["method"], route, status, seconds, waited=state.get("waited", False))
        write = log.debug if route in PROBED and status < 500 else log.info
        write(
            "http_request",
            **names,
            **_verification_in_path(scope),
            **state.get("logged", {}),
            method=known_method(scope["method"]),
            route=route,
            status=status,
            duration_ms=round(seconds * 1000),
        )


def _named_by_caller(scope: Scope) -> Iterator[tuple[str, str]]:
    """`client_request_id` and `trace_id`, if the headers have their shape: anything else could hold anything."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            yield "client_request_id", value.decode()
        elif name == b"traceparent" and (found := _TRACEPARENT.fullmatch(value)):
            yield "trace_id", found[1].decode()


def _verification_in_path(scope: Scope) -> dict[str, str]:
    """Only what can be an id: a path holds what a caller puts there."""
    given = scope.get("path_params", {}).get("verification_id", "")
    return {"verification_id": given} if ids.is_id(ids.VERIFICATION, given) else {}


def matched_route(scope: Scope) -> str:
    """The route's template, never the path: paths are unbounded and hold what a caller puts there."""
    route: Any = scope.get("route")
    if route is None:
        return "unmatched"
    # Within what is mounted a route's path begins at the mount.
    return f"{scope.get('root_path', '')}{getattr(route, 'path', '')}"
