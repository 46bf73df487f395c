"""The partner's web server, a process of its own: verifies every webhook and writes it down, synced, before it answers.

    python partner.py PORT LOG

`LOG` has one JSON line per webhook: path, webhook-id, type, verification, the status that was answered, when. Each path
behaves as `POST /_control` last said, which outlives a restart: {"path", "secret", "mode", …}. Modes: `ok`; `status` (always
`status`); `slow` (after `seconds`); `flap` (`status` and 204 in turns of `seconds`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

OK = 204


class Partner:
    def __init__(self, log: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._memory = Path(f"{log}.behaviours")
        known = self._memory.read_text() if self._memory.exists() else "{}"
        self._behaviours: dict[str, dict[str, Any]] = json.loads(known)

    async def control(self, request: web.Request) -> web.Response:
        given = await request.json()
        self._behaviours.setdefault(given["path"], {}).update(given)
        self._memory.write_text(json.dumps(self._behaviours))
        return web.Response(status=OK)

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        behaviour = self._behaviours.get(request.path, {})
        status = await self._status(behaviour)
        try:
            Webhook(behaviour.get("secret", "")).verify(body, dict(request.headers))
        except Exception:  # the library raises whatever a forged header makes its parsing raise
            status = 401
        event = json.loads(body)
        line = {
            "path": request.path,
            "id": request.headers.get("webhook-id"),
            "type": event["type"],
            "verification": event["data"].get("id"),
            "status": status,
            "at": time.time(),
        }
        os.write(self._log, json.dumps(line).encode() + b"\n")
        os.fsync(self._log)
        return web.Response(status=status)

    async def _status(self, behaviour: dict[str, Any]) -> int:
        mode = behaviour.get("mode", "ok")
        if mode == "slow":
            await asyncio.sleep(behaviour["seconds"])
        if mode == "status" or (mode == "flap" and int(time.time() / behaviour["seconds"]) % 2):
            return int(behaviour["status"])
        return OK


def main() -> None:
    partner = Partner(sys.argv[2])
    app = web.Application()
    app.router.add_post("/_control", partner.control)
    app.router.add_get("/healthz", _healthz)
    app.router.add_post("/{path:.*}", partner.receive)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


async def _healthz(request: web.Request) -> web.Response:
    return web.Response()


if __name__ == "__main__":
    main()
