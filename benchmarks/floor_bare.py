"""Floor 3: a verification's HTTP calls and nothing else, with plain aiohttp: no gateway code, no database.

`python -m benchmarks.floor_bare verify VENDOR_PORT RECEIVER_PORT SECRET NUMBER` asks the vendor (POST, GET 202, GET 200; the
token once for all) and posts each webhook, signed; `deliver` posts the webhooks only. Prints seconds and seconds of CPU, as JSON.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import resource
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

import aiohttp
import orjson
import uvloop

IN_FLIGHT = 50
PATH = "/api/v2/enhanced-eligibility"
ASKED = {
    "patientFirstName": "Jane",
    "patientLastName": "Sample",
    "patientDob": "1990-09-20",
    "memberId": "ELIGIBLE-0001",
    "billingProviderNpi": "1234567893",
    "beginDos": "2026-11-21",
    "endDos": "2026-11-21",
    "serviceType": "30",
    "payerId": "60054",
    "payerName": "Aetna",
}


class Script:
    def __init__(self, session: aiohttp.ClientSession, vendor: str, receiver: str, secret: str) -> None:
        self._session = session
        self._vendor, self._webhooks = vendor + PATH, f"{receiver}/webhooks"
        self._secret = b64decode(secret.removeprefix("whsec_"))
        self._numbers = count()
        self._authorized: dict[str, str] = {}

    async def log_in(self, vendor: str) -> None:
        grant = {"grant_type": "client_credentials"}
        async with self._session.post(f"{vendor}/api/v2/auth", data=grant) as reply:
            token = orjson.loads(await reply.read())["access_token"]
        self._authorized = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    async def verify(self) -> None:
        asked = orjson.dumps({**ASKED, "internalAccountNumber1": f"att_{next(self._numbers)}"})
        async with self._session.post(self._vendor, data=asked, headers=self._authorized) as reply:
            ticket = orjson.loads(await reply.read())["id"]
        while True:
            async with self._session.get(self._vendor, params={"id": ticket}, headers=self._authorized) as reply:
                content = await reply.read()
                if reply.status != 202:
                    break
        await self._tell("eligible" if orjson.loads(content)["coverageStatusCode"] == "1" else "unknown")

    async def deliver(self) -> None:
        await self._tell("eligible")

    async def _tell(self, outcome: str) -> None:
        number, now = next(self._numbers), datetime.now(UTC)
        told = {
            "id": f"ver_{number}",
            "external_id": None,
            "status": "completed",
            "outcome": outcome,
            "outcome_reason": None,
            "failure_code": None,
            "metadata": {"clinic": "north"},
        }
        body = orjson.dumps({"type": "verification.completed", "timestamp": now.isoformat(), "data": told})
        event_id, timestamp = f"evt_{number}", str(int(now.timestamp()))
        signature = hmac.digest(self._secret, f"{event_id}.{timestamp}.".encode() + body, "sha256")
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{b64encode(signature).decode()}",
        }
        async with self._session.post(self._webhooks, data=body, headers=headers) as reply:
            await reply.read()
            reply.raise_for_status()


async def main(part: str, vendor: str, receiver: str, secret: str, number: int) -> None:
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        script = Script(session, vendor, receiver, secret)
        await script.log_in(vendor)
        once: Callable[[], Awaitable[None]] = {"verify": script.verify, "deliver": script.deliver}[part]
        left = iter(range(number))

        async def work() -> None:
            for _ in left:
                await once()

        started, cpu = time.perf_counter(), _cpu_seconds()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        print(json.dumps({"seconds": time.perf_counter() - started, "cpu_seconds": _cpu_seconds() - cpu}))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    vendor, receiver = (f"http://127.0.0.1:{port}" for port in sys.argv[2:4])
    uvloop.run(main(sys.argv[1], vendor, receiver, sys.argv[4], int(sys.argv[5])))
