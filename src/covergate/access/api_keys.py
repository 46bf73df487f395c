"""API keys. A key decides tenant, mode and scopes; it may have an end, and a list of addresses from which it is taken."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from math import inf

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.audit import command_line
from covergate.access.caller import Caller
from covergate.access.credentials import CREDENTIALS_CHANGED, ListedCredential, digest, name_of
from covergate.db.data_keys import introduce_first
from covergate.db.kept import Kept
from covergate.db.sql import Query
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.states import AuditOutcome, SubjectKind


@dataclass(frozen=True, slots=True)
class Scope:
    """`default`: a key has it unless its scopes are named."""

    allows: str
    default: bool = False


SCOPES: dict[str, Scope] = {
    "verifications:write": Scope("create and cancel verifications", default=True),
    "verifications:read": Scope("read, list and search verifications, vendors, payers and events", default=True),
    "verifications:raw": Scope("read the vendors' raw replies"),
    "audit:read": Scope("read the tenant's own audit"),
    "webhooks:manage": Scope("manage webhook endpoints, read and repeat deliveries", default=True),
    "accounts:manage": Scope("put in, test and remove the tenant's own accounts at vendors"),
    "patients:erase": Scope("erase everything that tells of a patient, for good"),
}
DEFAULT_SCOPES = frozenset(name for name, scope in SCOPES.items() if scope.default)
MODES = ("test", "live")
MOST_NETWORKS = 50

KEPT = (
    Kept("tenants", "few, and everything names its tenant"),
    Kept("api_keys", "few, and the audit log names them; a revoked one is marked"),
)

_CREATE = Query("""
WITH t AS (
  INSERT INTO tenants (id, name) VALUES (:tenant_id, :tenant)
  ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, erased_at
), k AS (
  INSERT INTO api_keys (id, tenant_id, mode, digest, hint, scopes, name, expires_at, allowed_networks)
  SELECT :id, t.id, :mode, :digest, :hint, :scopes, :name, :expires_at, :networks FROM t
  WHERE t.erased_at IS NULL RETURNING id, tenant_id
)
SELECT tenant_id, pg_notify(:channel, id) FROM k""")
_LIST = Query(
    """
SELECT k.id, t.name AS tenant, k.mode, k.hint, k.scopes, k.name, k.allowed_networks AS networks, k.created_at, k.expires_at,
  k.last_used_at, k.revoked_at, k.expires_at <= clock_timestamp() AS expired
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
WHERE :tenant IS NULL OR t.name = :tenant ORDER BY t.name, k.id""",
    tenant="text",
)
_REVOKE = Query(
    """
WITH k AS (
  UPDATE api_keys SET revoked_at = clock_timestamp()
  WHERE id = :id AND revoked_at IS NULL AND (:tenant_id IS NULL OR tenant_id = :tenant_id) RETURNING id, tenant_id, mode
)
SELECT tenant_id, mode, pg_notify(:channel, id) FROM k""",
    tenant_id="text",
)
_FIND = Query("""
SELECT id, tenant_id, mode, scopes, name, allowed_networks,
  CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8) AS expires_in
FROM api_keys WHERE digest = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(ListedCredential):
    tenant: str
    mode: str
    scopes: tuple[str, ...]
    networks: tuple[str, ...]


async def create_key(
    gateway: Gateway,
    *,
    tenant: str,
    mode: str,
    scopes: Iterable[str] | None = None,
    name: str | None = None,
    expires_at: datetime | None = None,
    networks: Iterable[str] = (),
) -> str:
    """The new key itself, which cannot be read again; the tenant is made if it is new. `scopes` None: the default ones.

    Raises ConfigurationError for a name, mode, scope or address that cannot be, and for a tenant that was erased.
    """
    if mode not in MODES:
        raise ConfigurationError(f"the mode must be one of: {', '.join(MODES)}")
    wanted = DEFAULT_SCOPES if scopes is None else set(scopes)
    if not wanted or not wanted <= set(SCOPES):
        raise ConfigurationError(f"a key's scopes are some of: {', '.join(SCOPES)}")
    key, key_id = ids.new_api_key(mode), ids.new(ids.API_KEY)
    values = {
        "tenant_id": ids.new(ids.TENANT),
        "tenant": name_of("a tenant's name", tenant),
        "id": key_id,
        "mode": mode,
        "digest": digest(key),
        "hint": key[-4:],
        "scopes": [scope for scope in SCOPES if scope in wanted],
        "name": "" if name is None else name_of("a key's name", name),
        "expires_at": expires_at,
        "networks": _networks(networks),
        "channel": CREDENTIALS_CHANGED,
    }
    async with gateway.transaction() as db:
        tenant_id = await _CREATE.scalar(db, values)
        if tenant_id is None:
            raise ConfigurationError("a tenant of this name was erased: take another name")
        await introduce_first(db, gateway.sealer.ring, tenant_id)
        await audit.record(db, command_line(tenant_id, mode), "key.create", SubjectKind.KEY, [key_id])
    return key


def _networks(given: Iterable[str]) -> list[str]:
    try:
        networks = [str(ip_network(network)) for network in given]
    except ValueError:
        raise ConfigurationError(
            "an address list has addresses and networks such as 192.0.2.7 or 192.0.2.0/24"
        ) from None
    if len(networks) > MOST_NETWORKS:
        raise ConfigurationError(f"an address list has at most {MOST_NETWORKS} entries")
    return networks


async def list_keys(gateway: Gateway, *, tenant: str | None = None) -> list[ApiKey]:
    """Revoked ones too, by tenant and age."""
    async with gateway.connection() as db:
        rows = await _LIST.all(db, {"tenant": tenant})
    return [ApiKey(**{**row, "scopes": tuple(row.scopes), "networks": tuple(row.networks)}) for row in rows]


async def revoke_key(gateway: Gateway, key_id: str, by: Caller | None = None) -> bool:
    """At once in every process that listens. False: there is no such key, it was revoked before, or it is another tenant's.

    `by` None: a user of this machine.
    """
    values = {"id": key_id, "channel": CREDENTIALS_CHANGED, "tenant_id": by.within_tenant if by is not None else None}
    async with gateway.transaction() as db:
        row = await _REVOKE.one(db, values)
        outcome = AuditOutcome.NOT_FOUND if row is None else AuditOutcome.ALLOWED
        subject = key_id if ids.is_id(ids.API_KEY, key_id) else None
        whose = {} if row is None else {"tenant_id": row.tenant_id, "mode": row.mode}
        await audit.record(db, by or command_line(), "key.revoke", SubjectKind.KEY, [subject], outcome, **whose)
    return row is not None


async def find_key(db: AsyncConnection, digested: bytes) -> Caller | None:
    """None for a key that does not exist, was revoked, or has expired."""
    asked_at = time.monotonic()
    row = await _FIND.one(db, {"digest": digested})
    if row is None:
        return None
    return Caller(
        row.tenant_id,
        row.mode,
        row.id,
        frozenset(row.scopes),
        name=row.name,
        networks=tuple(ip_network(network) for network in row.allowed_networks),
        # By the database's clock, as in every other process.
        valid_until=inf if row.expires_in is None else asked_at + row.expires_in,
    )
