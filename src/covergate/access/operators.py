"""Operators: people and tools that run the gateway. An operator belongs to no tenant, and no tenant's key can do what one can.

By default an operator sees the whole fleet and every verification, but no PHI: that is a role of its own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.audit import command_line
from covergate.access.caller import Caller, CallerKind
from covergate.access.credentials import CREDENTIALS_CHANGED, ListedCredential, digest, name_of
from covergate.db.kept import Kept
from covergate.db.sql import Query
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.states import AuditOutcome, SubjectKind


@dataclass(frozen=True, slots=True)
class OperatorRole:
    """`scopes`: those of the routes that take operators too."""

    allows: str
    scopes: frozenset[str]


ROLES: dict[str, OperatorRole] = {
    "operations": OperatorRole(
        "see the fleet and every verification without its PHI, hold and resume vendors, resolve unknown submissions,"
        " cancel and resubmit verifications",
        frozenset({"operations", "verifications:read", "verifications:write"}),
    ),
    "phi": OperatorRole("see inquiries, results and raw replies", frozenset({"phi", "verifications:raw"})),
}

KEPT = (Kept("operators", "few, and the audit log names them; a revoked one is marked"),)

_CREATE = Query("""
INSERT INTO operators (id, name, digest, hint, roles, expires_at)
VALUES (:id, :name, :digest, :hint, :roles, :expires_at)""")
_LIST = Query("""
SELECT id, name, hint, roles, created_at, expires_at, last_used_at, revoked_at, expires_at <= clock_timestamp() AS expired
FROM operators ORDER BY id""")
_REVOKE = Query("""
WITH o AS (UPDATE operators SET revoked_at = clock_timestamp() WHERE id = :id AND revoked_at IS NULL RETURNING id)
SELECT pg_notify(:channel, id) FROM o""")
_FIND = Query("""
SELECT id, name, roles, CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8) AS expires_in
FROM operators WHERE digest = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())""")
_NAMES = Query(
    """
SELECT id, name FROM operators WHERE id = ANY(:ids)
UNION ALL SELECT id, name FROM console_users WHERE id = ANY(:ids)
UNION SELECT actor_id, name FROM console_sessions WHERE actor_id = ANY(:ids)
UNION ALL SELECT id, name FROM api_keys WHERE id = ANY(:ids) AND name <> ''""",
    ids="text[]",
)
_FIND_TENANT = Query(
    "SELECT id FROM tenants WHERE id = :named OR name = :named ORDER BY id = :named DESC LIMIT 1", named="text"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow(ListedCredential):
    roles: tuple[str, ...]


async def create_operator(
    gateway: Gateway, *, name: str, roles: Iterable[str] | None = None, expires_at: datetime | None = None
) -> str:
    """The credential, which cannot be read again. `roles` None: `operations`. Raises ConfigurationError."""
    wanted = {"operations"} if roles is None else set(roles)
    if not wanted or not wanted <= set(ROLES):
        raise ConfigurationError(f"an operator's roles are some of: {', '.join(ROLES)}")
    credential, operator_id = ids.new_operator_credential(), ids.new(ids.OPERATOR)
    values = {
        "id": operator_id,
        "name": name_of("an operator's name", name),
        "digest": digest(credential),
        "hint": credential[-4:],
        "roles": [role for role in ROLES if role in wanted],
        "expires_at": expires_at,
    }
    async with gateway.transaction() as db:
        await _CREATE.run(db, values)
        await audit.record(db, command_line(), "operator.create", SubjectKind.OPERATOR, [operator_id])
    return credential


async def list_operators(gateway: Gateway) -> list[OperatorRow]:
    """Revoked ones too, by age."""
    async with gateway.connection() as db:
        rows = await _LIST.all(db)
    return [OperatorRow(**{**row, "roles": tuple(row.roles)}) for row in rows]


async def revoke_operator(gateway: Gateway, operator_id: str, by: Caller | None = None) -> bool:
    """At once in every process that listens. False: there is no such operator, or it was revoked before.

    `by` None: a user of this machine.
    """
    async with gateway.transaction() as db:
        revoked = await _REVOKE.one(db, {"id": operator_id, "channel": CREDENTIALS_CHANGED}) is not None
        outcome = AuditOutcome.ALLOWED if revoked else AuditOutcome.NOT_FOUND
        subject = operator_id if ids.is_id(ids.OPERATOR, operator_id) else None
        await audit.record(db, by or command_line(), "operator.revoke", SubjectKind.OPERATOR, [subject], outcome)
    return revoked


async def find_operator(db: AsyncConnection, digested: bytes) -> Caller | None:
    """None for one that does not exist, was revoked, or has expired."""
    asked_at = time.monotonic()
    row = await _FIND.one(db, {"digest": digested})
    if row is None:
        return None
    scopes = frozenset[str]().union(*(ROLES[role].scopes for role in row.roles if role in ROLES))
    until = inf if row.expires_in is None else asked_at + row.expires_in
    return Caller(None, None, row.id, scopes, kind=CallerKind.OPERATOR, name=row.name, valid_until=until)


async def names_of(db: AsyncConnection, actor_ids: Collection[str]) -> dict[str, str]:
    """Id of an operator, of somebody signed in at the console or of an API key → its name, if it has one."""
    return {row.id: row.name for row in await _NAMES.all(db, {"ids": list(actor_ids)})}


async def find_tenant(db: AsyncConnection, named: str) -> str | None:
    """The id of the tenant of that id or name."""
    tenant_id: str | None = await _FIND_TENANT.scalar(db, {"named": named})
    return tenant_id
