"""What steps brought, one row of `history` for each: rows of the timeline, and exchanges with the vendor, sealed one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sealing import Place, Sealer
from covergate.db.sql import Query
from covergate.states import TimelineType, WaitingFor
from covergate.timestamps import instant
from covergate.vendors.flow import Reply
from covergate.verifications.model import Exchange, TimelineRow, Verification

_STORED_EXCHANGES = Query("""
SELECT x ->> 'id' AS id FROM history, jsonb_array_elements(exchanges) AS x
WHERE verification_id = ANY(CAST(:ids AS text[])) AND exchanges IS NOT NULL""")
_IS_UNEXPLAINED_TOLD = Query("""
SELECT EXISTS (SELECT FROM history WHERE verification_id = :id AND attempt_id = :attempt_id
  AND entries @> CAST(:entry AS jsonb)) AS told""")
_REPLIES = Query(
    "SELECT exchanges, contents_sealed, attempt_id FROM history"
    " WHERE verification_id = :id AND exchanges IS NOT NULL ORDER BY n"
)


def entries_of(rows: Sequence[TimelineRow]) -> str:
    """Rows of the timeline as `history.entries`, in JSON."""
    entries = [
        {
            "type": row.type,
            "message": row.message,
            "waiting_for": row.waiting_for,
            "next_check_at": instant(row.next_check_at),
        }
        for row in rows
    ]
    return orjson.dumps(entries).decode()


async def is_unexplained_told(db: AsyncConnection, v: Verification) -> bool:
    """Whether the current attempt's timeline asks for a person although the vendor, not an operator, is waited for."""
    entry = [{"type": TimelineType.NEEDS_ATTENTION, "waiting_for": WaitingFor.VENDOR}]
    given = {"id": v.id, "attempt_id": v.attempt.id, "entry": orjson.dumps(entry).decode()}
    return bool(await _IS_UNEXPLAINED_TOLD.scalar(db, given))


def exchanges_in(exchanges: Sequence[Exchange]) -> str | None:
    """Exchanges as `history.exchanges`, in JSON; their contents are sealed apart."""
    shown = [
        {
            "id": exchange.id,
            "at": exchange.at.isoformat(),
            "call": exchange.call,
            "status": exchange.status,
            "content_type": exchange.content_type,
            "duration_ms": exchange.duration_ms,
        }
        for exchange in exchanges
    ]
    return orjson.dumps(shown).decode() if shown else None


def seal_content(sealer: Sealer, v: Verification, exchange: Exchange) -> bytes:
    return sealer.seal(_place(v.tenant_id, v.mode, v.id, exchange.id), exchange.content, packed=True)


async def stored_exchanges(db: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """The exchanges of these verifications: an earlier try may have written some although its commit was never confirmed."""
    return {row["id"] for row in await _STORED_EXCHANGES.all(db, {"ids": list(ids)})}


async def stored_replies(db: AsyncConnection, sealer: Sealer, v: Verification) -> list[tuple[str, Reply]]:
    """The replies to the current attempt so far, each with the label of its call; of their headers only the content type.

    Raises SealError.
    """
    stored = exchanges_of(await _REPLIES.all(db, {"id": v.id}))
    await sealer.meet(db, [v.tenant_id], [sealed for _, _, sealed in stored])
    return [
        (exchange["call"], _reply(sealer, v, position, exchange, sealed))
        for position, (attempt_id, exchange, sealed) in enumerate(stored)
        if attempt_id == v.attempt.id and sealed is not None
    ]


def exchanges_of(rows: Iterable[Any]) -> list[tuple[str, dict[str, Any], bytes | None]]:
    """Rows of `history` → attempt, exchange and its sealed content, each at its position in the raw document.

    The content is None once it was erased.
    """
    return [
        (row["attempt_id"], exchange, sealed)
        for row in rows
        for exchange, sealed in zip(
            row["exchanges"], row["contents_sealed"] or [None] * len(row["exchanges"]), strict=True
        )
    ]


def open_content(
    sealer: Sealer, tenant_id: str, mode: str, verification_id: str, exchange: Mapping[str, Any], sealed: bytes
) -> bytes:
    """The vendor's reply to this verification of the tenant for which the caller acts. Raises SealError."""
    return sealer.open(_place(tenant_id, mode, verification_id, exchange["id"]), sealed)


def _place(tenant_id: str, mode: str, verification_id: str, exchange_id: str) -> Place:
    """Called as it was when exchanges had a table of their own."""
    return Place(tenant_id, mode, "exchanges", "content", exchange_id, verification_id)


def _reply(sealer: Sealer, v: Verification, position: int, exchange: Mapping[str, Any], sealed: bytes) -> Reply:
    content_type = exchange["content_type"]
    return Reply(
        status=exchange["status"],
        headers={} if content_type is None else {"content-type": content_type},
        content=open_content(sealer, v.tenant_id, v.mode, v.id, exchange, sealed),
        pointer=f"/exchanges/{position}",
        at=datetime.fromisoformat(exchange["at"]),
    )
