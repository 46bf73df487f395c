"""Reading the stored replies of ended verifications again, by today's rules.

What ended stays as it ended: result, outcome and the rules that made them. Another reading stands beside it, sealed like a
result, in `readings`; its row also says that this verification was read by these rules, so that a run that was killed is gone on
with by the next, and two at once do no harm. Nothing is sent to a vendor.

Invariant: what was erased is not read, and gets no reading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import crash_points
from covergate.access import audit
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sealing import SealError
from covergate.db.sql import Query
from covergate.eligibility.derive import MAPPING_VERSION, Derived, derive
from covergate.eligibility.stored import with_every_key
from covergate.gateway import Gateway
from covergate.states import EventType, SubjectKind
from covergate.vendors.flow import Answered, Reply
from covergate.verifications.conversation import NotInterpreted, replay, replayed_answer
from covergate.verifications.engine import step_of
from covergate.verifications.history import stored_replies
from covergate.verifications.model import Step
from covergate.verifications.seals import place_in_verification
from covergate.verifications.store import read_claimed
from covergate.verifications.view import read_views
from covergate.webhooks.events import News, keep_full, publish

log = structlog.get_logger(__name__)

BATCH = 50
_EXCHANGE = re.compile(r'(?<=")/exchanges/[0-9]+(?=/)')

_WHERE = """
FROM verifications v JOIN results r ON r.verification_id = v.id LEFT JOIN readings n ON n.verification_id = v.id
WHERE v.id > :after AND v.erased_at IS NULL AND (:tenant IS NULL OR v.tenant_id = :tenant)
  AND (:vendor IS NULL OR v.vendor = :vendor) AND (:since IS NULL OR v.completed_at >= :since)"""
_TYPES = {"after": "text", "tenant": "text", "vendor": "text", "since": "timestamptz", "rules": "text"}
_TO_READ = Query(
    f"""
SELECT v.id, v.tenant_id, v.mode {_WHERE} AND n.mapping_version IS DISTINCT FROM :rules
ORDER BY v.id LIMIT :batch""",
    **_TYPES,
)
_TO_ANNOUNCE = Query(
    f"""
SELECT v.id, v.tenant_id, v.mode, v.external_id, v.status, v.outcome, v.outcome_reason, v.failure_code, v.metadata {_WHERE}
  AND n.mapping_version = :rules AND n.sealed IS NOT NULL AND n.announced_at IS NULL
ORDER BY v.id LIMIT :batch FOR NO KEY UPDATE OF v SKIP LOCKED""",
    **_TYPES,
)
# Under the row's lock: whoever erases it meanwhile is waited for, and then there is nothing to write to.
_LOCK = Query("SELECT id FROM verifications WHERE id = :id AND erased_at IS NULL FOR NO KEY UPDATE")
_KEEP = Query("""
INSERT INTO readings (verification_id, mapping_version, sealed) VALUES (:id, :rules, :sealed)
ON CONFLICT (verification_id) DO UPDATE
SET mapping_version = excluded.mapping_version, sealed = excluded.sealed, at = clock_timestamp(), announced_at = NULL
WHERE readings.mapping_version <> excluded.mapping_version""")
_ANNOUNCED = Query(
    "UPDATE readings SET announced_at = clock_timestamp() WHERE verification_id = ANY(CAST(:ids AS text[]))"
)


@dataclass(frozen=True, slots=True)
class ReadingScope:
    """Which verifications; None: all of them. `since` is the instant from which on they ended."""

    tenant_id: str | None = None
    vendor: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that today's rules read differently. The values are PHI."""

    path: str
    before: Any
    after: Any


@dataclass(slots=True)
class ReadAgain:
    """What a run did, or would do. `paths`: path → how many verifications; `skipped`: why → how many."""

    dry_run: bool
    read: int = 0
    changed: int = 0
    announced: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    """Verification → its differences."""


class NotReadAgain(Exception):
    """There is nothing to read again; the reason is a constant."""


async def renormalize(gateway: Gateway, scope: ReadingScope, *, dry_run: bool, announces: bool = False) -> ReadAgain:
    """Reads again what today's rules have not read yet; a dry run writes nothing but the audit."""
    done = ReadAgain(dry_run)
    values: dict[str, Any] = {"tenant": scope.tenant_id, "vendor": scope.vendor, "since": scope.since}
    values |= {"rules": MAPPING_VERSION, "after": "", "batch": BATCH}
    while True:
        async with gateway.connection() as db:
            rows = await _TO_READ.all(db, values)
            action = "verification.renormalize_preview" if dry_run else "verification.renormalize"
            for row in rows:
                by = audit.command_line(row["tenant_id"], row["mode"])
                await audit.record(db, by, action, SubjectKind.VERIFICATION, [row["id"]])
        if not rows:
            break
        for row in rows:
            await _read_again(gateway, row, done)
        values["after"] = rows[-1]["id"]
    values["after"] = ""
    while announces and not dry_run and (told := await _announce_some(gateway, values)):
        done.announced += told
    return done


async def _read_again(gateway: Gateway, row: Mapping[str, Any], done: ReadAgain) -> None:
    verification_id = row["id"]
    try:
        before, derived = await _reading_of(gateway, verification_id)
    except NotReadAgain as reason:
        done.skipped[str(reason)] += 1
        return
    except DATABASE_ERRORS:
        raise
    # Broad on purpose: one reply that today's code fails on must not end the run.
    except Exception as error:
        log.error("reading_failed", verification_id=verification_id, exc_info=error)
        done.skipped["today's code failed on it"] += 1
        return
    done.read += 1
    outcome = {"outcome": derived.outcome.value, "outcome_reason": derived.reason and derived.reason.value}
    after = {**outcome, "result": derived.result.model_dump(mode="json")}
    found = list(differences_between(before, after))
    if found:
        done.changed += 1
        done.paths.update({difference.path for difference in found})
        done.differences[verification_id] = found
    if done.dry_run:
        return
    sealed = None
    if found:
        place = place_in_verification(row["tenant_id"], row["mode"], verification_id, "reading")
        sealed = gateway.sealer.seal(place, orjson.dumps(after), packed=True)
    async with gateway.transaction() as db:
        if await _LOCK.one(db, {"id": verification_id}) is not None:
            await _KEEP.run(db, {"id": verification_id, "rules": MAPPING_VERSION, "sealed": sealed})
    crash_points.point("after_reading")


async def _reading_of(gateway: Gateway, verification_id: str) -> tuple[dict[str, Any], Derived]:
    """The end as it was stored, with its result, and what today's rules make of the same replies. Raises NotReadAgain."""
    async with gateway.connection() as db:
        claimed = await read_claimed(db, gateway.sealer, verification_id)
        if claimed is None or claimed.inquiry_sealed is None or claimed.verification.result is None:
            raise NotReadAgain("it was erased")
        v = claimed.verification
        if v.reused_from is not None:
            raise NotReadAgain("its answer was taken over from another")
        if v.raw_erased_at is not None:
            raise NotReadAgain("its raw replies were erased")
        await gateway.sealer.meet(db, [v.tenant_id], [claimed.inquiry_sealed])
        try:
            replies = await stored_replies(db, gateway.sealer, v)
        except SealError:
            raise NotReadAgain("a raw reply does not open") from None
    if not replies or v.result is None:
        raise NotReadAgain("its raw replies are gone")
    result = orjson.loads(v.result)
    replies = _read_then(result, replies) or replies
    await gateway.know_tenants()
    # As it was when the last reply came.
    claimed.verification = replace(v, now=replies[-1][1].at)
    step = step_of(gateway, claimed)
    if step is None:
        missing = "its vendor or account is not there"
        raise NotReadAgain(f"{missing} (test mode: see COVERGATE_SANDBOX_URL)" if v.mode == "test" else missing)
    answered = _answer_in(step, v.attempt.vendor_ref, replies)
    if answered is None:
        raise NotReadAgain("its raw replies make no answer by today's rules")
    derived = derive(answered.answer, step.question.inquiry, step.not_asked, step.question.today, step.warnings)
    return {"outcome": v.outcome, "outcome_reason": v.outcome_reason, "result": result}, derived


def _read_then(result: Any, replies: Sequence[tuple[str, Reply]]) -> list[tuple[str, Reply]]:
    """Up to the reply that the result was read from: the same answer may have come once more, to another call."""
    pointed = set(_EXCHANGE.findall(orjson.dumps(result).decode()))
    last = next((place for place, (_, reply) in reversed([*enumerate(replies)]) if reply.pointer in pointed), -1)
    return [*replies[: last + 1]]


def _answer_in(step: Step, ref: str | None, replies: Sequence[tuple[str, Reply]]) -> Answered | None:
    """By the flow that the last replies fit."""
    vendor, question = step.vendor, step.question
    if vendor.check is not None and ref is not None:
        check = vendor.check
        if (answered := replayed_answer(lambda: check(question, ref), replies)) is not None:
            return answered
    if vendor.find is not None:
        find = vendor.find
        if (answered := replayed_answer(lambda: find(question), replies)) is not None:
            return answered
    submitted = replace(question, submitted_at=None)
    try:
        progress = replay(lambda: vendor.submit(submitted), replies)
    except NotInterpreted:
        return None
    return progress if isinstance(progress, Answered) else None


async def _announce_some(gateway: Gateway, values: Mapping[str, Any]) -> int:
    async with gateway.transaction() as db:
        rows = await _TO_ANNOUNCE.all(db, dict(values))
        if rows:
            await _announce(db, gateway, rows)
    return len(rows)


async def _announce(db: AsyncConnection, gateway: Gateway, rows: Sequence[Mapping[str, Any]]) -> None:
    names = ("id", "external_id", "status", "outcome", "outcome_reason", "failure_code", "metadata")
    type_ = EventType.VERIFICATION_RENORMALIZED
    news = [News(row["tenant_id"], row["mode"], type_, row["id"], {name: row[name] for name in names}) for row in rows]
    await _ANNOUNCED.run(db, {"ids": [row["id"] for row in rows]})
    wanting_full = await publish(db, news)
    if wanting_full:
        tenants = {one.verification_id or "": one.tenant_id for one in wanting_full.values()}
        views = await read_views(db, gateway.sealer, tenants)
        payloads = {event: orjson.dumps(views[one.verification_id or ""]) for event, one in wanting_full.items()}
        await keep_full(db, gateway.sealer, wanting_full, payloads)


def differences_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """By JSON path; a list whose rows are others counts as one field. An older result is compared with every key."""
    old = {**before, "result": {**with_every_key(before["result"]), "mapping_version": MAPPING_VERSION}}
    yield from _differing("", old, orjson.loads(orjson.dumps(after)))


def _differing(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _differing(f"{path}/{name}", before.get(name), after.get(name))
    elif before != after and not _is_same_instant(path, before, after):
        yield Difference(path, before, after)


def _is_same_instant(path: str, before: Any, after: Any) -> bool:
    """A stored instant may be written in another way."""
    if path != "/result/answered_at" or not isinstance(before, str) or not isinstance(after, str):
        return False
    return datetime.fromisoformat(before) == datetime.fromisoformat(after)
