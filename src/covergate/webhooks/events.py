"""Events for partners: published with their deliveries in the transaction of what they tell, and listed for catching up.

An end and its announcement are one fact. A list is thin, in the order of `events.position`, a sequence of the database's,
from a known event on. A position is drawn a moment before it is committed, so a list ends before the first event that was
made while a transaction was under way that still is: nothing can appear behind what a reader has seen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access.caller import Caller
from covergate.db.database import after_commit
from covergate.db.page import Page, page, plan_for_values
from covergate.db.queue import LEASE_SECONDS, announce
from covergate.db.sealing import Place, Sealer
from covergate.db.sql import Query, Record
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, EventType
from covergate.timestamps import beyond, instant

DELIVERIES = "covergate_deliveries"
"""The channel on which due deliveries are announced."""
EVERY = "*"
"""The subscription to every event type."""
FULL = "full"
"""The payload of endpoints that get the whole verification, PHI included."""
KEPT = "30 days"
DRAWN_WITHIN = "1 minute"
"""An event's position is drawn that long before its `created_at` at the most; it is the same statement that takes both."""
LONGEST_PUBLISHING = "5 minutes"
"""Ours end within a minute; another that is left open holds the list back for so long."""

_SUBSCRIBED = f"w.deleted_at IS NULL AND w.status = '{EndpointStatus.ENABLED}'"
_SUBSCRIBERS = Query(f"""
SELECT n.tenant_id, n.mode, n.type, w.id, w.payload, w.url, w.secret_sealed, w.previous_secret_sealed,
  coalesce(w.previous_secret_until > clock_timestamp(), false) AS previous_secret_holds,
  w.older_secrets_sealed, w.older_secrets_until, w.failures_in_row > 0 AS failing
FROM unnest(CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[])) AS n(tenant_id, mode, type)
  JOIN webhook_endpoints w USING (tenant_id, mode)
WHERE {_SUBSCRIBED} AND w.event_types && ARRAY['{EVERY}', n.type] ORDER BY w.id""")
_SUBSCRIBED_TENANTS = Query(f"""
SELECT DISTINCT tenant_id FROM webhook_endpoints w
WHERE mode = :mode AND {_SUBSCRIBED} AND event_types && CAST(:wanted AS text[])""")
_PUBLISH = Query(f"""
WITH e AS (
  INSERT INTO events (id, tenant_id, mode, type, verification_id, data, position, created_at)
  SELECT n.*, clock_timestamp()
  FROM (SELECT u.*, nextval('events_position_seq')
        FROM unnest(CAST(:ids AS text[]), CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[]),
                    CAST(:verifications AS text[]), CAST(:data AS jsonb[])) AS u) AS n
  RETURNING id, created_at, data
), d AS (
  INSERT INTO deliveries (id, event_id, event_type, endpoint_id, status, step, next_attempt_at, due_at)
  SELECT id, event_id, event_type, endpoint_id, '{DeliveryStatus.PENDING}', CAST(leased AS int), now(),
    CASE WHEN leased THEN now() + interval '{LEASE_SECONDS} seconds' ELSE now() END
  FROM unnest(CAST(:deliveries AS text[]), CAST(:events AS text[]), CAST(:event_types AS text[]),
              CAST(:endpoints AS text[]), CAST(:leased AS boolean[])) AS d(id, event_id, event_type, endpoint_id, leased)
)
SELECT id, created_at, data FROM e""")
"""`data` comes back in the order in which PostgreSQL keeps its keys: a later try sends the same bytes as one from memory."""
_SETTLED = Query(f"""
SELECT greatest(least(clock_timestamp(), min(xact_start)), clock_timestamp() - interval '{LONGEST_PUBLISHING}')
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()""")
"""Every transaction that made an event before this moment is over. To be asked before the list: its snapshot then has them."""
_OURS = "tenant_id = :tenant_id AND mode = :mode"
_LIST = Query(
    f"""
WITH RECURSIVE types AS (
  (SELECT type FROM events WHERE {_OURS} ORDER BY type LIMIT 1)
  UNION ALL
  SELECT following.type FROM types AS before, LATERAL (
    SELECT type FROM events WHERE {_OURS} AND type > before.type ORDER BY type LIMIT 1) AS following
), range AS MATERIALIZED (
  SELECT
    greatest(
      (SELECT position FROM events WHERE id = :after AND {_OURS}),
      (SELECT position FROM events WHERE created_at < :created_after - interval '{DRAWN_WITHIN}'
       ORDER BY created_at DESC LIMIT 1), 0) AS above,
    coalesce(
      (SELECT position FROM events WHERE created_at > :created_before + interval '{DRAWN_WITHIN}'
       ORDER BY created_at LIMIT 1), {2**63 - 1}) AS below
)
SELECT e.*, e.created_at < :settled AS settled FROM range, types, LATERAL (
  SELECT id, type, created_at, data, position FROM events
  WHERE {_OURS} AND type = types.type AND position > range.above AND position < range.below
    AND created_at > clock_timestamp() - interval '{KEPT}'
    AND (:created_after IS NULL OR created_at >= :created_after)
    AND (:created_before IS NULL OR created_at < :created_before)
  ORDER BY position LIMIT :limit) AS e
WHERE :types IS NULL OR types.type = ANY(:types)
ORDER BY position LIMIT :limit""",
    types="text[]",
    after="text",
    created_after="timestamptz",
    created_before="timestamptz",
    settled="timestamptz",
    tenant_id="text",
    mode="text",
    limit="int",
)
"""The types that the tenant has are told by one probe of the index each, so that a rare one is found among many others. Times
lead to positions by the events around them, whoever's they are.
"""
_KEEP_FULL = Query("""
UPDATE events e SET full_sealed = f.sealed
FROM unnest(CAST(:ids AS text[]), CAST(:sealed AS bytea[])) AS f(id, sealed) WHERE e.id = f.id""")


@dataclass(frozen=True, slots=True)
class News:
    """One event to publish. `data` is the thin payload and holds no PHI."""

    tenant_id: str
    mode: str
    type: EventType
    verification_id: str | None
    data: dict[str, Any]
    not_to: str | None = None
    """The endpoint that it is about, which does not get it."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A claimed delivery, with all that its POST needs. `unwanted`: why it is not made, in a word.

    Tenant and mode are the endpoint's: what was sealed for another tenant does not open for it.
    """

    id: str
    step: int
    tries: int
    slow: bool
    event_id: str
    type: str
    data: Any
    created_at: datetime
    full_sealed: bytes | None = field(repr=False)
    verification_id: str | None
    tenant_id: str
    mode: str
    endpoint_id: str
    url: str
    secret_sealed: bytes = field(repr=False)
    previous_secret_sealed: bytes | None = field(repr=False)
    previous_secret_holds: bool
    older_secrets_sealed: Sequence[bytes] = field(repr=False)
    older_secrets_until: Sequence[datetime]
    unwanted: str | None
    failing: bool
    """The endpoint's last try failed, when this was claimed."""
    now: datetime
    begun: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str:
        return self.id


class FreePlaces(Protocol):
    """The places that are free just now; `take` takes one if there is one for this endpoint of this tenant."""

    def take(self, endpoint_id: str, tenant_id: str) -> bool: ...


class Desk(Protocol):
    """What posts deliveries in this process. It takes up those that were made as claimed ones for it."""

    def room(self) -> FreePlaces: ...

    def take_up(self, deliveries: Sequence[ClaimedDelivery]) -> None: ...


async def publish(db: AsyncConnection, news: Sequence[News], desk: Desk | None = None) -> dict[str, News]:
    """Inserts the events, of any tenants, and a delivery for each subscriber, due at once.

    What the `desk` has a place for is made as claimed and goes to it when the transaction is committed. A full payload is not
    written yet: event → the news of it, for `keep_full` in the same transaction.
    """
    if not news:
        return {}
    kinds = list({(one.tenant_id, one.mode, one.type) for one in news})
    tenants, modes, types = zip(*kinds, strict=True)
    subscribers: dict[tuple[str, str, str], list[Record]] = {kind: [] for kind in kinds}
    for row in await _SUBSCRIBERS.all(db, {"tenants": tenants, "modes": modes, "types": types}):
        subscribers[row.tenant_id, row.mode, row.type].append(row)
    room = desk.room() if desk is not None else None
    made: list[_Made] = []
    wanting_full: dict[str, News] = {}
    for one in news:
        event_id, endpoints = ids.new(ids.EVENT), subscribers[one.tenant_id, one.mode, one.type]
        if one.not_to is not None:
            endpoints = [row for row in endpoints if row.id != one.not_to]
        if one.verification_id is not None and any(row.payload == FULL for row in endpoints):
            wanting_full[event_id] = one
        leased = {
            row.id for row in endpoints if room is not None and row.payload != FULL and room.take(row.id, one.tenant_id)
        }
        made.append(_Made(event_id, one, endpoints, leased))
    claimed = await _insert(db, made)
    if desk is not None and claimed:
        after_commit(db, partial(desk.take_up, claimed))
    return wanting_full


async def keep_full(
    db: AsyncConnection, sealer: Sealer, news: Mapping[str, News], payloads: Mapping[str, bytes]
) -> None:
    """The full payloads of events, as JSON: what every try sends, whatever becomes of the verification meanwhile."""
    await sealer.meet(db, {one.tenant_id for one in news.values()})
    sealed = [
        sealer.seal(place_of_full(one.tenant_id, one.mode, event_id, one.verification_id), payloads[event_id])
        for event_id, one in news.items()
    ]
    await _KEEP_FULL.run(db, {"ids": list(payloads), "sealed": sealed})


def place_of_full(tenant_id: str, mode: str, event_id: str, verification_id: str | None) -> Place:
    return Place(tenant_id, mode, "events", "full", event_id, verification_id or "")


async def publish_to_all(
    db: AsyncConnection, mode: str, type_: EventType, data: dict[str, Any], *, but: Collection[str] = ()
) -> None:
    """The same event for every tenant that has subscribed to it: news of a vendor, not of a verification.

    `but`: tenants that it does not concern.
    """
    rows = await _SUBSCRIBED_TENANTS.all(db, {"mode": mode, "wanted": [EVERY, type_]})
    await publish(db, [News(row.tenant_id, mode, type_, None, data) for row in rows if row.tenant_id not in but])


async def publish_test(
    db: AsyncConnection, sealer: Sealer, news: News, endpoint_id: str, full: dict[str, Any] | None
) -> str:
    """An event for one endpoint, whatever it subscribes to: the delivery's id."""
    event_id, delivery_id = ids.new(ids.EVENT), ids.new(ids.DELIVERY)
    await _write(db, [(event_id, news)], [(delivery_id, 0, endpoint_id, False)])
    if full is not None:
        await keep_full(db, sealer, {event_id: news}, {event_id: orjson.dumps(full)})
    return delivery_id


@dataclass(frozen=True, slots=True)
class _Made:
    """An event with its subscribers; `leased` of them are posted to from memory."""

    id: str
    news: News
    endpoints: Sequence[Record]
    leased: set[str]


async def _insert(db: AsyncConnection, made: Sequence[_Made]) -> list[ClaimedDelivery]:
    """Those that are leased."""
    rows = [
        (ids.new(ids.DELIVERY), number, endpoint, endpoint.id in event.leased)
        for number, event in enumerate(made)
        for endpoint in event.endpoints
    ]
    written = await _write(
        db,
        [(event.id, event.news) for event in made],
        [(delivery_id, number, endpoint.id, leased) for delivery_id, number, endpoint, leased in rows],
    )
    return [
        _leased(delivery_id, made[number], endpoint, written[made[number].id])
        for delivery_id, number, endpoint, leased in rows
        if leased
    ]


def _leased(delivery_id: str, event: _Made, endpoint: Record, written: Record) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=delivery_id,
        step=1,
        tries=0,
        slow=False,
        event_id=event.id,
        type=event.news.type,
        data=written.data,
        created_at=written.created_at,
        full_sealed=None,
        verification_id=event.news.verification_id,
        tenant_id=event.news.tenant_id,
        mode=event.news.mode,
        endpoint_id=endpoint.id,
        url=endpoint.url,
        secret_sealed=endpoint.secret_sealed,
        previous_secret_sealed=endpoint.previous_secret_sealed,
        previous_secret_holds=endpoint.previous_secret_holds,
        older_secrets_sealed=endpoint.older_secrets_sealed,
        older_secrets_until=endpoint.older_secrets_until,
        unwanted=None,
        failing=endpoint.failing,
        now=written.created_at,
    )


async def _write(
    db: AsyncConnection, events: Sequence[tuple[str, News]], deliveries: Sequence[tuple[str, int, str, bool]]
) -> dict[str, Record]:
    """Each delivery: id, the number of its event, endpoint, whether it is leased. Event → its row."""
    values: dict[str, Any] = {
        "ids": [event_id for event_id, _ in events],
        "tenants": [one.tenant_id for _, one in events],
        "modes": [one.mode for _, one in events],
        "types": [one.type for _, one in events],
        "verifications": [one.verification_id for _, one in events],
        "data": [orjson.dumps(one.data).decode() for _, one in events],
        "deliveries": [delivery for delivery, _, _, _ in deliveries],
        "events": [events[number][0] for _, number, _, _ in deliveries],
        "event_types": [events[number][1].type for _, number, _, _ in deliveries],
        "endpoints": [endpoint for _, _, endpoint, _ in deliveries],
        "leased": [leased for _, _, _, leased in deliveries],
    }
    written = {row.id: row for row in await _PUBLISH.all(db, values)}
    if not all(leased for _, _, _, leased in deliveries):
        announce(db, DELIVERIES)
    return written


@dataclass(frozen=True, slots=True)
class EventFilters:
    """None and empty: not asked for. Instants are exclusive."""

    types: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None


async def list_events(gateway: Gateway, caller: Caller, filters: EventFilters, after: str | None, limit: int) -> Page:
    """Those after the event `after`, oldest first; from the oldest if it is not kept any more."""
    values = {
        "tenant_id": caller.tenant_id,
        "mode": caller.mode,
        "after": after,
        "types": list(filters.types) or None,
        **beyond(filters.created_after, filters.created_before),
        "limit": limit + 1,
    }
    async with gateway.transaction() as db:
        await plan_for_values(db)
        settled = await _SETTLED.scalar(db)
        rows = await _LIST.all(db, {**values, "settled": settled})
    rows = list(takewhile(lambda row: bool(row.settled), rows))
    return page(rows, limit, lambda row: str(row.id), _view)


def _view(row: Any) -> dict[str, Any]:
    return {"id": row.id, "type": row.type, "timestamp": instant(row.created_at), "data": row.data}
