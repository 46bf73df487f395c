"""Taking over an answer (`max_age`): the same question of the same tenant is not paid for twice.

A create that allows it follows the youngest verification of the same question that is open, or was answered recently enough. A
follower asks nobody: it waits for that end and takes it over, result or failure, tagged `reused_from`; an end that says
nothing about the question (`lifecycle.leaves_it_open`) makes it ask for itself. Equal inquiries that arrive at the same
moment take turns under a lock on the question, so that all but the first find one to follow.

It takes over no answer that its own request could not have brought: not to other vendor options, nor from a vendor that is
not on its route. It follows none that rests until after its own deadline, unless a person has to decide about that one's
submission: an equal one beside it is that person's decision, too.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query
from covergate.states import IS_OPEN, Status, WaitingFor

_LOCK = Query("SELECT pg_advisory_xact_lock(hashtextextended(:question, 0))")
_FIND_ANSWERED = Query(
    f"""
SELECT id FROM verifications
WHERE tenant_id = :tenant_id AND mode = :mode AND inquiry_digest = ANY(:digests) AND reused_from IS NULL
  AND vendor = ANY(:vendors) AND erased_at IS NULL AND status = '{Status.COMPLETED}' AND outcome <> 'unknown'
  AND completed_at >= clock_timestamp() - make_interval(secs => :max_age)
ORDER BY id DESC LIMIT 1""",
    digests="bytea[]",
    vendors="text[]",
    max_age="double precision",
)
# KEY SHARE waits for an end that is being committed, and lets nobody end it before the follower is.
_FIND_OPEN = Query(
    f"""
SELECT v.id FROM verifications v JOIN work w ON w.verification_id = v.id
WHERE v.tenant_id = :tenant_id AND v.mode = :mode AND v.inquiry_digest = ANY(:digests) AND v.{IS_OPEN} AND w.follows IS NULL
  AND w.vendor = ANY(:vendors) AND w.route <@ :vendors AND w.deadline > clock_timestamp()
  AND (w.next_check_at < coalesce(:deadline, clock_timestamp() + make_interval(secs => :deadline_in))
       OR w.waiting_for = '{WaitingFor.OPERATOR}')
ORDER BY v.id DESC LIMIT 1 FOR KEY SHARE OF w""",
    digests="bytea[]",
    vendors="text[]",
    deadline="timestamptz",
    deadline_in="double precision",
)
LOOKS = 3


async def find_leader(
    db: AsyncConnection,
    *,
    tenant_id: str,
    mode: str,
    question: bytes,
    digests: list[bytes],
    vendors: list[str],
    deadline: datetime | None,
    deadline_in: int,
    max_age: int,
) -> str | None:
    """The verification to follow, in the transaction that creates the follower; it cannot end before that is committed.

    `question` names the question for as long as its tenant exists; `digests` are what it may be stored under. `vendors` are
    those of the follower's own route. None: there is none to follow.
    """
    await _LOCK.run(db, {"question": question.hex()})
    values = {
        "tenant_id": tenant_id,
        "mode": mode,
        "digests": digests,
        "vendors": vendors,
        "deadline": deadline,
        "deadline_in": deadline_in,
        "max_age": max_age,
    }
    for _ in range(LOOKS):
        for query in (_FIND_ANSWERED, _FIND_OPEN):
            leader: str | None = await query.scalar(db, values)
            if leader is not None:
                return leader
        # One that ended while we waited for its lock may have an answer now, and hides those behind it.
    return None
