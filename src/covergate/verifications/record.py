"""Writing down what a step brought, in one transaction: exchanges, state, timeline, events for partners, jobs.

The reply to a committing call is stored whatever became of the verification meanwhile; everything else only while the
verification is open and the step is ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import stop_after_delay, wait_random_exponential

from covergate import crash_points
from covergate.db import jobs
from covergate.db.notify import tell
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.eligibility.derive import Conclusion
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.gateway import Gateway
from covergate.retrying import retrying
from covergate.vendors import VENDORS
from covergate.verifications import transitions
from covergate.verifications.state import Change, Entry, Exchange, State, locked, locked_attempt, write, write_all
from covergate.webhooks.announce import News, announce, announce_all

_LOCK_REF = Query(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:vendor AS text) || ':' || CAST(:ref AS text), 0))"
)
_MATCH_EVENTS = text(
    "UPDATE vendor_events SET verification_id = :id"
    " WHERE vendor = :vendor AND mode = :mode AND ref = :ref AND verification_id IS NULL RETURNING wakes"
)
_KNOWN = text("SELECT public_id FROM exchanges WHERE verification_id = :id AND public_id = ANY(CAST(:ids AS text[]))")
ENDED = "covergate_ended"
"""Where the ids of ended verifications are told (`waiters.py`)."""
_WAKE_FOLLOWERS = Query("""
WITH f AS MATERIALIZED (SELECT id FROM verifications WHERE follows = ANY(CAST(:ended AS text[])))
UPDATE verifications v SET step = step + 1, next_check_at = least(clock_timestamp(), deadline),
  follows = CASE WHEN follows = ANY(CAST(:left_open AS text[])) THEN nullif(
    (SELECT min(o.id) FROM verifications o
     WHERE o.follows = v.follows AND o.status IN ('queued', 'in_progress') AND o.deadline > now()), v.id) ELSE follows END
FROM f
WHERE v.id = f.id AND follows = ANY(CAST(:ended AS text[])) AND status IN ('queued', 'in_progress') AND deadline > now()
RETURNING v.id, v.step, v.vendor""")
"""But for the followers that are late themselves: who closes them holds their locks, and may wait for one of ours."""


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
    goes_on: bool = False,
) -> State | None:
    """Apply `decide` to the locked state if the step is still ours; `otherwise` is asked when it is not.

    The caller `goes_on` where the next step is due already: it is returned instead of becoming a job. If the caller dies first,
    the sweep finds it.

    `seen` is the state on which the step was run. `answers`: what `decide` applies came in reply to our own committing
    call, so it holds even when another worker rescheduled the attempt while ours was paused. A database that is away for a
    moment is waited for: what a vendor told would be lost with us.
    """
    tried = itertools.count()

    def once() -> Awaitable[State | None]:
        again = next(tried) > 0
        return _record(gateway, seen, decide, exchanges or [], submission, answers, otherwise, goes_on, again)

    following = await retrying(
        once,
        when=database_is_away,
        stop=stop_after_delay(PERSEVERANCE_SECONDS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
    )
    crash_points.point("after_commit")
    return following


PERSEVERANCE_SECONDS = 20.0
"""How long what a vendor told is held on to while the database is away."""


def database_is_away(error: BaseException) -> bool:
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
    goes_on: bool,
    again: bool,
) -> State | None:
    """One try, in one transaction. `again`: the one before may have been committed although nobody told us."""
    async with gateway.transaction() as db:
        told_by_events = _sends_events(seen.attempt.vendor)
        if submission is not None and submission.ref is not None and told_by_events:
            await lock_ref(db, seen.attempt.vendor, submission.ref)
        state = await locked(db, seen.id)
        if state is None:
            return None
        if again:
            known = set((await db.execute(_KNOWN, {"id": state.id, "ids": [row.id for row in exchanges]})).scalars())
            exchanges = [row for row in exchanges if row.id not in known]
        if state.attempt.id != seen.attempt.id:
            await _record_stray(db, gateway.sealer, state, seen, exchanges, submission)
            return None
        same = state.attempt.intent_at == seen.attempt.intent_at
        ours = state.open and same and (state.step == seen.step or answers)
        if submission is not None:
            transitions.submitted(state, submission.ref, submission.at)
            if told_by_events:
                await _match_events(db, state)
        change = decide(state) if ours else otherwise(state) if otherwise is not None else Change()
        goes_on = goes_on and ours and transitions.is_due(state)
        if goes_on:
            change.jobs.clear()
        await finish(db, gateway.sealer, state, change, exchanges)
        crash_points.point("before_commit")
    return state if goes_on else None


def _sends_events(vendor: str) -> bool:
    """Where a vendor cannot send any, none can have overtaken the answer to its own submit."""
    return vendor not in VENDORS or VENDORS[vendor].verify_event is not None


async def finish(
    db: AsyncConnection, sealer: Sealer, state: State, change: Change, exchanges: list[Exchange] | None = None
) -> None:
    """Write the changed state and everything it brings about. Only under the lock of `state.locked`."""
    placed = list(enumerate(exchanges or [], start=state.exchange_count))
    state.exchange_count += len(placed)
    wanted = list(change.jobs)
    for event in change.events:
        wanted += await announce(
            db, tenant_id=state.tenant_id, mode=state.mode, type_=event, verification_id=state.id, data=thin(state)
        )
    if change.ended:
        wanted += await _tell(db, [state])
    await write(db, sealer, state, change.entries, placed, wanted)


async def finish_all(db: AsyncConnection, changed: Sequence[tuple[State, Change]]) -> None:
    """The same for many, in five statements, where no exchanges and no new attempts are to be written."""
    wanted = [job for _, change in changed for job in change.jobs]
    wanted += await announce_all(
        db,
        [
            News(state.tenant_id, state.mode, event, state.id, thin(state))
            for state, change in changed
            for event in change.events
        ],
    )
    ended = [state for state, change in changed if change.ended]
    wanted += await _tell(db, ended)
    await jobs.withdraw(db, [jobs.advance(state.attempt.vendor, state.id, state.step - 1) for state in ended])
    await write_all(db, [(state, change.entries) for state, change in changed], wanted)


async def _tell(db: AsyncConnection, ended: Sequence[State]) -> list[jobs.Job]:
    """Wake who waits for these ends: API requests, and verifications that take an answer over (`reuse.py`).

    When one left the question open, the oldest of its followers that has time asks for itself and the others follow that one.
    """
    for state in ended:
        tell(db, ENDED, state.id)
    followed = [state for state in ended if state.follows is None]
    if not followed:
        return []
    left_open = [state.id for state in followed if transitions.leaves_it_open(state)]
    woken = await _WAKE_FOLLOWERS.all(db, {"ended": [state.id for state in followed], "left_open": left_open})
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
