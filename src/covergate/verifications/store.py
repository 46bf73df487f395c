"""The SQL of verifications, attempts, exchanges and timeline; what is sealed is sealed and opened here.

`lock` and `save` belong to one transaction, so a change is always made from the truth and two processes never decide at
the same time. One is a list of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db import jobs
from covergate.db.queue_schema import enqueue_sql
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.eligibility.failure import Failure
from covergate.states import IS_OPEN, AttemptState, Status, WaitingFor
from covergate.vendors.flow import Reply
from covergate.verifications.model import Attempt, Change, Exchange, Verification

_DERIVED = ("now", "attempt", "result", "answered_late")
_VERIFICATION = [f.name for f in fields(Verification) if f.name not in _DERIVED]
_ATTEMPT = [f.name for f in fields(Attempt)]
_SELECT = (
    "SELECT "
    + ", ".join([f"v.{name} AS v_{name}" for name in _VERIFICATION] + [f"a.{name} AS a_{name}" for name in _ATTEMPT])
    + ", v.late_result_sealed IS NOT NULL AS answered_late, clock_timestamp() AS now,"
    " CASE WHEN v.completed_at IS NOT NULL THEN v.result_sealed END AS result_sealed"
)
_FROM = " FROM verifications v JOIN attempts a ON a.id = v.attempt_id WHERE "
_READ = Query(f"{_SELECT}, v.inquiry_sealed, v.failure_sealed{_FROM} v.id = :id")
_LOCK = Query(f"{_SELECT}{_FROM} v.id = ANY(CAST(:ids AS text[])) ORDER BY v.id FOR UPDATE OF v, a")
_LOCK_LATE = Query(
    f"{_SELECT}{_FROM} v.{IS_OPEN} AND v.deadline <= now() AND v.id <> ALL(CAST(:but AS text[]))"
    " ORDER BY v.deadline LIMIT :limit FOR UPDATE OF v, a SKIP LOCKED"
)
_LOCK_ATTEMPT = Query(f"SELECT {', '.join(_ATTEMPT)} FROM attempts WHERE id = :id FOR UPDATE")
_STORED_EXCHANGES = Query("SELECT public_id FROM exchanges WHERE public_id = ANY(CAST(:ids AS text[]))")
_REPLIES = Query(
    "SELECT position, public_id, at, call, status, content_type, content_sealed FROM exchanges"
    " WHERE verification_id = :id AND attempt_id = :attempt_id ORDER BY position"
)
_LOCK_REF = Query(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:vendor AS text) || ':' || CAST(:ref AS text), 0))"
)
_MATCH_EVENTS = Query(
    "UPDATE vendor_events SET verification_id = :id"
    " WHERE vendor = :vendor AND mode = :mode AND ref = :ref AND verification_id IS NULL RETURNING wakes",
    id="text",
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A verification as it was read for a step, with its sealed inquiry."""

    verification: Verification
    inquiry_sealed: bytes = field(repr=False)
    failure_sealed: bytes | None = field(default=None, repr=False)


def _verification(row: Any, sealer: Sealer) -> Verification:
    values = list(row.values())
    split = len(_VERIFICATION)
    of_verification = dict(zip(_VERIFICATION, values, strict=False))
    of_verification["status"] = Status(of_verification["status"])
    if of_verification["waiting_for"] is not None:
        of_verification["waiting_for"] = WaitingFor(of_verification["waiting_for"])
    sealed = row["result_sealed"]
    return Verification(
        **of_verification,
        answered_late=row["answered_late"],
        now=row["now"],
        attempt=_attempt(values[split : split + len(_ATTEMPT)]),
        result=None if sealed is None else sealer.open("verifications", "result", of_verification["id"], sealed),
    )


def _attempt(values: Iterable[Any]) -> Attempt:
    of_attempt = dict(zip(_ATTEMPT, values, strict=True))
    return Attempt(**{**of_attempt, "state": AttemptState(of_attempt["state"])})


async def read_claimed(db: AsyncConnection, sealer: Sealer, verification_id: str) -> Claimed | None:
    row = await _READ.one(db, {"id": verification_id})
    if row is None:
        return None
    return Claimed(_verification(row, sealer), row["inquiry_sealed"], row["failure_sealed"])


async def lock(db: AsyncConnection, sealer: Sealer, ids: Sequence[str]) -> dict[str, Verification]:
    """The rows of these verifications and their current attempts, locked in the order of ids until the transaction ends.

    If another attempt became the current one while we waited for the lock, PostgreSQL joins the new verification with the
    old attempt and finds nothing: asked again, it sees both as they are.
    """
    locked: dict[str, Verification] = {}
    for _ in range(3):
        missing = sorted(set(ids) - locked.keys())
        if not missing:
            break
        locked |= {row["v_id"]: _verification(row, sealer) for row in await _LOCK.all(db, {"ids": missing})}
    return locked


async def lock_late(db: AsyncConnection, sealer: Sealer, limit: int, but: Sequence[str]) -> list[Verification]:
    """Open verifications past their deadline, the latest first, except `but` and those that somebody else has locked."""
    return [_verification(row, sealer) for row in await _LOCK_LATE.all(db, {"limit": limit, "but": list(but)})]


async def lock_attempt(db: AsyncConnection, attempt_id: str) -> Attempt:
    """An attempt that need not be the current one."""
    row = await _LOCK_ATTEMPT.one(db, {"id": attempt_id})
    assert row is not None, "attempts are never deleted before their verification"
    return _attempt(row.values())


async def lock_ref(db: AsyncConnection, vendor: str, ref: str) -> None:
    """Taken before a reference is stored and before an event is: one of the two then sees the other."""
    await _LOCK_REF.all(db, {"vendor": vendor, "ref": ref})


async def match_events(db: AsyncConnection, v: Verification) -> bool:
    """Events that overtook the answer to their own submit are this verification's; whether one of them wakes it."""
    if v.attempt.vendor_ref is None:
        return False
    values = {"id": v.id, "vendor": v.attempt.vendor, "mode": v.mode, "ref": v.attempt.vendor_ref}
    return any(row["wakes"] for row in await _MATCH_EVENTS.all(db, values))


async def stored_exchanges(db: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """Which of these exchanges an earlier try has written already, although its commit was never confirmed."""
    return {row["public_id"] for row in await _STORED_EXCHANGES.all(db, {"ids": list(ids)})}


async def stored_replies(db: AsyncConnection, sealer: Sealer, v: Verification) -> list[tuple[str, Reply]]:
    """The replies to the current attempt so far, each with the label of its call; of their headers only the content type."""
    rows = await _REPLIES.all(db, {"id": v.id, "attempt_id": v.attempt.id})
    return [(row["call"], _reply(row, sealer)) for row in rows]


def _reply(row: Any, sealer: Sealer) -> Reply:
    return Reply(
        status=row["status"],
        headers={} if row["content_type"] is None else {"content-type": row["content_type"]},
        content=sealer.open("exchanges", "content", row["public_id"], row["content_sealed"]),
        pointer=f"/exchanges/{row['position']}",
        at=row["at"],
    )


def open_failure(sealer: Sealer, verification_id: str, sealed: bytes | None) -> Failure | None:
    if sealed is None:
        return None
    return Failure.model_validate_json(sealer.open("verifications", "failure", verification_id, sealed))


# --- writing ---------------------------------------------------------------------------------------------------------

_WRITTEN_VERIFICATION = {
    "route": "text",  # a PostgreSQL array as text: vendors' names need no quotes
    "payer_retries": "smallint",
    "follows": "text",
    "reused_from": "text",
    "status": "text",
    "outcome": "text",
    "outcome_reason": "text",
    "failure_code": "text",
    "step": "int",
    "wake_requested": "boolean",
    "waiting_for": "text",
    "waiting_since": "timestamptz",
    "next_check_at": "timestamptz",
    "completed_at": "timestamptz",
    "exchange_count": "int",
}
_WRITTEN_SEALED = ("result_sealed", "late_result_sealed", "failure_sealed")
_WRITTEN_ATTEMPT = {
    "vendor_ref": "text",
    "state": "text",
    "intent_at": "timestamptz",
    "lookup_after": "timestamptz",
    "submitted_at": "timestamptz",
    "expires_at": "timestamptz",
    "ended_at": "timestamptz",
    "failure_code": "text",
    "checks": "int",
    "errors_in_row": "int",
    "same_errors_in_row": "int",
    "look_ups": "int",
}
_COLUMNS: dict[str, str] = {
    "id": "text",
    "attempt_id": "text",
    "successor_id": "text",
    "successor_vendor": "text",
    "successor_not_asked": "text",
    **{f"v_{name}": type_ for name, type_ in _WRITTEN_VERIFICATION.items()},
    **{f"v_{name}": "bytea" for name in _WRITTEN_SEALED},
    **{f"a_{name}": type_ for name, type_ in _WRITTEN_ATTEMPT.items()},
}
_ENTRIES = {
    "verification_id": "text",
    "type": "text",
    "attempt_id": "text",
    "vendor": "text",
    "message": "text",
    "waiting_for": "text",
    "next_check_at": "timestamptz",
}
_EXCHANGES = {
    "verification_id": "text",
    "position": "int",
    "public_id": "text",
    "attempt_id": "text",
    "at": "timestamptz",
    "call": "text",
    "status": "smallint",
    "content_type": "text",
    "content_sealed": "bytea",
}


def _unnested(prefix: str, columns: dict[str, str]) -> str:
    return ", ".join(f"CAST(:{prefix}{name} AS {type_}[])" for name, type_ in columns.items())


_NOT_ASKED = "ARRAY(SELECT json_array_elements_text(CAST(r.successor_not_asked AS json)))"
_SET_VERIFICATION = ", ".join(
    [f"{name} = r.v_{name}" for name in _WRITTEN_VERIFICATION if name != "route"]
    + ["route = CAST(r.v_route AS text[])"]
    + [f"{name} = coalesce(r.v_{name}, v.{name})" for name in _WRITTEN_SEALED]
    + ["attempt_id = coalesce(r.successor_id, v.attempt_id)", "vendor = coalesce(r.successor_vendor, v.vendor)"]
    + [f"not_asked = CASE WHEN r.successor_id IS NULL THEN v.not_asked ELSE {_NOT_ASKED} END"]
)
_WRITE = Query(f"""
WITH r AS MATERIALIZED (
  SELECT * FROM unnest({_unnested("r_", _COLUMNS)}) AS r({", ".join(_COLUMNS)})
), a AS (
  UPDATE attempts a SET {", ".join(f"{name} = r.a_{name}" for name in _WRITTEN_ATTEMPT)} FROM r WHERE a.id = r.attempt_id
), n AS (
  INSERT INTO attempts (id, verification_id, vendor, mode, payer_id, state)
  SELECT r.successor_id, v.id, r.successor_vendor, v.mode, v.payer_id, '{AttemptState.PREPARING}'
  FROM r JOIN verifications v ON v.id = r.id WHERE r.successor_id IS NOT NULL
), t AS (
  INSERT INTO timeline (verification_id, at, type, attempt_id, vendor, message, waiting_for, next_check_at)
  SELECT verification_id, clock_timestamp(), type, attempt_id, vendor, message, waiting_for, next_check_at
  FROM unnest({_unnested("t_", _ENTRIES)}) WITH ORDINALITY AS t({", ".join(_ENTRIES)}, n) ORDER BY n
), x AS (
  INSERT INTO exchanges ({", ".join(_EXCHANGES)})
  SELECT * FROM unnest({_unnested("x_", _EXCHANGES)}) AS x({", ".join(_EXCHANGES)})
), j AS ({enqueue_sql()}
)
UPDATE verifications v SET {_SET_VERIFICATION} FROM r WHERE v.id = r.id""")


async def save(db: AsyncConnection, sealer: Sealer, changes: Sequence[Change], wanted: Sequence[jobs.Job]) -> None:
    """Rows, timeline, exchanges, new attempts and jobs in one statement. Only under the locks of `lock`."""
    values: dict[str, Any] = {f"r_{name}": [] for name in _COLUMNS}
    values |= {f"t_{name}": [] for name in _ENTRIES} | {f"x_{name}": [] for name in _EXCHANGES}
    for change in changes:
        _add_row(values, sealer, change)
        _add_entries(values, change)
        _add_exchanges(values, sealer, change)
    await _WRITE.all(db, values | jobs.enqueuing(wanted))
    jobs.announce(db, wanted)


def _add_row(values: dict[str, Any], sealer: Sealer, change: Change) -> None:
    v, attempt, successor = change.verification, change.verification.attempt, change.successor
    values["r_id"].append(v.id)
    values["r_attempt_id"].append(attempt.id)
    values["r_successor_id"].append(successor.id if successor else None)
    values["r_successor_vendor"].append(successor.vendor if successor else None)
    values["r_successor_not_asked"].append(orjson.dumps(successor.not_asked).decode() if successor else None)
    for name in _WRITTEN_VERIFICATION:
        values[f"r_v_{name}"].append(getattr(v, name))
    values["r_v_route"][-1] = "{" + ",".join(v.route) + "}"
    values["r_v_exchange_count"][-1] = v.exchange_count + len(change.exchanges)
    failure = change.failure.model_dump_json().encode() if change.failure is not None else None
    documents = {"result": change.result, "late_result": change.late_result, "failure": failure}
    for column, document in documents.items():
        sealed = None
        if document is not None:
            sealed = sealer.seal("verifications", column, v.id, _with_positions(document, change))
        values[f"r_v_{column}_sealed"].append(sealed)
    for name in _WRITTEN_ATTEMPT:
        values[f"r_a_{name}"].append(getattr(attempt, name))


def _with_positions(document: bytes, change: Change) -> bytes:
    """`sources` name each new exchange by its position in the raw document instead of its id."""
    for position, exchange in enumerate(change.exchanges, start=change.verification.exchange_count):
        document = document.replace(f"/exchanges/{exchange.id}".encode(), f"/exchanges/{position}".encode())
    return document


def _add_entries(values: dict[str, Any], change: Change) -> None:
    for entry in change.entries:
        row = {
            "verification_id": change.verification.id,
            "type": entry.type,
            "attempt_id": change.verification.attempt.id,
            "vendor": change.verification.attempt.vendor,
            "message": entry.message,
            "waiting_for": entry.waiting_for,
            "next_check_at": entry.next_check_at,
        }
        for name, value in row.items():
            values[f"t_{name}"].append(value)


def _add_exchanges(values: dict[str, Any], sealer: Sealer, change: Change) -> None:
    v = change.verification
    for position, exchange in enumerate(change.exchanges, start=v.exchange_count):
        for name, value in _exchange_row(v, sealer, position, exchange).items():
            values[f"x_{name}"].append(value)


def _exchange_row(v: Verification, sealer: Sealer, position: int, exchange: Exchange) -> dict[str, Any]:
    return {
        "verification_id": v.id,
        "position": position,
        "public_id": exchange.id,
        "attempt_id": v.attempt.id,
        "at": exchange.at,
        "call": exchange.call,
        "status": exchange.status,
        "content_type": exchange.content_type,
        "content_sealed": sealer.seal("exchanges", "content", exchange.id, exchange.content),
    }
