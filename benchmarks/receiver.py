"""A partner's side: verifies every webhook's signature and remembers when it came.

`POST /expect` gives it the secret and forgets what came before; `GET /arrived` tells what has come since.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

import orjson
import uvicorn
from standardwebhooks import Webhook
from starlette.types import Receive, Scope, Send


class Receiver:
    def __init__(self) -> None:
        self._webhook: Webhook | None = None
        self._arrived: dict[str, tuple[float, float]] = {}
        self._repeated = self._forged = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, content = self._answer(scope, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        if scope["path"] == "/webhooks":
            return self._webhook_came(scope, body), b""
        if scope["path"] == "/expect":
            self._webhook = Webhook(orjson.loads(body)["secret"])
            self._arrived.clear()
            self._repeated = self._forged = 0
            return 200, b"{}"
        if scope["path"] == "/count":
            return 200, orjson.dumps(len(self._arrived))
        return 200, orjson.dumps({"arrived": self._arrived, "repeated": self._repeated, "forged": self._forged})

    def _webhook_came(self, scope: Scope, body: bytes) -> int:
        now = time.time()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            assert self._webhook is not None
            self._webhook.verify(body, headers)
        except Exception:  # whatever a forged header makes the library raise
            self._forged += 1
            return 401
        told: dict[str, Any] = orjson.loads(body)
        verification_id = told["data"]["id"]
        self._repeated += verification_id in self._arrived
        self._arrived.setdefault(verification_id, (now, datetime.fromisoformat(told["timestamp"]).timestamp()))
        return 204


if __name__ == "__main__":
    uvicorn.run(Receiver(), port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)
