"""Events as a list, for partners that catch up after an outage: thin, oldest first, from a known event on.

An event's id is made a moment before it is committed, so one may appear a little behind a later id; who reads on
while events happen goes back a few seconds and drops the ids that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from covergate.access.caller import Caller
from covergate.db.page import Page, page
from covergate.gateway import Gateway
from covergate.timestamps import instant

KEPT = "30 days"

_LIST = text(f"""
SELECT id, type, created_at, data FROM events
WHERE tenant_id = :tenant_id AND mode = :mode AND id > :after AND created_at > clock_timestamp() - interval '{KEPT}'
  AND (:types IS NULL OR type = ANY(:types))
ORDER BY id LIMIT :limit""").bindparams(bindparam("types", type_=ARRAY(Text)), bindparam("after", type_=Text))


async def list_events(gateway: Gateway, caller: Caller, types: Sequence[str], after: str | None, limit: int) -> Page:
    values = {
        "tenant_id": caller.tenant_id,
        "mode": caller.mode,
        "after": after or "",
        "types": list(types) or None,
        "limit": limit + 1,
    }
    async with gateway.connection() as db:
        rows = (await db.execute(_LIST, values)).all()
    return page(rows, limit, lambda row: str(row.id), _view)


def _view(row: Any) -> dict[str, Any]:
    return {"id": row.id, "type": row.type, "timestamp": instant(row.created_at), "data": row.data}
