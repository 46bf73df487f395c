"""Retiring data keys: a new one for each tenant, everything sealed anew under it, the old ones destroyed.

Runs beside everything else, in batches. Each row is changed only if it still has the bytes that were read, and one that
somebody has locked is left to the next pass. A run that was killed is gone on with by the next: what remains to be done is
told by the values themselves, which name the key that sealed them.

A new key seals from an instant on by which every process has heard of it, and so has every look-up of its digests. The old ones
are destroyed when a pass that began after all others had stopped using them finds nothing under them. Invariant: a value that
does not open is left as it is, is told, and keeps its tenant's old keys from being destroyed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db import data_keys
from covergate.db.data_keys import KEYS_KNOWN_SECONDS
from covergate.db.ring import KEY_BYTES
from covergate.db.sealing import NEW_VERSIONS, OLD_PACKED, PACKED, Place, Sealer, SealError
from covergate.db.sql import Query, Record
from covergate.eligibility.inquiry import Inquiry
from covergate.gateway import Gateway
from covergate.verifications.create import FORGOTTEN
from covergate.verifications.digests import digests_of
from covergate.verifications.request import VendorOptions
from covergate.verifications.seals import STAMPED, open_end, seal_end
from covergate.verifications.ssn import removed_from

log = structlog.get_logger(__name__)

KNOWN_TO_ALL_SECONDS = KEYS_KNOWN_SECONDS + 15.0
"""By then every process has asked for its tenants' keys again."""
LINGER_SECONDS = 60.0
"""So long after that instant nothing is under way any more that was sealed before it."""
PASS_PAUSE_SECONDS = 1.0
ROWS_SCANNED, ROWS_WRITTEN = 500, 50
"""At a time: no row is locked for longer than the second takes, a few milliseconds."""

_NOW = Query("SELECT clock_timestamp()")
_OF_TENANT = "v.tenant_id AS owner, v.mode"
_OF_ENDPOINT = "w.tenant_id AS owner, w.mode"
_END = ", ".join(f"v.{name}" for name in STAMPED)


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values, and what says their place. `shown`: SQL over the table `t` and what `joined` adds to it."""

    table: str
    column: str
    key: Mapping[str, str]
    """Primary key: name → type."""
    place: tuple[str, str]
    shown: str
    """owner, mode, row_id, verification_id."""
    joined: str = ""
    many: bool = False
    """An array; `row_ids` are its elements'."""
    ends: bool = False
    """The end of the verification stands inside of it."""
    digested: bool = False
    """The row has digests of it."""


_ID = {"id": "text"}
SEALED_COLUMNS = (
    SealedColumn(
        "verifications",
        "inquiry_sealed",
        _ID,
        ("verifications", "inquiry"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, t.id AS verification_id",
        digested=True,
    ),
    SealedColumn(
        "verifications",
        "late_result_sealed",
        _ID,
        ("verifications", "late_result"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, t.id AS verification_id",
    ),
    SealedColumn(
        "verifications",
        "late_failure_sealed",
        _ID,
        ("verifications", "late_failure"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, t.id AS verification_id",
    ),
    SealedColumn(
        "verifications",
        "failure_sealed",
        _ID,
        ("verifications", "failure"),
        f"t.tenant_id AS owner, t.mode, t.id AS row_id, t.id AS verification_id, {_END.replace('v.', 't.')}",
        ends=True,
    ),
    SealedColumn(
        "results",
        "sealed",
        {"verification_id": "text"},
        ("verifications", "result"),
        f"{_OF_TENANT}, v.id AS row_id, v.id AS verification_id, {_END}",
        "JOIN verifications v ON v.id = t.verification_id",
        ends=True,
    ),
    SealedColumn(
        "readings",
        "sealed",
        {"verification_id": "text"},
        ("verifications", "reading"),
        f"{_OF_TENANT}, v.id AS row_id, v.id AS verification_id",
        "JOIN verifications v ON v.id = t.verification_id",
    ),
    SealedColumn(
        "history",
        "contents_sealed",
        {"verification_id": "text", "n": "int", "at": "timestamptz"},
        ("exchanges", "content"),
        f"{_OF_TENANT}, '' AS row_id, v.id AS verification_id,"
        " ARRAY(SELECT x ->> 'id' FROM jsonb_array_elements(t.exchanges) AS x) AS row_ids",
        "JOIN verifications v ON v.id = t.verification_id",
        many=True,
    ),
    SealedColumn(
        "events",
        "full_sealed",
        _ID,
        ("events", "full"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, coalesce(t.verification_id, '') AS verification_id",
    ),
    *(
        SealedColumn(
            "webhook_endpoints",
            f"{secret}_sealed",
            _ID,
            ("webhook_endpoints", secret),
            "t.tenant_id AS owner, t.mode, t.id AS row_id, '' AS verification_id",
        )
        for secret in ("secret", "previous_secret")
    ),
    SealedColumn(
        "webhook_endpoints",
        "older_secrets_sealed",
        _ID,
        ("webhook_endpoints", "previous_secret"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, '' AS verification_id,"
        " ARRAY(SELECT t.id FROM unnest(t.older_secrets_sealed)) AS row_ids",
        many=True,
    ),
    SealedColumn(
        "vendor_accounts",
        "credentials_sealed",
        _ID,
        ("vendor_accounts", "credentials"),
        "t.tenant_id AS owner, t.mode, t.id AS row_id, '' AS verification_id",
    ),
    SealedColumn(
        "console_users",
        "totp_sealed",
        _ID,
        ("console_users", "totp"),
        "'' AS owner, '' AS mode, t.id AS row_id, '' AS verification_id",
    ),
    SealedColumn(
        "deliveries",
        "last_answer_sealed",
        _ID,
        ("delivery_attempts", "answer"),
        f"{_OF_ENDPOINT}, t.id AS row_id, '' AS verification_id",
        "JOIN webhook_endpoints w ON w.id = t.endpoint_id",
    ),
    SealedColumn(
        "delivery_attempts",
        "answer_sealed",
        {"id": "bigint"},
        ("delivery_attempts", "answer"),
        f"{_OF_ENDPOINT}, d.id AS row_id, '' AS verification_id",
        "JOIN deliveries d ON d.id = t.delivery_id JOIN webhook_endpoints w ON w.id = d.endpoint_id",
    ),
    SealedColumn(
        "bulk_jobs",
        "corrections_sealed",
        _ID,
        ("bulk_jobs", "corrections"),
        "coalesce(t.tenant_id, '') AS owner, coalesce(t.mode, '') AS mode, t.id AS row_id, '' AS verification_id",
    ),
    SealedColumn(
        "vendor_messages",
        "body_sealed",
        _ID,
        ("vendor_messages", "body"),
        "'' AS owner, '' AS mode, t.id AS row_id, '' AS verification_id",
    ),
    SealedColumn(
        "vendor_events",
        "body_sealed",
        _ID,
        ("vendor_events", "body"),
        "'' AS owner, t.mode, t.id AS row_id, '' AS verification_id",
    ),
)
"""Every column of sealed values; a test holds it to the tables."""

_FORGET_FINGERPRINTS = tuple(
    Query(
        f"UPDATE {table} SET fingerprint = :forgotten"
        f" WHERE {owner} = :owner AND fingerprint_key_id <> :newest AND fingerprint <> :forgotten"
    )
    for table, owner in (("idempotency_keys", "tenant_id"), ("bulk_job_keys", "owner"))
)


@dataclass(slots=True)
class Resealed:
    """What a run has done so far. `unreadable`: owner → places whose values do not open."""

    resealed: int = 0
    left: int = 0
    destroyed: int = 0
    passes: int = 0
    unreadable: dict[str, set[str]] = field(default_factory=dict)


class _Statements:
    """The SQL for one column."""

    def __init__(self, of: SealedColumn) -> None:
        self.of = of
        key = ", ".join(f"t.{name}" for name in of.key)
        given = ", ".join(f":{name}" for name in of.key)
        upper = ", ".join(f":to_{name}" for name in of.key)
        types = dict(of.key) | {f"to_{name}": type_ for name, type_ in of.key.items()}
        value = f"t.{of.column}"
        tag = "substring({} FROM 2 FOR 16) <> k.tag"
        other = f"EXISTS (SELECT FROM unnest({value}) AS s WHERE {tag.format('s')})" if of.many else tag.format(value)
        self.first = Query(f"SELECT {key} FROM {of.table} t ORDER BY {key} LIMIT 1")
        self.bound = Query(
            f"SELECT {key} FROM {of.table} t WHERE ({key}) >= ({given}) ORDER BY {key} OFFSET {ROWS_SCANNED} LIMIT 1",
            **of.key,
        )
        scan = (
            f"SELECT * FROM (SELECT {key}, {value} AS value, {of.shown} FROM {of.table} t {of.joined}"
            f" WHERE {value} IS NOT NULL AND ({key}) >= ({given}) {{}}) AS t"
            " JOIN unnest(CAST(:owners AS text[]), CAST(:tags AS bytea[])) AS k(key_owner, tag) ON k.key_owner = t.owner"
            f" WHERE {other.replace(value, 't.value')}"
        )
        self.some = Query(scan.format(f"AND ({key}) < ({upper})"), **types)
        self.rest = Query(scan.format(""), **of.key)
        sets = f"{of.column} = g.new"
        arrays = {**of.key, "old": "bytea", "new": "bytea"}
        if of.digested:
            digests = {"member_digest": "bytea", "birth_digest": "bytea", "inquiry_digest": "bytea"}
            arrays |= digests | {"digest_key_id": "text"}
            sets += "".join(f", {name} = g.{name}" for name in (*digests, "digest_key_id"))
        unnested = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in arrays.items())
        same = " AND ".join(f"t.{name} = g.{name}" for name in of.key)
        self.names = list(arrays)
        self.write = Query(f"""
WITH g AS MATERIALIZED (
  SELECT * FROM unnest({unnested}) AS g({", ".join(arrays)})
), l AS MATERIALIZED (
  SELECT {key} FROM {of.table} t JOIN g ON {same} ORDER BY {key} FOR NO KEY UPDATE OF t SKIP LOCKED
)
UPDATE {of.table} t SET {sets} FROM g JOIN l USING ({", ".join(of.key)}) WHERE {same} AND t.{of.column} = g.old""")
        one = " AND ".join(f"{name} = CAST(:{name} AS {type_})" for name, type_ in of.key.items())
        self.write_many = Query(
            f"UPDATE {of.table} SET {of.column} = :new WHERE {one} AND {of.column} = :old", new="bytea[]", old="bytea[]"
        )


async def reseal(
    gateway: Gateway,
    owners: Sequence[str],
    *,
    known_to_all: float = KNOWN_TO_ALL_SECONDS,
    linger: float = LINGER_SECONDS,
    told: Callable[[str], None] = lambda _: None,
) -> Resealed:
    """Of these owners, the gateway's own things (`GATEWAY`) included. Goes on with what an earlier run has begun.

    A tenant that was erased has no keys and is passed over; one that is erased meanwhile, too.
    """
    sealer, progress = gateway.sealer, Resealed()
    await gateway.meet(*owners)
    async with gateway.transaction() as db:
        found = {owner: await _newest(db, sealer, owner, known_to_all) for owner in owners}
    newest = {owner: row for owner, row in found.items() if row is not None}
    if not newest:
        return progress
    told(f"{len(newest)} data keys seal from {max(row.seals_from for row in newest.values()):%H:%M:%S} UTC on")
    settled = max(row.seals_from for row in newest.values())
    await asyncio.sleep(max((settled - await _clock(gateway)).total_seconds(), 0))
    async with gateway.connection() as db:
        sealer.expire(newest)
        await sealer.meet(db, newest)
        for owner, row in newest.items():
            await data_keys.retire_older(db, owner, row.id)
    while True:
        quiet = (await _clock(gateway) - settled).total_seconds() >= linger
        progress.passes += 1
        progress.left = 0
        progress.unreadable = {}
        for column in SEALED_COLUMNS:
            resealed = await _pass(gateway, column, newest, progress)
            if resealed:
                told(f"pass {progress.passes}: {resealed} values of {column.table}.{column.column}")
        if quiet and not progress.left:
            break
        await asyncio.sleep(PASS_PAUSE_SECONDS)
    for owner, row in newest.items():
        if owner in progress.unreadable:
            continue
        progress.destroyed += await _finish(gateway, owner, row.id)
    return progress


async def _newest(db: AsyncConnection, sealer: Sealer, owner: str, known_to_all: float) -> Record | None:
    """The key under which everything shall stand: a new one, unless an earlier run left older ones beside the newest.

    None if the owner has none.
    """
    rows = await data_keys.alive(db, owner)
    if len(rows) == 1:
        before = data_keys.unwrapped(sealer.ring, rows[0])
        key = data_keys.new_key(owner, naming=before.naming, old_values=before.old_values)
        await data_keys.introduce_key(db, sealer.ring, key, rows[0].number + 1, known_to_all)
        rows = await data_keys.alive(db, owner)
    return rows[0] if rows else None


async def _finish(gateway: Gateway, owner: str, newest: str) -> int:
    """Nothing of this owner stands under an older key: those are destroyed, and what is older than data keys is refused."""
    async with gateway.transaction() as db:
        row = next((row for row in await data_keys.alive(db, owner) if row.id == newest), None)
        if row is None:
            return 0  # its tenant was erased
        if not await data_keys.rewrap_key(db, gateway.sealer.ring, row, old_values=False):
            raise SealError(f"{newest} was wrapped anew meanwhile: run it again")
        for forget in _FORGET_FINGERPRINTS:
            await forget.run(db, {"owner": owner, "newest": newest, "forgotten": FORGOTTEN})
        return await data_keys.destroy_older(db, owner, newest)


async def _clock(gateway: Gateway) -> Any:
    async with gateway.connection() as db:
        return await _NOW.scalar(db)


async def _pass(gateway: Gateway, column: SealedColumn, newest: Mapping[str, Record], progress: Resealed) -> int:
    """Through the whole table once; how many values were sealed anew."""
    statements, resealed = _Statements(column), 0
    keys = {"owners": list(newest), "tags": [data_keys.tag_of(row.id) for row in newest.values()]}
    async with gateway.connection() as db:
        begin = await statements.first.one(db)
        while begin is not None:
            end = await statements.bound.one(db, begin)
            upper = {} if end is None else {f"to_{name}": value for name, value in end.items()}
            scan = statements.rest if end is None else statements.some
            rows = await scan.all(db, {**begin, **upper, **keys})
            await gateway.sealer.meet(db, newest)
            for batch in _batches(rows, ROWS_WRITTEN):
                resealed += await _write(db, gateway.sealer, statements, batch, progress)
            begin = end
    progress.resealed += resealed
    return resealed


async def _write(
    db: AsyncConnection, sealer: Sealer, statements: _Statements, rows: Sequence[Record], progress: Resealed
) -> int:
    """How many rows were written; those that somebody has changed or locked meanwhile are left."""
    of, changed = statements.of, []
    for row in rows:
        try:
            changed.append(_sealed_anew(sealer, of, row))
        except (SealError, ValueError) as error:
            named = progress.unreadable.setdefault(row.owner, set())
            named.add(f"{of.table}.{of.column} of {row.row_id or row.verification_id}")
            log.error("value_not_resealed", table=of.table, column=of.column, reason=type(error).__name__)
    if of.many:
        written = sum([await statements.write_many.run(db, values) for values in changed])
    elif changed:
        columns = {name: [values[name] for values in changed] for name in statements.names}
        written = await statements.write.run(db, columns)
    else:
        written = 0
    progress.left += len(changed) - written
    return written


def _sealed_anew(sealer: Sealer, of: SealedColumn, row: Record) -> dict[str, Any]:
    """The row's key, old and new bytes, and new digests. Raises SealError."""
    values: dict[str, Any] = {name: row[name] for name in of.key}
    places = [
        Place(row.owner, row.mode, *of.place, row_id, row.verification_id)
        for row_id in (row.row_ids if of.many else [row.row_id])
    ]
    olds = row["value"] if of.many else [row["value"]]
    news = [_one(sealer, of, row, place, old) for place, old in zip(places, olds, strict=True)]
    values |= {"old": olds if of.many else olds[0], "new": news if of.many else news[0]}
    if of.digested:
        asked = sealer.open_json(places[0], news[0])
        stated = Inquiry.model_validate(asked["inquiry"]).model_dump(mode="json")
        options = VendorOptions.model_validate(asked["vendor_options"])
        key = sealer.current_key(row.owner)
        values |= digests_of(key, row.mode, stated, options)
        if removed_from(asked):
            # What is left is not the question that was asked: nobody may take this answer over for it.
            values["inquiry_digest"] = os.urandom(KEY_BYTES)
        values["digest_key_id"] = key.id
    return values


def _one(sealer: Sealer, of: SealedColumn, row: Record, place: Place, old: bytes) -> bytes:
    packed = old[:1] in (bytes([PACKED]), bytes([OLD_PACKED]))
    if not of.ends:
        return sealer.seal(place, sealer.open(place, old), packed=packed)
    end = {name: row[name] for name in STAMPED}
    return seal_end(sealer, place, end, open_end(sealer, place, end, old))


def _batches(rows: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


# --- status ----------------------------------------------------------------------------------------------------------


async def counts(gateway: Gateway) -> dict[tuple[str, str], int]:
    """(`table.column`, key id) → how many values stand under it. Reads every table once."""
    found: dict[tuple[str, str], int] = {}
    async with gateway.connection() as db:
        for column in SEALED_COLUMNS:
            value = "s.value" if column.many else f"t.{column.column}"
            other = f", unnest(t.{column.column}) AS s(value)" if column.many else ""
            query = Query(f"""
SELECT new, head, count(*) AS number FROM (
  SELECT get_byte({value}, 0) IN ({", ".join(map(str, NEW_VERSIONS))}) AS new, CASE get_byte({value}, 0)
    WHEN 1 THEN substring({value} FROM 3 FOR get_byte({value}, 1))
    WHEN 2 THEN substring({value} FROM 3 FOR get_byte({value}, 1)) ELSE substring({value} FROM 2 FOR 16) END AS head
  FROM {column.table} t{other} WHERE length({value}) > 40) AS h
GROUP BY new, head""")
            for row in await query.all(db):
                key_id = data_keys.id_of(row.head) if row.new else row.head.decode(errors="replace")
                found[f"{column.table}.{column.column}", key_id] = row.number
    return found
