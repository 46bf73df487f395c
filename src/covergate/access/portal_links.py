"""One-time links for partners: the entry to one tenant's webhook pages, in one mode, without an account.

The token is 256 random bits, shown once and kept as its digest. It lets one visitor in, once, within
`COVERGATE_PORTAL_LINK_MINUTES`, and not any more if the key that made it was revoked or its tenant erased meanwhile; the
session that it began ends then too (`console_sessions.py`).
Invariant: the token stands behind the `#` of the URL, which no browser sends, so no access log has it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.audit import Actor
from covergate.access.credentials import digest
from covergate.db.kept import Kept
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import SubjectKind

KEPT = (Kept("portal_links", "long past its end", "30 days", "expires_at"),)
ENTRY_PATH = "/console/enter"

_MAKE = Query(
    """
INSERT INTO portal_links (id, digest, tenant_id, mode, made_by, expires_at)
VALUES (:id, :digest, :tenant_id, :mode, :made_by, clock_timestamp() + make_interval(mins => :minutes))
RETURNING expires_at""",
    minutes="int",
)
_REDEEM = Query("""
UPDATE portal_links l SET used_at = clock_timestamp()
WHERE digest = :digest AND used_at IS NULL AND expires_at > clock_timestamp()
  AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = l.tenant_id AND t.erased_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM api_keys k WHERE k.id = l.made_by AND k.revoked_at IS NOT NULL)
RETURNING id, tenant_id, mode, made_by""")
_FIND_TENANT = Query("SELECT id FROM tenants WHERE name = :name AND erased_at IS NULL")


@dataclass(frozen=True, slots=True)
class PortalLink:
    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PortalGrant:
    """What a redeemed link allows: the webhooks of one tenant in one mode. `made_by` made it: a key, or who ran the command."""

    link_id: str
    tenant_id: str
    mode: str
    made_by: str


async def make_portal_link(gateway: Gateway, by: Actor) -> PortalLink:
    """For the actor's tenant and mode."""
    link_id, token = ids.new(ids.PORTAL_LINK), secrets.token_urlsafe(32)
    values = {
        "id": link_id,
        "digest": digest(token),
        "tenant_id": by.tenant_id,
        "mode": by.mode,
        "made_by": by.id or "",
        "minutes": gateway.settings.portal_link_minutes,
    }
    async with gateway.transaction() as db:
        row = await _MAKE.one(db, values)
        assert row is not None
        await audit.record(db, by, "portal_link.create", SubjectKind.PORTAL_LINK, [link_id])
    return PortalLink(f"{gateway.settings.public_url}{ENTRY_PATH}#{token}", row.expires_at)


async def make_portal_link_for(gateway: Gateway, tenant: str, mode: str) -> PortalLink | None:
    """At the command line, for a tenant by its name; None if there is none."""
    async with gateway.connection() as db:
        tenant_id = await _FIND_TENANT.scalar(db, {"name": tenant})
    return None if tenant_id is None else await make_portal_link(gateway, audit.command_line(tenant_id, mode))


async def redeem(db: AsyncConnection, token: str) -> PortalGrant | None:
    """Once: of two visitors who bring the same token, one is let in. None: used, too old, revoked, or never made."""
    row = await _REDEEM.one(db, {"digest": digest(token)})
    return None if row is None else PortalGrant(row.id, row.tenant_id, row.mode, row.made_by)
