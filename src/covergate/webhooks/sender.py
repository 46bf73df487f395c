"""Delivering events: a signed POST (Standard Webhooks), retried over three days, every attempt recorded.

At least once: a worker that dies between the POST and its record delivers again, with the same `webhook-id`. A slow endpoint
slows only itself: few of its deliveries are in flight at once (`slots.py`), the others stand aside in the slow group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import structlog
from standardwebhooks.webhooks import Webhook
from structlog.contextvars import bound_contextvars

from covergate.access import audit
from covergate.db import jobs
from covergate.db.group_commit import GroupCommit
from covergate.db.queue_schema import enqueue_sql
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.instruments import count_delivery
from covergate.outbound.address_guard import check_url
from covergate.outbound.body import read_start
from covergate.outbound.client import forbidden, make_client, retry_after, was_sent
from covergate.states import DeliveryStatus, EndpointStatus
from covergate.timestamps import instant
from covergate.webhooks.events import FULL
from covergate.webhooks.schedule import crowded_pause, next_try
from covergate.webhooks.slots import Slots

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 15.0
SLOW_SECONDS = 2.0
"""An endpoint whose last answer, or silence, took so long is served from the slow group until one comes faster."""
KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which the commonest servers (Node, uvicorn) close an idle connection."""
START_KEPT = 2048
DELIVERY_LEASE_SECONDS = 30
"""How long after its time a delivery may be under way, or wait in the queue, before the sweep sends another job for it."""
GONE = 410

_READ = Query(f"""
SELECT d.id, d.step, d.tries, d.postponed, d.event_id, e.type, e.data, e.created_at,
       CASE WHEN w.payload = '{FULL}' THEN e.full_sealed END AS full_sealed, e.verification_id, e.tenant_id,
       w.id AS endpoint_id, w.url, w.secret_sealed, w.previous_secret_sealed,
       w.previous_secret_until > clock_timestamp() AS previous_secret_holds,
       CASE WHEN w.deleted_at IS NOT NULL THEN 'endpoint_deleted'
            WHEN w.status = '{EndpointStatus.DISABLED}' THEN 'endpoint_disabled' END AS unwanted, clock_timestamp() AS now
FROM deliveries d JOIN events e ON e.id = d.event_id JOIN webhook_endpoints w ON w.id = d.endpoint_id
WHERE d.id = :id AND d.step = :step AND d.status = '{DeliveryStatus.PENDING}'""")
_TRIED = {
    "id": "text",
    "step": "int",
    "status": "text",
    "posted": "int",
    "slow": "boolean",
    "seconds": "double precision",
    "at": "timestamptz",
    "http_status": "smallint",
    "duration_ms": "int",
    "error": "text",
    "answer": "bytea",
}
_RECORD = f"""
WITH r AS MATERIALIZED (
  SELECT * FROM unnest({", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in _TRIED.items())})
    AS r({", ".join(_TRIED)})
), l AS MATERIALIZED (
  SELECT id FROM deliveries WHERE id = ANY(CAST(:id AS text[])) ORDER BY id FOR UPDATE
), moved AS (
  UPDATE deliveries d SET
    status = r.status, step = d.step + 1, tries = d.tries + r.posted, slow = r.slow,
    next_attempt_at = CASE WHEN r.status = '{DeliveryStatus.PENDING}'
                           THEN clock_timestamp() + make_interval(secs => r.seconds) END,
    ended_at = CASE WHEN r.status <> '{DeliveryStatus.PENDING}' THEN clock_timestamp() END
  FROM r JOIN l USING (id)
  WHERE d.id = r.id AND d.step = r.step AND d.status = '{DeliveryStatus.PENDING}' RETURNING d.id, d.step
), tried AS (
  INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
  SELECT id, at, http_status, duration_ms, error, answer FROM r JOIN moved USING (id)
)"""
_RECORD_DELIVERED = Query(f"{_RECORD} SELECT id, set_config('synchronous_commit', 'off', true) FROM moved")
"""Waits for no disk: if it is forgotten in a crash, the endpoint gets the event once more, under the same `webhook-id`."""
_RECORD_FAILED = Query(f"{_RECORD} SELECT step FROM moved")
_POSTPONE = Query(f"""
WITH moved AS (
  UPDATE deliveries
  SET step = step + 1, postponed = postponed + CAST(:crowded AS int), slow = true,
      next_attempt_at = clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision))
  WHERE id = :id AND step = :step AND status = '{DeliveryStatus.PENDING}' RETURNING id
)
{enqueue_sql("EXISTS (SELECT FROM moved)")}""")
_DISABLE = Query(f"""
UPDATE webhook_endpoints SET status = '{EndpointStatus.DISABLED}', disabled_reason = :reason, updated_at = clock_timestamp()
WHERE id = :id AND url = :url AND status = '{EndpointStatus.ENABLED}'""")
_OVERDUE = Query(f"""
UPDATE deliveries SET next_attempt_at = clock_timestamp() + make_interval(secs => :lease)
WHERE id IN (
  SELECT id FROM deliveries
  WHERE status = '{DeliveryStatus.PENDING}' AND next_attempt_at < now() - make_interval(secs => :lease)
  ORDER BY next_attempt_at LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING id, step, slow""")


@dataclass(frozen=True, slots=True)
class Try:
    """What one try brought. `status` None: no HTTP answer came, and `error` says why in a word."""

    at: datetime
    status: int | None
    duration_ms: int
    error: str | None
    start: bytes | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def slow(self) -> bool:
        return self.duration_ms >= SLOW_SECONDS * 1000


class Deliverer:
    """One per worker; holds the client through which everything to partners goes."""

    def __init__(self, gateway: Gateway, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.gateway = gateway
        self._timeout_seconds = timeout_seconds
        self._delivered = GroupCommit(self._record_delivered)
        self._lanes = Slots()

    async def __aenter__(self) -> Deliverer:
        # No limit per host: endpoints of several partners may share one, and each has its own places already.
        self._client = make_client(
            guarded=not self.gateway.settings.allow_private_network,
            limit_per_host=0,
            keepalive_seconds=KEEPALIVE_SECONDS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def deliver(self, key: str) -> None:
        """`key` is a job's payload, `dlv_…:<step>`."""
        with bound_contextvars(delivery_id=key.partition(":")[0]):
            await self._deliver(key, slowly=False)

    async def deliver_slowly(self, key: str) -> None:
        """The same, where slow endpoints wait with each other."""
        with bound_contextvars(delivery_id=key.partition(":")[0]):
            await self._deliver(key, slowly=True)

    async def failed_inside(self, key: str) -> None:
        """Our own code failed on this try: it counts as one, so that it is seen, backs off and comes to an end."""
        row = await self._read(key)
        if row is not None:
            await self._record(row, Try(row.now, None, 0, "internal_error"))

    async def _deliver(self, key: str, *, slowly: bool) -> None:
        row = await self._read(key)
        if row is None:
            return
        if row.unwanted is not None:
            await self._record(row, Try(row.now, None, 0, row.unwanted))
            return
        lane = self._lanes.of(row.endpoint_id)
        if lane.slow and not slowly:
            await self._postpone(row, timedelta(0))
            return
        answer: Try | None = None
        lanes = (lane, self._lanes.of_tenant(row.tenant_id, slowly=slowly))
        with ExitStack() as places:
            for one in lanes:
                if not await one.enter():
                    break
                places.callback(one.leave)
            else:
                answer = await self._post(row, await self._body(row))
                self._lanes.note(row.endpoint_id, slow=answer.slow)
        if answer is None:
            await self._postpone(row, crowded_pause(row.postponed))
        else:
            await self._record(row, answer)

    async def _read(self, key: str) -> Any:
        """None for a job that came late or twice."""
        delivery_id, _, step = key.partition(":")
        async with self.gateway.connection() as db:
            row = await _READ.one(db, {"id": delivery_id, "step": int(step)})
        return None if row is None else SimpleNamespace(**row)

    async def _postpone(self, row: Any, pause: timedelta) -> None:
        """On in the slow group, in one statement: the backlog of an endpoint that hangs does this again and again."""
        later = [jobs.deliver(row.id, row.step + 1, pause, slow=True)]
        values = {"id": row.id, "step": row.step, "seconds": pause.total_seconds(), "crowded": int(bool(pause))}
        async with self.gateway.connection() as db:
            await _POSTPONE.all(db, values | jobs.enqueuing(later))
            if not pause:  # else the group looks soon enough by itself
                jobs.announce(db, later)

    async def _body(self, row: Any) -> bytes:
        """The same bytes at every try. A full payload is what was kept of the verification when the event was published."""
        data = row.data
        if row.full_sealed is not None:
            data = orjson.Fragment(self.gateway.sealer.open("events", "full", row.event_id, row.full_sealed))
            async with self.gateway.connection() as db:
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

    async def _post(self, row: Any, body: bytes) -> Try:
        """Once a status has come it decides, whatever becomes of the rest of the answer."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # what is kept of the answer should be readable
            "webhook-id": row.event_id,
            "webhook-timestamp": str(int(row.now.timestamp())),
            "webhook-signature": self._signatures(row, body),
        }
        if check_url(row.url, allow_private=self.gateway.settings.allow_private_network) is not None:
            return Try(row.now, None, 0, "forbidden_address")
        status: int | None = None
        error: str | None = None
        start: bytes | None = None
        asked: float | None = None
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = self._client.build_request("POST", row.url, content=body, headers=headers)
                response = await self._client.send(request, stream=True)
                status, asked = response.status_code, retry_after(response.headers)
                start = await read_start(response, START_KEPT)
        # Nothing narrower will do: httpx, aiohttp, ssl and the loop each raise their own, and the try failed all the same.
        except Exception as failure:
            error = _reason(failure)
        if status is not None:
            error = None if 200 <= status < 300 else f"http_{status}"
        return Try(row.now, status, round((time.monotonic() - started) * 1000), error, start, asked)

    async def _record(self, row: Any, answer: Try) -> None:
        """One statement for the good case; a failure, its next job and what a 410 means are one transaction."""
        posted = row.unwanted is None
        final = answer.delivered or answer.status == GONE or not posted
        pause = None if final else next_try(row.tries + 1, answer.retry_after)
        values = {
            "id": row.id,
            "step": row.step,
            "at": answer.at,
            "posted": int(posted),
            "http_status": answer.status,
            "duration_ms": answer.duration_ms,
            "error": answer.error,
            "answer": self._sealed(row.id, answer.start),
            "status": _status_after(answer, pause),
            "slow": answer.slow,
            "seconds": pause.total_seconds() if pause is not None else 0.0,
        }
        log.info(
            "webhook_delivery",
            delivery_id=row.id,
            endpoint_id=row.endpoint_id,
            event_id=row.event_id,
            verification_id=row.verification_id,
            tries=row.tries + int(posted),
            status=answer.status,
            error=answer.error,
            duration_ms=answer.duration_ms,
            delivery=values["status"],
        )
        if answer.delivered:
            _count(await self._delivered.add(values), values)
            return
        async with self.gateway.transaction() as db:
            if answer.status == GONE:  # the endpoint before its deliveries, as everywhere
                reason = {"id": row.endpoint_id, "url": row.url, "reason": "it answered 410 Gone"}
                await _DISABLE.run(db, reason)
            moved = await _RECORD_FAILED.one(db, _together([values]))
            if moved is not None and pause is not None:
                await jobs.enqueue(db, [jobs.deliver(row.id, moved["step"], pause, slow=answer.slow)])
        _count(moved is not None, values)

    async def _record_delivered(self, tries: Sequence[dict[str, Any]]) -> list[bool]:
        """For each whether this recorded it; else another worker has."""
        async with self.gateway.connection() as db:
            recorded = {row.id for row in await _RECORD_DELIVERED.all(db, _together(tries))}
        return [values["id"] in recorded for values in tries]

    def _sealed(self, delivery_id: str, start: bytes | None) -> bytes | None:
        return self.gateway.sealer.seal("delivery_attempts", "answer", delivery_id, start) if start else None


def _together(tries: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [values[name] for values in tries] for name in _TRIED}


def _count(recorded: bool, values: Mapping[str, Any]) -> None:
    if recorded:
        count_delivery(values["status"], values["duration_ms"] / 1000)


def _status_after(answer: Try, pause: timedelta | None) -> DeliveryStatus:
    if answer.delivered:
        return DeliveryStatus.DELIVERED
    return DeliveryStatus.EXHAUSTED if pause is None else DeliveryStatus.PENDING


def _reason(error: Exception) -> str:
    """A constant word; an exception's own text may hold an address."""
    if forbidden(error):
        return "forbidden_address"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "connection_lost" if was_sent(error) else "connection_failed"


async def sweep_deliveries(gateway: Gateway) -> int:
    """Sends a new job for every delivery whose job was lost."""
    async with gateway.transaction() as db:
        overdue = await _OVERDUE.all(db, {"lease": DELIVERY_LEASE_SECONDS})
        await jobs.enqueue(db, [jobs.deliver(row.id, row.step, slow=row.slow) for row in overdue])
    return len(overdue)
