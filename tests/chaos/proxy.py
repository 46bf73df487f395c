"""The network between the gateway and the vendors, a process of its own, whose trouble is switched on and off over HTTP.

    python proxy.py PORT SANDBOX_URL API_URL,API_URL

Calls to vendors pass to the sandbox, vendors' events (`/v1/vendor-events/…`) to one of the APIs. `POST /_control` with
{"vendor": {"mode", …}, "events": {"mode", …}} sets both; what hangs or is held back is let go when the mode changes.
`GET /_control` tells how many calls are in flight and what was done how often.

Vendor modes (each with `share`, how many calls of a hundred it hits): `status` (`status`, `headers`; `after_work`: the vendor
did the work first), `hang`, `cut` (the work is done, the reply ends in its middle), `garbage` (the work is done, the reply
is nonsense), `expire` (a token is refused after `uses` calls), `slow` (`seconds` before the reply), `hold_submissions` (the reply
to a call that submitted something comes `seconds` late).
Event modes: `twice`, `late` (`seconds`), `reversed` (collected for `seconds`, then sent last first), `forged`, `never`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

EVENTS = "/v1/vendor-events/"
HOP_BY_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"})
TOKENS = ("/oauth/token", "/api/v2/auth", "/auth/token")
SUBMISSIONS = ("/v2/verifications", "/enhanced-eligibility", "/batch_inquiries", "/eligibility", "/graphql")
GARBAGE = (
    b"<html><body>Bad gateway</body></html>",
    b"\xff\xfe\x00garbage",
    b"",
    b'{"unexpected": true}',
    b'{"data": ',
)


class Proxy:
    def __init__(self, sandbox: str, apis: list[str]) -> None:
        self._sandbox = sandbox
        self._apis = itertools.cycle(apis)
        self._vendor: dict[str, Any] = {}
        self._events: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._in_flight = 0
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
        return web.json_response({"in_flight": self._in_flight, "done": self._done, "held": len(self._held)})

    async def control(self, request: web.Request) -> web.Response:
        given = await request.json()
        self._vendor, self._events = given.get("vendor") or {}, given.get("events") or {}
        self._done.clear()
        self._uses.clear()
        self._changed.set()
        self._changed = asyncio.Event()
        return web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path.startswith(EVENTS):
            return await self._event(request, body)
        self._in_flight += 1
        try:
            return await self._call(request, body)
        finally:
            self._in_flight -= 1

    # Calls to vendors.

    async def _call(self, request: web.Request, body: bytes) -> web.StreamResponse:
        behaviour, changed = self._vendor, self._changed
        mode = behaviour.get("mode")
        if mode is None or random.uniform(0, 100) >= behaviour.get("share", 100):
            return await self._passed_on(request, body)
        self._done[mode] += 1
        if mode == "hang":
            await changed.wait()
            return self._cut_off(request)
        if mode == "status" and not behaviour.get("after_work"):
            return web.Response(status=behaviour["status"], headers=behaviour.get("headers"), text="{}")
        if mode == "expire" and self._is_used_up(request, behaviour["uses"]):
            return web.json_response({"error": "expired"}, status=401)
        status, headers, content = await self._fetch(self._sandbox, request, body)
        if mode == "status":
            return web.Response(status=behaviour["status"], headers=behaviour.get("headers"), text="{}")
        if mode == "garbage":
            return web.Response(status=200, body=random.choice(GARBAGE), content_type="application/json")
        if mode == "cut":
            reply = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content) + 1)})
            await reply.prepare(request)
            await reply.write(content[: len(content) // 2])
            return self._cut_off(request)
        if mode == "slow" or (mode == "hold_submissions" and request.path.endswith(SUBMISSIONS)):
            await asyncio.sleep(behaviour["seconds"])
        return web.Response(status=status, headers=headers, body=content)

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

    async def _passed_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            status, headers, content = await self._fetch(self._sandbox, request, body)
        except aiohttp.ClientError:
            return self._cut_off(request)
        return web.Response(status=status, headers=headers, body=content)

    async def _fetch(
        self,
        base: str,
        request: web.Request,
        body: bytes,
        path: str | None = None,
        changed: Mapping[str, str | None] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
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
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    app.on_startup.append(proxy.start)
    app.on_cleanup.append(proxy.stop)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
