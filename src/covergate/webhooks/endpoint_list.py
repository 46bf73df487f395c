"""Endpoints and deliveries as people look after them: of one tenant, or of all for an operator who named none.

An id that is not the caller's to see is not found. What a partner's server answered may quote a patient: it is read by
`read_answers` alone, which writes the look into the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.sealing import SealError
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, SubjectKind
from covergate.timestamps import instant, shown_since
from covergate.webhooks.deliveries import DELIVERY_KINDS, read_delivery
from covergate.webhooks.endpoint_health import LAST_DELIVERED_AT
from covergate.webhooks.endpoints import find, no_such_endpoint, place_of_secret
from covergate.webhooks.recovery import RESTS, STATUSES, Missed
from covergate.webhooks.sender import place_of_answer
from covergate.webhooks.signature_check import KnownSecret

MOST_ENDPOINTS_LISTED = 200
MOST_WAITING_COUNTED = 1000
MOST_MISSED_COUNTED = 10_000
"""Beyond it the count says `or more`."""

_SEEN = """
(CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id) AND (CAST(:mode AS text) IS NULL OR mode = :mode)
  AND deleted_at IS NULL"""
_LIST = Query(
    f"""
WITH shown AS MATERIALIZED (
  SELECT id FROM webhook_endpoints WHERE {_SEEN} AND (:id IS NULL OR id = :id)
  ORDER BY failing_since IS NULL, failing_since, failures_in_row DESC,
    (disabled_reason IS NULL), status <> '{EndpointStatus.DISABLED}', id DESC LIMIT :limit OFFSET :skipped
)
SELECT webhook_endpoints.id, tenant_id, t.name AS tenant, mode, url, description, event_types, payload, status,
  disabled_reason, failing_since, failures_in_row, webhook_endpoints.created_at, {LAST_DELIVERED_AT} AS last_delivered_at,
  (SELECT count(*) FROM (SELECT FROM deliveries WHERE endpoint_id = webhook_endpoints.id
     AND status = '{DeliveryStatus.PENDING}' LIMIT {MOST_WAITING_COUNTED}) AS w) AS waiting,
  array_remove(previous_secret_until || older_secrets_until, NULL) AS ends_of_secrets, clock_timestamp() AS now
FROM webhook_endpoints JOIN tenants t ON t.id = tenant_id
WHERE webhook_endpoints.id = ANY(ARRAY(SELECT id FROM shown))
ORDER BY failing_since IS NULL, failing_since, failures_in_row DESC, (disabled_reason IS NULL),
  status <> '{EndpointStatus.DISABLED}', webhook_endpoints.id DESC""",
    id="text",
    limit="int",
    skipped="int",
)
_TENANT = Query(f"SELECT tenant_id, mode FROM webhook_endpoints WHERE id = :id AND {_SEEN}")
_DELIVERY = Query(f"""
SELECT d.id, w.tenant_id, w.mode, d.endpoint_id, w.url, e.data, e.created_at AS event_at, e.verification_id,
  e.full_sealed IS NOT NULL AS full
FROM deliveries d JOIN events e ON e.id = d.event_id
  JOIN LATERAL (SELECT tenant_id, mode, url FROM webhook_endpoints
                WHERE id = d.endpoint_id AND {_SEEN}) AS w(tenant_id, mode, url) ON true
WHERE d.id = :id""")
_ANSWERS = Query(f"""
SELECT at, answer_sealed FROM (
  SELECT id, at, answer_sealed FROM delivery_attempts WHERE delivery_id = :id
  UNION ALL
  SELECT NULL, last_at, last_answer_sealed FROM deliveries
  WHERE id = :id AND status = '{DeliveryStatus.DELIVERED}' AND last_at IS NOT NULL) AS a
ORDER BY id NULLS LAST""")
_MISSED = Query(
    f"""
WITH RECURSIVE {DELIVERY_KINDS}
SELECT count(*) FROM (
  SELECT FROM kinds, LATERAL (
    SELECT FROM deliveries
    WHERE endpoint_id = :endpoint_id AND status = kinds.status AND event_type = kinds.event_type
      AND created_at >= :since AND {RESTS} LIMIT :most) AS one
  WHERE kinds.status = ANY(:statuses) LIMIT :most) AS missed""",
    statuses="text[]",
    since="timestamptz",
    most="int",
)
_SECRETS = Query("""
SELECT id, secret_sealed, previous_secret_sealed, previous_secret_until, older_secrets_sealed, older_secrets_until
FROM webhook_endpoints
WHERE tenant_id = :tenant_id AND mode = :mode AND deleted_at IS NULL AND secret_sealed IS NOT NULL ORDER BY id""")


@dataclass(frozen=True, slots=True)
class EndpointStanding:
    """An endpoint and how it does. `waiting` counts to `MOST_WAITING_COUNTED`."""

    id: str
    tenant_id: str
    tenant: str
    mode: str
    url: str
    description: str | None
    event_types: tuple[str, ...]
    payload: str
    status: str
    disabled_reason: str | None
    failing_since: datetime | None
    failures_in_row: int
    created_at: datetime
    last_delivered_at: datetime | None
    waiting: int
    older_secrets_until: tuple[datetime, ...]
    """When each secret ends that still signs beside the current one, the latest first."""


@dataclass(frozen=True, slots=True)
class DeliverySeen:
    """One delivery as `deliveries` shows it, with what it is about. `data` is thin, and the same whatever was sent."""

    tenant_id: str
    mode: str
    url: str
    verification_id: str | None
    full: bool
    """A full payload was sent, which is never shown."""
    event_at: str | None
    data: dict[str, Any]
    delivery: dict[str, Any] = field(default_factory=dict)


async def list_standing(gateway: Gateway, caller: Caller, page: int = 1) -> tuple[list[EndpointStanding], bool]:
    """Those that fail first, then those that are disabled, then the newest; and whether there are more pages.

    Pages of `MOST_ENDPOINTS_LISTED`, by number: where one stands changes with how it does.
    """
    skipped = (page - 1) * MOST_ENDPOINTS_LISTED
    async with gateway.connection() as db:
        values = {**_whose(caller), "id": None, "limit": MOST_ENDPOINTS_LISTED + 1, "skipped": skipped}
        rows = await _LIST.all(db, values)
    return [_standing(row) for row in rows[:MOST_ENDPOINTS_LISTED]], len(rows) > MOST_ENDPOINTS_LISTED


async def read_standing_of(gateway: Gateway, caller: Caller, endpoint_id: str) -> EndpointStanding:
    """Raises Problem `not_found`."""
    rows: Sequence[Record] = ()
    if ids.is_id(ids.ENDPOINT, endpoint_id):
        async with gateway.connection() as db:
            rows = await _LIST.all(db, {**_whose(caller), "id": endpoint_id, "limit": 1, "skipped": 0})
    if not rows:
        raise no_such_endpoint()
    return _standing(rows[0])


async def within_endpoint(gateway: Gateway, caller: Caller, endpoint_id: str) -> Caller:
    """The caller within the endpoint's tenant and mode. Raises Problem `not_found`."""
    row = None
    if ids.is_id(ids.ENDPOINT, endpoint_id):
        async with gateway.connection() as db:
            row = await _TENANT.one(db, {**_whose(caller), "id": endpoint_id})
    if row is None:
        raise no_such_endpoint()
    return replace(caller, within_tenant=row.tenant_id, within_mode=row.mode)


async def see_delivery(gateway: Gateway, caller: Caller, delivery_id: str) -> DeliverySeen:
    """Raises Problem `not_found`."""
    async with gateway.connection() as db:
        row = await _find_delivery(db, caller, delivery_id)
        return DeliverySeen(
            row.tenant_id,
            row.mode,
            row.url,
            row.verification_id,
            row.full,
            instant(row.event_at),
            row.data,
            await read_delivery(db, delivery_id),
        )


async def read_answers(
    gateway: Gateway, caller: Caller, delivery_id: str, reason: str | None = None
) -> list[tuple[datetime, str | None]]:
    """The start of what the endpoint answered at each try, oldest first; None: nothing was kept. The look is audited.

    Raises Problem `not_found`.
    """
    async with gateway.transaction() as db:
        delivery = await _find_delivery(db, caller, delivery_id)
        whose = {"tenant_id": delivery.tenant_id, "mode": delivery.mode}
        await audit.record(db, caller, "delivery.answers", SubjectKind.DELIVERY, [delivery_id], reason=reason, **whose)
        rows = await _ANSWERS.all(db, {"id": delivery_id})
    sealed = [row.answer_sealed for row in rows if row.answer_sealed is not None]
    await gateway.meet(delivery.tenant_id, sealed=sealed)
    place = place_of_answer(delivery.tenant_id, delivery.mode, delivery_id)
    return [(row.at, _opened(gateway, place, row.answer_sealed)) for row in rows]


async def count_missed(gateway: Gateway, caller: Caller, endpoint_id: str, since: datetime, missed: Missed) -> int:
    """How many `recover` would have tried anew now, to `MOST_MISSED_COUNTED`. Raises Problem `not_found`."""
    values = {
        "endpoint_id": endpoint_id,
        "statuses": list(STATUSES[missed]),
        "since": shown_since(since),
        "most": MOST_MISSED_COUNTED,
    }
    async with gateway.connection() as db:
        await find(db, caller, endpoint_id)
        return int(await _MISSED.scalar(db, values))


async def read_secrets(
    gateway: Gateway, caller: Caller, endpoint_id: str
) -> tuple[list[KnownSecret], list[KnownSecret]]:
    """The endpoint's, the current one first, and those of the tenant's other endpoints: to compare with, never to show.

    One that ended is known until the next rotation. Raises Problem `not_found`.
    """
    whose = {"tenant_id": caller.tenant_id, "mode": caller.mode}
    async with gateway.connection() as db:
        await find(db, caller, endpoint_id)
        rows = await _SECRETS.all(db, whose)
    known = [(row.id, *one) for row in rows for one in _sealed_secrets(row)]
    await gateway.meet(caller.tenant_id, sealed=[sealed for _, _, sealed, _ in known])
    secrets = [
        KnownSecret(
            id_,
            gateway.sealer.open(place_of_secret(caller.tenant_id, caller.mode, id_, column), sealed).decode(),
            until,
        )
        for id_, column, sealed, until in known
    ]
    return (
        [secret for secret in secrets if secret.endpoint_id == endpoint_id],
        [secret for secret in secrets if secret.endpoint_id != endpoint_id],
    )


def _sealed_secrets(row: Record) -> list[tuple[str, bytes, datetime | None]]:
    """The column by whose name each is sealed, the sealed secret, and its end."""
    secrets: list[tuple[str, bytes, datetime | None]] = [("secret", row.secret_sealed, None)]
    if row.previous_secret_sealed is not None:
        secrets.append(("previous_secret", row.previous_secret_sealed, row.previous_secret_until))
    older = zip(row.older_secrets_sealed, row.older_secrets_until, strict=True)
    return secrets + [("previous_secret", sealed, until) for sealed, until in older]


async def _find_delivery(db: AsyncConnection, caller: Caller, delivery_id: str) -> Record:
    row = None
    if ids.is_id(ids.DELIVERY, delivery_id):
        row = await _DELIVERY.one(db, {**_whose(caller), "id": delivery_id})
    if row is None:
        raise Problem("not_found", "there is no such delivery")
    return row


def _opened(gateway: Gateway, place: Any, sealed: bytes | None) -> str | None:
    """None too if its key is gone."""
    if sealed is None:
        return None
    try:
        return gateway.sealer.open(place, sealed).decode(errors="replace")
    except SealError:
        return None


def _whose(caller: Caller) -> dict[str, str | None]:
    return {"tenant_id": caller.within_tenant, "mode": caller.within_mode}


def _standing(row: Record) -> EndpointStanding:
    return EndpointStanding(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        mode=row.mode,
        url=row.url,
        description=row.description,
        event_types=tuple(row.event_types),
        payload=row.payload,
        status=row.status,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        failures_in_row=row.failures_in_row,
        created_at=row.created_at,
        last_delivered_at=row.last_delivered_at,
        waiting=row.waiting,
        older_secrets_until=tuple(sorted((until for until in row.ends_of_secrets if until > row.now), reverse=True)),
    )
