"""How many steps are made at once for a vendor, by all workers, for a payer, and for a tenant's own account: so that who is slow
slows only itself.

Each vendor has a lane, as wide for all workers together as for one, so they take turns at claiming. A payer with its share of
the lane under way comes after those with less, and only while a reserve is left for these; one claim takes no more than a
share at once. So a payer may have what nobody else wants, and one that hangs leaves the reserve to the others, however much
of it is due.

What is asked on a tenant's own account has payers of its own (`share_of`), so that no other account waits for what hangs there.
And when these together have `ACCOUNT_SHARES`, none of them counted for more than one, all of them have their share.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.queue import LOOK_SECONDS, due, renewing, taking
from covergate.db.sealing import Sealer
from covergate.db.sql import Query, turn
from covergate.gateway import Gateway
from covergate.vendors.account import SHARED
from covergate.verifications.store import OPEN, WORK, Claimed, verification_of

PAYER_SHARES = 5
"""A payer with one of so many shares of its vendor's lane has its share."""
ACCOUNT_SHARES = 2
"""Of a tenant's own account: with so many payers' shares of its vendor's lane it has its share."""
RESERVE = 0.3
"""Of a lane: for payers that do not have their share. More than a share, or a busy worker would wait until all of it is free."""

FORMER_PLACES = 10
"""Of a vendor that is not in the registry any more."""

_BACKLOG = 100
"""A payer that is full and has more due rows is passed by probing its lane payer by payer: its rows cost nothing then."""
_FULL = """(EXISTS (SELECT FROM full_payers f WHERE f.vendor = {row}.vendor AND f.payer = {row}.payer)
      OR EXISTS (SELECT FROM full_accounts f WHERE f.vendor = {row}.vendor AND f.account = {row}.account))"""
_SHARE = f"greatest(places / {PAYER_SHARES}, 1)"
_OF_LANE = f"t.vendor = lanes.lane AND NOT {_FULL.format(row='t')}"
_OF_PAYER = "t.vendor = payer_lanes.lane AND t.payer = payer_lanes.payer"
_LEFT = "t.vendor = unwanted.lane AND t.verification_id <> ALL(ARRAY(SELECT verification_id FROM first))"
_CLAIM = Query(f"""
WITH RECURSIVE given AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:lanes AS text[]), CAST(:rooms AS int[]), CAST(:places AS int[])) AS given(lane, room, places)
), under_way AS MATERIALIZED (
  SELECT vendor, payer, account, count(*) AS number FROM work
  WHERE vendor = ANY(CAST(:lanes AS text[])) AND due_at > next_check_at AND due_at > now()
  GROUP BY vendor, payer, account
), full_payers AS MATERIALIZED (
  SELECT vendor, payer FROM under_way JOIN given ON lane = vendor WHERE number >= {_SHARE}
), full_accounts AS MATERIALIZED (
  SELECT vendor, account FROM under_way JOIN given ON lane = vendor WHERE account <> ''
  GROUP BY vendor, account, places HAVING sum(least(number, {_SHARE})) >= {ACCOUNT_SHARES} * {_SHARE}
), crowded AS MATERIALIZED (
  SELECT DISTINCT vendor FROM full_payers f WHERE EXISTS (
    SELECT FROM work t WHERE t.vendor = f.vendor AND t.payer = f.payer AND t.due_at <= now()
    ORDER BY t.due_at OFFSET {_BACKLOG})
  UNION
  SELECT DISTINCT vendor FROM full_accounts f WHERE {_BACKLOG} / 2 < (
    SELECT count(*) FILTER (WHERE account = f.account) FROM (
      SELECT account FROM work t WHERE t.vendor = f.vendor AND t.due_at <= now() ORDER BY t.due_at LIMIT {_BACKLOG}) AS soonest)
), rooms AS MATERIALIZED (
  SELECT lane, greatest(least(room, free), 0) AS room, free - floor(places * {RESERVE}) AS spare
  FROM given, LATERAL (
    SELECT places - coalesce(sum(number), 0) AS free FROM under_way WHERE vendor = lane) AS unused
), lanes AS MATERIALIZED (
  SELECT lane, room FROM rooms WHERE lane NOT IN (SELECT vendor FROM crowded)
), payers AS (
  SELECT one.* FROM crowded, LATERAL (
    SELECT vendor, payer, account, due_at FROM work WHERE vendor = crowded.vendor ORDER BY payer, due_at LIMIT 1) AS one
  UNION ALL
  SELECT following.* FROM payers AS before, LATERAL (
    SELECT vendor, payer, account, due_at FROM work WHERE vendor = before.vendor AND payer > before.payer
    ORDER BY payer, due_at LIMIT 1) AS following
), others AS (
  SELECT p.vendor, p.payer, room, row_number() OVER (PARTITION BY p.vendor ORDER BY p.due_at) AS place
  FROM payers p JOIN rooms ON lane = p.vendor WHERE p.due_at <= now() AND NOT {_FULL.format(row="p")}
), soonest AS (
  SELECT others.vendor, others.payer, room, row_number() OVER (PARTITION BY others.vendor ORDER BY t.due_at) AS place
  FROM others, LATERAL (
    SELECT due_at FROM work WHERE vendor = others.vendor AND payer = others.payer AND due_at <= now()
    ORDER BY due_at LIMIT others.room) AS t
  WHERE place <= room
), payer_lanes AS MATERIALIZED (
  SELECT vendor AS lane, payer, count(*) AS room FROM soonest WHERE place <= room GROUP BY vendor, payer
), first AS MATERIALIZED (
  {due("work", "verification_id", "lanes", _OF_LANE)}
  UNION ALL
  {due("work", "verification_id", "payer_lanes", _OF_PAYER)}
), unwanted AS MATERIALIZED (
  SELECT rooms.lane, greatest(least(room, spare) - count(first.lane), 0) AS room
  FROM rooms LEFT JOIN first USING (lane) GROUP BY rooms.lane, room, spare
), due AS MATERIALIZED (
  TABLE first
  UNION ALL
  {due("work", "verification_id", "unwanted", _LEFT)}
), {taking("work", "verification_id")}
SELECT {OPEN}, v.inquiry_sealed, w.payer FROM taken w JOIN verifications v ON v.id = w.verification_id""")
_VENDORS = Query("""
WITH RECURSIVE known AS (
  (SELECT vendor FROM work ORDER BY vendor LIMIT 1)
  UNION ALL
  SELECT (SELECT vendor FROM work WHERE vendor > known.vendor ORDER BY vendor LIMIT 1) FROM known WHERE vendor IS NOT NULL
)
SELECT vendor FROM known WHERE vendor IS NOT NULL""")
_RENEW = Query(renewing("work", "verification_id"))
_TURN = turn("covergate claims")
_RELEASE = Query("UPDATE work SET due_at = next_check_at WHERE verification_id = :id AND step = :step")
_NEXT_IN = Query("""
SELECT extract(epoch FROM min(following.due_at) - clock_timestamp())::float8
FROM unnest(CAST(:lanes AS text[])) AS lanes(lane), LATERAL (
  SELECT due_at FROM work WHERE vendor = lanes.lane AND due_at > now() ORDER BY due_at LIMIT 1) AS following""")


def share_of(account: str, payer: str) -> str:
    """What stands in `work.payer`: the payer, of what is asked on a tenant's own account behind that account's id."""
    return payer if account == SHARED else f"{account} {payer}"


SHARE_OF_LATE = f"CASE a.account WHEN '{SHARED}' THEN '' ELSE a.account || ' ' END || coalesce(v.payer_id, '')"
"""The same in SQL, of an attempt that has ended."""
SHARE_MOVED = f"""
CASE WHEN work.account = m.account THEN work.payer ELSE
  CASE m.account WHEN '{SHARED}' THEN '' ELSE m.account || ' ' END ||
  CASE WHEN work.account <> '{SHARED}' AND starts_with(work.payer, work.account || ' ')
       THEN substr(work.payer, length(work.account) + 2) ELSE work.payer END END"""
"""The same for the next attempt, which may be on another account."""


class Lanes:
    """The queue of verifications. `places`: vendor → how many of its steps are made at once."""

    channel = WORK

    def __init__(self, gateway: Gateway, places: Mapping[str, int]) -> None:
        self._gateway = gateway
        self._places = dict(places)
        self._claimed_at: dict[str, float] = {}
        self.more = False

    async def claim(self, under_way: Collection[Claimed]) -> Sequence[Claimed]:
        """Of each lane at most a share at once, and nothing until so many places are free: small claims cost the most.

        But the last places of a lane that hangs are given away, too, when it was not looked at for a while.
        """
        now = asyncio.get_running_loop().time()
        patient = {vendor for vendor, at in self._claimed_at.items() if now - at < LOOK_SECONDS}
        taken = Counter(one.verification.attempt.vendor for one in under_way)
        of_payer = Counter((one.verification.attempt.vendor, one.payer) for one in under_way)
        of_account = Counter(
            (attempt.vendor, attempt.account) for one in under_way if (attempt := one.verification.attempt).account
        )
        shares = {vendor: max(places // PAYER_SHARES, 1) for vendor, places in self._places.items()}
        free = {vendor: places - taken[vendor] for vendor, places in self._places.items()}
        rooms = {
            vendor: min(share, free[vendor])
            for vendor, share in shares.items()
            if free[vendor] >= (share if vendor in patient else 1)
        }
        crowded = len(rooms) < len(shares) or any(
            number >= shares[vendor] for (vendor, _), number in (*of_payer.items(), *of_account.items())
        )
        if not rooms:
            self.more = True
            return ()
        self._claimed_at |= dict.fromkeys(rooms, now)
        async with self._gateway.transaction() as db:
            await _TURN.run(db)
            claimed = await claim(db, self._gateway.sealer, rooms, self._places)
        came = Counter(one.verification.attempt.vendor for one in claimed)
        self.more = crowded or any(came[vendor] >= room for vendor, room in rooms.items())
        return claimed

    async def meet_others(self) -> None:
        """Gives lanes to vendors that left the registry: their verifications go elsewhere, or say why they wait."""
        async with self._gateway.connection() as db:
            for row in await _VENDORS.all(db):
                self._places.setdefault(row.vendor, FORMER_PLACES)

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            seconds: float | None = await _NEXT_IN.scalar(db, {"lanes": list(self._places)})
            return seconds

    async def renew(self, claims: Sequence[Claimed]) -> None:
        async with self._gateway.connection() as db:
            await _RENEW.run(db, {"keys": [one.key for one in claims], "steps": [one.step for one in claims]})


async def claim(
    db: AsyncConnection, sealer: Sealer, rooms: Mapping[str, int], places: Mapping[str, int]
) -> list[Claimed]:
    """Lane → how many are wanted of it at most, and how many places it has. Of payers that have their share
    only what leaves the reserve to others."""
    values = {
        "lanes": list(rooms),
        "rooms": list(rooms.values()),
        "places": [places[lane] for lane in rooms],
    }
    rows = await _CLAIM.all(db, values)
    return [Claimed(verification_of(row, sealer), row["inquiry_sealed"], row["payer"]) for row in rows]


async def release(db: AsyncConnection, claimed: Claimed) -> None:
    """Gives a claim back: nothing was done, and another may do it at once."""
    await _RELEASE.run(db, {"id": claimed.key, "step": claimed.step})
