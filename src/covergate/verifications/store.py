"""Reading and locking verifications: those that are open are a row of `work`, the others one of `verifications`.

`lock` and `save` (`save.py`) belong to one transaction, so a change is always made from the truth and two processes never
decide at the same time. One is a list of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sealing import Sealer, SealError
from covergate.db.sql import Query
from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry
from covergate.states import IS_OPEN, AttemptState, Status, WaitingFor
from covergate.verifications.model import Attempt, Verification
from covergate.verifications.seals import STAMPED, open_end, place_in_verification
from covergate.verifications.ssn import removed_from

log = structlog.get_logger(__name__)

WORK = "covergate_work"
"""The channel on which due verifications are announced."""
OF_ATTEMPT = [f.name for f in fields(Attempt)]
IN_WORK = {"id": "attempt_id", "created_at": "attempt_created_at", "failure_code": "attempt_failure_code"}
"""The columns of the current attempt that have another name in `work`."""
_OF_WORK_ONLY = {"errors_in_row": "0", "same_errors_in_row": "0", "look_ups": "0"}
"""What an attempt has no longer when it has ended."""

_STATIC = ("id", "tenant_id", "mode", "external_id", "metadata", "created_at")
_OF_END = (
    "outcome",
    "outcome_reason",
    "failure_code",
    "reused_from",
    "completed_at",
    "raw_erased_at",
    "erased_at",
)
_MOVING = ("status", "deadline", "follows", "not_asked", "history_count", "exchange_count")
"""In `work` while it is open, afterwards in `verifications`."""
_WHILE_OPEN = {
    "step": "0",
    "late_tries": "NULL",
    "route": "CAST('{}' AS text[])",
    "allow_second_submission": "false",
    "payer_retries": "0",
    "wake_requested": "false",
    "waiting_for": "NULL",
    "waiting_since": "NULL",
    "next_check_at": "NULL",
}
"""Column of `work` → what it is after the end."""
_OF_VERIFICATION = [*_STATIC, *_OF_END, *_MOVING, *_WHILE_OPEN]

OPEN = ", ".join(
    [
        *(f"v.{name}" for name in (*_STATIC, *_OF_END)),
        *(f"w.{name}" for name in (*_MOVING, *_WHILE_OPEN)),
        *("CAST(NULL AS timestamptz)" if name == "ended_at" else f"w.{IN_WORK.get(name, name)}" for name in OF_ATTEMPT),
        "v.late_result_sealed IS NOT NULL AS answered_late, v.late_failure_sealed IS NOT NULL AS refused_late",
        "clock_timestamp() AS now, CAST(NULL AS bytea) AS result_sealed",
        "CASE WHEN w.holds_ssn THEN v.inquiry_sealed END AS inquiry_with_ssn",
    ]
)
_ENDED = ", ".join(
    [
        *(f"v.{name}" for name in (*_STATIC, *_OF_END, *_MOVING)),
        *_WHILE_OPEN.values(),
        *(_OF_WORK_ONLY.get(name, f"a.{name}") for name in OF_ATTEMPT),
        "v.late_result_sealed IS NOT NULL AS answered_late, v.late_failure_sealed IS NOT NULL AS refused_late",
        "clock_timestamp() AS now, r.sealed AS result_sealed",
        "CAST(NULL AS bytea) AS inquiry_with_ssn",
    ]
)
_JOINED_OPEN = "FROM work w JOIN verifications v ON v.id = w.verification_id"
_JOINED_ENDED = (
    "FROM verifications v JOIN attempts a ON a.id = v.attempt_id LEFT JOIN results r ON r.verification_id = v.id"
)

_READ_OPEN = Query(
    f"SELECT {OPEN}, v.inquiry_sealed, w.payer {_JOINED_OPEN} WHERE w.verification_id = :id AND w.late_tries IS NULL"
)
_READ_ENDED = Query(
    f"SELECT {_ENDED}, v.inquiry_sealed, '' AS payer, v.failure_sealed {_JOINED_ENDED} WHERE v.id = :id AND NOT v.{IS_OPEN}"
)
_LOCK_OPEN = Query(
    f"SELECT {OPEN} {_JOINED_OPEN} WHERE w.verification_id = ANY(CAST(:ids AS text[])) AND w.late_tries IS NULL"
    " ORDER BY w.verification_id FOR NO KEY UPDATE OF w"
)
_LOCK_ENDED = Query(
    f"SELECT {_ENDED} {_JOINED_ENDED} WHERE v.id = ANY(CAST(:ids AS text[])) AND NOT v.{IS_OPEN}"
    " ORDER BY v.id FOR NO KEY UPDATE OF v"
)
_LOCK_PAST_DEADLINE = Query(
    f"SELECT {OPEN} {_JOINED_OPEN} WHERE w.deadline <= now() AND w.late_tries IS NULL"
    " AND w.verification_id <> ALL(CAST(:but AS text[])) ORDER BY w.deadline LIMIT :limit FOR NO KEY UPDATE OF w SKIP LOCKED"
)
_READ_INQUIRY = Query("SELECT inquiry_sealed FROM verifications WHERE id = :id")
_ATTEMPT = ", ".join(_OF_WORK_ONLY.get(name, name) for name in OF_ATTEMPT)
_LOCK_ATTEMPT = Query(f"SELECT {_ATTEMPT} FROM attempts WHERE id = :id FOR NO KEY UPDATE")
_LOCK_REFS = Query("""
SELECT pg_advisory_xact_lock(name) FROM (
  SELECT DISTINCT hashtextextended(vendor || ':' || ref, 0) AS name
  FROM unnest(CAST(:vendors AS text[]), CAST(:refs AS text[])) AS given(vendor, ref) ORDER BY name) AS ordered""")
_VENDOR_OF = Query("SELECT vendor FROM work WHERE verification_id = :id")
_OF_ACCOUNT = "vendor = :vendor AND vendor_ref = :ref AND mode = :mode AND account = :account"
_REF_TAKEN = Query(f"""
SELECT EXISTS (SELECT FROM work WHERE {_OF_ACCOUNT} AND attempt_id <> :attempt_id)
  OR EXISTS (SELECT FROM attempts WHERE {_OF_ACCOUNT} AND id <> :attempt_id)""")
_MATCH_EVENTS = Query("""
UPDATE vendor_events e SET verification_id = given.id
FROM unnest(CAST(:ids AS text[]), CAST(:vendors AS text[]), CAST(:modes AS text[]), CAST(:accounts AS text[]),
            CAST(:refs AS text[])) AS given(id, vendor, mode, account, ref)
WHERE e.vendor = given.vendor AND e.mode = given.mode AND e.account = given.account AND e.ref = given.ref
  AND e.verification_id IS NULL
RETURNING e.verification_id, e.wakes""")


_FORGET_MESSAGES = Query("""
DELETE FROM vendor_messages WHERE id IN (
  SELECT message_id FROM vendor_events WHERE verification_id = ANY(CAST(:ids AS text[])) AND message_id IS NOT NULL)""")


@dataclass(frozen=True, slots=True)
class Asked:
    """The question of a verification, with what each vendor is told beside it."""

    inquiry: Inquiry
    vendor_options: dict[str, Any]
    payer_codes: dict[str, Any]
    patient_key: str
    person_key: str
    warnings: list[tuple[str, str | None]]
    """About the request itself: (code, detail)."""


@dataclass(slots=True)
class Claimed:
    """A verification as it was read for a step, with its sealed inquiry. Its claimer takes `verification` from step to step."""

    verification: Verification
    inquiry_sealed: bytes | None = field(repr=False)
    """None once it was erased; only a leader is read then."""
    payer: str = ""
    asked: Asked | None = field(default=None, repr=False)
    """The sealed inquiry, once it was opened: the same for every step of a claim."""
    failure_sealed: bytes | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        return self.verification.id

    @property
    def step(self) -> int:
        return self.verification.step


def asked_of(sealer: Sealer, claimed: Claimed) -> Asked:
    """Raises SealError."""
    if claimed.asked is None:
        assert claimed.inquiry_sealed is not None, "what is open is not erased"
        v = claimed.verification
        opened = sealer.open_json(place_in_verification(v.tenant_id, v.mode, v.id, "inquiry"), claimed.inquiry_sealed)
        claimed.asked = Asked(
            Inquiry.model_validate(opened["inquiry"]),
            opened["vendor_options"],
            opened["payer_codes"],
            opened["patient_key"],
            opened.get("person_key", opened["patient_key"]),
            opened.get("warnings", []),
        )
    return claimed.asked


def verification_of(row: Any, sealer: Sealer) -> Verification:
    """By place, not by name: a verification and its attempt have columns of one name."""
    values = list(row.values())
    split = len(_OF_VERIFICATION)
    of_verification = dict(zip(_OF_VERIFICATION, values, strict=False))
    of_verification["status"] = Status(of_verification["status"])
    if of_verification["waiting_for"] is not None:
        of_verification["waiting_for"] = WaitingFor(of_verification["waiting_for"])
    return Verification(
        **of_verification,
        answered_late=row["answered_late"],
        refused_late=row["refused_late"],
        now=row["now"],
        attempt=_attempt(values[split : split + len(OF_ATTEMPT)]),
        result=_open_result(sealer, of_verification, row["result_sealed"]),
        inquiry_with_ssn=row["inquiry_with_ssn"],
    )


def _attempt(values: Iterable[Any]) -> Attempt:
    of_attempt = dict(zip(OF_ATTEMPT, values, strict=True))
    of_attempt["state"] = AttemptState(of_attempt["state"])
    return Attempt(**of_attempt)


async def read_claimed(db: AsyncConnection, sealer: Sealer, verification_id: str) -> Claimed | None:
    """The verification as it stands; nobody's claim."""
    row = await _READ_OPEN.one(db, {"id": verification_id})
    if row is not None:
        return Claimed(verification_of(row, sealer), row["inquiry_sealed"], row["payer"])
    row = await _READ_ENDED.one(db, {"id": verification_id})
    if row is None:
        return None
    await sealer.meet(db, [row["tenant_id"]], [row["result_sealed"], row["failure_sealed"]])
    return Claimed(verification_of(row, sealer), row["inquiry_sealed"], failure_sealed=row["failure_sealed"])


async def lock(db: AsyncConnection, sealer: Sealer, ids: Sequence[str]) -> dict[str, Verification]:
    """The verifications by id, locked until the transaction ends: the open ones first, each kind in the order of ids."""
    wanted = sorted(set(ids))
    found = [verification_of(row, sealer) for row in await _LOCK_OPEN.all(db, {"ids": wanted})]
    if len(found) < len(wanted):
        missing = sorted({*wanted} - {v.id for v in found})
        rows = await _LOCK_ENDED.all(db, {"ids": missing})
        await sealer.meet(db, {row["tenant_id"] for row in rows}, [row["result_sealed"] for row in rows])
        found += [verification_of(row, sealer) for row in rows]
    return {v.id: v for v in found}


async def lock_past_deadline(db: AsyncConnection, sealer: Sealer, limit: int, but: Sequence[str]) -> list[Verification]:
    """Open verifications past their deadline, the longest overdue first, except `but` and those that somebody else has locked."""
    rows = await _LOCK_PAST_DEADLINE.all(db, {"limit": limit, "but": list(but)})
    return [verification_of(row, sealer) for row in rows]


async def lock_attempt(db: AsyncConnection, attempt_id: str) -> Attempt:
    """An attempt that has ended."""
    row = await _LOCK_ATTEMPT.one(db, {"id": attempt_id})
    assert row is not None, "attempts are written when they end, and deleted with their verification"
    return _attempt(row.values())


async def removed_ssns(db: AsyncConnection, sealer: Sealer, v: Verification) -> list[str]:
    """Pointers to the SSNs that have left its inquiry; none of one that does not open, which its next step will tell."""
    sealed = await _READ_INQUIRY.scalar(db, {"id": v.id})
    if sealed is None:
        return []
    await sealer.meet(db, [v.tenant_id], [sealed])
    try:
        return removed_from(sealer.open_json(place_in_verification(v.tenant_id, v.mode, v.id, "inquiry"), sealed))
    except SealError:
        return []


async def lock_refs(db: AsyncConnection, refs: Collection[tuple[str, str]]) -> None:
    """(vendor, reference). Taken before a reference is stored and before an event is: one of the two then sees the other."""
    if refs:
        await _LOCK_REFS.all(db, {"vendors": [vendor for vendor, _ in refs], "refs": [ref for _, ref in refs]})


async def vendor_of(db: AsyncConnection, verification_id: str) -> str:
    """The vendor that is asked just now; nobody, if it is not open."""
    return await _VENDOR_OF.scalar(db, {"id": verification_id}) or ""


async def is_ref_taken(db: AsyncConnection, attempt: Attempt, mode: str, ref: str) -> bool:
    """Whether another attempt in the same account has this reference."""
    values = {"ref": ref, "vendor": attempt.vendor, "account": attempt.account, "mode": mode, "attempt_id": attempt.id}
    return bool(await _REF_TAKEN.scalar(db, values))


async def match_events(db: AsyncConnection, submitted: Sequence[Verification]) -> set[str]:
    """Events that overtook the answers to their own submits are these verifications'; the ids of those that one wakes."""
    named = [v for v in submitted if v.attempt.vendor_ref is not None]
    if not named:
        return set()
    values = {
        "ids": [v.id for v in named],
        "vendors": [v.attempt.vendor for v in named],
        "modes": [v.mode for v in named],
        "accounts": [v.attempt.account for v in named],
        "refs": [v.attempt.vendor_ref for v in named],
    }
    return {row["verification_id"] for row in await _MATCH_EVENTS.all(db, values) if row["wakes"]}


async def forget_messages(db: AsyncConnection, ids: Sequence[str]) -> None:
    """What vendors sent about these verifications, which were erased."""
    await _FORGET_MESSAGES.run(db, {"ids": list(ids)})


def open_failure(sealer: Sealer, v: Verification, sealed: bytes | None) -> Failure | None:
    """None if there is none, or none that can be opened."""
    document = _opened_end(sealer, _end_of(v), "failure", sealed)
    return None if document is None else Failure.model_validate_json(document)


def _open_result(sealer: Sealer, end: Mapping[str, Any], sealed: bytes | None) -> bytes | None:
    """A JSON document; None if there is none, or none that can be opened: whoever needs it does without."""
    return _opened_end(sealer, end, "result", sealed)


def _opened_end(sealer: Sealer, end: Mapping[str, Any], column: str, sealed: bytes | None) -> bytes | None:
    if sealed is None:
        return None
    try:
        return open_end(sealer, place_in_verification(end["tenant_id"], end["mode"], end["id"], column), end, sealed)
    except SealError as error:
        log.error("value_not_opened", verification_id=end["id"], column=column, reason=str(error))
        return None


def _end_of(v: Verification) -> dict[str, Any]:
    return {name: getattr(v, name) for name in ("id", "tenant_id", "mode", *STAMPED)}


def array(names: Iterable[str]) -> str:
    """A PostgreSQL array of names and JSON pointers as text: arrays cannot be unnested into rows of arrays."""
    return "{" + ",".join(f'"{name}"' for name in names) + "}"
