"""The key ring: the key-encryption keys of a gateway. They wrap data keys; before there were those, they sealed values.

Invariant: no key is in any repr or error. `key_ring.py` says where a ring comes from.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from covergate.errors import ConfigurationError, CoverGateError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
FEWEST_DISTINCT_BYTES = 8
"""Of 32 random bytes, fewer than 16 distinct ones come up less than once in 10^11 keys; a typed pattern has a handful."""

_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class SealError(CoverGateError):
    """The value is not one that was sealed in this place for this tenant, or its key is not at hand."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Key id → 32-byte key, in the order they were given; the first is the current one."""

    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str, name: str = "COVERGATE_ENCRYPTION_KEYS") -> KeyRing:
        """Reads `k2:<base64 of 32 bytes>,k1:…`, which is called `name`; the error counts entries and repeats none of them."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            key_id, _, encoded = entry.strip().partition(":")
            wrong = f"key {position} of {name}"
            if not _KEY_ID.fullmatch(key_id) or not encoded:
                raise ConfigurationError(f"{wrong} must be like k1:<base64 of {KEY_BYTES} bytes>")
            if key_id in keys:
                raise ConfigurationError(f"{wrong} has the id of an earlier one")
            key = _decoded(encoded)
            if len(key) != KEY_BYTES:
                raise ConfigurationError(
                    f"{wrong} must be {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes one"
                )
            if len(set(key)) < FEWEST_DISTINCT_BYTES:
                raise ConfigurationError(
                    f"{wrong} is not random, so it protects nothing; `openssl rand -base64 {KEY_BYTES}` makes one"
                )
            if key in keys.values():
                raise ConfigurationError(f"{wrong} has the same bytes as an earlier one: a new id needs a new key")
            keys[key_id] = key
        return cls(keys)

    @property
    def current_key_id(self) -> str:
        return next(iter(self.keys))

    def derive(self, key_id: str, purpose: str) -> bytes:
        return derived(self.keys[key_id], purpose)

    def fingerprint(self, key_id: str) -> bytes:
        """Tells whether two keys of the same id are the same key; may be stored in the clear."""
        return self.derive(key_id, "fingerprint")

    def wrap(self, secret: bytes, *named: str) -> tuple[str, bytes]:
        """Under the current key: its id, and what opens with the same names only."""
        key_id, nonce = self.current_key_id, os.urandom(NONCE_BYTES)
        cipher = AESGCM(self.derive(key_id, "wrap"))
        return key_id, nonce + cipher.encrypt(nonce, secret, prefixed(key_id, *named))

    def unwrap(self, key_id: str, wrapped: bytes, *named: str) -> bytes:
        if key_id not in self.keys:
            raise SealError(f"it is wrapped under {key_id}, which is not in the ring")
        nonce, ciphertext = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return AESGCM(self.derive(key_id, "wrap")).decrypt(nonce, ciphertext, prefixed(key_id, *named))
        except (InvalidTag, ValueError):
            raise SealError(f"it does not open under {key_id}") from None


def derived(key: bytes, purpose: str) -> bytes:
    """A key of its own for each purpose: none says anything about another, or about the one they come from."""
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"covergate {purpose}".encode())
    return hkdf.derive(key)


def prefixed(*parts: str) -> bytes:
    """The parts one after the other, each behind its length: no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join([len(part).to_bytes(4, "big") + part for part in encoded])


def _decoded(encoded: str) -> bytes:
    """From either base64; empty if it is none."""
    try:
        return base64.b64decode(encoded.strip().translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except (binascii.Error, ValueError):
        return b""
