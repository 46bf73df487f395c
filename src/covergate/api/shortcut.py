"""A shortcut to one busy route: found before FastAPI looks for it in each router, and answered without its layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

_Answer = Callable[[Request], Awaitable[Response]]


class Shortcut(BaseRoute):
    """`route` has one method and no parameters in its path. FastAPI knows it and its dependencies, for the document; `answer`
    calls them itself: solving them at each request would cost as much as reading the body.
    """

    def __init__(self, route: APIRoute, answer: _Answer) -> None:
        assert route.methods is not None
        (self._method,) = route.methods
        self._path = route.path
        self._found: Scope = {"route": route, "endpoint": route.endpoint, "path_params": {}}
        self._answer = answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == self._method:
            return Match.FULL, self._found
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)
