"""An Integrex that answers at once: a ticket for a POST, 202 for its first GET, the sandbox's sample answer from then on.

`GET /calls` tells how many calls came, tokens apart. The sandbox itself checks every field as strictly as the document; here
the vendor must not be what is measured.
"""

from __future__ import annotations

import sys
from itertools import count

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from covergate.sandbox import integrex_answers
from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.world import World

REQUEST = {
    "patientFirstName": "Jane",
    "patientLastName": "Sample",
    "patientDob": "1990-09-20",
    "memberId": "ELIGIBLE-0001",
    "payerId": "60054",
    "beginDos": "2026-11-21",
}
WORLD = World(SandboxSettings(secret="benchmark"))
ANSWER = orjson.dumps(integrex_answers.answer_document(WORLD, REQUEST, "1" * 19, Scenario.ELIGIBLE))
TOKEN = orjson.dumps({"access_token": "benchmark", "token_type": "Bearer", "expires_in": 3600})


class Vendor:
    def __init__(self) -> None:
        self._tickets = count(10**18)
        self._asked: set[bytes] = set()
        self._calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            continue
        status, body = self._answer(scope)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> tuple[int, bytes]:
        if scope["path"].endswith("/auth"):
            return 200, TOKEN
        if scope["path"] == "/calls":
            return 200, orjson.dumps(self._calls)
        self._calls += 1
        if scope["method"] == "POST":
            return 200, b'{"id":"%d"}' % next(self._tickets)
        ticket = scope["query_string"]
        if ticket in self._asked:
            self._asked.discard(ticket)
            return 200, ANSWER
        self._asked.add(ticket)
        return 202, b"{}"


if __name__ == "__main__":
    uvicorn.run(Vendor(), port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)
