"""How much of one worker an endpoint, and a tenant with all its endpoints, may take, so that a slow one slows only itself.

A delivery that finds no place stays due in its table and costs nothing. How fast an endpoint answers is memory of one process:
another worker learns the same by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from covergate.db.queue import Dispatcher, claiming, renewing
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus
from covergate.webhooks.events import DELIVERIES, FULL, Delivery

PLACES, SLOW_PLACES = 16, 2
"""Of one endpoint. It is slow if its last answer, or silence, took long."""
TENANT_PLACES = 32
"""Of a tenant's endpoints together."""
SHARES = 5
"""Nothing is claimed until one of so many shares of all places is free: small claims cost the most."""

_PENDING = f"status = '{DeliveryStatus.PENDING}'"
_CLAIM = Query(f"""
WITH RECURSIVE endpoints AS (
  (SELECT endpoint_id AS id FROM deliveries WHERE {_PENDING} ORDER BY endpoint_id LIMIT 1)
  UNION ALL
  SELECT (SELECT endpoint_id FROM deliveries WHERE {_PENDING} AND endpoint_id > endpoints.id ORDER BY endpoint_id LIMIT 1)
  FROM endpoints WHERE endpoints.id IS NOT NULL
), wanting AS (
  SELECT w.id, w.tenant_id, coalesce(known.room, CAST(:places AS int)) AS room, random() AS turn
  FROM endpoints JOIN webhook_endpoints w USING (id)
    LEFT JOIN unnest(CAST(:endpoints AS text[]), CAST(:rooms AS int[])) AS known(id, room) ON known.id = w.id
  WHERE EXISTS (SELECT FROM deliveries WHERE {_PENDING} AND endpoint_id = w.id AND due_at <= now())
), shared AS (
  SELECT wanting.id AS lane, least(wanting.room, coalesce(t.room, CAST(:tenant_places AS int))
    - sum(wanting.room) OVER (PARTITION BY tenant_id ORDER BY turn) + wanting.room) AS room
  FROM wanting LEFT JOIN unnest(CAST(:tenants AS text[]), CAST(:tenant_rooms AS int[])) AS t(id, room) ON t.id = tenant_id
  ORDER BY turn
), lanes AS MATERIALIZED (
  SELECT lane, room FROM shared WHERE room > 0
), {claiming("deliveries", "id", "endpoint_id", fits=f"t.{_PENDING}", most=":most")}
SELECT d.id, d.step, d.tries, d.event_id, e.type, e.data, e.created_at,
  CASE WHEN w.payload = '{FULL}' THEN e.full_sealed END AS full_sealed, e.verification_id, e.tenant_id,
  w.id AS endpoint_id, w.url, w.secret_sealed, w.previous_secret_sealed,
  coalesce(w.previous_secret_until > clock_timestamp(), false) AS previous_secret_holds,
  CASE WHEN w.deleted_at IS NOT NULL THEN 'endpoint_deleted'
       WHEN w.status = '{EndpointStatus.DISABLED}' THEN 'endpoint_disabled' END AS unwanted, clock_timestamp() AS now
FROM taken d JOIN events e ON e.id = d.event_id JOIN webhook_endpoints w ON w.id = d.endpoint_id""")
_RENEW = Query(renewing("deliveries", "id"))
_NEXT_IN = Query(f"""
SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM deliveries
WHERE {_PENDING} AND due_at > now() ORDER BY due_at LIMIT 1""")


@dataclass
class Room:
    """Free places: in all, and of the endpoints and tenants that have deliveries under way or are slow."""

    free: int
    of_endpoint: dict[str, int]
    of_tenant: dict[str, int]

    def take(self, endpoint_id: str, tenant_id: str) -> bool:
        of_endpoint, of_tenant = self.of_endpoint.get(endpoint_id, PLACES), self.of_tenant.get(tenant_id, TENANT_PLACES)
        if min(self.free, of_endpoint, of_tenant) <= 0:
            return False
        self.free -= 1
        self.of_endpoint[endpoint_id], self.of_tenant[tenant_id] = of_endpoint - 1, of_tenant - 1
        return True


class Places:
    """The queue of deliveries, whose lanes are endpoints. `most`: how many are under way in this worker at once."""

    channel = DELIVERIES

    def __init__(self, gateway: Gateway, most: int) -> None:
        self._gateway = gateway
        self._most = most
        self._slow: set[str] = set()
        self.more = False

    def note(self, endpoint_id: str, *, slow: bool) -> None:
        """How its last answer came."""
        (self._slow.add if slow else self._slow.discard)(endpoint_id)

    async def claim(self, under_way: Collection[Delivery]) -> Sequence[Delivery]:
        room = self.room(under_way)
        if room.free < max(self._most // SHARES, 1):
            self.more = True
            return ()
        values = {
            "places": PLACES,
            "endpoints": list(room.of_endpoint),
            "rooms": [max(places, 0) for places in room.of_endpoint.values()],
            "tenant_places": TENANT_PLACES,
            "tenants": list(room.of_tenant),
            "tenant_rooms": list(room.of_tenant.values()),
            "most": room.free,
        }
        async with self._gateway.connection() as db:
            claimed = [Delivery(**row) for row in await _CLAIM.all(db, values)]
        self.more = bool(claimed) or any(left <= 0 for left in (*room.of_endpoint.values(), *room.of_tenant.values()))
        return claimed

    def room(self, under_way: Collection[Delivery]) -> Room:
        of_endpoint = Counter(one.endpoint_id for one in under_way)
        of_tenant = Counter(one.tenant_id for one in under_way)
        # The slow ones together leave half of the places to the others.
        crowded = sum(of_endpoint[endpoint] for endpoint in self._slow) >= self._most // 2
        places = {endpoint: PLACES - number for endpoint, number in of_endpoint.items()}
        places |= {endpoint: (0 if crowded else SLOW_PLACES) - of_endpoint[endpoint] for endpoint in self._slow}
        tenants = {tenant: TENANT_PLACES - number for tenant, number in of_tenant.items()}
        return Room(self._most - len(under_way), places, tenants)

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            seconds: float | None = await _NEXT_IN.scalar(db)
            return seconds

    async def renew(self, claims: Sequence[Delivery]) -> None:
        async with self._gateway.connection() as db:
            await _RENEW.run(db, {"keys": [one.id for one in claims], "steps": [one.step for one in claims]})


@dataclass(frozen=True)
class WorkersDesk:
    """A worker that ends a verification posts its webhooks itself, without a claim, as far as there are places."""

    places: Places
    dispatcher: Dispatcher[Delivery]

    def room(self) -> Room:
        return self.places.room(self.dispatcher.under_way.values())

    def take_up(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.dispatcher.take_up(delivery)
