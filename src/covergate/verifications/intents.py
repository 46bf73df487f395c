"""Intents: right before a committing call it is on disk that it may go out. Those of a moment are stored together.

Nothing is sent before the statement that stored the intent has returned. If the word of that is lost, the intent is stored again
under the same id when the database is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias

from covergate import crash_points, ids
from covergate.db.group_commit import GroupCommit
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import AttemptState, Status
from covergate.vendors.flow import Call
from covergate.verifications.commit import persevering
from covergate.verifications.conversation import SEND_WITHIN, VendorHeld
from covergate.verifications.model import Verification

BY_A_HOLD: Literal["held"] = "held"
"""Instead of an instant: an operator holds the vendor. Asked in the statement that stores, so that a hold binds every submission
whose intent is stored after it."""

# Made again under the same id, it is what it was: an earlier try may have been committed although nobody told us.
_INTEND = Query(f"""
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:id AS text[]), CAST(:attempt_id AS text[]), CAST(:step AS int[]),
    CAST(:grace AS double precision[]), CAST(:intent_id AS text[])) AS asked(id, attempt_id, step, grace, intent_id)
), locked AS MATERIALIZED (
  SELECT verification_id AS id FROM work WHERE verification_id = ANY(CAST(:id AS text[]))
  ORDER BY verification_id FOR NO KEY UPDATE
), held AS MATERIALIZED (
  SELECT vendor, mode FROM vendor_standing WHERE account = '' AND held_at IS NOT NULL
), stored AS (
UPDATE work w SET
  state = '{AttemptState.SUBMITTING}', status = '{Status.IN_PROGRESS}', intent_id = a.intent_id,
  intent_at = coalesce(w.intent_at, clock_timestamp()),
  lookup_after = coalesce(w.lookup_after, clock_timestamp() + make_interval(secs => a.grace))
FROM asked a JOIN locked USING (id)
WHERE w.verification_id = a.id AND w.attempt_id = a.attempt_id AND w.late_tries IS NULL
  AND (w.state = '{AttemptState.PREPARING}' AND w.step = a.step
       OR w.state = '{AttemptState.SUBMITTING}' AND w.intent_id = a.intent_id)
  AND (w.state = '{AttemptState.SUBMITTING}' OR (w.vendor, w.mode) NOT IN (SELECT vendor, mode FROM held))
RETURNING w.intent_id, w.intent_at
)
SELECT intent_id, intent_at FROM stored
UNION ALL
SELECT a.intent_id, NULL FROM asked a JOIN work w ON w.verification_id = a.id
WHERE w.state = '{AttemptState.PREPARING}' AND w.attempt_id = a.attempt_id AND w.step = a.step
  AND (w.vendor, w.mode) IN (SELECT vendor, mode FROM held)""")

Stored: TypeAlias = datetime | Literal["held"] | None


class Intents:
    """Of one worker."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._commits = GroupCommit(self._store_together, alone=self._store_alone)
        self._given_up: set[str] = set()

    async def store(self, intent: dict[str, Any]) -> Stored:
        """The instant since when it holds; None if the submission is not its maker's (any more)."""
        try:
            return await self._commits.add(intent)
        except asyncio.CancelledError:
            # The worker ends: while it holds replies for a database that is away, this one must not be stored with them.
            self._given_up.add(intent["intent_id"])
            raise

    async def _store_together(self, intents: Sequence[dict[str, Any]]) -> list[Stored]:
        crash_points.point("before_intents")
        stored = await persevering(partial(self._store, intents), locked=False)
        crash_points.point("after_intents")
        return stored

    async def _store_alone(self, intent: dict[str, Any]) -> Stored:
        """One whose row somebody has locked."""
        [stored] = await persevering(partial(self._store, [intent]))
        return stored

    async def _store(self, intents: Sequence[dict[str, Any]]) -> list[Stored]:
        wanted = [intent for intent in intents if intent["intent_id"] not in self._given_up]
        if not wanted:
            return [None] * len(intents)
        values = {name: [intent[name] for intent in wanted] for name in wanted[0]}
        async with self.gateway.connection() as db:
            stored = {row["intent_id"]: row["intent_at"] or BY_A_HOLD for row in await _INTEND.all(db, values)}
        return [stored.get(intent["intent_id"]) for intent in intents]


@dataclass
class Intent:
    """The intent of one committing call. `seen` is the verification with the intent that this step stored.

    If the word that it was stored is lost, it is stored again under the same id when the database is back. By then it may be
    too late to send: then the call is not made, and the report of that takes the intent back.
    """

    intents: Intents
    seen: Verification
    find_delay: float
    at: datetime | None = None
    id: str = field(default_factory=lambda: ids.new(ids.INTENT))

    @property
    def made(self) -> bool:
        return self.at is not None

    async def store(self, call: Call) -> bool:
        """Raises VendorHeld."""
        attempt = self.seen.attempt
        stored = await self.intents.store(
            {
                "id": self.seen.id,
                "attempt_id": attempt.id,
                "step": self.seen.step,
                "grace": SEND_WITHIN + call.timeout + self.find_delay,
                "intent_id": self.id,
            }
        )
        if stored == BY_A_HOLD:
            raise VendorHeld
        self.at = stored
        if self.at is not None:
            self.seen = replace(self.seen, attempt=replace(self.seen.attempt, intent_at=self.at))
        return self.made
