"""Data keys: each tenant's own, and the gateway's for what belongs to no tenant, wrapped under a key of the ring.

A wrapped key opens for its tenant and under its id only. With the key are wrapped whether its tenant may still have values
from before there were data keys (`old_values`), so that nobody can bring those back by writing to the table, and the secret
that names patients at vendors, which a new key takes over from the one before: a patient keeps its record there.

Ids sort by creation, and the newest key whose time has come seals. A new key beside an older one waits for that time until
every process has heard of it. Invariant: a key that was destroyed is gone; its row stays and says when.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection
from typeid import TypeID
from uuid_utils import UUID

from covergate import ids
from covergate.db.kept import Kept
from covergate.db.ring import KEY_BYTES, KeyRing, derived, prefixed
from covergate.db.sql import Query, Record

GATEWAY = ""
"""The gateway itself as the owner of a key. No tenant has this id."""
KEYS_KNOWN_SECONDS = 60.0
"""A process asks again for a tenant's keys before it seals with what it learned so long ago."""

KEPT = (Kept("data_keys", "few: one for each tenant, and a row for each that was destroyed"),)

_LOAD = Query("""
SELECT id, coalesce(tenant_id, '') AS owner, encryption_key_id, wrapped,
  CAST(extract(epoch FROM seals_from - clock_timestamp()) AS float8) AS seals_in
FROM data_keys WHERE coalesce(tenant_id, '') = ANY(CAST(:owners AS text[])) AND destroyed_at IS NULL ORDER BY id DESC""")
_HAS_OLD_VALUES = Query("SELECT EXISTS (SELECT FROM encryption_keys WHERE seals_values)")
_INTRODUCE = Query(
    """
INSERT INTO data_keys (id, tenant_id, number, encryption_key_id, wrapped, old_values, seals_from)
VALUES (:id, nullif(:owner, ''), :number, :encryption_key_id, :wrapped, :old_values,
  clock_timestamp() + make_interval(secs => :seals_in))
ON CONFLICT DO NOTHING""",
    owner="text",
    seals_in="double precision",
)
_WITHOUT = Query("""
SELECT o.id FROM (SELECT '' AS id UNION ALL SELECT id FROM tenants WHERE erased_at IS NULL) AS o
WHERE NOT EXISTS (SELECT FROM data_keys d WHERE coalesce(d.tenant_id, '') = o.id AND destroyed_at IS NULL)""")
_HAS = Query("""
SELECT count(*) FILTER (WHERE destroyed_at IS NULL) AS alive, coalesce(max(number), 0) AS last,
  EXISTS (SELECT FROM tenants WHERE id = :owner AND erased_at IS NOT NULL) AS erased
FROM data_keys WHERE coalesce(tenant_id, '') = :owner""")


@dataclass(slots=True)
class DataKey:
    """One that was unwrapped. `seals_at`: by this process's monotonic clock."""

    id: str
    owner: str
    secret: bytes = field(repr=False)
    naming: bytes = field(repr=False)
    old_values: bool
    seals_at: float
    wrapped: bytes = field(default=b"", repr=False)
    encryption_key_id: str = ""
    tag: bytes = field(init=False)
    """The id as it stands in sealed values: 16 bytes."""
    cipher: AESGCM = field(init=False, repr=False)
    _digesting: dict[str, hmac.HMAC] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Purpose → the HMAC under the key for it, begun: to copy it costs half of what making one does."""
    _naming: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.tag = tag_of(self.id)
        self.cipher = AESGCM(self.secret)
        self._naming = hmac.new(self.naming, digestmod="sha256")

    def digest(self, purpose: str, *parts: str) -> bytes:
        """32 bytes that are equal for equal parts, and useless without the key."""
        if purpose not in self._digesting:
            self._digesting[purpose] = hmac.new(derived(self.secret, f"digest {purpose}"), digestmod="sha256")
        return _finished(self._digesting[purpose], parts)

    def name(self, *parts: str) -> bytes:
        """32 bytes that name these parts for as long as the tenant exists, whichever of its keys is current."""
        return _finished(self._naming, parts)


def _finished(begun: hmac.HMAC, parts: Iterable[str]) -> bytes:
    mac = begun.copy()
    mac.update(prefixed(*parts))
    return mac.digest()


def tag_of(key_id: str) -> bytes:
    return TypeID.from_string(key_id).uuid.bytes


def id_of(tag: bytes) -> str:
    """The id of the key that 16 bytes of a sealed value name."""
    return str(TypeID.from_uuid(UUID(bytes=tag), prefix=ids.DATA_KEY))


def new_key(owner: str, *, naming: bytes | None = None, old_values: bool = False) -> DataKey:
    key_id = ids.new(ids.DATA_KEY)
    naming = secrets.token_bytes(KEY_BYTES) if naming is None else naming
    return DataKey(key_id, owner, os.urandom(KEY_BYTES), naming, old_values, time.monotonic())


def wrapped_under(ring: KeyRing, key: DataKey) -> tuple[str, bytes]:
    """The ring's current key, and the data key under it."""
    return ring.wrap(bytes([key.old_values]) + key.secret + key.naming, "data key", key.id, key.owner)


def unwrapped(ring: KeyRing, row: Record) -> DataKey:
    """Raises SealError for one that was wrapped for another tenant, under another id, or under a key that is not here."""
    opened = ring.unwrap(row.encryption_key_id, row.wrapped, "data key", row.id, row.owner)
    return DataKey(
        row.id,
        row.owner,
        opened[1 : 1 + KEY_BYTES],
        opened[1 + KEY_BYTES :],
        bool(opened[0]),
        time.monotonic() + row.seals_in,
        row.wrapped,
        row.encryption_key_id,
    )


async def keys_of(db: AsyncConnection, owners: Iterable[str]) -> list[Record]:
    """The rows of these owners' keys, the newest first."""
    return await _LOAD.all(db, {"owners": list(owners)})


async def introduce_key(
    db: AsyncConnection, ring: KeyRing, key: DataKey, number: int = 1, seals_in: float = 0.0
) -> bool:
    """Stores a new key. False: its owner has one of that number."""
    encryption_key_id, wrapped = wrapped_under(ring, key)
    values = {
        "id": key.id,
        "owner": key.owner,
        "number": number,
        "encryption_key_id": encryption_key_id,
        "wrapped": wrapped,
        "old_values": key.old_values,
        "seals_in": seals_in,
    }
    return bool(await _INTRODUCE.run(db, values))


async def introduce_first(db: AsyncConnection, ring: KeyRing, owner: str) -> None:
    """Does nothing if it has one, or was erased. The owner may have values from the time before, if the database has any."""
    has = await _HAS.one(db, {"owner": owner})
    if has is None or has.alive or has.erased:
        return
    old_values = bool(await _HAS_OLD_VALUES.scalar(db))
    naming = ring.derive(ring.current_key_id, "digest patient") if old_values else None
    await introduce_key(db, ring, new_key(owner, naming=naming, old_values=old_values), has.last + 1)


async def owners_without(db: AsyncConnection) -> list[str]:
    return [row.id for row in await _WITHOUT.all(db)]


# --- what an operator has done with them (`reseal.py`, `covergate keys`) ----------------------------------------------

_ALIVE = Query(
    """
SELECT id, coalesce(tenant_id, '') AS owner, number, encryption_key_id, wrapped, old_values, created_at, seals_from, retired_at,
  CAST(0 AS float8) AS seals_in
FROM data_keys WHERE wrapped IS NOT NULL AND (:owner IS NULL OR coalesce(tenant_id, '') = :owner) ORDER BY id DESC""",
    owner="text",
)
_REWRAP = Query("""
UPDATE data_keys SET encryption_key_id = :encryption_key_id, wrapped = :wrapped, old_values = :old_values
WHERE id = :id AND wrapped = :before""")
_RETIRE = Query("""
UPDATE data_keys SET retired_at = coalesce(retired_at, clock_timestamp())
WHERE coalesce(tenant_id, '') = :owner AND id < :newest AND destroyed_at IS NULL""")
_DESTROY = Query("""
UPDATE data_keys SET wrapped = NULL, destroyed_at = clock_timestamp(), retired_at = coalesce(retired_at, clock_timestamp())
WHERE coalesce(tenant_id, '') = :owner AND id < :newest AND destroyed_at IS NULL""")
_DESTROY_ALL = Query("""
UPDATE data_keys SET wrapped = NULL, destroyed_at = clock_timestamp(), retired_at = coalesce(retired_at, clock_timestamp())
WHERE tenant_id = :tenant AND destroyed_at IS NULL""")
_LOSE = Query("""
UPDATE data_keys SET wrapped = NULL, destroyed_at = clock_timestamp(), retired_at = coalesce(retired_at, clock_timestamp())
WHERE encryption_key_id = :key_id AND destroyed_at IS NULL""")
_SEALS_NO_VALUES = Query(
    """
UPDATE encryption_keys SET seals_values = false
WHERE seals_values AND (id = :lost OR NOT EXISTS (SELECT FROM data_keys WHERE old_values AND destroyed_at IS NULL))""",
    lost="text",
)
_RING = Query("""
SELECT k.id, k.first_seen_at, k.seals_values,
  (SELECT count(*) FROM data_keys d WHERE d.encryption_key_id = k.id AND d.destroyed_at IS NULL) AS wraps
FROM encryption_keys k ORDER BY k.first_seen_at, k.id""")


async def alive(db: AsyncConnection, owner: str | None = None) -> list[Record]:
    """The rows of the keys that were not destroyed, of one owner or of all, the newest first."""
    return await _ALIVE.all(db, {"owner": owner})


async def rewrap_key(db: AsyncConnection, ring: KeyRing, row: Record, *, old_values: bool | None = None) -> bool:
    """Under the ring's current key. False: somebody else has changed the row. Raises SealError if it does not unwrap."""
    key = unwrapped(ring, row)
    key.old_values = key.old_values if old_values is None else old_values
    encryption_key_id, wrapped = wrapped_under(ring, key)
    values = {
        "id": key.id,
        "encryption_key_id": encryption_key_id,
        "wrapped": wrapped,
        "old_values": key.old_values,
        "before": row.wrapped,
    }
    return bool(await _REWRAP.run(db, values))


async def rewrap_all(db: AsyncConnection, ring: KeyRing) -> int:
    """Under the ring's current key; how many were under another. Raises SealError."""
    others = [row for row in await alive(db) if row.encryption_key_id != ring.current_key_id]
    return sum([await rewrap_key(db, ring, row) for row in others])


async def retire_older(db: AsyncConnection, owner: str, newest: str) -> None:
    await _RETIRE.run(db, {"owner": owner, "newest": newest})


async def destroy_older(db: AsyncConnection, owner: str, newest: str) -> int:
    """How many there were. What is still sealed under one of them cannot be opened by anybody any more."""
    destroyed = await _DESTROY.run(db, {"owner": owner, "newest": newest})
    await _SEALS_NO_VALUES.run(db, {"lost": None})
    return destroyed


async def destroy_all(db: AsyncConnection, tenant_id: str) -> int:
    """Of a tenant that was erased."""
    destroyed = await _DESTROY_ALL.run(db, {"tenant": tenant_id})
    await _SEALS_NO_VALUES.run(db, {"lost": None})
    return destroyed


async def lose(db: AsyncConnection, encryption_key_id: str) -> int:
    """A key of the ring is lost: the data keys under it are, too. How many there were."""
    lost = await _LOSE.run(db, {"key_id": encryption_key_id})
    await _SEALS_NO_VALUES.run(db, {"lost": encryption_key_id})
    return lost


async def ring_in(db: AsyncConnection) -> list[Record]:
    """The keys of the ring that this database has seen, and what stands under them."""
    return await _RING.all(db)
