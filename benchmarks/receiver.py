"""Partners' side: verifies every webhook's signature and remembers when it came.

`POST /expect` gives it the secret of each path and forgets what came before; `GET /arrived` tells what has come since: for each
`webhook-id` when it came, of whom it tells, and when its event was made.
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
        self._webhooks: dict[str, Webhook] = {}
        self._arrived: dict[str, tuple[float, str, float]] = {}
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
        path = scope["path"]
        if path in self._webhooks:
            return self._webhook_came(self._webhooks[path], scope, body), b""
        if path == "/expect":
            self._webhooks = {path: Webhook(secret) for path, secret in orjson.loads(body).items()}
            self._arrived.clear()
            self._repeated = self._forged = 0
            return 200, b"{}"
        if path == "/count":
            return 200, orjson.dumps(len(self._arrived))
        return 200, orjson.dumps({"arrived": self._arrived, "repeated": self._repeated, "forged": self._forged})

    def _webhook_came(self, webhook: Webhook, scope: Scope, body: bytes) -> int:
        now = time.time()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            webhook.verify(body, headers)
        except Exception:  # whatever a forged header makes the library raise
            self._forged += 1
            return 401
        told: dict[str, Any] = orjson.loads(body)
        event_id, made = headers["webhook-id"], datetime.fromisoformat(told["timestamp"]).timestamp()
        self._repeated += event_id in self._arrived
        self._arrived.setdefault(event_id, (now, told["data"]["id"], made))
        return 204


if __name__ == "__main__":
    uvicorn.run(Receiver(), port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)
