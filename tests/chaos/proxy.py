"""The network between the gateway and the vendors, a process of its own, whose trouble is switched on and off over HTTP.

    python proxy.py PORT SANDBOX_URL API_URL,API_URL

Calls to vendors (`/<process>/<vendor>/…`, so that each call has a caller) pass to the sandbox, vendors' events
(`/v1/vendor-events/…`) to one of the APIs. `POST /_control` with {"vendor": {"mode", …}, "events": {"mode", …}} sets both,
{"line": seconds} how long every committing call is on the line; what hangs or is held back is let go when the mode changes.
`GET /_control` tells how many calls are in flight, for how long no committing one has ended, and what was done how often;
`GET /_calls?since=` every committing call and whether its caller got the vendor's own reply.

Vendor modes (each with `share`, how many calls of a hundred it hits, and `containing`, what must stand in a call's body for
it to be hit): `status` (`status`, `headers`; `after_work`: the vendor did the work first), `hang`, `cut` (the work is done,
the reply ends in its middle), `garbage` (the work is done, the reply is nonsense), `expire` (a token is refused after `uses`
calls), `slow` (`seconds` before the reply), `hold_submissions` (the reply to a committing call comes `seconds` late).
Event modes: `twice`, `late` (`seconds`), `reversed` (collected for `seconds`, then sent last first), `forged`, `never`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

EVENTS = "/v1/vendor-events/"
HOP_BY_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"})
TOKENS = ("/oauth/token", "/api/v2/auth", "/auth/token")
SUBMISSIONS = ("/v2/verifications", "/enhanced-eligibility", "/batch_inquiries", "/eligibility", "/graphql")
RUN_CHECK = b"runEligibilityCheck"
"""The one operation among those that share Healthie's path."""
GARBAGE = (
    b"<html><body>Bad gateway</body></html>",
    b"\xff\xfe\x00garbage",
    b"",
    b'{"unexpected": true}',
    b'{"data": ',
)

Fetched = tuple[int, dict[str, str], bytes]


@dataclass
class Call:
    """One call to a vendor. `answered`: its caller was there when the vendor's own, whole reply was handed over; a reply that
    says nothing about the submission (5xx) is none.
    """

    by: str
    vendor: str
    path: str
    sent: str
    commits: bool
    began: float
    ended: float | None = None
    got: str = ""
    answered: bool = False

    @classmethod
    def of(cls, request: web.Request, body: bytes) -> Call:
        _, by, vendor, rest = request.raw_path.split("/", 3)
        commits = request.method == "POST" and request.path.endswith(SUBMISSIONS)
        if request.path.endswith("/graphql"):
            commits = commits and RUN_CHECK in body
        return cls(by, vendor, f"/{vendor}/{rest}", body.decode(errors="replace"), commits, time.time())


class Proxy:
    def __init__(self, sandbox: str, apis: list[str]) -> None:
        self._sandbox = sandbox
        self._apis = itertools.cycle(apis)
        self._vendor: dict[str, Any] = {}
        self._events: dict[str, Any] = {}
        self._line_seconds = 0.0
        self._changed = asyncio.Event()
        self._in_flight = 0
        self._committing: list[Call] = []
        self._done: Counter[str] = Counter()
        self._uses: Counter[str] = Counter()
        self._held: list[tuple[web.Request, bytes]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, app: web.Application) -> None:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=90),
            auto_decompress=False,
        )

    async def stop(self, app: web.Application) -> None:
        await self._http.close()

    async def told(self, request: web.Request) -> web.Response:
        ended = [call.ended for call in self._committing if call.ended is not None]
        return web.json_response(
            {
                "in_flight": self._in_flight,
                "on_the_line": len(self._committing) - len(ended),
                "quiet_for": time.time() - max(ended, default=0.0),
                "done": self._done,
                "held": len(self._held),
            }
        )

    async def calls(self, request: web.Request) -> web.Response:
        since = float(request.query["since"])
        return web.json_response([asdict(call) for call in self._committing if call.began >= since])

    async def control(self, request: web.Request) -> web.Response:
        given = await request.json()
        self._line_seconds = given.get("line", self._line_seconds)
        if "vendor" in given:
            self._vendor, self._events = given["vendor"] or {}, given["events"] or {}
            self._done.clear()
            self._uses.clear()
            self._changed.set()
            self._changed = asyncio.Event()
        return web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path.startswith(EVENTS):
            return await self._event(request, body)
        call = Call.of(request, body)
        if call.commits:
            self._committing.append(call)
        self._in_flight += 1
        try:
            response = await self._call(request, call, body)
            call.answered = call.answered and request.transport is not None and not request.transport.is_closing()
            return response
        finally:
            self._in_flight -= 1
            call.ended = time.time()

    # Calls to vendors.

    async def _call(self, request: web.Request, call: Call, body: bytes) -> web.StreamResponse:
        fetched = None
        if call.commits and self._line_seconds:
            # On the line for so long, half of them with their work done and the reply under way.
            if random.random() < 0.5:
                fetched = await self._vendors_reply(request, call, body)
            await asyncio.sleep(self._line_seconds)
        behaviour, changed = self._vendor, self._changed
        mode = behaviour.get("mode")
        hit = behaviour.get("containing", "") in call.sent and random.uniform(0, 100) < behaviour.get("share", 100)
        if mode is None or not hit:
            return self._passed_on(request, call, fetched or await self._vendors_reply(request, call, body))
        if fetched is not None and mode in {"status", "expire"} and not behaviour.get("after_work"):
            return self._passed_on(request, call, fetched)  # what is done cannot be refused any more
        self._done[mode] += 1
        if mode == "hang":
            await changed.wait()
            return self._cut_off(request)
        if mode == "status" and not behaviour.get("after_work"):
            return self._status(call, behaviour)
        if mode == "expire" and self._is_used_up(request, behaviour["uses"]):
            call.answered = True
            return web.json_response({"error": "expired"}, status=401)
        status, headers, content = fetched = fetched or await self._vendors_reply(request, call, body)
        if not status:
            return self._cut_off(request)
        if mode == "status":
            return self._status(call, behaviour)
        if mode == "garbage":
            return web.Response(status=200, body=random.choice(GARBAGE), content_type="application/json")
        if mode == "cut":
            reply = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content) + 1)})
            await reply.prepare(request)
            await reply.write(content[: len(content) // 2])
            return self._cut_off(request)
        if mode == "slow" or (mode == "hold_submissions" and call.commits):
            await asyncio.sleep(behaviour["seconds"])
        return self._passed_on(request, call, fetched)

    def _status(self, call: Call, behaviour: Mapping[str, Any]) -> web.Response:
        call.answered = behaviour["status"] < 500
        return web.Response(status=behaviour["status"], headers=behaviour.get("headers"), text="{}")

    def _is_used_up(self, request: web.Request, uses: int) -> bool:
        """Whether this call's token did its work before; the paths that give out tokens have none."""
        token = request.headers.get("Authorization", "")
        if not token.lower().startswith("bearer ") or request.path.endswith(TOKENS):
            return False
        self._uses[token] += 1
        return self._uses[token] > uses

    def _cut_off(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _vendors_reply(self, request: web.Request, call: Call, body: bytes) -> Fetched:
        """Status 0: the vendor cut the connection."""
        try:
            fetched = await self._fetch(self._sandbox, request, body, call.path)
        except aiohttp.ClientError:
            return 0, {}, b""
        if call.commits:
            call.got = fetched[2].decode(errors="replace")
        return fetched

    def _passed_on(self, request: web.Request, call: Call, fetched: Fetched) -> web.StreamResponse:
        status, headers, content = fetched
        if not status:
            return self._cut_off(request)
        call.answered = status < 500
        return web.Response(status=status, headers=headers, body=content)

    async def _fetch(
        self,
        base: str,
        request: web.Request,
        body: bytes,
        path: str | None = None,
        changed: Mapping[str, str | None] | None = None,
    ) -> Fetched:
        """`changed` are headers to set, or (None) to leave out."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        for name, value in (changed or {}).items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value
        url = URL(base + (path or request.raw_path), encoded=True)
        async with self._http.request(request.method, url, data=body, headers=headers) as reply:
            content = await reply.read()
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
            return reply.status, kept, content

    # Events from vendors.

    async def _event(self, request: web.Request, body: bytes) -> web.StreamResponse:
        behaviour = self._events
        mode = behaviour.get("mode")
        if mode is not None:
            self._done[mode] += 1
        if mode == "never":
            return web.Response(status=202)
        if mode == "reversed":
            if not self._held:
                self._later(self._send_reversed(behaviour["seconds"]))
            self._held.append((request, body))
            return web.Response(status=202)
        if mode == "late":
            self._later(self._send_late(behaviour["seconds"], request, body))
            return web.Response(status=202)
        if mode == "forged":
            await self._forge(request, body)
        status = await self._deliver(request, body)
        if mode == "twice":
            await asyncio.gather(*(self._deliver(request, body) for _ in range(2)))
        return web.Response(status=status)

    async def _send_late(self, seconds: float, request: web.Request, body: bytes) -> None:
        await asyncio.sleep(seconds)
        await self._insist(request, body)

    async def _send_reversed(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        held, self._held = self._held[::-1], []
        for request, body in held:
            await self._insist(request, body)

    async def _insist(self, request: web.Request, body: bytes) -> None:
        """As a vendor would, whose place was taken when its event was answered too early."""
        for wait in (0.2, 0.5, 1, 2, 4):
            if await self._deliver(request, body) < 300:
                return
            await asyncio.sleep(wait)

    async def _forge(self, request: web.Request, body: bytes) -> None:
        """Altered, without a signature, with another one: whoever accepts any of these believes anybody."""
        signed = [name for name in request.headers if "signature" in name.lower()]
        changed = body + b" " if signed else body
        if "token" in request.query:
            tries: list[tuple[bytes, str, Mapping[str, str | None]]] = [(body, f"{request.path}?token=forged", {})]
        else:
            tries = [
                (changed, request.raw_path, {}),
                (body, request.raw_path, dict.fromkeys(signed)),
                (body, request.raw_path, dict.fromkeys(signed, "v1,Zm9yZ2Vk")),
            ]
        for content, path, headers in tries:
            try:
                status, _, _ = await self._fetch(next(self._apis), request, content, path, headers)
            except aiohttp.ClientError:
                continue
            self._done["forged_refused" if status == 401 else f"forged_accepted_{status}"] += 1

    async def _deliver(self, request: web.Request, body: bytes) -> int:
        for _ in range(2):
            try:
                return (await self._fetch(next(self._apis), request, body))[0]
            except aiohttp.ClientError:
                continue
        return 502

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _healthz(request: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    proxy = Proxy(sys.argv[2], sys.argv[3].split(","))
    app = web.Application(client_max_size=2**24)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/_control", proxy.told)
    app.router.add_post("/_control", proxy.control)
    app.router.add_get("/_calls", proxy.calls)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    app.on_startup.append(proxy.start)
    app.on_cleanup.append(proxy.stop)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
