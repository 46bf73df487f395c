"""API keys. A key decides tenant, mode and scopes; it is shown once, and only its SHA-256 digest is kept.

A key has 256 random bits, so a plain digest is enough and a look-up needs no comparison in constant time. `ApiKeyCache` remembers
keys for as long as a revocation is sure to arrive: until a NOTIFY, at most `KNOWN_SECONDS`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from covergate import ids
from covergate.access.caller import Caller
from covergate.db.data_keys import introduce_first
from covergate.db.kept import Kept
from covergate.db.sql import Query
from covergate.eligibility.inquiry import CONTROL
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway

SCOPES: dict[str, str] = {
    "verifications:write": "create and cancel verifications",
    "verifications:read": "read, list and search verifications, vendors, payers and events",
    "verifications:raw": "read the vendors' raw replies",
    "webhooks:manage": "manage webhook endpoints, read and repeat deliveries",
    "operations": "operate the gateway: the console, holds, resolving unknown submissions",
}
MODES = ("test", "live")
KEYS_CHANGED = "covergate_keys"
"""The channel on which processes hear that a key was revoked."""
KNOWN_SECONDS = 60.0
MOST_KNOWN = 10_000
LONGEST_TENANT_NAME = 200

KEPT = (
    Kept("tenants", "few, and everything names its tenant"),
    Kept("api_keys", "few, and the audit log names them; a revoked one is marked"),
)

_SHAPE = re.compile(r"cg_(test|live)_[A-Za-z0-9_-]{20,100}")

_CREATE = Query("""
WITH t AS (
  INSERT INTO tenants (id, name) VALUES (:tenant_id, :tenant)
  ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id
)
INSERT INTO api_keys (id, tenant_id, mode, digest, hint, scopes)
SELECT :id, t.id, :mode, :digest, :hint, :scopes FROM t RETURNING tenant_id""")
_LIST = Query(
    """
SELECT k.id, t.name AS tenant, k.mode, k.hint, k.scopes, k.created_at, k.revoked_at
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
WHERE :tenant IS NULL OR t.name = :tenant ORDER BY t.name, k.id""",
    tenant="text",
)
_REVOKE = Query("""
WITH k AS (UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = :id AND revoked_at IS NULL RETURNING id)
SELECT pg_notify(:channel, id) FROM k""")
_FIND = Query("SELECT id, tenant_id, mode, scopes FROM api_keys WHERE digest = :digest AND revoked_at IS NULL")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed: `hint` is its last four characters."""

    id: str
    tenant: str
    mode: str
    hint: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


async def create_key(gateway: Gateway, *, tenant: str, mode: str, scopes: Iterable[str] | None = None) -> str:
    """The new key itself, which cannot be read again; the tenant is made if it is new. `scopes` None: all of them.

    Raises ConfigurationError for a name, mode or scope that cannot be.
    """
    name = tenant.strip()
    if not name or len(name) > LONGEST_TENANT_NAME or CONTROL.search(name):
        raise ConfigurationError(f"a tenant's name has 1 to {LONGEST_TENANT_NAME} characters and no control characters")
    if mode not in MODES:
        raise ConfigurationError(f"the mode must be one of: {', '.join(MODES)}")
    wanted = set(SCOPES) if scopes is None else set(scopes)
    if not wanted or not wanted <= set(SCOPES):
        raise ConfigurationError(f"a key's scopes are some of: {', '.join(SCOPES)}")
    key = ids.new_api_key(mode)
    async with gateway.transaction() as db:
        tenant_id = await _CREATE.scalar(
            db,
            {
                "tenant_id": ids.new(ids.TENANT),
                "tenant": name,
                "id": ids.new(ids.API_KEY),
                "mode": mode,
                "digest": digest(key),
                "hint": key[-4:],
                "scopes": [scope for scope in SCOPES if scope in wanted],
            },
        )
        await introduce_first(db, gateway.sealer.ring, tenant_id)
    return key


async def list_keys(gateway: Gateway, *, tenant: str | None = None) -> list[ApiKey]:
    """Revoked ones too, by tenant and age."""
    async with gateway.connection() as db:
        rows = await _LIST.all(db, {"tenant": tenant})
    return [ApiKey(**{**row, "scopes": tuple(row.scopes)}) for row in rows]


async def revoke_key(gateway: Gateway, key_id: str) -> bool:
    """At once in every process that listens. False: there is no such key, or it was revoked before."""
    async with gateway.connection() as db:
        return await _REVOKE.one(db, {"id": key_id, "channel": KEYS_CHANGED}) is not None


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class ApiKeyCache:
    """Keys that were looked up lately. Only valid ones are remembered, so guessing fills nothing."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[bytes, tuple[Caller, float]] = {}
        self._forgotten = 0

    def forget(self) -> None:
        """Keys changed, or a change may have been missed."""
        self._known.clear()
        self._forgotten += 1

    async def authenticate(self, key: str) -> Caller | None:
        """The key's caller; None for a key that does not exist or was revoked."""
        if _SHAPE.fullmatch(key) is None:
            return None
        digested = digest(key)
        known = self._known.get(digested)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        forgotten = self._forgotten
        async with self._gateway.connection() as db:
            row = await _FIND.one(db, {"digest": digested})
        if row is None:
            self._known.pop(digested, None)
            return None
        caller = Caller(row.tenant_id, row.mode, row.id, frozenset(row.scopes))
        if forgotten == self._forgotten:
            # Else a revocation came while we were looking, and what we saw may be older than it.
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[digested] = (caller, time.monotonic() + KNOWN_SECONDS)
        return caller
