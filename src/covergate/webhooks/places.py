"""How much of one worker an endpoint, and a tenant with all its endpoints, may take, so that a slow one slows only itself.

A delivery that finds no place stays due in its table and costs nothing. How fast an endpoint answers is memory of one process:
another worker learns the same by itself. Places are not reserved but counted, by what is under way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from covergate.db.queue import Dispatcher, due, renewing, taking
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus
from covergate.webhooks.events import DELIVERIES, FULL, ClaimedDelivery

PLACES, SLOW_PLACES = 8, 2
"""Of one endpoint; the second if it is slow."""
TENANT_PLACES = 24
"""Of a tenant's endpoints together, and as many for its slow ones, so that these do not take those of the others."""
QUICK_PLACES = 16
"""Of one whose last answer here was not slow: less than its tenant has, because it may be the next to hang."""
SLOW_SECONDS = 2.0
"""An endpoint is slow if its last answer, or silence, took so long, until one comes faster."""
MOST_LANES = 100
"""So many endpoints are looked into by one claim, the longest due first."""

_PENDING = f"status = '{DeliveryStatus.PENDING}'"
_FIRST = f"""
endpoints AS (
  (SELECT endpoint_id, due_at FROM deliveries WHERE {_PENDING} ORDER BY endpoint_id, due_at LIMIT 1)
  UNION ALL
  SELECT following.* FROM endpoints AS before, LATERAL (
    SELECT endpoint_id, due_at FROM deliveries WHERE {_PENDING} AND endpoint_id > before.endpoint_id
    ORDER BY endpoint_id, due_at LIMIT 1) AS following
)"""
"""Each endpoint that has pending deliveries, with the time at which its first is due: one probe of the index for each."""
_CLAIM = Query(f"""
WITH RECURSIVE {_FIRST}, open AS MATERIALIZED (
  SELECT e.endpoint_id, w.tenant_id, coalesce(known.slow, false) AS slow, coalesce(known.room, {PLACES}) AS room,
    coalesce(t.room, {TENANT_PLACES}) AS tenant_room
  FROM endpoints e JOIN webhook_endpoints w ON w.id = e.endpoint_id
    LEFT JOIN unnest(CAST(:endpoints AS text[]), CAST(:rooms AS int[]), CAST(:slow AS boolean[])) AS known(id, room, slow)
      ON known.id = e.endpoint_id
    LEFT JOIN unnest(CAST(:tenants AS text[]), CAST(:tenants_slow AS boolean[]), CAST(:tenant_rooms AS int[]))
      AS t(id, slow, room) ON t.id = w.tenant_id AND t.slow = coalesce(known.slow, false)
  WHERE e.due_at <= now() AND coalesce(known.room, {PLACES}) > 0 AND coalesce(t.room, {TENANT_PLACES}) > 0
    AND (known.slow IS NOT TRUE OR CAST(:slow_room AS int) > 0)
  ORDER BY e.due_at LIMIT {MOST_LANES}
), fitting AS (
  SELECT d.id, d.endpoint_id, d.due_at, slow, tenant_room,
    row_number() OVER (PARTITION BY tenant_id, slow ORDER BY d.due_at) AS of_tenant,
    row_number() OVER (PARTITION BY slow ORDER BY d.due_at) AS of_kind
  FROM open, LATERAL (
    SELECT id, endpoint_id, due_at FROM deliveries WHERE {_PENDING} AND endpoint_id = open.endpoint_id AND due_at <= now()
    ORDER BY due_at LIMIT open.room) AS d
), chosen AS (
  SELECT endpoint_id FROM fitting WHERE of_tenant <= tenant_room AND (NOT slow OR of_kind <= CAST(:slow_room AS int))
  ORDER BY due_at LIMIT CAST(:free AS int)
), lanes AS MATERIALIZED (
  SELECT endpoint_id AS lane, count(*) AS room FROM chosen GROUP BY endpoint_id
), due AS MATERIALIZED ({due("deliveries", "id", "lanes", f"t.endpoint_id = lanes.lane AND t.{_PENDING}")}
), {taking("deliveries", "id")}
SELECT d.id, d.step, d.tries, d.slow, d.event_id, e.type, e.data, e.created_at,
  CASE WHEN w.payload = '{FULL}' THEN e.full_sealed END AS full_sealed, e.verification_id, w.tenant_id, w.mode,
  w.id AS endpoint_id, w.url, w.secret_sealed, w.previous_secret_sealed,
  coalesce(w.previous_secret_until > clock_timestamp(), false) AS previous_secret_holds,
  w.older_secrets_sealed, w.older_secrets_until,
  CASE WHEN w.deleted_at IS NOT NULL THEN 'endpoint_deleted'
       WHEN w.status = '{EndpointStatus.DISABLED}' THEN 'endpoint_disabled' END AS unwanted,
  w.failures_in_row > 0 AS failing, clock_timestamp() AS now
FROM taken d JOIN events e ON e.id = d.event_id JOIN webhook_endpoints w ON w.id = d.endpoint_id""")
_RENEW = Query(renewing("deliveries", "id"))
_NEXT_IN = Query(f"""
WITH RECURSIVE {_FIRST}
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM endpoints WHERE due_at > now()""")


@dataclass
class Room:
    """The places that are free at one moment. Of endpoints and tenants that are not listed all are."""

    free: int
    of_slow: int
    of_endpoint: dict[str, int]
    of_tenant: dict[str, int]
    of_tenant_slow: dict[str, int]
    slow: Collection[str] = ()
    quick: Collection[str] = ()
    silent: Collection[str] = field(default=(), repr=False)
    """Endpoints that are silent just now: whoever makes a delivery leaves them to later claims."""

    def take(self, endpoint_id: str, tenant_id: str) -> bool:
        places = QUICK_PLACES if endpoint_id in self.quick else PLACES
        of_endpoint, of_tenant = self.of_endpoint.get(endpoint_id, places), self.of_tenant.get(tenant_id, TENANT_PLACES)
        if endpoint_id in self.slow or endpoint_id in self.silent or min(self.free, of_endpoint, of_tenant) <= 0:
            return False
        self.free -= 1
        self.of_endpoint[endpoint_id], self.of_tenant[tenant_id] = of_endpoint - 1, of_tenant - 1
        return True


class Places:
    """The queue of deliveries, whose lanes are endpoints. `most`: how many are under way in this worker at once.

    Those to slow endpoints, and tries without an answer for so long already, take at most half of it: what they take beyond
    that does not count, so that endpoints which hang leave room for others even when they are met for the first time. Never
    are more than twice as many under way.
    """

    channel = DELIVERIES

    def __init__(self, gateway: Gateway, most: int) -> None:
        self._gateway = gateway
        self._most = most
        self._slow: set[str] = set()
        self._quick: set[str] = set()
        self.more = False

    def note(self, endpoint_id: str, *, slow: bool) -> None:
        """How its last answer came."""
        (self._slow if slow else self._quick).add(endpoint_id)
        (self._quick if slow else self._slow).discard(endpoint_id)

    async def claim(self, under_way: Collection[ClaimedDelivery]) -> Sequence[ClaimedDelivery]:
        room = self.room(under_way)
        claimed: list[ClaimedDelivery] = []
        if room.free:
            values = {
                "endpoints": list(room.of_endpoint),
                "rooms": list(room.of_endpoint.values()),
                "slow": [endpoint in room.slow for endpoint in room.of_endpoint],
                "tenants": [*room.of_tenant, *room.of_tenant_slow],
                "tenants_slow": [False] * len(room.of_tenant) + [True] * len(room.of_tenant_slow),
                "tenant_rooms": [*room.of_tenant.values(), *room.of_tenant_slow.values()],
                "slow_room": room.of_slow,
                "free": room.free,
            }
            async with self._gateway.connection() as db:
                claimed = [ClaimedDelivery(**row) for row in await _CLAIM.all(db, values)]
        self.more = _crowded(room, claimed)
        # As another worker, or the one before this, has learned.
        self._slow.update(one.endpoint_id for one in claimed if one.slow and one.endpoint_id not in self._quick)
        return claimed

    def room(self, under_way: Collection[ClaimedDelivery]) -> Room:
        late = time.monotonic() - SLOW_SECONDS
        silent = {one.endpoint_id for one in under_way if one.begun <= late}
        hanging = sum(one.endpoint_id in self._slow or one.begun <= late for one in under_way)
        part = max(self._most // 2, 1)
        free = max(min(self._most - len(under_way) + max(hanging - part, 0), 2 * self._most - len(under_way)), 0)
        of_endpoint = Counter(one.endpoint_id for one in under_way)
        return Room(
            free=free,
            of_slow=min(max(part - hanging, 0), free),
            of_endpoint={
                endpoint: max(self._places_of(endpoint, silent) - of_endpoint[endpoint], 0)
                for endpoint in of_endpoint.keys() | self._slow
            },
            of_tenant=_left(one.tenant_id for one in under_way if one.endpoint_id not in self._slow),
            of_tenant_slow=_left(one.tenant_id for one in under_way if one.endpoint_id in self._slow),
            slow=self._slow,
            quick=self._quick,
            silent=silent,
        )

    def _places_of(self, endpoint_id: str, silent: Collection[str]) -> int:
        if endpoint_id in self._slow:
            return SLOW_PLACES
        return QUICK_PLACES if endpoint_id in self._quick and endpoint_id not in silent else PLACES

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            seconds: float | None = await _NEXT_IN.scalar(db)
            return seconds

    async def renew(self, claims: Sequence[ClaimedDelivery]) -> None:
        async with self._gateway.connection() as db:
            await _RENEW.run(db, {"keys": [one.id for one in claims], "steps": [one.step for one in claims]})


def _left(tenants: Iterable[str]) -> dict[str, int]:
    return {tenant: max(TENANT_PLACES - taken, 0) for tenant, taken in Counter(tenants).items()}


def _crowded(room: Room, claimed: Sequence[ClaimedDelivery]) -> bool:
    """Something may be due that found no place."""
    of_endpoint = Counter(one.endpoint_id for one in claimed)
    of_tenant = Counter(one.tenant_id for one in claimed)
    to_slow = sum(of_endpoint[endpoint] for endpoint in room.slow)
    return (
        len(claimed) >= room.free
        or len(of_endpoint) >= MOST_LANES
        or (bool(room.slow) and to_slow >= room.of_slow)
        or any(0 in rooms.values() for rooms in (room.of_endpoint, room.of_tenant, room.of_tenant_slow))
        or any(number >= room.of_endpoint.get(endpoint, PLACES) for endpoint, number in of_endpoint.items())
        or any(number >= room.of_tenant.get(tenant, TENANT_PLACES) for tenant, number in of_tenant.items())
    )


@dataclass(frozen=True)
class WorkersDesk:
    """A worker that ends a verification posts its webhooks itself, without a claim, as far as there are places.

    While `draining` there is no place: nobody would wait for the tries.
    """

    places: Places
    dispatcher: Dispatcher[ClaimedDelivery]
    draining: Callable[[], bool] = lambda: False

    def room(self) -> Room:
        room = self.places.room(self.dispatcher.under_way.values())
        return replace(room, free=0) if self.draining() else room

    def take_up(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        for delivery in deliveries:
            self.dispatcher.take_up(delivery)
