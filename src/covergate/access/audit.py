"""The log of reads of PHI, one row per read of an inquiry, a result or a raw reply, and of what operators do. Ids only."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access.caller import Caller
from covergate.db.kept import Kept
from covergate.db.sql import Query

KEPT = (Kept("audit_log", "HIPAA: six years, 45 CFR 164.316(b)(2)(i)", "6 years", "at"),)

_RECORD = Query("""
INSERT INTO audit_log (tenant_id, api_key_id, operator_id, action, verification_id, request_id)
SELECT :tenant_id, :api_key_id, :operator_id, :action, id, :request_id FROM unnest(CAST(:ids AS text[])) AS r(id)""")
_RECORD_ACT = Query("""
INSERT INTO audit_log (tenant_id, api_key_id, operator_id, action, verification_id, subject, request_id)
VALUES (:tenant_id, :api_key_id, :operator_id, :action, :verification_id, :subject, :request_id)""")


async def record(
    db: AsyncConnection,
    *,
    tenant_id: str,
    api_key_id: str | None,
    action: str,
    verification_ids: Sequence[str],
    request_id: str | None = None,
    operator_id: str | None = None,
) -> None:
    """`action` names the read, e.g. `verification.read`, `verification.raw`, `webhook.full` (then no key is at work)."""
    if verification_ids:
        await _RECORD.run(
            db,
            {
                "tenant_id": tenant_id,
                "api_key_id": api_key_id,
                "operator_id": operator_id,
                "action": action,
                "request_id": request_id,
                "ids": list(verification_ids),
            },
        )


async def record_act(
    db: AsyncConnection,
    caller: Caller,
    action: str,
    *,
    subject: str | None = None,
    verification_id: str | None = None,
    tenant_id: str | None = None,
    request_id: str | None = None,
) -> None:
    """Something that was done or refused, e.g. `vendor.hold`. `tenant_id`: whose it is, if the caller does not say that."""
    values = {
        "tenant_id": tenant_id or caller.within_tenant,
        "api_key_id": caller.api_key_id,
        "operator_id": caller.operator_id,
        "action": action,
        "verification_id": verification_id,
        "subject": subject,
        "request_id": request_id,
    }
    await _RECORD_ACT.run(db, values)
