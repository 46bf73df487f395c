"""Taking over an answer (`max_age`): the same question of the same tenant is not paid for twice.

A create that allows it follows the youngest verification of the same question that is open, or was answered recently enough. A
follower asks nobody: it waits for that end and takes it over, result or failure, tagged `reused_from`; an end that says
nothing about the question (`lifecycle.leaves_it_open`) makes it ask for itself. Equal inquiries that arrive at the same
moment take turns under a lock on the question, so that all but the first find one to follow.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query
from covergate.states import IS_OPEN, Status

_LOCK = Query("SELECT pg_advisory_xact_lock(hashtextextended(:question, 0))")
_FIND = Query(
    f"""
SELECT id FROM verifications
WHERE tenant_id = :tenant_id AND mode = :mode AND inquiry_digest = ANY(:digests) AND follows IS NULL AND reused_from IS NULL
  AND (:vendor IS NULL OR vendor = :vendor)
  AND ({IS_OPEN} AND deadline > clock_timestamp()
       OR status = '{Status.COMPLETED}' AND outcome <> 'unknown'
          AND completed_at >= clock_timestamp() - make_interval(secs => :max_age))
ORDER BY (status = '{Status.COMPLETED}') DESC, id DESC LIMIT 1""",
    digests="bytea[]",
    vendor="text",
    max_age="double precision",
)


async def find_leader(
    db: AsyncConnection, *, tenant_id: str, mode: str, digests: list[bytes], vendor: str | None, max_age: int
) -> str | None:
    """The verification to follow, in the transaction that creates the follower."""
    await _LOCK.run(db, {"question": digests[0].hex()})
    values = {"tenant_id": tenant_id, "mode": mode, "digests": digests, "vendor": vendor, "max_age": max_age}
    leader: str | None = await _FIND.scalar(db, values)
    return leader
