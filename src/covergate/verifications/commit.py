"""Writing down what steps brought: one transaction for a group of them. Lock, ask the policy, write, publish, wake.

The reply to a committing call is stored whatever became of the verification meanwhile; everything else only while the
verification is open and the step is ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import stop_after_delay, wait_random_exponential

from covergate import crash_points, instruments
from covergate.db.database import after_commit
from covergate.db.notify import tell
from covergate.db.outage import is_away, is_locked
from covergate.db.queue import announce
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.retrying import retrying
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED
from covergate.vendors.flow import Answered, Pending
from covergate.verifications import lifecycle, policy, store
from covergate.verifications.history import is_unexplained_told, stored_exchanges
from covergate.verifications.model import Change, Leader, Report, Verification
from covergate.verifications.save import save
from covergate.verifications.store import WORK
from covergate.verifications.view import read_views
from covergate.webhooks.events import Desk, News, keep_full, publish

_T = TypeVar("_T")

ENDED = "covergate_ended"
"""The channel on which the ids of ended verifications are told (`api/waiters.py`)."""

PERSEVERANCE_SECONDS = 120.0
"""How long a vendor's reply in hand is held on to while the database is away: a managed failover takes a minute or two."""

_WAKE_FOLLOWERS = Query("""
WITH f AS MATERIALIZED (
  SELECT verification_id FROM work WHERE follows = ANY(CAST(:ended AS text[])) AND deadline > now()
  ORDER BY verification_id FOR NO KEY UPDATE)
UPDATE work w SET step = step + 1, next_check_at = least(now(), deadline), due_at = least(now(), deadline),
  follows = CASE WHEN follows = ANY(CAST(:left_open AS text[])) THEN coalesce(nullif(
    (SELECT min(o.verification_id) FROM work o WHERE o.follows = w.follows AND o.deadline > now()), w.verification_id),
    follows) ELSE follows END
FROM f WHERE w.verification_id = f.verification_id AND follows = ANY(CAST(:ended AS text[]))""")
"""Skips followers past their own deadline: the sweep holds their locks and may be waiting for ours."""

# The oldest goes on following: its own step sees the end and decides.
_FOLLOW_OLDEST = Query(
    """
WITH f AS MATERIALIZED (
  SELECT verification_id FROM work WHERE follows = :ended AND deadline > now() ORDER BY verification_id OFFSET 1
  FOR NO KEY UPDATE)
UPDATE work w SET step = step + 1, next_check_at = least(now(), deadline), due_at = least(now(), deadline),
  follows = (SELECT min(o.verification_id) FROM work o WHERE o.follows = :ended AND o.deadline > now())
FROM f WHERE w.verification_id = f.verification_id AND w.follows = :ended""",
    ended="text",
)
# Everything that is locked afterwards, too, in its order: these followers may have larger ids than the rows of other reports.
_LOCK_ALL = Query("""
SELECT verification_id FROM work WHERE verification_id = ANY(ARRAY(
  SELECT unnest(CAST(:ids AS text[])) UNION
  SELECT verification_id FROM work WHERE follows = ANY(CAST(:left AS text[])) AND deadline > now()))
ORDER BY verification_id FOR NO KEY UPDATE""")
_LOCK_FOLLOWED = Query("SELECT pg_advisory_xact_lock(hashtextextended('followed:' || CAST(:id AS text), 0))")


async def commit(gateway: Gateway, desk: Desk | None, reports: Sequence[Report]) -> list[Verification | None]:
    """Writes the reports down. For each: the verification if its next step is due at once and the worker keeps it.

    A database that is away for a moment is waited for: the vendors' replies would be lost with us. But not a lock that
    somebody has: `commit_alone` waits for it.
    """
    following = await _persevering(gateway, desk, reports)
    crash_points.point("after_commit")
    return following


def reported_on(report: Report) -> str:
    """The verification: two reports of one are written one after the other."""
    return report.seen.id


async def _persevering(gateway: Gateway, desk: Desk | None, reports: Sequence[Report]) -> list[Verification | None]:
    tried = itertools.count()

    def once() -> Awaitable[list[Verification | None]]:
        return _commit(gateway, desk, reports, again=next(tried) > 0)

    return await persevering(once, locked=False)


async def commit_alone(gateway: Gateway, desk: Desk | None, report: Report) -> Verification | None:
    """One that needs what somebody has locked."""
    [following] = await persevering(lambda: _commit(gateway, desk, [report], again=True))
    return following


async def persevering(write: Callable[[], Awaitable[_T]], *, locked: bool = True) -> _T:
    """Writes again while the database is away, or only something in it `locked`. For what may be written twice.

    Once it was away a lock is waited for, too: an earlier try may have been committed, which only the next one here knows.
    """
    waits = locked

    def worth_another_try(error: BaseException) -> bool:
        nonlocal waits
        waits = waits or not is_locked(error)
        return waits and is_away(error)

    return await retrying(
        write,
        when=worth_another_try,
        stop=stop_after_delay(PERSEVERANCE_SECONDS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
    )


async def _commit(
    gateway: Gateway, desk: Desk | None, reports: Sequence[Report], *, again: bool
) -> list[Verification | None]:
    """One try, in one transaction. `again`: an earlier one may have been committed although nobody told us."""
    following: list[Verification | None] = []
    changes: list[Change] = []
    erased: list[str] = []
    may_be_lost = True
    async with gateway.transaction() as db:
        await store.lock_refs(db, _new_refs(reports))
        await _follow_oldest(db, reports)
        locked = await store.lock(db, gateway.sealer, [report.seen.id for report in reports])
        stored: set[str] = set()
        if again:
            stored = await stored_exchanges(db, [report.seen.id for report in reports if report.exchanges])
        woken = await store.match_events(db, _submitted(reports, locked))
        for report in reports:
            v = locked.get(report.seen.id)
            if v is not None and v.erased_at is not None:
                # Whatever came, it tells of a patient who is to be forgotten; by the reference later events are known for theirs.
                erased.append(v.id)
                following.append(None)
                if report.submission is not None and v.attempt.id == report.seen.attempt.id:
                    changes.append(Change(lifecycle.submitted(v, report.submission)))
                continue
            if v is not None and report.exchanges and stored.issuperset(one.id for one in report.exchanges):
                # An earlier try was committed, with all that belongs to it.
                following.append(v if report.keeps and v.due and v.step == report.seen.step + 1 else None)
                continue
            change = None if v is None else await _decide(db, report, v, woken=v.id in woken)
            change = None if change is None else _bound(gateway, change)
            if change is None:
                following.append(None)
                continue
            kept = tuple(exchange for exchange in report.exchanges if exchange.id not in stored)
            keeps = report.keeps and change.rescheduled and change.successor is None and change.verification.due
            changes.append(replace(change, exchanges=kept, kept=keeps))
            following.append(change.verification if keeps else None)
            may_be_lost = may_be_lost and _may_be_lost(report, change)
        await apply(db, gateway.sealer, changes, desk, may_be_lost=may_be_lost and not erased)
        if erased:
            await store.forget_messages(db, erased)
        crash_points.point("before_commit")
    return following


def _may_be_lost(report: Report, change: Change) -> bool:
    """Whether a crash that forgets it costs nothing but the same look once more: the vendor still works on it."""
    nothing_new = isinstance(report.outcome, Pending) and report.checked and report.submission is None
    return nothing_new and change.rescheduled and not change.events


def _new_refs(reports: Sequence[Report]) -> set[tuple[str, str]]:
    """References that these reports bring, of vendors that send events."""
    return {
        (report.seen.attempt.vendor, report.submission.ref)
        for report in reports
        if report.submission is not None and report.submission.ref is not None and _sends_events(report)
    }


def _sends_events(report: Report) -> bool:
    vendor = VENDORS.get(report.seen.attempt.vendor)
    return vendor is None or vendor.verify_event is not None


def _submitted(reports: Sequence[Report], locked: Mapping[str, Verification]) -> list[Verification]:
    """Those whose current attempt is now known to be submitted, at vendors that send events."""
    return [
        lifecycle.submitted(v, report.submission)
        for report in reports
        if report.submission is not None and _sends_events(report)
        for v in [locked.get(report.seen.id)]
        if v is not None and v.attempt.id == report.seen.attempt.id
    ]


async def _decide(db: AsyncConnection, report: Report, v: Verification, *, woken: bool) -> Change:
    seen = report.seen
    if v.attempt.id != seen.attempt.id:
        v = replace(v, attempt=await store.lock_attempt(db, seen.attempt.id))
        return lifecycle.stray(v, report.submission, replied=bool(report.exchanges))
    ours = v.open and v.attempt.intent_at == seen.attempt.intent_at and (v.step == seen.step or report.replied)
    if report.submission is not None:
        v = lifecycle.submitted(v, report.submission)
        v = replace(v, wake_requested=v.wake_requested or woken)
    if ours:
        told = policy.is_unexplained(report, v) and await is_unexplained_told(db, v)
        return policy.follow_up(report, v, told=told)
    change = policy.follow_up_late(report, v)
    if v.wake_requested and not v.open and not isinstance(report.outcome, Answered):
        # The event that says so came before this reply, and so before anybody knew whose it is.
        change = replace(change, late_look_in=lifecycle.FIRST_LATE_LOOK)
    return change if seen.late_tries is None else replace(change, late_look_of=seen.step)


def _bound(gateway: Gateway, change: Change) -> Change:
    """An attempt begins: it is bound to the account that the tenant has at that vendor now."""
    v, successor = change.verification, change.successor
    if successor is None or successor.account is not None:
        return change
    account = gateway.account(v.tenant_id, v.mode, successor.vendor)
    # Without one, its first step finds that the vendor is not enabled.
    return replace(change, successor=replace(successor, account=SHARED if account is None else account.id))


async def apply(
    db: AsyncConnection,
    sealer: Sealer,
    changes: Sequence[Change],
    desk: Desk | None = None,
    *,
    full: bool = True,
    may_be_lost: bool = False,
) -> None:
    """The changed rows and everything that goes with them: events, followers, news. Under the locks of `store.lock`.

    Not `full`: endpoints that want the whole verification get the thin payload, too.
    """
    wanting_full = await publish(
        db,
        [
            News(change.verification.tenant_id, change.verification.mode, event, change.verification.id, thin(change))
            for change in changes
            for event in change.events
        ],
        desk,
    )
    await save(db, sealer, changes, may_be_lost=may_be_lost)
    for change in changes:
        _announce(db, change)
    # After the rows are gone: a follower that was being made found none of them to follow, or is seen now.
    await _wake_followers(db, [change.verification for change in changes if change.ended])
    if wanting_full and full:
        tenants = {
            one.verification_id: one.tenant_id for one in wanting_full.values() if one.verification_id is not None
        }
        views = await read_views(db, sealer, tenants)
        payloads = {event: orjson.dumps(views[one.verification_id or ""]) for event, one in wanting_full.items()}
        await keep_full(db, sealer, wanting_full, payloads)


def _announce(db: AsyncConnection, change: Change) -> None:
    v = change.verification
    if change.rescheduled and not change.kept and v.next_check_at is not None:
        announce(db, WORK, (v.next_check_at - v.now).total_seconds())
    if change.late_look_in is not None:
        announce(db, WORK, change.late_look_in.total_seconds())


async def _follow_oldest(db: AsyncConnection, reports: Sequence[Report]) -> None:
    """Before a follower decides about a leader that left the question open: all but the oldest of its followers follow that one.

    The end of the leader has done so, except for those that came to follow it at that very moment: an older one of them may
    have been ended, too. One transaction at a time, and before any row is locked.
    """
    left = {
        report.outcome.verification.id
        for report in reports
        if isinstance(report.outcome, Leader)
        and report.outcome.verification is not None
        and lifecycle.leaves_it_open(report.outcome.verification)
    }
    if not left:
        return
    for leader in sorted(left):
        await _LOCK_FOLLOWED.run(db, {"id": leader})
    await _LOCK_ALL.run(db, {"ids": [report.seen.id for report in reports], "left": sorted(left)})
    for leader in sorted(left):
        if await _FOLLOW_OLDEST.run(db, {"ended": leader}):
            announce(db, WORK)


async def _wake_followers(db: AsyncConnection, ended: Sequence[Verification]) -> None:
    """Wakes everybody who waits for these ends: API requests, and verifications that take an answer over (`reuse.py`).

    If one left the question open, the oldest of its followers that has time decides for all, and the others follow that one.
    """
    for v in ended:
        tell(db, ENDED, v.id)
        after_commit(db, partial(_count, v))
    if not ended:
        return
    left_open = [v.id for v in ended if lifecycle.leaves_it_open(v)]
    if await _WAKE_FOLLOWERS.run(db, {"ended": [v.id for v in ended], "left_open": left_open}):
        announce(db, WORK)


def _count(v: Verification) -> None:
    seconds = ((v.completed_at or v.now) - v.created_at).total_seconds()
    instruments.count_end(v.mode, v.attempt.vendor, v.outcome or v.status, v.failure_code, seconds)


def thin(change: Change) -> dict[str, Any]:
    """The payload of thin webhooks and `/v1/events`: no PHI."""
    v = change.verification
    return {
        "id": v.id,
        "external_id": v.external_id,
        "status": v.status,
        "outcome": v.outcome,
        "outcome_reason": v.outcome_reason,
        "failure_code": v.failure_code,
        "metadata": v.metadata,
    }
