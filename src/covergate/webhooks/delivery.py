"""Delivering events: a signed POST (Standard Webhooks), retried over three days, every attempt recorded.

At least once: a worker that dies between the POST and its record delivers again, with the same `webhook-id`. A slow endpoint slows
only itself: few of its deliveries are in flight at once, the others wait in the slow group.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
import structlog
from sqlalchemy import bindparam, text
from sqlalchemy.types import Boolean, Integer, LargeBinary, Text
from standardwebhooks.webhooks import Webhook

from covergate import audit, jobs
from covergate.gateway import Gateway
from covergate.outbound import UnreadableReply, forbidden, make_client, read_start, retry_after
from covergate.verifications.view import instant, read_view
from covergate.webhooks.schedule import next_try

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 15.0
ANSWER_KEPT = 2048
IN_FLIGHT_PER_ENDPOINT = 8
CROWDED_SECONDS = (1.0, 4.0)
"""How long a delivery of the slow group waits when its endpoint has enough in flight."""
LEASE_SECONDS = 30
GONE = 410

_READ = text("""
SELECT d.id, d.step, d.tries, d.slow, d.status, d.event_id, e.type, e.data, e.created_at, e.verification_id, e.tenant_id,
       e.mode, w.id AS endpoint_id, w.url, w.payload, w.secret_sealed, w.previous_secret_sealed,
       w.previous_secret_until > clock_timestamp() AS previous_secret_holds,
       w.status = 'enabled' AND w.deleted_at IS NULL AS wanted, clock_timestamp() AS now
FROM deliveries d JOIN events e ON e.id = d.event_id JOIN webhook_endpoints w ON w.id = d.endpoint_id
WHERE d.id = :id""")
_RECORD = text("""
WITH tried AS (
  INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
  VALUES (:id, :at, :http_status, :duration_ms, :error, :answer)
)
UPDATE deliveries SET
  status = :status, step = step + 1, tries = tries + 1, slow = :slow,
  next_attempt_at = CASE WHEN :status = 'pending' THEN clock_timestamp() + make_interval(secs => :seconds) END,
  ended_at = CASE WHEN :status = 'pending' THEN NULL ELSE clock_timestamp() END
WHERE id = :id AND step = :step AND status = 'pending' RETURNING step""").bindparams(
    bindparam("http_status", type_=Integer),
    bindparam("error", type_=Text),
    bindparam("answer", type_=LargeBinary),
    bindparam("status", type_=Text),
    bindparam("slow", type_=Boolean),
)
_POSTPONE = text("""
UPDATE deliveries SET step = step + 1, slow = true, next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
WHERE id = :id AND step = :step AND status = 'pending' RETURNING step""")
_GIVE_UP = text("""
WITH noted AS (
  INSERT INTO delivery_attempts (delivery_id, duration_ms, error) VALUES (:id, 0, :error)
)
UPDATE deliveries SET status = 'exhausted', step = step + 1, next_attempt_at = NULL, ended_at = clock_timestamp()
WHERE id = :id AND step = :step AND status = 'pending'""")
_DISABLE = text("""
UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = :reason, updated_at = clock_timestamp()
WHERE id = :id AND status = 'enabled'""")
_OVERDUE = text("""
UPDATE deliveries SET next_attempt_at = clock_timestamp() + make_interval(secs => :lease)
WHERE id IN (
  SELECT id FROM deliveries
  WHERE status = 'pending' AND next_attempt_at < clock_timestamp() - make_interval(secs => :lease)
  ORDER BY next_attempt_at LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING id, step, slow""")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try brought. `status` None: no HTTP answer came."""

    at: datetime
    status: int | None
    duration_ms: int
    error: str | None
    start: bytes | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Deliverer:
    """One per worker; holds the client through which everything to partners goes."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._in_flight: Counter[str] = Counter()

    async def __aenter__(self) -> Deliverer:
        self._client = make_client(guarded=not self.gateway.settings.allow_private_network, limit_per_host=64)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def deliver(self, key: str) -> None:
        """`key` is a job's payload, `dlv_…:<step>`."""
        delivery_id, _, step = key.partition(":")
        async with self.gateway.autocommit.connect() as db:
            row = (await db.execute(_READ, {"id": delivery_id})).one_or_none()
            if row is None or row.status != "pending" or row.step != int(step):
                return
            if not row.wanted:
                await db.execute(_GIVE_UP, {"id": row.id, "step": row.step, "error": "endpoint_disabled"})
                return
        if self._in_flight[row.endpoint_id] >= IN_FLIGHT_PER_ENDPOINT:
            await self._postpone(row)
            return
        self._in_flight[row.endpoint_id] += 1
        try:
            body = await self._body(row)
            answer = await self._post(row, body)
        finally:
            self._in_flight[row.endpoint_id] -= 1
            if not self._in_flight[row.endpoint_id]:
                del self._in_flight[row.endpoint_id]
        await self._record(row, answer)

    async def _postpone(self, row: Any) -> None:
        """Its endpoint has enough in flight: on to the slow group, or a little later in it."""
        seconds = random.uniform(*CROWDED_SECONDS) if row.slow else 0.0
        async with self.gateway.engine.begin() as db:
            values = {"id": row.id, "step": row.step, "seconds": seconds}
            postponed = (await db.execute(_POSTPONE, values)).scalar_one_or_none()
            if postponed is not None:
                await jobs.enqueue(db, [jobs.deliver(row.id, postponed, timedelta(seconds=seconds), slow=True)])

    async def _body(self, row: Any) -> bytes:
        data = row.data
        if row.payload == "full" and row.verification_id is not None:
            async with self.gateway.autocommit.connect() as db:
                shown = await read_view(db, self.gateway.sealer, row.tenant_id, row.mode, row.verification_id)
                data = shown if shown is not None else data
                await audit.record(
                    db,
                    tenant_id=row.tenant_id,
                    api_key_id=None,
                    action="webhook.full",
                    verification_ids=[row.verification_id],
                    request_id=row.event_id,
                )
        return orjson.dumps({"type": row.type, "timestamp": instant(row.created_at), "data": data})

    def _signatures(self, row: Any, body: bytes) -> str:
        """With the secret, and for a day after a rotation with the one before too."""
        sealer = self.gateway.sealer
        columns = ["secret", "previous_secret"] if row.previous_secret_holds else ["secret"]
        secrets = [
            sealer.open("webhook_endpoints", column, row.endpoint_id, getattr(row, f"{column}_sealed")).decode()
            for column in columns
        ]
        return " ".join(Webhook(secret).sign(row.event_id, row.now, body.decode()) for secret in secrets)

    async def _post(self, row: Any, body: bytes) -> Answer:
        headers = {
            "content-type": "application/json",
            "webhook-id": row.event_id,
            "webhook-timestamp": str(int(row.now.timestamp())),
            "webhook-signature": self._signatures(row, body),
        }
        started = time.monotonic()

        def answer(status: int | None, error: str | None, **more: Any) -> Answer:
            duration_ms = round((time.monotonic() - started) * 1000)
            log.info(
                "webhook_delivery",
                delivery_id=row.id,
                endpoint_id=row.endpoint_id,
                event_id=row.event_id,
                tries=row.tries + 1,
                status=status,
                error=error,
                duration_ms=duration_ms,
            )
            return Answer(row.now, status, duration_ms, error, **more)

        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                request = self._client.build_request("POST", row.url, content=body, headers=headers)
                response = await self._client.send(request, stream=True)
                start = await read_start(response, ANSWER_KEPT)
        except TimeoutError:
            return answer(None, "timeout")
        except (httpx.HTTPError, httpx.InvalidURL, UnreadableReply, OSError) as error:
            return answer(None, "forbidden_address" if forbidden(error) else "connection_failed")
        # aiohttp lets some of its own errors through httpx-aiohttp, and TLS raises others; the try failed all the same.
        except Exception as error:
            return answer(None, f"request_failed:{type(error).__name__}")
        status = response.status_code
        error_text = None if 200 <= status < 300 else f"http_{status}"
        return answer(status, error_text, start=start, retry_after=retry_after(response.headers))

    async def _record(self, row: Any, answer: Answer) -> None:
        pause = None if answer.delivered or answer.status == GONE else next_try(row.tries + 1, answer.retry_after)
        slow = answer.error == "timeout" or (row.slow and not answer.delivered)
        values = {
            "id": row.id,
            "step": row.step,
            "at": answer.at,
            "http_status": answer.status,
            "duration_ms": answer.duration_ms,
            "error": answer.error,
            "answer": self._sealed(row.id, answer.start),
            "status": "delivered" if answer.delivered else "exhausted" if pause is None else "pending",
            "slow": slow,
            "seconds": pause.total_seconds() if pause is not None else 0.0,
        }
        if answer.delivered:
            async with self.gateway.autocommit.connect() as db:
                await db.execute(_RECORD, values)
            return
        async with self.gateway.engine.begin() as db:
            step = (await db.execute(_RECORD, values)).scalar_one_or_none()
            if step is not None and pause is not None:
                await jobs.enqueue(db, [jobs.deliver(row.id, step, pause, slow=slow)])
            if answer.status == GONE:
                await db.execute(_DISABLE, {"id": row.endpoint_id, "reason": "it answered 410 Gone"})

    def _sealed(self, delivery_id: str, start: bytes | None) -> bytes | None:
        return self.gateway.sealer.seal("delivery_attempts", "answer", delivery_id, start) if start else None


async def sweep_deliveries(gateway: Gateway) -> int:
    """Sends a new job for every delivery whose job was lost."""
    async with gateway.engine.begin() as db:
        overdue = (await db.execute(_OVERDUE, {"lease": LEASE_SECONDS})).all()
        await jobs.enqueue(db, [jobs.deliver(row.id, row.step, slow=row.slow) for row in overdue])
    return len(overdue)
