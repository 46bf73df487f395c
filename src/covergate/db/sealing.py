"""Sealed columns: AES-256-GCM with table, column and row id as associated data: a value opens only in its place.

A sealed value is: version byte (1, or 2 if it was compressed before), length of the key id, key id, nonce (12 bytes),
ciphertext and tag. The first key of the ring seals; every key of the ring opens. Digests are HMACs under keys of their own,
derived per purpose, so that neither a digest nor a fingerprint says anything about a sealing key. Invariant: no key and
no opened value is in any repr or error.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from covergate.errors import ConfigurationError, CoverGateError

PLAIN, PACKED = 1, 2
"""Versions of a sealed value."""
PACKED_FROM = 256
"""Shorter values are not worth compressing."""
PACK_LEVEL = 1
"""A vendor's answer of 9 KB shrinks to a fifth in 0.05 ms; higher levels take three times as long for a tenth more."""
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class SealError(CoverGateError):
    """The value is not one that was sealed in this place, or its key is not in the ring."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Key id → 32-byte key, in the order they were given; the first is the current one."""

    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Reads `k2:<base64 of 32 bytes>,k1:…`; the error counts entries and repeats nothing of them."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            key_id, _, encoded = entry.strip().partition(":")
            wrong = f"key {position} of COVERGATE_ENCRYPTION_KEYS"
            if not _KEY_ID.fullmatch(key_id) or not encoded:
                raise ConfigurationError(f"{wrong} must be like k1:<base64 of {KEY_BYTES} bytes>")
            if key_id in keys:
                raise ConfigurationError(f"{wrong} has the id of an earlier one")
            try:
                key = base64.b64decode(encoded.strip().translate({ord("-"): "+", ord("_"): "/"}), validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != KEY_BYTES:
                raise ConfigurationError(
                    f"{wrong} must be {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes one"
                )
            keys[key_id] = key
        return cls(keys)

    @property
    def current_key_id(self) -> str:
        return next(iter(self.keys))


def key_id_of(sealed: bytes) -> str:
    """The id of the key that sealed the value."""
    return _split(sealed)[0]


class Sealer:
    """Seals and opens under one ring; keeps ciphers and derived keys: it runs many times per verification."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self.current_key_id = ring.current_key_id
        self._ciphers = {key_id: AESGCM(key) for key_id, key in ring.keys.items()}
        self._current_cipher = self._ciphers[self.current_key_id]
        encoded_id = self.current_key_id.encode("ascii")
        self._headers = {version: bytes([version, len(encoded_id)]) + encoded_id for version in (PLAIN, PACKED)}
        self._derived: dict[tuple[str, str], bytes] = {}

    def seal(self, table: str, column: str, row_id: str, data: bytes, *, packed: bool = False) -> bytes:
        """`packed`: compressed first, if it is long enough. For what no outsider can mix secrets into."""
        version = PACKED if packed and len(data) >= PACKED_FROM else PLAIN
        if version == PACKED:
            data = zlib.compress(data, PACK_LEVEL)
        nonce = os.urandom(NONCE_BYTES)
        return self._headers[version] + nonce + self._current_cipher.encrypt(nonce, data, _place(table, column, row_id))

    def open(self, table: str, column: str, row_id: str, sealed: bytes) -> bytes:
        key_id, nonce, ciphertext = _split(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(f"{table}.{column} of {row_id} is sealed under key {key_id}, which is not in the ring")
        try:
            data = cipher.decrypt(nonce, ciphertext, _place(table, column, row_id))
            return zlib.decompress(data) if sealed[0] == PACKED else data
        except (InvalidTag, zlib.error):
            raise SealError(f"{table}.{column} of {row_id} does not open under key {key_id}") from None

    def seal_json(self, table: str, column: str, row_id: str, value: Any) -> bytes:
        """`bytes` are taken as JSON that is already encoded."""
        return self.seal(table, column, row_id, value if isinstance(value, bytes) else orjson.dumps(value))

    def open_json(self, table: str, column: str, row_id: str, sealed: bytes) -> Any:
        return orjson.loads(self.open(table, column, row_id, sealed))

    def digest(self, purpose: str, *parts: str) -> bytes:
        """32 bytes that are equal for equal parts, under the current key, and useless without it."""
        return hmac.digest(self._derive(self.current_key_id, f"digest {purpose}"), _prefixed(*parts), "sha256")

    def digests(self, purpose: str, *parts: str) -> list[bytes]:
        """The digest under every key, the current one first: what a look-up must try."""
        message = _prefixed(*parts)
        return [hmac.digest(self._derive(key_id, f"digest {purpose}"), message, "sha256") for key_id in self.ring.keys]

    def fingerprint(self, key_id: str) -> bytes:
        """Tells whether two keys of the same id are the same key; may be stored in the clear."""
        return self._derive(key_id, "fingerprint")

    def _derive(self, key_id: str, purpose: str) -> bytes:
        derived = self._derived.get((key_id, purpose))
        if derived is None:
            hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"covergate {purpose}".encode())
            derived = self._derived[key_id, purpose] = hkdf.derive(self.ring.keys[key_id])
        return derived


def _prefixed(*parts: str) -> bytes:
    """The parts one after the other, each behind its length: no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


@lru_cache(maxsize=256)
def _column(table: str, column: str) -> bytes:
    return _prefixed(table, column)


def _place(table: str, column: str, row_id: str) -> bytes:
    return _column(table, column) + _prefixed(row_id)


def _split(sealed: bytes) -> tuple[str, bytes, bytes]:
    """Key id, nonce, ciphertext with tag."""
    if len(sealed) < 2 or sealed[0] not in (PLAIN, PACKED):
        raise SealError("the value is not a sealed one")
    body = 2 + sealed[1]
    if len(sealed) < body + NONCE_BYTES + TAG_BYTES:
        raise SealError("the sealed value is cut short")
    try:
        key_id = sealed[2:body].decode("ascii")
    except UnicodeDecodeError:
        raise SealError("the value is not a sealed one") from None
    return key_id, sealed[body : body + NONCE_BYTES], sealed[body + NONCE_BYTES :]
