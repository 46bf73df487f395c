"""The log of reads of PHI: one row per read of an inquiry, a result or a raw reply. Ids only."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.kept import Kept
from covergate.db.sql import Query

KEPT = (Kept("audit_log", "HIPAA: six years, 45 CFR 164.316(b)(2)(i)", "6 years", "at"),)

_RECORD = Query("""
INSERT INTO audit_log (tenant_id, api_key_id, action, verification_id, request_id)
SELECT :tenant_id, :api_key_id, :action, id, :request_id FROM unnest(CAST(:ids AS text[])) AS r(id)""")


async def record(
    db: AsyncConnection,
    *,
    tenant_id: str,
    api_key_id: str | None,
    action: str,
    verification_ids: Sequence[str],
    request_id: str | None = None,
) -> None:
    """`action` names the read, e.g. `verification.read`, `verification.raw`, `webhook.full` (then no key is at work)."""
    if verification_ids:
        await _RECORD.run(
            db,
            {
                "tenant_id": tenant_id,
                "api_key_id": api_key_id,
                "action": action,
                "request_id": request_id,
                "ids": list(verification_ids),
            },
        )
