"""A partner's side of the demo: takes webhooks, verifies their signatures, remembers which verification they told of.

Invariant: it is written against the Standard Webhooks specification and docs/api.md#6-webhooks, not against the gateway's code.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

import orjson
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass
class Receiver:
    """`secret` is set once the endpoint has been registered; before that every webhook is refused."""

    secret: str = field(default="", repr=False)
    told: dict[str, str] = field(default_factory=dict)
    """Verification id → status, as a webhook with a good signature said."""
    forged: int = 0
    _arrived: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/webhooks", self._receive, methods=["POST"])])

    async def told_of(self, verification_id: str) -> str:
        """Waits for the webhook about this verification."""
        await self._arrived[verification_id].wait()
        return self.told[verification_id]

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
        except Exception:  # the library raises whatever a forged header makes its parsing raise
            self.forged += 1
            return Response(status_code=401)
        data = orjson.loads(body)["data"]
        self.told[data["id"]] = data["status"]
        self._arrived[data["id"]].set()
        return Response(status_code=204)
