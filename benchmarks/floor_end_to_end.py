"""Floor 2: the vendor calls of a verification and its signed webhook, through the gateway's transport, without a database.

`python -m benchmarks.floor_end_to_end VENDOR_PORT RECEIVER_PORT SECRET NUMBER`. Prints the seconds that all took, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

import orjson
import uvloop
from standardwebhooks import Webhook

from benchmarks.floor_bare import ASKED, IN_FLIGHT, PATH
from covergate import ids
from covergate.outbound.client import HttpClient, make_client


async def verify(client: HttpClient, vendor: str, receiver: str, secret: str, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"}
    asked = {**ASKED, "internalAccountNumber1": ids.new(ids.ATTEMPT)}
    submitted = await client.send(client.build_request("POST", vendor + PATH, json=asked, headers=headers))
    ticket = orjson.loads(submitted.content)["id"]
    while True:
        reply = await client.send(client.build_request("GET", vendor + PATH, params={"id": ticket}, headers=headers))
        if reply.status_code != 202:
            break
    answer = orjson.loads(reply.content)
    now = datetime.now(UTC)
    told = {
        "id": ids.new(ids.VERIFICATION),
        "external_id": None,
        "status": "completed",
        "outcome": "eligible" if answer["coverageStatusCode"] == "1" else "unknown",
        "outcome_reason": None,
        "failure_code": None,
        "metadata": {"clinic": "north"},
    }
    body = orjson.dumps({"type": "verification.completed", "timestamp": now.isoformat(), "data": told})
    event_id = ids.new(ids.EVENT)
    signed = {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, now, body.decode()),
    }
    told_them = await client.send(client.build_request("POST", f"{receiver}/webhooks", content=body, headers=signed))
    told_them.raise_for_status()


async def main(vendor: str, receiver: str, secret: str, number: int) -> None:
    client = make_client(guarded=False, limit_per_host=IN_FLIGHT)
    async with client:
        grant = {"grant_type": "client_credentials"}
        granted = await client.send(client.build_request("POST", f"{vendor}/api/v2/auth", data=grant))
        token = orjson.loads(granted.content)["access_token"]
        left = iter(range(number))

        async def work() -> None:
            for _ in left:
                await verify(client, vendor, receiver, secret, token)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    uvloop.run(
        main(f"http://127.0.0.1:{sys.argv[1]}", f"http://127.0.0.1:{sys.argv[2]}", sys.argv[3], int(sys.argv[4]))
    )
