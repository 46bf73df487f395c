"""Writing down what a step brought, in one transaction: exchanges, state, timeline, events for partners, jobs.

The reply to a committing call is stored whatever became of the verification meanwhile; everything else only while the
verification is open and the step is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from covergate import faults, jobs
from covergate.db.news import tell
from covergate.db.sealed import Sealer
from covergate.db.statement import Statement
from covergate.eligibility.conclusion import Conclusion
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.verifications import transitions
from covergate.verifications.state import Change, Entry, Exchange, State, locked, locked_attempt, write
from covergate.webhooks.announce import announce

_LOCK_REF = Statement(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:vendor AS text) || ':' || CAST(:ref AS text), 0))"
)
_MATCH_EVENTS = text(
    "UPDATE vendor_events SET verification_id = :id"
    " WHERE vendor = :vendor AND mode = :mode AND ref = :ref AND verification_id IS NULL RETURNING wakes"
)
_KNOWN = text("SELECT public_id FROM exchanges WHERE verification_id = :id AND public_id = ANY(CAST(:ids AS text[]))")
ENDED = "covergate_ended"
"""Where the ids of ended verifications are told (`waiters.py`)."""
_WAKE_FOLLOWERS = Statement("""
UPDATE verifications SET step = step + 1, next_check_at = least(clock_timestamp(), deadline),
  follows = CASE WHEN CAST(:canceled AS boolean) THEN nullif(
    (SELECT min(id) FROM verifications WHERE follows = :id AND status IN ('queued', 'in_progress')), id) ELSE follows END
WHERE follows = :id AND status IN ('queued', 'in_progress') RETURNING id, step, vendor""")


@dataclass(frozen=True, slots=True)
class Submission:
    """What the reply to our own committing call told: it worked, under `ref` if the vendor gave one."""

    ref: str | None
    at: datetime


async def lock_ref(db: AsyncConnection, vendor: str, ref: str) -> None:
    """Taken before a reference is stored and before an event is: one of the two then sees the other."""
    await _LOCK_REF.all(db, {"vendor": vendor, "ref": ref})


async def record(
    gateway: Gateway,
    seen: State,
    decide: Callable[[State], Change],
    *,
    exchanges: list[Exchange] | None = None,
    submission: Submission | None = None,
    answers: bool = False,
    otherwise: Callable[[State], Change] | None = None,
) -> bool:
    """Apply `decide` to the locked state if the step is still ours; `otherwise` is asked when it is not.

    `seen` is the state on which the step was run. `answers`: what `decide` applies came in reply to our own committing
    call, so it holds even when another worker rescheduled the attempt while ours was paused. A database that is away for a
    moment is waited for: what a vendor told would be lost with us.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_database_is_away),
        stop=stop_after_delay(PERSEVERANCE_SECONDS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
        reraise=True,
    ):
        with attempt:
            again = attempt.retry_state.attempt_number > 1
            ours = await _record(gateway, seen, decide, exchanges or [], submission, answers, otherwise, again)
    faults.point("after_commit")
    return ours


PERSEVERANCE_SECONDS = 20.0
"""How long what a vendor told is held on to while the database is away."""


def _database_is_away(error: BaseException) -> bool:
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    away = (
        PoolTimeout
        | OSError
        | asyncpg.InterfaceError
        | asyncpg.PostgresConnectionError
        | asyncpg.OperatorInterventionError
    )
    return isinstance(error, away)


async def _record(
    gateway: Gateway,
    seen: State,
    decide: Callable[[State], Change],
    exchanges: list[Exchange],
    submission: Submission | None,
    answers: bool,
    otherwise: Callable[[State], Change] | None,
    again: bool,
) -> bool:
    """One try, in one transaction. `again`: the one before may have been committed although nobody told us."""
    async with gateway.transaction() as db:
        told_by_events = _sends_events(seen.attempt.vendor)
        if submission is not None and submission.ref is not None and told_by_events:
            await lock_ref(db, seen.attempt.vendor, submission.ref)
        state = await locked(db, seen.id)
        if state is None:
            return False
        if again:
            known = set((await db.execute(_KNOWN, {"id": state.id, "ids": [row.id for row in exchanges]})).scalars())
            exchanges = [row for row in exchanges if row.id not in known]
        if state.attempt.id != seen.attempt.id:
            await _record_stray(db, gateway.sealer, state, seen, exchanges, submission)
            return False
        same = state.attempt.intent_at == seen.attempt.intent_at
        ours = state.open and same and (state.step == seen.step or answers)
        if submission is not None:
            transitions.submitted(state, submission.ref, submission.at)
            if told_by_events:
                await _match_events(db, state)
        change = decide(state) if ours else otherwise(state) if otherwise is not None else Change()
        await finish(db, gateway.sealer, state, change, exchanges)
        faults.point("before_commit")
    return ours


def _sends_events(vendor: str) -> bool:
    """Where a vendor cannot send any, none can have overtaken the answer to its own submit."""
    return vendor not in VENDORS or VENDORS[vendor].verify_event is not None


async def finish(
    db: AsyncConnection, sealer: Sealer, state: State, change: Change, exchanges: list[Exchange] | None = None
) -> None:
    """Write the changed state and everything it brings about. Only under the lock of `state.locked`."""
    placed, wanted = await _brought_about(db, state, change, exchanges)
    await write(db, sealer, state, change.entries, placed, wanted)


async def settle(
    db: AsyncConnection, sealer: Sealer, state: State, change: Change, exchanges: list[Exchange] | None = None
) -> list[jobs.Job]:
    """The same but for the jobs, which the caller enqueues in the same transaction: once for many verifications."""
    placed, wanted = await _brought_about(db, state, change, exchanges)
    await write(db, sealer, state, change.entries, placed, [])
    return wanted


async def _brought_about(
    db: AsyncConnection, state: State, change: Change, exchanges: list[Exchange] | None
) -> tuple[list[tuple[int, Exchange]], list[jobs.Job]]:
    """The exchanges with their positions, and the jobs: the change's own, for deliveries, for followers."""
    placed = list(enumerate(exchanges or [], start=state.exchange_count))
    state.exchange_count += len(placed)
    wanted = list(change.jobs)
    for event in change.events:
        wanted += await announce(
            db, tenant_id=state.tenant_id, mode=state.mode, type_=event, verification_id=state.id, data=thin(state)
        )
    if change.ended:
        wanted += await _tell(db, state)
    return placed, wanted


async def _tell(db: AsyncConnection, state: State) -> list[jobs.Job]:
    """Wake who waits for this end: API requests, and verifications that take its answer over (`reuse.py`).

    When it was canceled, the oldest of its followers asks for itself and the others follow that one.
    """
    tell(db, ENDED, state.id)
    if state.follows is not None:
        return []
    woken = await _WAKE_FOLLOWERS.all(db, {"id": state.id, "canceled": state.status == "canceled"})
    return [jobs.advance(row["vendor"], row["id"], row["step"]) for row in woken]


def thin(state: State) -> dict[str, Any]:
    """What thin webhooks and `/v1/events` carry: no PHI."""
    return {
        "id": state.id,
        "external_id": state.external_id,
        "status": state.status,
        "outcome": state.outcome,
        "outcome_reason": state.outcome_reason,
        "failure_code": state.failure_code,
        "metadata": state.metadata,
    }


def _settled(value: Any, state: State, exchanges: list[Exchange]) -> bytes:
    """JSON whose `sources` name each new exchange by its index in the raw document instead of its id."""
    shown = orjson.dumps(value)
    for index, exchange in enumerate(exchanges, start=state.exchange_count):
        shown = shown.replace(f"/exchanges/{exchange.id}".encode(), f"/exchanges/{index}".encode())
    return shown


def complete(sealer: Sealer, state: State, conclusion: Conclusion, exchanges: list[Exchange]) -> Change:
    shown = _settled(conclusion.result.model_dump(mode="json"), state, exchanges)
    sealed = sealer.seal("verifications", "result", state.id, shown)
    reason = conclusion.reason.value if conclusion.reason is not None else None
    return transitions.completed(state, conclusion.outcome.value, reason, sealed)


def refuse(sealer: Sealer, state: State, why: Failure, exchanges: list[Exchange]) -> Change:
    seal_failure(sealer, state, why, exchanges)
    return transitions.refused(state, why.code)


def fail(sealer: Sealer, state: State, code: FailureCode, message: str) -> Change:
    seal_failure(sealer, state, failure(code), [])
    return transitions.failed(state, code, message)


def time_out(sealer: Sealer, state: State) -> Change:
    code = transitions.reason_of_timeout(state)
    seal_failure(sealer, state, failure(code), [])
    return transitions.failed(state, code, "the deadline came", "abandoned")


def seal_failure(sealer: Sealer, state: State, why: Failure, exchanges: list[Exchange]) -> None:
    shown = _settled(why.model_dump(mode="json"), state, exchanges)
    state.failure_sealed = sealer.seal("verifications", "failure", state.id, shown)


def answer_late(sealer: Sealer, state: State, conclusion: Conclusion, exchanges: list[Exchange]) -> Change:
    """`late_result` for an answer that differs from what the verification ended with."""
    shown = _settled(conclusion.result.model_dump(mode="json"), state, exchanges)
    if state.result_sealed is not None:
        ended_with = sealer.open("verifications", "result", state.id, state.result_sealed)
        if _gist(ended_with) == _gist(shown):
            return Change()
    return transitions.answered_late(state, sealer.seal("verifications", "late_result", state.id, shown))


def _gist(result: bytes) -> Any:
    """A result without what differs between two readings of the same answer."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key not in ("sources", "answered_at")}
        return [bare(item) for item in value] if isinstance(value, list) else value

    return bare(orjson.loads(result))


async def _match_events(db: AsyncConnection, state: State) -> None:
    """Events that overtook the answer to their own submit wake the verification now."""
    ref = state.attempt.vendor_ref
    if ref is None:
        return
    matched = await db.execute(
        _MATCH_EVENTS, {"id": state.id, "vendor": state.attempt.vendor, "mode": state.mode, "ref": ref}
    )
    if any(row.wakes for row in matched):
        state.wake_requested = True


async def _record_stray(
    db: AsyncConnection,
    sealer: Sealer,
    state: State,
    seen: State,
    exchanges: list[Exchange],
    submission: Submission | None,
) -> None:
    """An attempt that was given up meanwhile brought something: kept with that attempt, and nothing follows from it."""
    state.attempt = await locked_attempt(db, seen.attempt.id)
    if submission is not None:
        state.attempt.vendor_ref = state.attempt.vendor_ref or submission.ref
        state.attempt.submitted_at = state.attempt.submitted_at or submission.at
    if exchanges:
        entry = Entry("stray_reply", "an earlier attempt was answered; see raw")
    else:
        entry = Entry("stray_end", "a worker that was held up stopped an earlier attempt without a reply")
    await finish(db, sealer, state, Change(entries=[entry]), exchanges)
