"""The directory's tables. Whoever writes holds `alone` until the end of the transaction and ends with `changed`.

What a vendor's list or a person adds holds in the mode that it came from: the sandbox's payers never show in live mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from covergate.db.tables import payer_candidates, payer_codes, payer_names, payers
from covergate.vendors.flow import ListedPayer

Codes = Mapping[str, str]

LOCK = 0x70617965727321  # "payers!" in ASCII


@dataclass(frozen=True, slots=True)
class Payer:
    """A payer as one mode knows it. `electronic_ids` has the main one first; `vendors` each vendor's codes for it."""

    id: str
    name: str
    electronic_ids: tuple[str, ...]
    aliases: tuple[str, ...]
    vendors: Mapping[str, Codes]

    @property
    def electronic_id(self) -> str | None:
        return self.electronic_ids[0] if self.electronic_ids else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a vendor lists and what nobody could match for certain; `suggested` are ids of payers, the likeliest first."""

    id: str
    vendor: str
    mode: str
    listed: ListedPayer
    suggested: tuple[str, ...]


_VERSION = text("SELECT version FROM payer_directory")
_CHANGED = text("""
INSERT INTO payer_directory (id, version) VALUES (1, 1)
ON CONFLICT (id) DO UPDATE SET version = payer_directory.version + 1""")
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")

_PAYERS = text("""
SELECT p.id, p.name, p.electronic_id, n.aliases, n.electronic_ids, c.vendors
FROM payers p
LEFT JOIN (
  SELECT payer_id, array_agg(DISTINCT value ORDER BY value) FILTER (WHERE kind = 'alias') AS aliases,
         array_agg(DISTINCT value ORDER BY value) FILTER (WHERE kind = 'electronic_id') AS electronic_ids
  FROM payer_names WHERE mode IN ('both', :mode) GROUP BY payer_id
) n ON n.payer_id = p.id
LEFT JOIN (
  SELECT payer_id, jsonb_object_agg(vendor, codes) AS vendors
  FROM (
    SELECT DISTINCT ON (payer_id, vendor) payer_id, vendor, codes FROM payer_codes WHERE mode = :mode
    ORDER BY payer_id, vendor, array_position(ARRAY['person', 'list', 'seed'], source), created_at, codes
  ) best GROUP BY payer_id
) c ON c.payer_id = p.id
WHERE p.mode IN ('both', :mode) ORDER BY lower(p.name), p.id""").columns(
    aliases=ARRAY(Text), electronic_ids=ARRAY(Text), vendors=JSONB
)
_CODES = text("SELECT codes, payer_id, source FROM payer_codes WHERE vendor = :vendor AND mode = :mode").columns(
    codes=JSONB
)
_NOT_AMONG = "NOT EXISTS (SELECT 1 FROM unnest(:codes) AS kept (codes) WHERE kept.codes = t.codes)"
_DELISTED = text(
    f"DELETE FROM payer_codes AS t WHERE vendor = :vendor AND mode = :mode AND source = 'list' AND {_NOT_AMONG}"
).bindparams(bindparam("codes", type_=ARRAY(JSONB)))
_NO_CANDIDATES = text(
    f"DELETE FROM payer_candidates AS t WHERE vendor = :vendor AND mode = :mode AND {_NOT_AMONG}"
).bindparams(bindparam("codes", type_=ARRAY(JSONB)))
_LISTED_IDS = text("SELECT upper(electronic_id) FROM payers WHERE mode <> 'both' AND electronic_id IS NOT NULL")

_CANDIDATE = "SELECT id, vendor, mode, codes, name, electronic_id, aliases, suggested FROM payer_candidates"
_CANDIDATES = text(f"{_CANDIDATE} ORDER BY mode, vendor, lower(name), id").columns(
    codes=JSONB, aliases=ARRAY(Text), suggested=ARRAY(Text)
)
_ONE_CANDIDATE = text(f"{_CANDIDATE} WHERE id = :id").columns(codes=JSONB, aliases=ARRAY(Text), suggested=ARRAY(Text))
_DROP_CANDIDATE = text("DELETE FROM payer_candidates WHERE id = :id")


async def version(db: AsyncConnection) -> int:
    return await db.scalar(_VERSION) or 0


async def alone(db: AsyncConnection) -> None:
    await db.execute(_LOCK, {"lock": LOCK})


async def changed(db: AsyncConnection) -> None:
    await db.execute(_CHANGED)


async def read_payers(db: AsyncConnection, mode: str) -> list[Payer]:
    """All that the mode knows, by name."""
    return [
        Payer(
            id=row.id,
            name=row.name,
            electronic_ids=tuple(dict.fromkeys(filter(None, [row.electronic_id, *(row.electronic_ids or ())]))),
            aliases=tuple(alias for alias in row.aliases or () if alias != row.name),
            vendors=row.vendors or {},
        )
        for row in await db.execute(_PAYERS, {"mode": mode})
    ]


async def read_codes(db: AsyncConnection, vendor: str, mode: str) -> list[tuple[Codes, str]]:
    """Which payer each of the vendor's codes is, as far as that is settled."""
    return [(row.codes, row.payer_id) for row in await db.execute(_CODES, {"vendor": vendor, "mode": mode})]


async def listed_electronic_ids(db: AsyncConnection) -> set[str]:
    """Those of payers that a vendor's list brought, in upper case."""
    return set((await db.execute(_LISTED_IDS)).scalars())


async def add_payers(db: AsyncConnection, mode: str, rows: Sequence[tuple[str, str, str | None]]) -> None:
    """(id, name, electronic id) each. One whose id is there already stays as it is."""
    values = [{"id": id_, "mode": mode, "name": name, "electronic_id": eid} for id_, name, eid in rows]
    if values:
        await db.execute(insert(payers).on_conflict_do_nothing(index_elements=["id"]), values)


async def add_names(db: AsyncConnection, mode: str, kind: str, rows: Sequence[tuple[str, str]]) -> None:
    """(payer id, value) each; `kind` "alias" or "electronic_id"."""
    values = [{"payer_id": id_, "mode": mode, "kind": kind, "value": value} for id_, value in rows]
    if values:
        await db.execute(insert(payer_names).on_conflict_do_nothing(), values)


async def add_codes(
    db: AsyncConnection, vendor: str, mode: str, source: str, rows: Sequence[tuple[Codes, str]]
) -> None:
    """(codes, payer id) each. A vendor's list confirms what the seed said; a person's word replaces any."""
    values = [
        {"vendor": vendor, "mode": mode, "codes": dict(codes), "payer_id": id_, "source": source} for codes, id_ in rows
    ]
    if not values:
        return
    added = insert(payer_codes)
    if source == "seed":
        added = added.on_conflict_do_nothing()
    else:
        new = {"source": added.excluded.source, "payer_id": added.excluded.payer_id}
        only_seeds = payer_codes.c.source == "seed" if source == "list" else None
        added = added.on_conflict_do_update(index_elements=["vendor", "mode", "codes"], set_=new, where=only_seeds)
    await db.execute(added, values)


async def drop_unlisted(db: AsyncConnection, vendor: str, mode: str, listed: Sequence[Codes]) -> None:
    """What the vendor's list once brought and no longer has. What a person or the seed said stays."""
    values = {"vendor": vendor, "mode": mode, "codes": [dict(codes) for codes in listed]}
    await db.execute(_DELISTED, values)


async def replace_candidates(db: AsyncConnection, vendor: str, mode: str, found: Sequence[Candidate]) -> None:
    """These are the vendor's doubtful rows now; one that was doubtful before keeps its id."""
    codes = [dict(candidate.listed.codes) for candidate in found]
    await db.execute(_NO_CANDIDATES, {"vendor": vendor, "mode": mode, "codes": codes})
    values = [
        {
            "id": candidate.id,
            "vendor": vendor,
            "mode": mode,
            "codes": dict(candidate.listed.codes),
            "name": candidate.listed.name,
            "electronic_id": candidate.listed.electronic_id,
            "aliases": list(candidate.listed.aliases),
            "suggested": list(candidate.suggested),
        }
        for candidate in found
    ]
    if values:
        added = insert(payer_candidates)
        kept = ("name", "electronic_id", "aliases", "suggested")
        new = {name: added.excluded[name] for name in kept}
        await db.execute(
            added.on_conflict_do_update(index_elements=["vendor", "mode", "codes"], set_=new),
            values,
        )


async def read_candidates(db: AsyncConnection) -> list[Candidate]:
    return [_candidate(row) for row in await db.execute(_CANDIDATES)]


async def read_candidate(db: AsyncConnection, id_: str) -> Candidate | None:
    row = (await db.execute(_ONE_CANDIDATE, {"id": id_})).one_or_none()
    return None if row is None else _candidate(row)


async def drop_candidate(db: AsyncConnection, id_: str) -> None:
    """Out of the list: it was settled in this transaction."""
    await db.execute(_DROP_CANDIDATE, {"id": id_})


def _candidate(row: Row[Any]) -> Candidate:
    listed = ListedPayer(row.name, row.codes, row.electronic_id, tuple(row.aliases))
    return Candidate(row.id, row.vendor, row.mode, listed, tuple(row.suggested))
