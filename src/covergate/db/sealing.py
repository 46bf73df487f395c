"""Sealed columns: AES-256-GCM under the tenant's own data key, bound to tenant, mode, verification, table, column and row.

A sealed value is: version byte (3, or 4 if it was compressed before), the data key's id (16 bytes), nonce (12 bytes),
ciphertext and tag. Version, key id and place are associated data. Whoever opens says for which tenant it acts: a value that
was moved to another tenant's row does not open for that one, nor in another row, column or verification.

Values of versions 1 and 2 stand directly under a key of the ring, bound to table, column and row. They open for a tenant
whose data key says that it may still have such (`data_keys.py`), until they were resealed (`reseal.py`).

Digests are HMACs under keys of their own, derived per purpose, so that neither says anything about a sealing key. Invariant:
no key and no opened value is in any repr or error.
"""

from __future__ import annotations

import hmac
import os
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db import data_keys
from covergate.db.data_keys import GATEWAY, KEYS_KNOWN_SECONDS, DataKey, id_of
from covergate.db.ring import KEY_BYTES, NONCE_BYTES, TAG_BYTES, KeyRing, SealError, prefixed
from covergate.db.sql import driver_of

log = structlog.get_logger(__name__)

OLD_PLAIN, OLD_PACKED, PLAIN, PACKED = 1, 2, 3, 4
"""Versions of a sealed value."""
NEW_VERSIONS = (PLAIN, PACKED)
PACKED_FROM = 256
"""Shorter values are not worth compressing."""
PACK_LEVEL = 1
"""A vendor's answer of 9 KB shrinks to a fifth in 0.05 ms; higher levels take three times as long for a tenth more."""
_KEY_TAG = slice(1, 17)
_NONCE = slice(17, 17 + NONCE_BYTES)
_CIPHERTEXT = slice(17 + NONCE_BYTES, None)
_SHORTEST = 17 + NONCE_BYTES + TAG_BYTES

__all__ = ["GATEWAY", "KEY_BYTES", "KeyRing", "Place", "SealError", "Sealer", "key_id_of"]


class Place(NamedTuple):
    """Where a value stands and whose it is, or `GATEWAY`'s. `tenant_id` is the tenant for which the code acts.

    `verification_id` binds what stands in a row of its own to its verification.
    """

    tenant_id: str
    mode: str
    table: str
    column: str
    row_id: str
    verification_id: str = ""

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of {self.row_id}"


def key_id_of(sealed: bytes) -> str:
    """The id of the data key that sealed the value; for one from the time before, of the key of the ring."""
    if sealed[:1] and sealed[0] in NEW_VERSIONS:
        return id_of(_checked(sealed)[_KEY_TAG])
    return _split_old(sealed)[0]


@dataclass(slots=True)
class _Owner:
    """A tenant's keys, the newest first, as they were known until an instant of the monotonic clock."""

    keys: list[DataKey] = field(repr=False)
    known_until: float

    def current(self) -> DataKey | None:
        """The newest whose time has come."""
        now = time.monotonic()
        for key in self.keys:
            if key.seals_at <= now:
                return key
        return None

    @property
    def old_values(self) -> bool:
        return bool(self.keys) and self.keys[0].old_values


class Sealer:
    """Seals and opens with the data keys that it was made to meet; keeps them unwrapped: it runs many times per verification."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._owners: dict[str, _Owner] = {}
        self._keys: dict[bytes, DataKey] = {}
        self._associated: dict[tuple[bytes, int, str], bytes] = {}
        self._old_ciphers: dict[str, AESGCM] = {}
        self._old_derived: dict[tuple[str, str], bytes] = {}

    # --- keys

    def knows(self, tenant_ids: Iterable[str], sealed: Iterable[bytes | None] = ()) -> bool:
        """It has lately met these tenants, and has the keys of these values: `meet` would ask nobody."""
        now = time.monotonic()
        for tenant_id in tenant_ids:
            owner = self._owners.get(tenant_id)
            if owner is None or owner.known_until < now:
                return False
        return all(
            value is None or value[:1] not in (b"\x03", b"\x04") or value[_KEY_TAG] in self._keys for value in sealed
        )

    async def meet(self, db: AsyncConnection, tenant_ids: Iterable[str], sealed: Iterable[bytes | None] = ()) -> None:
        """To be awaited before values of these tenants are sealed or digested, or these `sealed` ones opened.

        Asks the database once a minute, and for what it does not know. Outside of a transaction a tenant without a key is given
        its first one; inside there would be no telling whether that is committed.
        """
        tenants, values = set(tenant_ids), list(sealed)
        if self.knows(tenants, values):
            return
        asked_at, known = time.monotonic(), dict(self._owners)
        # All that it knows at once: then they are all known for the next minute.
        rows = await data_keys.keys_of(db, tenants | self._owners.keys())
        missing = tenants - {row.owner for row in rows}
        if missing and not (await driver_of(db)).is_in_transaction():
            for owner in sorted(missing):
                await data_keys.introduce_first(db, self.ring, owner)
            rows = await data_keys.keys_of(db, tenants | self._owners.keys())
        owners: dict[str, list[DataKey]] = {row.owner: [] for row in rows}
        for row in rows:
            if (key := self._unwrapped(row)) is not None:
                owners[row.owner].append(key)
        for tenant, keys in owners.items():
            self.adopt(tenant, keys, asked_at + KEYS_KNOWN_SECONDS)
        for tenant in known.keys() - owners.keys():
            self._forget(tenant, known[tenant])

    def adopt(self, tenant_id: str, keys: Iterable[DataKey], known_until: float) -> None:
        """These are the tenant's keys, the newest first, until an instant of the monotonic clock."""
        self._owners[tenant_id] = _Owner(list(keys), known_until)
        self._keys |= {key.tag: key for key in self._owners[tenant_id].keys}

    def _forget(self, tenant_id: str, owner: _Owner) -> None:
        """Its keys were destroyed: what would still be sealed under one could not be opened by the next process."""
        if self._owners.get(tenant_id) is owner:  # else somebody has met it since
            del self._owners[tenant_id]
            for key in owner.keys:
                self._keys.pop(key.tag, None)

    def expire(self, tenant_ids: Iterable[str]) -> None:
        """Has `meet` ask again for the keys of these."""
        for tenant_id in tenant_ids:
            if tenant_id in self._owners:
                self._owners[tenant_id].known_until = 0.0

    def can_seal(self, tenant_id: str) -> bool:
        """Whether the tenant has a data key: one that was erased has none, whoever still acts for it."""
        return self._current(tenant_id) is not None

    def _current(self, tenant_id: str) -> DataKey | None:
        owner = self._owners.get(tenant_id)
        return None if owner is None else owner.current()

    def current_key(self, tenant_id: str) -> DataKey:
        key = self._current(tenant_id)
        if key is None:
            raise SealError(f"there is no data key for {tenant_id or 'the gateway'}")
        return key

    def _unwrapped(self, row: Any) -> DataKey | None:
        """None for one that does not open: then what was sealed under it does not, and the rest does."""
        tag = data_keys.tag_of(row.id)
        known = self._keys.get(tag)
        if known is not None and known.wrapped == row.wrapped and known.owner == row.owner:
            return known
        try:
            return data_keys.unwrapped(self.ring, row)
        except SealError as error:
            log.error("data_key_not_unwrapped", key_id=row.id, tenant_id=row.owner, reason=str(error))
            return None

    # --- values

    def seal(self, place: Place, data: bytes, *, packed: bool = False) -> bytes:
        """`packed`: compressed first, if it is long enough. For what no outsider can mix secrets into."""
        key = self.current_key(place.tenant_id)
        version = PACKED if packed and len(data) >= PACKED_FROM else PLAIN
        if version == PACKED:
            data = zlib.compress(data, PACK_LEVEL)
        nonce = os.urandom(NONCE_BYTES)
        sealed = key.cipher.encrypt(nonce, data, self._associated_data(key.tag, version, place))
        return b"%c%b%b%b" % (version, key.tag, nonce, sealed)

    def open(self, place: Place, sealed: bytes) -> bytes:
        """Raises SealError; its text names the place and holds nothing of the value."""
        if not sealed or sealed[0] not in NEW_VERSIONS:
            return self._open_old(place, sealed)
        if len(sealed) < _SHORTEST:
            raise SealError(f"{place} is cut short")
        tag, version = sealed[_KEY_TAG], sealed[0]
        key = self._keys.get(tag)
        if key is None or key.owner != place.tenant_id:
            raise SealError(f"{place} is sealed under {id_of(tag)}, which is no key of this tenant")
        try:
            data = key.cipher.decrypt(sealed[_NONCE], sealed[_CIPHERTEXT], self._associated_data(tag, version, place))
            return zlib.decompress(data) if version == PACKED else data
        except (InvalidTag, zlib.error):
            raise SealError(f"{place} does not open under {key.id}") from None

    def seal_json(self, place: Place, value: Any) -> bytes:
        """`bytes` are taken as JSON that is already encoded."""
        return self.seal(place, value if isinstance(value, bytes) else orjson.dumps(value))

    def open_json(self, place: Place, sealed: bytes) -> Any:
        return orjson.loads(self.open(place, sealed))

    def _associated_data(self, tag: bytes, version: int, place: Place) -> bytes:
        known = (tag, version, place.mode)
        begin = self._associated.get(known)
        if begin is None:
            begin = self._associated[known] = bytes([version]) + tag + prefixed(place.tenant_id, place.mode)
        return begin + _column(place.table, place.column) + prefixed(place.row_id, place.verification_id)

    def _open_old(self, place: Place, sealed: bytes) -> bytes:
        key_id, nonce, ciphertext = _split_old(sealed)
        owner = self._owners.get(place.tenant_id)
        if owner is None or not owner.old_values:
            raise SealError(f"{place} is of a form that this tenant has no more")
        cipher = self._old_ciphers.get(key_id)
        if cipher is None:
            if key_id not in self.ring.keys:
                raise SealError(f"{place} is sealed under key {key_id}, which is not in the ring")
            cipher = self._old_ciphers[key_id] = AESGCM(self.ring.keys[key_id])
        try:
            data = cipher.decrypt(nonce, ciphertext, _column(place.table, place.column) + prefixed(place.row_id))
            return zlib.decompress(data) if sealed[0] == OLD_PACKED else data
        except (InvalidTag, zlib.error):
            raise SealError(f"{place} does not open under key {key_id}") from None

    # --- digests

    def digest(self, tenant_id: str, purpose: str, *parts: str) -> bytes:
        """32 bytes that are equal for equal parts, under the tenant's current key, and useless without it."""
        return self.current_key(tenant_id).digest(purpose, *parts)

    def digests(self, tenant_id: str, purpose: str, *parts: str) -> list[bytes]:
        """The digest under every key of the tenant, the current one first: what a look-up must try."""
        current, owner = self.current_key(tenant_id), self._owners[tenant_id]
        keys = [current, *(key for key in owner.keys if key is not current)]
        digests = [key.digest(purpose, *parts) for key in keys]
        if owner.old_values:
            old = [self._derive_old(key_id, f"digest {purpose}") for key_id in self.ring.keys]
            digests += [hmac.digest(secret, prefixed(*parts), "sha256") for secret in old]
        return digests

    def name(self, tenant_id: str, *parts: str) -> bytes:
        """32 bytes that name these parts for as long as the tenant exists, whichever key is current."""
        return self.current_key(tenant_id).name(*parts)

    def _derive_old(self, key_id: str, purpose: str) -> bytes:
        derived = self._old_derived.get((key_id, purpose))
        if derived is None:
            derived = self._old_derived[key_id, purpose] = self.ring.derive(key_id, purpose)
        return derived


@lru_cache(maxsize=256)
def _column(table: str, column: str) -> bytes:
    return prefixed(table, column)


def _checked(sealed: bytes) -> bytes:
    if len(sealed) < _SHORTEST:
        raise SealError("the sealed value is cut short")
    return sealed


def _split_old(sealed: bytes) -> tuple[str, bytes, bytes]:
    """Of versions 1 and 2: key id, nonce, ciphertext with tag."""
    if len(sealed) < 2 or sealed[0] not in (OLD_PLAIN, OLD_PACKED):
        raise SealError("the value is not a sealed one")
    body = 2 + sealed[1]
    if len(sealed) < body + NONCE_BYTES + TAG_BYTES:
        raise SealError("the sealed value is cut short")
    try:
        key_id = sealed[2:body].decode("ascii")
    except UnicodeDecodeError:
        raise SealError("the value is not a sealed one") from None
    return key_id, sealed[body : body + NONCE_BYTES], sealed[body + NONCE_BYTES :]
