"""Tenants as an operator sees them: how long each one's data is kept, and whether it was erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from covergate.db.sql import Query
from covergate.gateway import Gateway

AS_SET: Literal["as_set"] = "as_set"
"""Instead of days: as the gateway's settings say."""
MOST_DAYS = 36_500

DaysKept = int | Literal["as_set"] | None
"""0: for ever. None: as it was."""

_LIST = Query("SELECT id, name, raw_days, content_days, created_at, erased_at FROM tenants ORDER BY name")
_SET = Query(
    """
UPDATE tenants SET raw_days = CASE WHEN :sets_raw THEN :raw ELSE raw_days END,
  content_days = CASE WHEN :sets_content THEN :content ELSE content_days END
WHERE name = :name""",
    sets_raw="boolean",
    sets_content="boolean",
    raw="int",
    content="int",
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """`raw_days` and `content_days` None: as the gateway's settings say."""

    id: str
    name: str
    raw_days: int | None
    content_days: int | None
    created_at: datetime
    erased_at: datetime | None


async def list_tenants(gateway: Gateway) -> list[Tenant]:
    async with gateway.connection() as db:
        return [Tenant(**row) for row in await _LIST.all(db)]


async def set_retention(gateway: Gateway, name: str, *, raw: DaysKept, content: DaysKept) -> bool:
    """False: there is no such tenant. From the worker's next round on."""
    values = {
        "name": name,
        "sets_raw": raw is not None,
        "raw": None if raw == AS_SET else raw,
        "sets_content": content is not None,
        "content": None if content == AS_SET else content,
    }
    async with gateway.connection() as db:
        return await _SET.run(db, values) == 1
