"""Webhook endpoints: where a partner wants events. A secret is shown when it is made or rotated, and only then.

An endpoint that gets full payloads receives PHI, so whoever makes, changes or redirects one needs `verifications:read` too. A
deleted endpoint is kept for its deliveries' sake, and nothing finds it any more.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids, instruments
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import Page, page
from covergate.db.sealing import Place
from covergate.db.sql import Query
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.outbound.address_guard import check_url
from covergate.states import DeliveryStatus, EndpointStatus, EventType, SubjectKind
from covergate.timestamps import instant
from covergate.webhooks.endpoint_health import LAST_DELIVERED_AT, WELL, tell_of_status
from covergate.webhooks.events import EVERY, FULL, News, publish_test
from covergate.webhooks.samples import sample

MOST_ENDPOINTS = 50
"""Per tenant and mode."""
FULL_NEEDS = "verifications:read"
SECRET_BYTES = 32
ROTATION_OVERLAP = "24 hours"
_MOST_PREVIOUS_SECRETS = 4
"""That sign beside the current one; a rotation beyond them ends the oldest before its time."""

_COLUMNS = (
    "id, url, event_types, payload, description, status, disabled_reason, previous_secret_until, created_at, updated_at,"
    f" failing_since, failures_in_row, {LAST_DELIVERED_AT} AS last_delivered_at"
)
_OURS = "tenant_id = :tenant_id AND mode = :mode AND deleted_at IS NULL"
_TYPES = {"url": "text", "event_types": "text[]", "payload": "text", "description": "text", "status": "text"}

_LOCK_TENANT = Query(
    "SELECT pg_advisory_xact_lock(hashtextextended('webhook_endpoints:' || :tenant_id || :mode, 0))",
    tenant_id="text",
    mode="text",
)
_COUNT = Query(f"SELECT count(*) FROM webhook_endpoints WHERE {_OURS}")
_CREATE = Query(f"""
INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, description, status, secret_sealed, made_by)
VALUES (:id, :tenant_id, :mode, :url, :event_types, :payload, :description, '{EndpointStatus.ENABLED}', :secret, :made_by)
RETURNING {_COLUMNS}""")
_LIST = Query(
    f"""
SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_OURS} AND (:after IS NULL OR id < :after)
ORDER BY id DESC LIMIT :limit""",
    after="text",
)
_READ = Query(f"SELECT {_COLUMNS}, secret_sealed FROM webhook_endpoints WHERE id = :id AND {_OURS}")
_LOCK = Query(f"SELECT {_COLUMNS}, secret_sealed FROM webhook_endpoints WHERE id = :id AND {_OURS} FOR NO KEY UPDATE")
_MADE_BY = Query(
    f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE made_by = :made_by AND deleted_at IS NULL ORDER BY id"
)
_OLDER = """ARRAY(
    SELECT {column} FROM (
      SELECT previous_secret_sealed, previous_secret_until
      UNION ALL SELECT * FROM unnest(older_secrets_sealed, older_secrets_until)) AS older(sealed, until)
    WHERE until > now() ORDER BY until DESC LIMIT {limit})"""
_ROTATE = Query(f"""
UPDATE webhook_endpoints SET secret_sealed = :secret, previous_secret_sealed = :previous,
  older_secrets_sealed = {_OLDER.format(column="sealed", limit=_MOST_PREVIOUS_SECRETS - 1)},
  older_secrets_until = {_OLDER.format(column="until", limit=_MOST_PREVIOUS_SECRETS - 1)},
  previous_secret_until = clock_timestamp() + interval '{ROTATION_OVERLAP}', updated_at = clock_timestamp()
WHERE id = :id RETURNING {_COLUMNS}""")
_DELETE = Query(
    f"UPDATE webhook_endpoints SET deleted_at = clock_timestamp(), status = '{EndpointStatus.DISABLED}'"
    f" WHERE id = :id AND {_OURS} RETURNING id"
)
_END_DELIVERIES = Query(f"""
WITH l AS MATERIALIZED (
  SELECT id FROM deliveries WHERE endpoint_id = :id AND status = '{DeliveryStatus.PENDING}' ORDER BY id FOR NO KEY UPDATE
)
UPDATE deliveries d SET status = '{DeliveryStatus.EXHAUSTED}', step = step + 1, next_attempt_at = NULL,
  due_at = NULL, ended_at = clock_timestamp()
FROM l WHERE d.id = l.id AND status = '{DeliveryStatus.PENDING}'""")
"""In the order of ids, in which other processes record theirs, too."""


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    url: str
    event_types: tuple[str, ...]
    payload: str
    description: str | None


async def create_endpoint(gateway: Gateway, caller: Caller, wanted: NewEndpoint) -> dict[str, Any]:
    """The endpoint with its secret. Raises Problem `invalid_request`, `insufficient_scope`, `too_many_endpoints`."""
    _check(gateway, wanted.url, wanted.event_types)
    _may_have(caller, wanted.payload)
    endpoint_id, secret = ids.new(ids.ENDPOINT), _new_secret()
    values = {
        "id": endpoint_id,
        "tenant_id": caller.tenant_id,
        "mode": caller.mode,
        "url": wanted.url,
        "event_types": list(wanted.event_types),
        "payload": wanted.payload,
        "description": wanted.description,
        "secret": await _sealed(gateway, caller, endpoint_id, "secret", secret),
        "made_by": caller.id,
    }
    async with gateway.transaction() as db:
        await _LOCK_TENANT.run(db, _whose(caller))
        if await _COUNT.scalar(db, _whose(caller)) >= MOST_ENDPOINTS:
            raise Problem("too_many_endpoints", f"there may be {MOST_ENDPOINTS} endpoints; delete one first")
        row = await _CREATE.one(db, values)
        await audit.record(db, caller, "endpoint.create", SubjectKind.ENDPOINT, [endpoint_id])
        if wanted.payload == FULL:
            await audit.record(db, caller, "endpoint.payload_full", SubjectKind.ENDPOINT, [endpoint_id])
    return {**_view(row), "secret": secret}


async def list_endpoints(gateway: Gateway, caller: Caller, after: str | None, limit: int) -> Page:
    """Newest first."""
    async with gateway.connection() as db:
        rows = await _LIST.all(db, {**_whose(caller), "after": after, "limit": limit + 1})
    return page(rows, limit, lambda row: str(row.id), _view)


async def list_made_by(gateway: Gateway, api_key_id: str) -> list[dict[str, Any]]:
    """The endpoints that a key made, oldest first: they go on when the key is revoked."""
    async with gateway.connection() as db:
        return [_view(row) for row in await _MADE_BY.all(db, {"made_by": api_key_id})]


async def read_endpoint(gateway: Gateway, caller: Caller, endpoint_id: str) -> dict[str, Any]:
    async with gateway.connection() as db:
        return _view(await find(db, caller, endpoint_id))


async def update_endpoint(
    gateway: Gateway, caller: Caller, endpoint_id: str, changes: dict[str, Any]
) -> dict[str, Any]:
    """`changes` has some of url, event_types, payload, description and status. Raises Problem as `create_endpoint` does."""
    _check(gateway, changes.get("url"), changes.get("event_types"))
    async with gateway.transaction() as db:
        row = await find(db, caller, endpoint_id, lock=True)
        _may_have(caller, changes.get("payload", row.payload))
        if not changes:
            return _view(row)
        assignments = [f"{name} = :{name}" for name in changes]
        status = changes.get("status", row.status)
        if status == EndpointStatus.ENABLED:
            assignments.append("disabled_reason = NULL")
        if status != row.status:
            assignments.append(WELL)
        update = Query(
            f"UPDATE webhook_endpoints SET {', '.join(assignments)}, updated_at = clock_timestamp()"
            f" WHERE id = :id RETURNING {_COLUMNS}",
            **{name: _TYPES[name] for name in changes},
        )
        await _record_changes(db, caller, row, changes)
        if "event_types" in changes:
            changes = {**changes, "event_types": list(changes["event_types"])}
        if status != row.status:
            await tell_of_status(db, caller.tenant_id, caller.mode, endpoint_id, status)
        return _view(await update.one(db, {"id": endpoint_id, **changes}))


async def delete_endpoint(gateway: Gateway, caller: Caller, endpoint_id: str) -> None:
    """What is still to be delivered to it ends `exhausted`."""
    async with gateway.transaction() as db:
        if not ids.is_id(ids.ENDPOINT, endpoint_id):
            raise no_such_endpoint()
        if await _DELETE.one(db, {"id": endpoint_id, **_whose(caller)}) is None:
            raise no_such_endpoint()
        await _END_DELIVERIES.run(db, {"id": endpoint_id})
        await audit.record(db, caller, "endpoint.delete", SubjectKind.ENDPOINT, [endpoint_id])


async def rotate_secret(gateway: Gateway, caller: Caller, endpoint_id: str) -> dict[str, Any]:
    """The endpoint with its new secret; each before signs beside it for a day after its own rotation."""
    secret, sealer = _new_secret(), gateway.sealer
    sealed = await _sealed(gateway, caller, endpoint_id, "secret", secret)
    async with gateway.transaction() as db:
        row = await find(db, caller, endpoint_id, lock=True)
        await sealer.meet(db, [caller.tenant_id], [row.secret_sealed])
        before = sealer.open(place_of_secret(*_place(caller), endpoint_id, "secret"), row.secret_sealed)
        values = {
            "id": endpoint_id,
            "secret": sealed,
            "previous": sealer.seal(place_of_secret(*_place(caller), endpoint_id, "previous_secret"), before),
        }
        row = await _ROTATE.one(db, values)
        await audit.record(db, caller, "endpoint.rotate_secret", SubjectKind.ENDPOINT, [endpoint_id])
    return {**_view(row), "secret": secret}


async def send_test(
    gateway: Gateway,
    caller: Caller,
    endpoint_id: str,
    type_: EventType = EventType.ENDPOINT_TEST,
    full: dict[str, Any] | None = None,
) -> str:
    """Announces a sample of this type to this endpoint only; the id of the delivery. Raises Problem `endpoint_disabled`.

    `full`: what an endpoint with full payloads gets, if events of this type can be full; all of it synthetic.
    """
    is_test = type_ == EventType.ENDPOINT_TEST
    data = {"id": endpoint_id} if is_test else {**sample(type_), "test": True}
    async with gateway.transaction() as db:
        row = await find(db, caller, endpoint_id, lock=True)
        if row.status != EndpointStatus.ENABLED:
            raise disabled()
        await audit.record(db, caller, "endpoint.test", SubjectKind.ENDPOINT, [endpoint_id])
        news = News(caller.tenant_id, caller.mode, type_, None, data)
        delivery_id = await publish_test(db, gateway.sealer, news, endpoint_id, full if row.payload == FULL else None)
    instruments.count_redeliveries("test")
    return delivery_id


async def find(db: AsyncConnection, caller: Caller, endpoint_id: str, *, lock: bool = False) -> Any:
    """The caller's endpoint. Raises Problem `not_found`, for a deleted one too."""
    row = None
    if ids.is_id(ids.ENDPOINT, endpoint_id):
        row = await (_LOCK if lock else _READ).one(db, {"id": endpoint_id, **_whose(caller)})
    if row is None:
        raise no_such_endpoint()
    return row


async def _record_changes(db: AsyncConnection, caller: Caller, row: Any, changes: dict[str, Any]) -> None:
    """What decides who gets PHI, and where it goes, has a row of its own beside that of the change."""
    await audit.record(db, caller, "endpoint.update", SubjectKind.ENDPOINT, [row.id])
    for name in ("payload", "url"):
        if name in changes and changes[name] != row[name]:
            action = f"endpoint.payload_{changes[name]}" if name == "payload" else "endpoint.url"
            await audit.record(db, caller, action, SubjectKind.ENDPOINT, [row.id])


def no_such_endpoint() -> Problem:
    return Problem("not_found", "there is no such webhook endpoint")


def disabled() -> Problem:
    return Problem("endpoint_disabled", "the webhook endpoint is disabled; set its status to enabled first")


def _whose(caller: Caller) -> dict[str, str]:
    return {"tenant_id": caller.tenant_id, "mode": caller.mode}


def _check(gateway: Gateway, url: str | None, event_types: tuple[str, ...] | None) -> None:
    wrong: list[FieldError] = []
    if url is not None:
        settings = gateway.settings
        reason = check_url(url, allow_private=settings.allow_private_network, ports=settings.webhook_ports)
        if reason is not None:
            wrong.append(FieldError("invalid_url", reason, pointer="/url"))
    for position, type_ in enumerate(event_types or ()):
        if type_ == EVERY and len(event_types or ()) > 1:
            wrong.append(FieldError("invalid_value", "must stand alone if it is *", pointer=f"/event_types/{position}"))
        elif type_ != EVERY and type_ not in tuple(EventType):
            known = ", ".join([EVERY, *EventType])
            wrong.append(FieldError("invalid_value", f"must be one of: {known}", pointer=f"/event_types/{position}"))
    if wrong:
        raise Problem("invalid_request", "errors lists everything that is wrong", wrong)


def _may_have(caller: Caller, payload: str) -> None:
    if payload == FULL and not caller.sees_phi:
        raise Problem("insufficient_scope", f"an endpoint with full payloads needs the scope {FULL_NEEDS} too")


def _new_secret() -> str:
    """As Standard Webhooks has it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


async def _sealed(gateway: Gateway, caller: Caller, endpoint_id: str, column: str, secret: str) -> bytes:
    await gateway.meet(caller.tenant_id)
    return gateway.sealer.seal(place_of_secret(*_place(caller), endpoint_id, column), secret.encode())


def place_of_secret(tenant_id: str, mode: str, endpoint_id: str, column: str) -> Place:
    return Place(tenant_id, mode, "webhook_endpoints", column, endpoint_id)


def _place(caller: Caller) -> tuple[str, str]:
    return caller.tenant_id, caller.mode


def _view(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "webhook_endpoint",
        "url": row.url,
        "event_types": list(row.event_types),
        "payload": row.payload,
        "description": row.description,
        "status": row.status,
        "disabled_reason": row.disabled_reason,
        "previous_secret_until": instant(row.previous_secret_until),
        "failing_since": instant(row.failing_since),
        "failures_in_row": row.failures_in_row,
        "last_delivered_at": instant(row.last_delivered_at),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }
