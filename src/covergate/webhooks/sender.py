"""Delivering events: a signed POST (Standard Webhooks), retried over three days, every attempt recorded.

At least once: a worker that dies between the POST and its record delivers again, with the same `webhook-id`. A slow endpoint
slows only itself (`places.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from standardwebhooks.webhooks import Webhook
from structlog.contextvars import bound_contextvars

from covergate import crash_points
from covergate.access import audit
from covergate.access.audit import Actor
from covergate.access.caller import Origin
from covergate.db.group_commit import GroupCommit
from covergate.db.sealing import Place, SealError
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.instruments import count_delivery
from covergate.outbound.address_guard import check_url
from covergate.outbound.body import read_start
from covergate.outbound.client import forbidden, make_client, no_address, retry_after, was_sent
from covergate.states import ActorKind, DeliveryStatus, SubjectKind
from covergate.timestamps import instant
from covergate.webhooks.endpoint_health import counting_failures, disable_gone, note_success
from covergate.webhooks.endpoints import place_of_secret
from covergate.webhooks.events import ClaimedDelivery, place_of_full
from covergate.webhooks.places import SLOW_SECONDS, Places
from covergate.webhooks.schedule import next_try

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 15.0
KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which the commonest servers (Node, uvicorn) close an idle connection."""
START_KEPT = 2048
GONE = 410
OUR_FAULT = "internal_error"
FORBIDDEN = "forbidden_address"
"""The URL itself says that nothing may be sent there."""
NO_PUBLIC_ADDRESS = "no_public_address"

_TRIED = {
    "id": "text",
    "endpoint_id": "text",
    "failed": "boolean",
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
    next_attempt_at = CASE WHEN r.status = '{DeliveryStatus.PENDING}' THEN now() + make_interval(secs => r.seconds) END,
    due_at = CASE WHEN r.status = '{DeliveryStatus.PENDING}' THEN now() + make_interval(secs => r.seconds) END,
    ended_at = CASE WHEN r.status <> '{DeliveryStatus.PENDING}' THEN now() END,
    last_at = r.at, last_status = r.http_status, last_duration_ms = r.duration_ms, last_error = r.error,
    last_answer_sealed = r.answer
  FROM r JOIN l USING (id)
  WHERE d.id = r.id AND d.step = r.step AND d.status = '{DeliveryStatus.PENDING}' RETURNING d.id, d.step
), tried AS (
  INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
  SELECT id, at, http_status, duration_ms, error, answer FROM r JOIN moved USING (id)
  WHERE r.status <> '{DeliveryStatus.DELIVERED}'
)"""
"""A try that failed has a row of its own, too; the last one stands in its delivery."""
_RECORD_DELIVERED = Query(f"{_RECORD} SELECT id, set_config('synchronous_commit', 'off', true) FROM moved")
"""Waits for no disk: if it is forgotten in a crash, the endpoint gets the event once more, under the same `webhook-id`."""
_RECORD_FAILED = Query(f"""{_RECORD}, {counting_failures("(SELECT endpoint_id, at FROM r JOIN moved USING (id) WHERE failed)")}
SELECT id FROM moved""")


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

    def __init__(self, gateway: Gateway, places: Places, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.gateway = gateway
        self._places = places
        self._timeout_seconds = timeout_seconds
        self._delivered = GroupCommit(self._record_delivered)
        self._failed = GroupCommit(self._record_failed)

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

    async def deliver(self, delivery: ClaimedDelivery) -> None:
        """Makes one try of a claimed delivery and records it."""
        with bound_contextvars(delivery_id=delivery.id):
            await self._record(delivery, await self._try(delivery))

    async def failed_inside(self, delivery: ClaimedDelivery) -> None:
        """Our own code failed on this try: it counts as one, so that it is seen, backs off and comes to an end."""
        await self._record(delivery, Try(delivery.now, None, 0, OUR_FAULT))

    async def _try(self, delivery: ClaimedDelivery) -> Try:
        if delivery.unwanted is not None:
            return Try(delivery.now, None, 0, delivery.unwanted)
        sealed = (delivery.full_sealed, *(value for _, value in _secrets(delivery)))
        await self.gateway.meet(delivery.tenant_id, sealed=sealed)
        answer = await self._post(delivery, await self._body(delivery))
        self._places.note(delivery.endpoint_id, slow=answer.slow)
        return answer

    async def _body(self, row: ClaimedDelivery) -> bytes:
        """The same bytes at every try. A full payload is what was kept of the verification when the event was published."""
        data = row.data
        if row.full_sealed is not None:
            place = place_of_full(row.tenant_id, row.mode, row.event_id, row.verification_id)
            data = orjson.Fragment(self.gateway.sealer.open(place, row.full_sealed))
        if row.full_sealed is not None and row.verification_id is not None:
            async with self.gateway.connection() as db:
                by = Actor(ActorKind.WORKER, row.endpoint_id, row.tenant_id, row.mode, Origin(row.event_id))
                await audit.record(db, by, "webhook.full", SubjectKind.VERIFICATION, [row.verification_id])
        return orjson.dumps({"type": row.type, "timestamp": instant(row.created_at), "data": data})

    def _signatures(self, row: ClaimedDelivery, body: bytes) -> str:
        """With the secret, and with each that a rotation replaced less than a day ago."""
        secrets = [
            self.gateway.sealer.open(place_of_secret(row.tenant_id, row.mode, row.endpoint_id, column), sealed).decode()
            for column, sealed in _secrets(row)
        ]
        return " ".join(Webhook(secret).sign(row.event_id, row.now, body.decode()) for secret in secrets)

    async def _post(self, row: ClaimedDelivery, body: bytes) -> Try:
        """Once a status has come it decides, whatever becomes of the rest of the answer."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # what is kept of the answer should be readable
            "webhook-id": row.event_id,
            "webhook-timestamp": str(int(row.now.timestamp())),
            "webhook-signature": self._signatures(row, body),
        }
        settings = self.gateway.settings
        if check_url(row.url, allow_private=settings.allow_private_network, ports=settings.webhook_ports) is not None:
            return Try(row.now, None, 0, FORBIDDEN)
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

    async def _record(self, row: ClaimedDelivery, answer: Try) -> None:
        """Tries that are recorded at the same time are so together; what a 410 means is one transaction with it."""
        posted = row.unwanted is None
        await self.gateway.meet(row.tenant_id)
        final = answer.delivered or answer.status == GONE or not posted
        pause = None if final else next_try(row.tries + 1, answer.retry_after)
        values = {
            "id": row.id,
            "endpoint_id": row.endpoint_id,
            "failed": posted and answer.error != OUR_FAULT,
            "step": row.step,
            "at": answer.at,
            "posted": int(posted),
            "http_status": answer.status,
            "duration_ms": answer.duration_ms,
            "error": answer.error,
            "answer": self._sealed(row, answer.start),
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
            if row.failing:
                async with self.gateway.connection() as db:
                    await note_success(db, row.endpoint_id)
            return
        if answer.status == GONE:
            await self._record_gone(row, values)
        else:
            _count(await self._failed.add(values), values)

    async def _record_gone(self, row: ClaimedDelivery, values: dict[str, Any]) -> None:
        """The endpoint before its deliveries, as everywhere."""
        async with self.gateway.transaction() as db:
            await disable_gone(db, row.endpoint_id, row.url)
            recorded = bool(await _RECORD_FAILED.all(db, _together([values])))
        _count(recorded, values)

    async def _record_delivered(self, tries: Sequence[dict[str, Any]]) -> list[bool]:
        return await self._record_together(_RECORD_DELIVERED, tries)

    async def _record_failed(self, tries: Sequence[dict[str, Any]]) -> list[bool]:
        return await self._record_together(_RECORD_FAILED, tries)

    async def _record_together(self, query: Query, tries: Sequence[dict[str, Any]]) -> list[bool]:
        """For each whether this recorded it; else another worker has."""
        crash_points.point("before_delivered")
        async with self.gateway.connection() as db:
            recorded = {row.id for row in await query.all(db, _together(tries))}
        crash_points.point("after_delivered")
        return [values["id"] in recorded for values in tries]

    def _sealed(self, row: ClaimedDelivery, start: bytes | None) -> bytes | None:
        """None if the tenant's key is gone: it was erased while its partner answered."""
        place = place_of_answer(row.tenant_id, row.mode, row.id)
        try:
            return self.gateway.sealer.seal(place, start) if start else None
        except SealError as error:
            log.warning("answer_not_kept", delivery_id=row.id, reason=str(error))
            return None


def _secrets(row: ClaimedDelivery) -> list[tuple[str, bytes]]:
    """Those that sign: the column by whose name each is sealed, and the sealed secret."""
    secrets = [("secret", row.secret_sealed)]
    if row.previous_secret_holds and row.previous_secret_sealed is not None:
        secrets.append(("previous_secret", row.previous_secret_sealed))
    older = zip(row.older_secrets_sealed, row.older_secrets_until, strict=True)
    return secrets + [("previous_secret", sealed) for sealed, until in older if until > row.now]


def place_of_answer(tenant_id: str, mode: str, delivery_id: str) -> Place:
    """The same for a delivery's last answer and for those of its tries."""
    return Place(tenant_id, mode, "delivery_attempts", "answer", delivery_id)


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
    """A constant word; an exception's own text may hold an address.

    A name that leads to an inside address and one that leads nowhere are told by the same word: the difference would
    tell which inside names exist.
    """
    if forbidden(error) or no_address(error):
        return NO_PUBLIC_ADDRESS
    if isinstance(error, TimeoutError):
        return "timeout"
    return "connection_lost" if was_sent(error) else "connection_failed"
