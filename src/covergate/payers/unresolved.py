"""Payers that requests named and the directory could not resolve: a work list for operators, who say which payer is meant.

Counted in memory and written twice a minute, so that a request costs nothing for it. Invariant: what may hold a patient's own
name or number is not kept, because the list is plain text.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from covergate.db.kept import Kept
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sql import Query
from covergate.eligibility.inquiry import Inquiry
from covergate.gateway import Gateway
from covergate.payers import store
from covergate.payers.candidates import Linked

log = structlog.get_logger(__name__)

WRITE_SECONDS = 30.0
MOST_REMEMBERED = 500
"""Between two writes; what is asked beyond that comes again if it matters."""
LONGEST_VALUE = 80
SHORTEST_TELLING = 3
"""Letters of a patient's name that are looked for in a payer's: a shorter one is in many words."""
MOST_SHOWN = 100

KEPT = (Kept("unresolved_payers", "long after it was asked for the last time", "90 days", "last_at"),)

NamedBy = Literal["id", "name"]

_COUNT = Query("""
INSERT INTO unresolved_payers AS u (mode, kind, value, asked)
SELECT * FROM unnest(CAST(:modes AS text[]), CAST(:kinds AS text[]), CAST(:values AS text[]), CAST(:counts AS int[]))
ON CONFLICT (mode, kind, value) DO UPDATE SET asked = u.asked + excluded.asked, last_at = clock_timestamp()""")
_LIST = Query("""
SELECT kind, value, asked, first_at, last_at FROM unresolved_payers WHERE mode = :mode AND ignored_at IS NULL
ORDER BY asked DESC, value LIMIT :most""")
_TAKE = Query("""
DELETE FROM unresolved_payers WHERE mode = :mode AND kind = :kind AND value = :value AND ignored_at IS NULL""")
_IGNORE = Query("""
UPDATE unresolved_payers SET ignored_at = clock_timestamp()
WHERE mode = :mode AND kind = :kind AND value = :value AND ignored_at IS NULL""")


@dataclass(frozen=True, slots=True)
class UnresolvedPayer:
    kind: NamedBy
    value: str
    asked: int
    first_at: datetime
    last_at: datetime


class Unresolved:
    """Of one process. `run` writes until it is canceled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asked: Counter[tuple[str, NamedBy, str]] = Counter()

    def note(self, mode: str, asked: Inquiry) -> None:
        """The payer of a request, which was not resolved."""
        kind: NamedBy = "id" if asked.payer.id is not None else "name"
        value = asked.payer.id or asked.payer.name
        if value is None or not _may_be_kept(value, asked):
            return
        noted = (mode, kind, value)
        if noted in self._asked or len(self._asked) < MOST_REMEMBERED:
            self._asked[noted] += 1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        asked, self._asked = self._asked, Counter()
        if not asked:
            return
        modes, kinds, values = zip(*sorted(asked), strict=True)
        counts = [asked[noted] for noted in sorted(asked)]
        try:
            async with self._gateway.connection() as db:
                await _COUNT.run(db, {"modes": modes, "kinds": kinds, "values": values, "counts": counts})
        except DATABASE_ERRORS as error:
            log.warning("unresolved_payers_not_written", error=type(error).__name__)


def _may_be_kept(value: str, asked: Inquiry) -> bool:
    patient, words = asked.patient, value.casefold()
    own = (patient.first_name, patient.last_name, patient.member_id)
    told = any(part and len(part) >= SHORTEST_TELLING and part.casefold() in words for part in own)
    return len(value) <= LONGEST_VALUE and not told


async def list_unresolved(gateway: Gateway, mode: str) -> list[UnresolvedPayer]:
    """What is asked for most, first."""
    async with gateway.connection() as db:
        return [UnresolvedPayer(**row) for row in await _LIST.all(db, {"mode": mode, "most": MOST_SHOWN})]


async def attach(gateway: Gateway, mode: str, kind: NamedBy, value: str, payer_id: str) -> Linked:
    """From now on this id or name means that payer, in this mode, unless it was settled before."""
    async with gateway.transaction() as db:
        await store.lock_directory(db)
        if payer_id not in {payer.id for payer in await store.read_payers(db, mode)}:
            return Linked.NO_PAYER
        if not await _TAKE.run(db, {"mode": mode, "kind": kind, "value": value}):
            return Linked.NO_CANDIDATE
        await store.add_names(db, mode, "electronic_id" if kind == "id" else "alias", [(payer_id, value)])
        await store.bump_version(db)
    return Linked.DONE


async def ignore_unresolved(gateway: Gateway, mode: str, kind: NamedBy, value: str) -> bool:
    """Nobody needs it. False: there is none, or it was settled before."""
    async with gateway.connection() as db:
        return await _IGNORE.run(db, {"mode": mode, "kind": kind, "value": value}) == 1
