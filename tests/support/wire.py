"""A scripted vendor: what a test stands on instead of HTTP to a vendor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp
import httpx

Reply: TypeAlias = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""Status, JSON body and, if need be, headers."""
Handler: TypeAlias = (
    Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
)
Answer: TypeAlias = Reply | httpx.Response | BaseException | Handler

SUBMIT = "POST /api/v2/enhanced-eligibility"
POLL = "GET /api/v2/enhanced-eligibility"
SUBMITTED: Reply = (200, {"id": "1234567890987654321"})
ACTIVE = {"coverageStatusCode": "1", "coverageStatusDesc": "Active", "copay($)": "30.00"}
"""Integrex: its two calls, its reply to the first and an answer in its dialect."""

TOKENS = ("/api/v2/auth", "/oauth/token", "/health_harbor/api/v0/auth/token")


@dataclass
class Wire:
    """The vendors' side: answers as the test scripted, in order per call; the last answer is repeated."""

    script: dict[str, list[Answer]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> Wire:
        """`call` like `POST /api/v2/enhanced-eligibility`."""
        self.script[call] = list(answers)
        return self

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/integrex").removeprefix("/sohar")
        call = f"{request.method} {path}"
        if path in TOKENS:
            token = {"token": "t", "access_token": "t", "token_type": "Bearer", "expires_in": 3600}
            return httpx.Response(200, json=token)
        self.calls.append(call)
        answers = self.script[call]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, tuple):
            status, body, *headers = answer
            return httpx.Response(status, content=json.dumps(body), headers=headers[0] if headers else None)
        if isinstance(answer, httpx.Response):
            return answer
        given = answer(request)
        return given if isinstance(given, httpx.Response) else await given


class Gate:
    """An answer that comes when the test opens it."""

    def __init__(self, status: int, body: Any) -> None:
        self.opened = asyncio.Event()
        self._reply = (status, body)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await self.opened.wait()
        status, body = self._reply
        return httpx.Response(status, json=body)


def integrex() -> Wire:
    """Takes the submission, is still busy at the first look and has the answer at the second."""
    return Wire().on(SUBMIT, SUBMITTED).on(POLL, (202, {}), (200, ACTIVE))


def never_connected() -> httpx.ConnectError:
    error = httpx.ConnectError("refused")
    # Only the class of the cause matters, not the address that it would name.
    error.__cause__ = aiohttp.ClientConnectorError(None, OSError(111, "refused"))  # type: ignore[arg-type]
    return error
