"""Writing changes down: everything that they bring, in one statement, under the locks of `store.lock`. One is a list of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.queue import LEASE_SECONDS
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.eligibility.failure import Failure
from covergate.states import IS_OPEN, AttemptState
from covergate.vendors.account import SHARED
from covergate.verifications import ssn
from covergate.verifications.history import entries_of, exchanges_in, seal_content
from covergate.verifications.lanes import SHARE_MOVED, SHARE_OF_LATE
from covergate.verifications.model import Change, Verification
from covergate.verifications.seals import STAMPED, place_in_verification, seal_end
from covergate.verifications.store import IN_WORK, OF_ATTEMPT, array

LATE_FOR = "30 days"
"""After its end a verification is looked at once more if the vendor says that it has an answer; not later than this."""

_MOVED = {
    "vendor": "text",
    "due_at": "timestamptz",
    "step": "int",
    "status": "text",
    "waiting_for": "text",
    "waiting_since": "timestamptz",
    "next_check_at": "timestamptz",
    "wake_requested": "boolean",
    "route": "text",  # this and not_asked: PostgreSQL arrays as text
    "payer_retries": "smallint",
    "follows": "text",
    "not_asked": "text",
    "holds_ssn": "boolean",
    "history_count": "int",
    "exchange_count": "int",
    "attempt_id": "text",
    "account": "text",
    "state": "text",
    "attempt_created_at": "timestamptz",
    "vendor_ref": "text",
    "intent_at": "timestamptz",
    "lookup_after": "timestamptz",
    "submitted_at": "timestamptz",
    "attempt_failure_code": "text",
    "checks": "int",
    "errors_in_row": "int",
    "same_errors_in_row": "int",
    "look_ups": "int",
}
_END = {
    "status": "text",
    "outcome": "text",
    "outcome_reason": "text",
    "failure_code": "text",
    "reused_from": "text",
    "completed_at": "timestamptz",
    "vendor": "text",
    "attempt_id": "text",
    "follows": "text",
    "not_asked": "text",
    "history_count": "int",
    "exchange_count": "int",
    "failure_sealed": "bytea",
    "result_sealed": "bytea",
    "inquiry_sealed": "bytea",  # without the SSN; NULL: as it is
}
_ATTEMPTS = {
    "id": "text",
    "verification_id": "text",
    "vendor": "text",
    "mode": "text",
    "account": "text",
    "vendor_ref": "text",
    "state": "text",
    "created_at": "timestamptz",
    "intent_at": "timestamptz",
    "lookup_after": "timestamptz",
    "submitted_at": "timestamptz",
    "ended_at": "timestamptz",
    "failure_code": "text",
    "checks": "int",
}
_HISTORY = {
    "verification_id": "text",
    "n": "int",
    "attempt_id": "text",
    "vendor": "text",
    "entries": "jsonb",
    "exchanges": "jsonb",
}
_CONTENTS = {"verification_id": "text", "position": "int", "sealed": "bytea"}
_NOTED = {
    "verification_id": "text",
    "history_count": "int",
    "exchange_count": "int",
    "late_result_sealed": "bytea",
    "late_failure_sealed": "bytea",
}
_LATE = {
    "verification_id": "text",
    "late_tries": "smallint",
    "next_check_at": "timestamptz",
    "waiting_for": "text",
    "step": "int",  # of the look that is put off; 0 for one that an event brings
}
_LATE_OVER = {"verification_id": "text", "step": "int"}

_BARED = {"verification_id": "text", "inquiry_sealed": "bytea"}

_ARRAYS = ("route", "not_asked")
_OF_OTHER_TABLES = ("result_sealed", "inquiry_sealed")
"""Columns of an end that are not simply set."""


def _unnested(prefix: str, columns: Mapping[str, str]) -> str:
    given = ", ".join(f"CAST(:{prefix}_{name} AS {type_}[])" for name, type_ in columns.items())
    return f"unnest({given}) AS {prefix}({', '.join(columns)})"


def _set(prefix: str, columns: Iterable[str]) -> str:
    return ", ".join(
        f"{name} = CAST({prefix}.{name} AS text[])" if name in _ARRAYS else f"{name} = {prefix}.{name}"
        for name in columns
    )


_SAVE = Query(f"""
WITH moved AS (
  UPDATE work SET {_set("m", [name for name in _MOVED if name != "due_at"])}, due_at = coalesce(m.due_at, work.due_at),
    payer = {SHARE_MOVED},
    exclusive_key = CASE WHEN work.attempt_id = m.attempt_id THEN exclusive_key END
  FROM {_unnested("m", {"verification_id": "text", **_MOVED})} WHERE work.verification_id = m.verification_id
), e AS MATERIALIZED (
  SELECT * FROM {_unnested("e", {"verification_id": "text", **_END})}
), gone AS (
  DELETE FROM work USING e WHERE work.verification_id = e.verification_id
), ended AS (
  UPDATE verifications SET {_set("e", [name for name in _END if name not in _OF_OTHER_TABLES])},
    inquiry_sealed = coalesce(e.inquiry_sealed, verifications.inquiry_sealed)
  FROM e WHERE id = e.verification_id
), bared AS (
  UPDATE verifications SET inquiry_sealed = b.inquiry_sealed FROM {_unnested("b", _BARED)} WHERE id = b.verification_id
), answered AS (
  INSERT INTO results (verification_id, sealed) SELECT verification_id, result_sealed FROM e WHERE result_sealed IS NOT NULL
), tried AS (
  INSERT INTO attempts ({", ".join(_ATTEMPTS)}, payer_id, tenant_id)
  SELECT {", ".join(f"a.{name}" for name in _ATTEMPTS)}, v.payer_id, v.tenant_id
  FROM {_unnested("a", _ATTEMPTS)} JOIN verifications v ON v.id = a.verification_id
  ON CONFLICT (id) DO UPDATE SET vendor_ref = coalesce(EXCLUDED.vendor_ref, attempts.vendor_ref),
    submitted_at = coalesce(EXCLUDED.submitted_at, attempts.submitted_at), lookup_after = EXCLUDED.lookup_after
)
INSERT INTO history ({", ".join(_HISTORY)}, at, contents_sealed)
SELECT {", ".join(f"h.{name}" for name in _HISTORY)}, clock_timestamp(), c.sealed
FROM {_unnested("h", _HISTORY)} LEFT JOIN (
  SELECT verification_id, array_agg(sealed ORDER BY position) AS sealed FROM {_unnested("c", _CONTENTS)} GROUP BY 1
) AS c USING (verification_id)
RETURNING CASE WHEN CAST(:may_be_lost AS boolean) THEN set_config('synchronous_commit', 'off', true) END""")

"""`tried`: whoever had to wait for what has ended has read the attempt as it was before, and must not take back what came."""

_SAVE_AFTER_END = Query(f"""
WITH noted AS (
  UPDATE verifications v SET history_count = n.history_count, exchange_count = n.exchange_count,
    late_result_sealed = coalesce(n.late_result_sealed, v.late_result_sealed),
    late_failure_sealed = coalesce(n.late_failure_sealed, v.late_failure_sealed)
  FROM {_unnested("n", _NOTED)} WHERE v.id = n.verification_id AND NOT v.{IS_OPEN}
), counted AS (
  UPDATE work w SET history_count = n.history_count, exchange_count = n.exchange_count
  FROM {_unnested("n", _NOTED)} WHERE w.verification_id = n.verification_id AND w.late_tries IS NULL
), over AS (
  DELETE FROM work w USING {_unnested("o", _LATE_OVER)} WHERE w.verification_id = o.verification_id AND w.step = o.step
), too_late AS (
  DELETE FROM work w USING {_unnested("l", _LATE)}
  WHERE w.verification_id = l.verification_id AND w.late_tries IS NOT NULL AND l.next_check_at >= w.deadline
)
INSERT INTO work (verification_id, vendor, mode, payer, due_at, step, deadline, status, late_tries, waiting_for,
  waiting_since, next_check_at, route, not_asked, attempt_id, account, state, attempt_created_at, vendor_ref, intent_at,
  submitted_at, checks)
SELECT v.id, v.vendor, v.mode, {SHARE_OF_LATE}, l.next_check_at, l.step, v.completed_at + interval '{LATE_FOR}',
  v.status, l.late_tries, l.waiting_for, clock_timestamp(), l.next_check_at, '{{}}', v.not_asked, a.id, a.account, a.state,
  a.created_at, a.vendor_ref, a.intent_at, a.submitted_at, a.checks
FROM {_unnested("l", _LATE)} JOIN verifications v ON v.id = l.verification_id JOIN attempts a ON a.id = v.attempt_id
WHERE l.next_check_at < v.completed_at + interval '{LATE_FOR}'
ON CONFLICT (verification_id) DO UPDATE SET late_tries = EXCLUDED.late_tries, due_at = EXCLUDED.due_at,
  next_check_at = EXCLUDED.next_check_at, waiting_for = EXCLUDED.waiting_for, step = work.step + 1
WHERE EXCLUDED.step IN (0, work.step)""")
"""A look that is put off gives way to one that an event has brought meanwhile."""


class _Rows:
    """Arrays for `unnest`, column by column."""

    def __init__(self, **tables: Mapping[str, str]) -> None:
        self.values: dict[str, list[Any]] = {f"{p}_{name}": [] for p, columns in tables.items() for name in columns}

    def add(self, prefix: str, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            self.values[f"{prefix}_{name}"].append(value)


async def save(db: AsyncConnection, sealer: Sealer, changes: Sequence[Change], *, may_be_lost: bool = False) -> None:
    """A second statement is for what comes after an end, which is rare. If it `may_be_lost` it waits for no disk."""
    changed = [change.verification for change in changes]
    await sealer.meet(db, {v.tenant_id for v in changed}, [v.inquiry_with_ssn for v in changed])
    rows = _Rows(
        m={"verification_id": "", **_MOVED},
        e={"verification_id": "", **_END},
        a=_ATTEMPTS,
        h=_HISTORY,
        c=_CONTENTS,
        b=_BARED,
        n=_NOTED,
        l=_LATE,
        o=_LATE_OVER,
    )
    for change in changes:
        _add(rows, sealer, change)
    await _SAVE.run(db, {**rows.values, "may_be_lost": may_be_lost})
    if any(rows.values[f"{prefix}_verification_id"] for prefix in ("n", "l", "o")):
        await _SAVE_AFTER_END.run(db, rows.values)


def _add(rows: _Rows, sealer: Sealer, change: Change) -> None:
    v, id_ = change.verification, change.verification.id
    counts = {"history_count": v.history_count, "exchange_count": v.exchange_count + len(change.exchanges)}
    if change.entries or change.exchanges:
        _add_history(rows, sealer, change)
        counts["history_count"] += 1
    if change.ended:
        rows.add("e", {"verification_id": id_, **_end_row(sealer, change), **counts})
    elif v.open and not change.stray:
        bared = ssn.seal_without(sealer, v) if ssn.leaves(change) else None
        if bared is not None:
            rows.add("b", {"verification_id": id_, "inquiry_sealed": bared})
        holds_ssn = v.inquiry_with_ssn is not None and not ssn.leaves(change)
        rows.add("m", {"verification_id": id_, **_moved_row(change), **counts, "holds_ssn": holds_ssn})
    else:
        rows.add("n", {"verification_id": id_, **counts, **_late_row(sealer, change)})
    if change.ended or change.stray or change.successor is not None or not v.open:
        rows.add("a", _attempt_row(v))
    if change.late_look_in is not None:
        at = v.now + change.late_look_in
        waits = {"late_tries": change.late_tries, "next_check_at": at, "waiting_for": change.late_waits_for}
        rows.add("l", {"verification_id": id_, **waits, "step": change.late_look_of or 0})
    elif change.late_look_of is not None:
        rows.add("o", {"verification_id": id_, "step": change.late_look_of})


def _moved_row(change: Change) -> dict[str, Any]:
    v, attempt, successor = change.verification, change.verification.attempt, change.successor
    row = {name: getattr(v, name) for name in _MOVED if hasattr(v, name)}
    row |= {"route": array(v.route), "not_asked": array(v.not_asked), "due_at": None}
    if change.kept:
        row["due_at"] = v.now + timedelta(seconds=LEASE_SECONDS)
    elif change.rescheduled:
        row["due_at"] = v.next_check_at
    if successor is not None:
        begun = dict.fromkeys(("vendor_ref", "intent_at", "lookup_after", "submitted_at"))
        begun |= dict.fromkeys(("checks", "errors_in_row", "same_errors_in_row", "look_ups"), 0)
        begun |= {"attempt_id": successor.id, "vendor": successor.vendor, "not_asked": array(successor.not_asked)}
        begun |= {"account": successor.account or SHARED}
        return {
            **row,
            **begun,
            "state": AttemptState.PREPARING,
            "attempt_created_at": v.now,
            "attempt_failure_code": None,
        }
    for name in OF_ATTEMPT:
        if name != "ended_at":
            row[IN_WORK.get(name, name)] = getattr(attempt, name)
    return row


def _end_row(sealer: Sealer, change: Change) -> dict[str, Any]:
    v = change.verification
    return {
        **{name: getattr(v, name) for name in _END if hasattr(v, name)},
        "not_asked": array(v.not_asked),
        "vendor": v.attempt.vendor,
        "attempt_id": v.attempt.id,
        "failure_sealed": _sealed_end(sealer, change, "failure", _document(change.failure)),
        "result_sealed": _sealed_end(sealer, change, "result", change.result),
        "inquiry_sealed": ssn.seal_without(sealer, v),
    }


def _attempt_row(v: Verification) -> dict[str, Any]:
    row = {name: getattr(v.attempt, name) for name in _ATTEMPTS if hasattr(v.attempt, name)}
    return {**row, "verification_id": v.id, "mode": v.mode}


def _add_history(rows: _Rows, sealer: Sealer, change: Change) -> None:
    v = change.verification
    rows.add(
        "h",
        {
            "verification_id": v.id,
            "n": v.history_count,
            "attempt_id": v.attempt.id,
            "vendor": v.attempt.vendor,
            "entries": entries_of(change.entries),
            "exchanges": exchanges_in(change.exchanges),
        },
    )
    if v.raw_erased_at is not None:
        return  # what comes now is not kept either
    for position, exchange in enumerate(change.exchanges):
        rows.add("c", {"verification_id": v.id, "position": position, "sealed": seal_content(sealer, v, exchange)})


def _sealed_end(sealer: Sealer, change: Change, column: str, document: bytes | None) -> bytes | None:
    if document is None:
        return None
    v = change.verification
    end = {name: getattr(v, name) for name in STAMPED}
    place = place_in_verification(v.tenant_id, v.mode, v.id, column)
    return seal_end(sealer, place, end, _with_positions(document, change))


def _late_row(sealer: Sealer, change: Change) -> dict[str, bytes | None]:
    late = {"late_result": change.late_result, "late_failure": _document(change.late_failure)}
    return {f"{column}_sealed": _sealed_late(sealer, change, column, document) for column, document in late.items()}


def _sealed_late(sealer: Sealer, change: Change, column: str, document: bytes | None) -> bytes | None:
    if document is None:
        return None
    v = change.verification
    place = place_in_verification(v.tenant_id, v.mode, v.id, column)
    return sealer.seal(place, _with_positions(document, change), packed=True)


def _document(why: Failure | None) -> bytes | None:
    return None if why is None else why.model_dump_json().encode()


def _with_positions(document: bytes, change: Change) -> bytes:
    """`sources` name each new exchange by its position in the raw document instead of its id."""
    for position, exchange in enumerate(change.exchanges, start=change.verification.exchange_count):
        document = document.replace(f"/exchanges/{exchange.id}".encode(), f"/exchanges/{position}".encode())
    return document
