"""`covergate listen`: follows the events of a key's tenant and mode, and hands each to a local server as a webhook would be.

It asks `GET /v1/events` and opens no port, so it works behind any firewall. Each POST is signed as Standard Webhooks has it,
with a secret that is told at the start. What the local server answers is shown; nothing is tried again. A lost
gateway is waited for, and what happened meanwhile comes then: the list is read on from the last event.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import typer
from standardwebhooks.webhooks import Webhook

from covergate.cli.api_client import Json, accepted, connected
from covergate.errors import ConfigurationError

_LOOK_SECONDS = 1.0
_LONGEST_REST_SECONDS = 30.0
_FORWARD_SECONDS = 15.0
_PAGE_ROWS = 100
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{24,200}")


@dataclass
class Listener:
    """One run. `say` takes what is news about the run itself, `show` what is told of each event."""

    client: httpx.AsyncClient
    types: Sequence[str]
    forward_to: str | None
    secret: str = field(repr=False)
    print_json: bool = False
    say: Callable[[str], None] = lambda text: typer.echo(f"covergate: {text}", err=True)
    show: Callable[[str], None] = typer.echo
    look_seconds: float = _LOOK_SECONDS
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    shown: int = 0
    _after: str | None = None
    _since: str | None = None
    _rest: float = 0.0

    async def run(self) -> None:
        """Until `stopping` is set. Raises ConfigurationError, and TransportError if the first request gets no answer."""
        first = await self._ask({"limit": 1})
        accepted(first)
        self._since = _clock(first).isoformat()
        async with httpx.AsyncClient(timeout=_FORWARD_SECONDS, trust_env=False) as local:
            while not self.stopping.is_set():
                rest = await self._look(local)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), rest)

    def stop(self) -> None:
        self.stopping.set()

    async def _look(self, local: httpx.AsyncClient) -> float:
        """Hands on what has come; the seconds until the next look. Raises ConfigurationError."""
        query = {"after": self._after} if self._after is not None else {"created_after": self._since}
        try:
            response = await self._ask({**query, "limit": _PAGE_ROWS})
        except httpx.TransportError as error:
            return self._lost(type(error).__name__)
        if response.status_code == 429 or response.status_code >= 500:
            return self._lost(f"it answers {response.status_code}")
        page = accepted(response)
        if self._rest:
            self.say("connected again")
            self._rest = 0.0
        for event in page["data"]:
            if self.stopping.is_set():
                return 0.0
            await self._hand_on(local, event)
            self._after = event["id"]
        return 0.0 if page["has_more"] else self.look_seconds

    async def _ask(self, query: dict[str, Any]) -> httpx.Response:
        return await self.client.get("/v1/events", params={"type": list(self.types), **query})

    async def _hand_on(self, local: httpx.AsyncClient, event: Json) -> None:
        self.shown += 1
        body = orjson.dumps({name: event[name] for name in ("type", "timestamp", "data")})
        if self.print_json:
            self.show(orjson.dumps(event).decode())
        answer = (
            "" if self.forward_to is None else f"  {await self._forward(local, self.forward_to, event['id'], body)}"
        )
        line = f"{event['timestamp'][11:19]}  {event['type']:<28}  {event['id']}{answer}"
        if not self.print_json:
            self.show(line)
        elif answer:
            self.say(line)

    async def _forward(self, local: httpx.AsyncClient, url: str, event_id: str, body: bytes) -> str:
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(event_id, now, body.decode()),
        }
        started = time.monotonic()
        try:
            response = await local.post(url, content=body, headers=headers)
        except httpx.TimeoutException:
            return f"→ no answer within {_FORWARD_SECONDS:.0f} s"
        except httpx.TransportError as error:
            return f"→ {type(error).__name__}: is your server running?"
        return f"→ {response.status_code} ({(time.monotonic() - started) * 1000:.0f} ms)"

    def _lost(self, reason: str) -> float:
        """The seconds of the rest before the next look, longer each time."""
        if not self._rest:
            self.say(f"the gateway is lost ({reason}); trying again")
        self._rest = min(max(self._rest * 2, self.look_seconds), _LONGEST_REST_SECONDS)
        return self._rest


async def listen_until_stopped(
    url: str, key: str, types: Sequence[str], forward_to: str | None, *, print_json: bool, secret: str | None
) -> None:
    """Ends with SIGINT or SIGTERM. Raises ConfigurationError."""
    if forward_to is not None and not re.match(r"https?://[^/]", forward_to):
        raise ConfigurationError("--forward-to is not an http(s) URL")
    if secret is not None and not _SECRET.fullmatch(secret):
        raise ConfigurationError("--secret is not like whsec_ and base64 of at least 18 bytes")
    signing = secret or f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    async with connected(url, key) as client:
        listener = Listener(client, types, forward_to, signing, print_json)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, listener.stop)
        listener.say(f"listening to {', '.join(types) or 'every event'}; Ctrl-C ends it")
        if forward_to is not None:
            listener.say(f"each is POSTed to {forward_to}, signed with {signing}")
        await listener.run()
        listener.say(f"{listener.shown} events")


def _clock(response: httpx.Response) -> datetime:
    """The gateway's, if it tells: its events are told by it. A second earlier, for it tells whole seconds."""
    try:
        return parsedate_to_datetime(response.headers["date"]) - timedelta(seconds=1)
    except (KeyError, ValueError):
        return datetime.now(UTC)
