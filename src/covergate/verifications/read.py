"""Reading one verification for a caller: as a whole, its timeline, the vendors' raw replies. Reads of PHI are audited.

Somebody else's verification and an id that cannot be one are the same: not found.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import Page, page
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.timestamps import instant
from covergate.verifications.view import read_view

_ENDED = text(
    "SELECT completed_at IS NOT NULL AS ended FROM verifications"
    " WHERE id = :id AND tenant_id = :tenant_id AND mode = :mode"
)
_TIMELINE = text("""
SELECT id, at, type, attempt_id, vendor, message, waiting_for, next_check_at FROM timeline
WHERE verification_id = :id AND id > :after ORDER BY id LIMIT :limit""")
_RAW = text("""
SELECT verification_id, public_id, attempt_id, at, call, status, content_type, content_sealed FROM exchanges
WHERE verification_id = coalesce((SELECT reused_from FROM verifications WHERE id = :id), :id) ORDER BY position""")


async def read(gateway: Gateway, caller: Caller, verification_id: str, request_id: str) -> dict[str, Any]:
    """The verification as `GET /v1/verifications/{id}` shows it. Raises Problem `not_found`."""
    if not ids.is_id(ids.VERIFICATION, verification_id):
        raise not_found()
    async with gateway.connection() as db:
        shown = await read_view(db, gateway.sealer, caller.tenant_id, caller.mode, verification_id)
        if shown is None:
            raise not_found()
        await audited(db, caller, "verification.read", [verification_id], request_id)
    return shown


async def has_ended(gateway: Gateway, caller: Caller, verification_id: str) -> bool:
    """Without opening anything. Raises Problem `not_found`."""
    async with gateway.connection() as db:
        return await _ended(db, caller, verification_id)


async def read_timeline(gateway: Gateway, caller: Caller, verification_id: str, after: int, limit: int) -> Page:
    """Oldest first; holds no PHI. `after` is a row's number, 0 for the beginning. Raises Problem `not_found`."""
    async with gateway.connection() as db:
        await _ended(db, caller, verification_id)
        values = {"id": verification_id, "after": after, "limit": limit + 1}
        rows = (await db.execute(_TIMELINE, values)).all()
    return page(rows, limit, lambda row: str(row.id), _entry)


async def read_raw(gateway: Gateway, caller: Caller, verification_id: str, request_id: str) -> dict[str, Any]:
    """The document into which a result's `sources` point: every exchange in its order. Raises Problem `not_found`.

    An answer that was taken over (`reused_from`) shows the document of the verification that asked, and is audited as both.
    """
    async with gateway.connection() as db:
        await _ended(db, caller, verification_id)
        rows = (await db.execute(_RAW, {"id": verification_id})).all()
        opened = dict.fromkeys([verification_id, *(row.verification_id for row in rows)])
        await audited(db, caller, "verification.raw", list(opened), request_id)
    return {"object": "raw", "exchanges": [_exchange(gateway, row) for row in rows]}


async def audited(
    db: AsyncConnection, caller: Caller, action: str, verification_ids: list[str], request_id: str
) -> None:
    await audit.record(
        db,
        tenant_id=caller.tenant_id,
        api_key_id=caller.api_key_id,
        action=action,
        verification_ids=verification_ids,
        request_id=request_id,
    )


def not_found() -> Problem:
    return Problem("not_found", "there is no such verification")


async def _ended(db: AsyncConnection, caller: Caller, verification_id: str) -> bool:
    if not ids.is_id(ids.VERIFICATION, verification_id):
        raise not_found()
    values = {"id": verification_id, "tenant_id": caller.tenant_id, "mode": caller.mode}
    row = (await db.execute(_ENDED, values)).one_or_none()
    if row is None:
        raise not_found()
    return bool(row.ended)


def _entry(row: Any) -> dict[str, Any]:
    return {
        "at": instant(row.at),
        "type": row.type,
        "attempt_id": row.attempt_id,
        "vendor": row.vendor,
        "message": row.message,
        "waiting_for": row.waiting_for,
        "next_check_at": instant(row.next_check_at),
    }


def _exchange(gateway: Gateway, row: Any) -> dict[str, Any]:
    """`body` is the reply's JSON as it came, byte for byte, so that no number changes on its way; else `text`."""
    content = gateway.sealer.open("exchanges", "content", row.public_id, row.content_sealed)
    body, plain = None, None
    try:
        orjson.loads(content)
        body = orjson.Fragment(content)
    except orjson.JSONDecodeError:
        plain = content.decode(errors="replace")
    return {
        "id": row.public_id,
        "attempt_id": row.attempt_id,
        "at": instant(row.at),
        "call": row.call,
        "status": row.status,
        "content_type": row.content_type,
        "body": body,
        "text": plain,
    }
