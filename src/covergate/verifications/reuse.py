"""Taking over an answer (`max_age`): the same question of the same tenant is not paid for twice.

A create that allows it follows the youngest verification of the same question that is open, or was answered recently enough. A
follower asks nobody: it waits for that end and takes it over, result or failure, tagged `reused_from`; an end that says
nothing about the question (`transitions.leaves_it_open`) makes it ask for itself. Equal inquiries that arrive at the same
moment take turns under a lock on the question, so that all but the first find one to follow.
"""

from __future__ import annotations

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import LargeBinary, Text

from covergate.gateway import Gateway
from covergate.verifications import transitions
from covergate.verifications.record import record
from covergate.verifications.state import Change, State, read

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:question, 0))")
_FIND = text("""
SELECT id FROM verifications
WHERE tenant_id = :tenant_id AND mode = :mode AND inquiry_digest = ANY(:digests) AND follows IS NULL AND reused_from IS NULL
  AND (CAST(:vendor AS text) IS NULL OR vendor = :vendor)
  AND (status IN ('queued', 'in_progress') AND deadline > clock_timestamp()
       OR status = 'completed' AND outcome <> 'unknown'
          AND completed_at >= clock_timestamp() - make_interval(secs => :max_age))
ORDER BY (status = 'completed') DESC, id DESC LIMIT 1""").bindparams(
    bindparam("digests", type_=ARRAY(LargeBinary)), bindparam("vendor", type_=Text)
)


async def find(
    db: AsyncConnection, *, tenant_id: str, mode: str, digests: list[bytes], vendor: str | None, max_age: int
) -> str | None:
    """The verification to follow, in the transaction that creates the follower."""
    await db.execute(_LOCK, {"question": digests[0].hex()})
    values = {"tenant_id": tenant_id, "mode": mode, "digests": digests, "vendor": vendor, "max_age": max_age}
    return (await db.execute(_FIND, values)).scalar_one_or_none()


async def follow(gateway: Gateway, seen: State) -> None:
    """One step of a follower."""
    async with gateway.connection() as db:
        leader = await read(db, seen.follows or "")
    if leader is None or transitions.leaves_it_open(leader):
        await record(gateway, seen, transitions.ask_itself)
    elif leader.open:
        await record(gateway, seen, transitions.follow_on)
    else:
        await record(gateway, seen, lambda state: _take_over(gateway, state, leader))


def _take_over(gateway: Gateway, state: State, leader: State) -> Change:
    def moved(column: str, sealed: bytes | None) -> bytes | None:
        if sealed is None:
            return None
        opened = gateway.sealer.open("verifications", column, leader.id, sealed)
        return gateway.sealer.seal("verifications", column, state.id, opened)

    return transitions.taken_over(
        state, leader, moved("result", leader.result_sealed), moved("failure", leader.failure_sealed)
    )
