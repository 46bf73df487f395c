"""The directory's tables. A writer begins with `lock_directory` and ends its transaction with `bump_version`.

Whatever a vendor's list or a person adds holds in the mode that it came from: the sandbox's payers never show in live
mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.kept import Kept
from covergate.db.sql import Query, Record
from covergate.vendors.flow import ListedPayer

Codes = Mapping[str, str]

DIRECTORY_LOCK = 0x70617965727321  # "payers!" in ASCII


@dataclass(frozen=True, slots=True)
class DirectoryPayer:
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
    """A row of a vendor's list that could not be matched for certain; `suggested` are ids of payers, the likeliest first."""

    id: str
    vendor: str
    mode: str
    listed: ListedPayer
    suggested: tuple[str, ...]


KEPT = tuple(
    Kept(table, "the directory itself")
    for table in ("payer_directory", "payers", "payer_names", "payer_codes", "payer_candidates")
)

_VERSION = Query("SELECT version FROM payer_directory")
_CHANGED = Query("""
INSERT INTO payer_directory (id, version) VALUES (1, 1)
ON CONFLICT (id) DO UPDATE SET version = payer_directory.version + 1""")
_LOCK = Query("SELECT pg_advisory_xact_lock(:lock)")
_WAIT_AS_LONG_AS_IT_TAKES = Query("SET LOCAL lock_timeout = 0")

_PAYERS = Query("""
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
WHERE p.mode IN ('both', :mode) ORDER BY lower(p.name), p.id""")
_CODES = Query("SELECT codes, payer_id FROM payer_codes WHERE vendor = :vendor AND mode = :mode")
_LISTED_IDS = Query(
    "SELECT array_agg(upper(electronic_id)) FROM payers WHERE mode <> 'both' AND electronic_id IS NOT NULL"
)

_ADD_PAYERS = Query(
    """
INSERT INTO payers (id, mode, name, electronic_id)
SELECT id, :mode, name, electronic_id FROM unnest(:ids, :names, :electronic_ids) AS new (id, name, electronic_id)
ON CONFLICT (id) DO NOTHING""",
    ids="text[]",
    names="text[]",
    electronic_ids="text[]",
)
_ADD_NAMES = Query(
    """
INSERT INTO payer_names (payer_id, mode, kind, value)
SELECT payer_id, :mode, :kind, value FROM unnest(:payer_ids, :names) AS new (payer_id, value)
ON CONFLICT DO NOTHING""",
    payer_ids="text[]",
    names="text[]",
)
_ADD_CODES = """
INSERT INTO payer_codes AS known (vendor, mode, codes, payer_id, source)
SELECT :vendor, :mode, codes, payer_id, :source FROM unnest(:codes, :payer_ids) AS new (codes, payer_id)
ON CONFLICT (vendor, mode, codes) DO """
_NEW_CODES = "UPDATE SET source = excluded.source, payer_id = excluded.payer_id"
_ADD_CODES_OF = {
    source: Query(_ADD_CODES + on_conflict, codes="jsonb[]", payer_ids="text[]")
    for source, on_conflict in (
        ("seed", "NOTHING"),
        ("list", f"{_NEW_CODES} WHERE known.source = 'seed'"),
        ("person", _NEW_CODES),
    )
}
_NOT_AMONG = "NOT EXISTS (SELECT 1 FROM unnest(:codes) AS kept (codes) WHERE kept.codes = t.codes)"
_DELISTED = Query(
    f"DELETE FROM payer_codes AS t WHERE vendor = :vendor AND mode = :mode AND source = 'list' AND {_NOT_AMONG}",
    codes="jsonb[]",
)
_NO_CANDIDATES = Query(
    f"DELETE FROM payer_candidates AS t WHERE vendor = :vendor AND mode = :mode AND {_NOT_AMONG}", codes="jsonb[]"
)

_CANDIDATE = "SELECT id, vendor, mode, codes, name, electronic_id, aliases, suggested FROM payer_candidates"
_CANDIDATES = Query(f"{_CANDIDATE} WHERE ignored_at IS NULL ORDER BY mode, vendor, lower(name), id")
_ONE_CANDIDATE = Query(f"{_CANDIDATE} WHERE id = :id")
_ADD_CANDIDATE = Query("""
INSERT INTO payer_candidates (id, vendor, mode, codes, name, electronic_id, aliases, suggested)
VALUES (:id, :vendor, :mode, :codes, :name, :electronic_id, :aliases, :suggested)
ON CONFLICT (vendor, mode, codes) DO UPDATE
  SET name = excluded.name, electronic_id = excluded.electronic_id, aliases = excluded.aliases,
      suggested = excluded.suggested""")
_IGNORE_CANDIDATE = Query(
    "UPDATE payer_candidates SET ignored_at = clock_timestamp() WHERE id = :id AND ignored_at IS NULL"
)
_DROP_CANDIDATE = Query("DELETE FROM payer_candidates WHERE id = :id")


async def version(db: AsyncConnection) -> int:
    return await _VERSION.scalar(db) or 0


async def lock_directory(db: AsyncConnection) -> None:
    """Another process may be taking over a list of thousands."""
    await _WAIT_AS_LONG_AS_IT_TAKES.run(db)
    await _LOCK.run(db, {"lock": DIRECTORY_LOCK})


async def bump_version(db: AsyncConnection) -> None:
    await _CHANGED.run(db)


async def read_payers(db: AsyncConnection, mode: str) -> list[DirectoryPayer]:
    """All that the mode knows, by name."""
    return [
        DirectoryPayer(
            id=row.id,
            name=row.name,
            electronic_ids=tuple(dict.fromkeys(filter(None, [row.electronic_id, *(row.electronic_ids or ())]))),
            aliases=tuple(alias for alias in row.aliases or () if alias != row.name),
            vendors=row.vendors or {},
        )
        for row in await _PAYERS.all(db, {"mode": mode})
    ]


async def read_codes(db: AsyncConnection, vendor: str, mode: str) -> list[tuple[Codes, str]]:
    """(codes, payer id) of the vendor's codes whose payer is settled."""
    return [(row.codes, row.payer_id) for row in await _CODES.all(db, {"vendor": vendor, "mode": mode})]


async def listed_electronic_ids(db: AsyncConnection) -> set[str]:
    """Those of payers that a vendor's list brought, in upper case."""
    return set(await _LISTED_IDS.scalar(db) or ())


async def add_payers(db: AsyncConnection, mode: str, rows: Sequence[tuple[str, str, str | None]]) -> None:
    """(id, name, electronic id) each. One whose id is there already stays as it is."""
    if rows:
        ids, names, electronic_ids = zip(*rows, strict=True)
        await _ADD_PAYERS.run(db, {"mode": mode, "ids": ids, "names": names, "electronic_ids": electronic_ids})


async def add_names(db: AsyncConnection, mode: str, kind: str, rows: Sequence[tuple[str, str]]) -> None:
    """(payer id, value) each; `kind` "alias" or "electronic_id"."""
    if rows:
        payer_ids, names = zip(*rows, strict=True)
        await _ADD_NAMES.run(db, {"mode": mode, "kind": kind, "payer_ids": payer_ids, "names": names})


async def add_codes(
    db: AsyncConnection, vendor: str, mode: str, source: str, rows: Sequence[tuple[Codes, str]]
) -> None:
    """(codes, payer id) each. A vendor's list confirms what the seed said; a person's word replaces any."""
    values = {
        "vendor": vendor,
        "mode": mode,
        "source": source,
        "codes": [dict(codes) for codes, _ in rows],
        "payer_ids": [payer_id for _, payer_id in rows],
    }
    await _ADD_CODES_OF[source].run(db, values)


async def drop_unlisted(db: AsyncConnection, vendor: str, mode: str, listed: Sequence[Codes]) -> None:
    """Drops codes that the vendor's list once brought and no longer has. Those of a person or the seed stay."""
    values = {"vendor": vendor, "mode": mode, "codes": [dict(codes) for codes in listed]}
    await _DELISTED.run(db, values)


async def replace_candidates(db: AsyncConnection, vendor: str, mode: str, candidates: Sequence[Candidate]) -> None:
    """Makes these the vendor's doubtful rows; one that was doubtful before keeps its id."""
    codes = [dict(candidate.listed.codes) for candidate in candidates]
    await _NO_CANDIDATES.run(db, {"vendor": vendor, "mode": mode, "codes": codes})
    for candidate in candidates:
        values = {
            "id": candidate.id,
            "vendor": vendor,
            "mode": mode,
            "codes": dict(candidate.listed.codes),
            "name": candidate.listed.name,
            "electronic_id": candidate.listed.electronic_id,
            "aliases": candidate.listed.aliases,
            "suggested": candidate.suggested,
        }
        await _ADD_CANDIDATE.run(db, values)


async def read_candidates(db: AsyncConnection) -> list[Candidate]:
    """Without those that are ignored."""
    return [_candidate(row) for row in await _CANDIDATES.all(db)]


async def read_candidate(db: AsyncConnection, id_: str) -> Candidate | None:
    row = await _ONE_CANDIDATE.one(db, {"id": id_})
    return None if row is None else _candidate(row)


async def drop_candidate(db: AsyncConnection, id_: str) -> None:
    """Takes it off the list: it was settled in this transaction."""
    await _DROP_CANDIDATE.run(db, {"id": id_})


async def ignore_candidate(db: AsyncConnection, id_: str) -> bool:
    """It stays off the list for as long as the vendor lists it. False: there is none, or it was ignored before."""
    return await _IGNORE_CANDIDATE.run(db, {"id": id_}) == 1


def _candidate(row: Record) -> Candidate:
    listed = ListedPayer(row.name, row.codes, row.electronic_id, tuple(row.aliases))
    return Candidate(row.id, row.vendor, row.mode, listed, tuple(row.suggested))
