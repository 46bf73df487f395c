"""The SQL of verifications: `work`, `attempts`, `history`, `results`; what is sealed is sealed and opened here.

`lock` and `save` belong to one transaction, so a change is always made from the truth and two processes never decide at
the same time. One is a list of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.queue import LEASE_SECONDS, claiming, renewing
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.eligibility.failure import Failure
from covergate.states import IS_OPEN, AttemptState, Status, WaitingFor
from covergate.timestamps import instant
from covergate.vendors.flow import Reply
from covergate.verifications.model import Attempt, Change, TimelineRow, Verification

WORK = "covergate_work"
"""The channel on which due verifications are announced."""
LATE_FOR = "30 days"
"""After its end a verification is looked at once more if the vendor says that it has an answer; not later than this."""

# --- reading ---------------------------------------------------------------------------------------------------------

_OF_ATTEMPT = [f.name for f in fields(Attempt)]
_IN_WORK = {"id": "attempt_id", "created_at": "attempt_created_at", "failure_code": "attempt_failure_code"}
"""The columns of the current attempt that have another name in `work`."""
_OF_WORK_ONLY = {"errors_in_row": "0", "same_errors_in_row": "0", "look_ups": "0"}
"""What an attempt has no longer when it has ended."""

_STATIC = ("id", "tenant_id", "mode", "external_id", "metadata", "created_at")
_OF_END = ("outcome", "outcome_reason", "failure_code", "reused_from", "completed_at")
_MOVING = ("status", "deadline", "not_asked", "history_count", "exchange_count")
"""In `work` while it is open, afterwards in `verifications`."""
_WHILE_OPEN = {
    "step": "0",
    "late_tries": "NULL",
    "route": "CAST('{}' AS text[])",
    "allow_second_submission": "false",
    "payer_retries": "0",
    "follows": "NULL",
    "wake_requested": "false",
    "waiting_for": "NULL",
    "waiting_since": "NULL",
    "next_check_at": "NULL",
}
"""Column of `work` → what it is after the end."""
_OF_VERIFICATION = [*_STATIC, *_OF_END, *_MOVING, *_WHILE_OPEN]

_OPEN = ", ".join(
    [
        *(f"v.{name}" for name in (*_STATIC, *_OF_END)),
        *(f"w.{name}" for name in (*_MOVING, *_WHILE_OPEN)),
        *("CAST(NULL AS timestamptz)" if name == "ended_at" else f"w.{_IN_WORK.get(name, name)}" for name in _OF_ATTEMPT),
        "v.late_result_sealed IS NOT NULL AS answered_late, clock_timestamp() AS now, CAST(NULL AS bytea) AS result_sealed",
    ]
)
_ENDED = ", ".join(
    [
        *(f"v.{name}" for name in (*_STATIC, *_OF_END, *_MOVING)),
        *_WHILE_OPEN.values(),
        *(_OF_WORK_ONLY.get(name, f"a.{name}") for name in _OF_ATTEMPT),
        "v.late_result_sealed IS NOT NULL AS answered_late, clock_timestamp() AS now, r.sealed AS result_sealed",
    ]
)
_JOINED_OPEN = "FROM work w JOIN verifications v ON v.id = w.verification_id"
_JOINED_ENDED = "FROM verifications v JOIN attempts a ON a.id = v.attempt_id LEFT JOIN results r ON r.verification_id = v.id"

_READ_OPEN = Query(
    f"SELECT {_OPEN}, v.inquiry_sealed, w.payer {_JOINED_OPEN} WHERE w.verification_id = :id AND w.late_tries IS NULL"
)
_READ_ENDED = Query(
    f"SELECT {_ENDED}, v.inquiry_sealed, '' AS payer, v.failure_sealed {_JOINED_ENDED} WHERE v.id = :id AND NOT v.{IS_OPEN}"
)
_LOCK_OPEN = Query(
    f"SELECT {_OPEN} {_JOINED_OPEN} WHERE w.verification_id = ANY(CAST(:ids AS text[])) AND w.late_tries IS NULL"
    " ORDER BY w.verification_id FOR NO KEY UPDATE OF w"
)
_LOCK_ENDED = Query(
    f"SELECT {_ENDED} {_JOINED_ENDED} WHERE v.id = ANY(CAST(:ids AS text[])) AND NOT v.{IS_OPEN}"
    " ORDER BY v.id FOR NO KEY UPDATE OF v"
)
_LOCK_PAST_DEADLINE = Query(
    f"SELECT {_OPEN} {_JOINED_OPEN} WHERE w.deadline <= now() AND w.late_tries IS NULL"
    " AND w.verification_id <> ALL(CAST(:but AS text[])) ORDER BY w.deadline LIMIT :limit FOR NO KEY UPDATE OF w SKIP LOCKED"
)
_ATTEMPT = ", ".join(_OF_WORK_ONLY.get(name, name) for name in _OF_ATTEMPT)
_LOCK_ATTEMPT = Query(f"SELECT {_ATTEMPT} FROM attempts WHERE id = :id FOR NO KEY UPDATE")
_STORED_EXCHANGES = Query("""
SELECT x ->> 'id' AS id FROM history, jsonb_array_elements(exchanges) AS x
WHERE verification_id = ANY(CAST(:ids AS text[])) AND exchanges IS NOT NULL""")
_REPLIES = Query(
    "SELECT exchanges, contents_sealed, attempt_id FROM history"
    " WHERE verification_id = :id AND exchanges IS NOT NULL ORDER BY n"
)
_LOCK_REF = Query(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:vendor AS text) || ':' || CAST(:ref AS text), 0))"
)
_MATCH_EVENTS = Query(
    "UPDATE vendor_events SET verification_id = :id"
    " WHERE vendor = :vendor AND mode = :mode AND ref = :ref AND verification_id IS NULL RETURNING wakes",
    id="text",
)


@dataclass(slots=True)
class Claimed:
    """A verification as it was read for a step, with its sealed inquiry. Its claimer takes `verification` from step to step."""

    verification: Verification
    inquiry_sealed: bytes = field(repr=False)
    payer: str = ""
    failure_sealed: bytes | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        return self.verification.id

    @property
    def step(self) -> int:
        return self.verification.step


def _verification(row: Any, sealer: Sealer) -> Verification:
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
        now=row["now"],
        attempt=_attempt(values[split : split + len(_OF_ATTEMPT)]),
        result=open_result(sealer, of_verification["id"], row["result_sealed"]),
    )


def _attempt(values: Iterable[Any]) -> Attempt:
    of_attempt = dict(zip(_OF_ATTEMPT, values, strict=True))
    of_attempt["state"] = AttemptState(of_attempt["state"])
    return Attempt(**of_attempt)


async def read_claimed(db: AsyncConnection, sealer: Sealer, verification_id: str) -> Claimed | None:
    """The verification as it stands; nobody's claim."""
    row = await _READ_OPEN.one(db, {"id": verification_id})
    if row is not None:
        return Claimed(_verification(row, sealer), row["inquiry_sealed"], row["payer"])
    row = await _READ_ENDED.one(db, {"id": verification_id})
    if row is None:
        return None
    return Claimed(_verification(row, sealer), row["inquiry_sealed"], "", row["failure_sealed"])


async def lock(db: AsyncConnection, sealer: Sealer, ids: Sequence[str]) -> dict[str, Verification]:
    """The verifications by id, locked until the transaction ends: the open ones first, each kind in the order of ids."""
    wanted = sorted(set(ids))
    found = [_verification(row, sealer) for row in await _LOCK_OPEN.all(db, {"ids": wanted})]
    if len(found) < len(wanted):
        missing = sorted({*wanted} - {v.id for v in found})
        found += [_verification(row, sealer) for row in await _LOCK_ENDED.all(db, {"ids": missing})]
    return {v.id: v for v in found}


async def lock_past_deadline(
    db: AsyncConnection, sealer: Sealer, limit: int, but: Sequence[str]
) -> list[Verification]:
    """Open verifications past their deadline, the latest first, except `but` and those that somebody else has locked."""
    rows = await _LOCK_PAST_DEADLINE.all(db, {"limit": limit, "but": list(but)})
    return [_verification(row, sealer) for row in rows]


async def lock_attempt(db: AsyncConnection, attempt_id: str) -> Attempt:
    """An attempt that has ended."""
    row = await _LOCK_ATTEMPT.one(db, {"id": attempt_id})
    assert row is not None, "attempts are written when they end, and deleted with their verification"
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
    """The exchanges of these verifications: an earlier try may have written some although its commit was never confirmed."""
    return {row["id"] for row in await _STORED_EXCHANGES.all(db, {"ids": list(ids)})}


async def stored_replies(db: AsyncConnection, sealer: Sealer, v: Verification) -> list[tuple[str, Reply]]:
    """The replies to the current attempt so far, each with the label of its call; of their headers only the content type."""
    stored = exchanges_of(await _REPLIES.all(db, {"id": v.id}))
    return [
        (exchange["call"], _reply(sealer, position, exchange, sealed))
        for position, (attempt_id, exchange, sealed) in enumerate(stored)
        if attempt_id == v.attempt.id
    ]


def exchanges_of(rows: Iterable[Any]) -> list[tuple[str, dict[str, Any], bytes]]:
    """Rows of `history` → attempt, exchange and its sealed content, each at its position in the raw document."""
    return [
        (row["attempt_id"], exchange, sealed)
        for row in rows
        for exchange, sealed in zip(row["exchanges"], row["contents_sealed"], strict=True)
    ]


def open_content(sealer: Sealer, exchange: Mapping[str, Any], sealed: bytes) -> bytes:
    """What the vendor replied."""
    return sealer.open("exchanges", "content", exchange["id"], sealed)


def _reply(sealer: Sealer, position: int, exchange: Mapping[str, Any], sealed: bytes) -> Reply:
    content_type = exchange["content_type"]
    return Reply(
        status=exchange["status"],
        headers={} if content_type is None else {"content-type": content_type},
        content=open_content(sealer, exchange, sealed),
        pointer=f"/exchanges/{position}",
        at=datetime.fromisoformat(exchange["at"]),
    )


def open_failure(sealer: Sealer, verification_id: str, sealed: bytes | None) -> Failure | None:
    if sealed is None:
        return None
    return Failure.model_validate_json(sealer.open("verifications", "failure", verification_id, sealed))


def open_result(sealer: Sealer, verification_id: str, sealed: bytes | None) -> bytes | None:
    """A JSON document."""
    return None if sealed is None else sealer.open("verifications", "result", verification_id, sealed)


# --- claiming --------------------------------------------------------------------------------------------------------

_CLAIM = Query(f"""
WITH {claiming("work", "verification_id", "vendor", fits="t.vendor || ' ' || t.payer <> ALL(CAST(:full AS text[]))")}
SELECT {_OPEN}, v.inquiry_sealed, w.payer FROM taken w JOIN verifications v ON v.id = w.verification_id""")
_RENEW = Query(renewing("work", "verification_id"))
_RELEASE = Query("UPDATE work SET due_at = next_check_at WHERE verification_id = :id AND step = :step")
_NEXT_IN = Query("""
SELECT extract(epoch FROM min(following.due_at) - clock_timestamp())::float8
FROM unnest(CAST(:lanes AS text[])) AS lanes(lane), LATERAL (
  SELECT due_at FROM work WHERE vendor = lanes.lane AND due_at > now() ORDER BY due_at LIMIT 1) AS following""")


async def claim(
    db: AsyncConnection, sealer: Sealer, rooms: Mapping[str, int], full: Collection[str]
) -> list[Claimed]:
    """Lane → how many are wanted of it at most; none of payers (`<vendor> <payer>`) that have their share."""
    values = {"lanes": list(rooms), "rooms": list(rooms.values()), "full": list(full)}
    rows = await _CLAIM.all(db, values)
    return [Claimed(_verification(row, sealer), row["inquiry_sealed"], row["payer"]) for row in rows]


async def next_in(db: AsyncConnection, lanes: Sequence[str]) -> float | None:
    """Seconds until the next verification of these lanes is due that is not yet."""
    seconds: float | None = await _NEXT_IN.scalar(db, {"lanes": list(lanes)})
    return seconds


async def renew(db: AsyncConnection, claims: Sequence[Claimed]) -> None:
    await _RENEW.run(db, {"keys": [one.key for one in claims], "steps": [one.step for one in claims]})


async def release(db: AsyncConnection, claimed: Claimed) -> None:
    """Gives a claim back: nothing was done, and another may do it at once."""
    await _RELEASE.run(db, {"id": claimed.key, "step": claimed.step})


# --- writing ---------------------------------------------------------------------------------------------------------

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
    "history_count": "int",
    "exchange_count": "int",
    "attempt_id": "text",
    "state": "text",
    "attempt_created_at": "timestamptz",
    "vendor_ref": "text",
    "intent_at": "timestamptz",
    "lookup_after": "timestamptz",
    "submitted_at": "timestamptz",
    "expires_at": "timestamptz",
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
    "not_asked": "text",
    "history_count": "int",
    "exchange_count": "int",
    "failure_sealed": "bytea",
    "result_sealed": "bytea",
}
_ATTEMPTS = {
    "id": "text",
    "verification_id": "text",
    "vendor": "text",
    "mode": "text",
    "vendor_ref": "text",
    "state": "text",
    "created_at": "timestamptz",
    "intent_at": "timestamptz",
    "lookup_after": "timestamptz",
    "submitted_at": "timestamptz",
    "expires_at": "timestamptz",
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
_NOTED = {"verification_id": "text", "history_count": "int", "exchange_count": "int", "late_result_sealed": "bytea"}
_LATE = {"verification_id": "text", "late_tries": "smallint", "next_check_at": "timestamptz", "waiting_for": "text"}
_LATE_OVER = {"verification_id": "text", "step": "int"}

_ARRAYS = ("route", "not_asked")


def _unnested(prefix: str, columns: Mapping[str, str]) -> str:
    given = ", ".join(f"CAST(:{prefix}_{name} AS {type_}[])" for name, type_ in columns.items())
    return f"unnest({given}) AS {prefix}({', '.join(columns)})"


def _set(prefix: str, columns: Iterable[str]) -> str:
    return ", ".join(
        f"{name} = CAST({prefix}.{name} AS text[])" if name in _ARRAYS else f"{name} = {prefix}.{name}" for name in columns
    )


_SAVE = Query(f"""
WITH moved AS (
  UPDATE work SET {_set("m", [name for name in _MOVED if name != "due_at"])}, due_at = coalesce(m.due_at, work.due_at),
    exclusive_key = CASE WHEN work.attempt_id = m.attempt_id THEN exclusive_key END
  FROM {_unnested("m", {"verification_id": "text", **_MOVED})} WHERE work.verification_id = m.verification_id
), e AS MATERIALIZED (
  SELECT * FROM {_unnested("e", {"verification_id": "text", **_END})}
), gone AS (
  DELETE FROM work USING e WHERE work.verification_id = e.verification_id
), ended AS (
  UPDATE verifications SET {_set("e", [name for name in _END if name != "result_sealed"])}
  FROM e WHERE id = e.verification_id
), answered AS (
  INSERT INTO results (verification_id, sealed) SELECT verification_id, result_sealed FROM e WHERE result_sealed IS NOT NULL
), tried AS (
  INSERT INTO attempts ({", ".join(_ATTEMPTS)}, payer_id)
  SELECT {", ".join(f"a.{name}" for name in _ATTEMPTS)}, v.payer_id
  FROM {_unnested("a", _ATTEMPTS)} JOIN verifications v ON v.id = a.verification_id
  ON CONFLICT (id) DO UPDATE SET vendor_ref = EXCLUDED.vendor_ref, submitted_at = EXCLUDED.submitted_at,
    lookup_after = EXCLUDED.lookup_after
)
INSERT INTO history ({", ".join(_HISTORY)}, at, contents_sealed)
SELECT {", ".join(f"h.{name}" for name in _HISTORY)}, clock_timestamp(), c.sealed
FROM {_unnested("h", _HISTORY)} LEFT JOIN (
  SELECT verification_id, array_agg(sealed ORDER BY position) AS sealed FROM {_unnested("c", _CONTENTS)} GROUP BY 1
) AS c USING (verification_id)""")

_SAVE_AFTER_END = Query(f"""
WITH noted AS (
  UPDATE verifications v SET history_count = n.history_count, exchange_count = n.exchange_count,
    late_result_sealed = coalesce(n.late_result_sealed, v.late_result_sealed)
  FROM {_unnested("n", _NOTED)} WHERE v.id = n.verification_id AND NOT v.{IS_OPEN}
), counted AS (
  UPDATE work w SET history_count = n.history_count, exchange_count = n.exchange_count
  FROM {_unnested("n", _NOTED)} WHERE w.verification_id = n.verification_id AND w.late_tries IS NULL
), over AS (
  DELETE FROM work w USING {_unnested("o", _LATE_OVER)} WHERE w.verification_id = o.verification_id AND w.step = o.step
)
INSERT INTO work (verification_id, vendor, mode, payer, due_at, step, deadline, status, late_tries, waiting_for,
  waiting_since, next_check_at, route, not_asked, attempt_id, state, attempt_created_at, vendor_ref, intent_at, submitted_at,
  expires_at, checks)
SELECT v.id, v.vendor, v.mode, coalesce(v.payer_id, ''), l.next_check_at, 0, v.completed_at + interval '{LATE_FOR}', v.status,
  l.late_tries, l.waiting_for, clock_timestamp(), l.next_check_at, '{{}}', v.not_asked, a.id, a.state, a.created_at,
  a.vendor_ref, a.intent_at, a.submitted_at, a.expires_at, a.checks
FROM {_unnested("l", _LATE)} JOIN verifications v ON v.id = l.verification_id JOIN attempts a ON a.id = v.attempt_id
WHERE l.next_check_at < v.completed_at + interval '{LATE_FOR}'
ON CONFLICT (verification_id) DO UPDATE SET late_tries = EXCLUDED.late_tries, due_at = EXCLUDED.due_at,
  next_check_at = EXCLUDED.next_check_at, waiting_for = EXCLUDED.waiting_for, step = work.step + 1""")


class _Rows:
    """Arrays for `unnest`, column by column."""

    def __init__(self, **tables: Mapping[str, str]) -> None:
        self.values: dict[str, list[Any]] = {f"{p}_{name}": [] for p, columns in tables.items() for name in columns}

    def add(self, prefix: str, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            self.values[f"{prefix}_{name}"].append(value)


async def save(db: AsyncConnection, sealer: Sealer, changes: Sequence[Change]) -> None:
    """Everything that the changes bring, in one statement. Only under the locks of `lock`."""
    rows = _Rows(
        m={"verification_id": "", **_MOVED},
        e={"verification_id": "", **_END},
        a=_ATTEMPTS,
        h=_HISTORY,
        c=_CONTENTS,
        n=_NOTED,
        l=_LATE,
        o=_LATE_OVER,
    )
    for change in changes:
        _add(rows, sealer, change)
    await _SAVE.run(db, rows.values)
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
        rows.add("m", {"verification_id": id_, **_moved_row(change), **counts})
    else:
        late = _sealed(sealer, change, "late_result", change.late_result)
        rows.add("n", {"verification_id": id_, **counts, "late_result_sealed": late})
    if change.ended or change.stray or change.successor is not None or not v.open:
        rows.add("a", _attempt_row(v))
    if change.late_look_in is not None:
        at = v.now + change.late_look_in
        waits = {"late_tries": change.late_tries, "next_check_at": at, "waiting_for": change.late_waits_for}
        rows.add("l", {"verification_id": id_, **waits})
    elif change.late_look_over is not None:
        rows.add("o", {"verification_id": id_, "step": change.late_look_over})


def _moved_row(change: Change) -> dict[str, Any]:
    v, attempt, successor = change.verification, change.verification.attempt, change.successor
    row = {name: getattr(v, name) for name in _MOVED if hasattr(v, name)}
    row |= {"route": array(v.route), "not_asked": array(v.not_asked), "due_at": None}
    if change.kept:
        row["due_at"] = v.now + timedelta(seconds=LEASE_SECONDS)
    elif change.rescheduled:
        row["due_at"] = v.next_check_at
    if successor is not None:
        begun = dict.fromkeys(("vendor_ref", "intent_at", "lookup_after", "submitted_at", "expires_at"))
        begun |= dict.fromkeys(("checks", "errors_in_row", "same_errors_in_row", "look_ups"), 0)
        begun |= {"attempt_id": successor.id, "vendor": successor.vendor, "not_asked": array(successor.not_asked)}
        return {
            **row,
            **begun,
            "state": AttemptState.PREPARING,
            "attempt_created_at": v.now,
            "attempt_failure_code": None,
        }
    for name in _OF_ATTEMPT:
        if name != "ended_at":
            row[_IN_WORK.get(name, name)] = getattr(attempt, name)
    return row


def _end_row(sealer: Sealer, change: Change) -> dict[str, Any]:
    v = change.verification
    failure = change.failure.model_dump_json().encode() if change.failure is not None else None
    return {
        **{name: getattr(v, name) for name in _END if hasattr(v, name)},
        "not_asked": array(v.not_asked),
        "vendor": v.attempt.vendor,
        "attempt_id": v.attempt.id,
        "failure_sealed": _sealed(sealer, change, "failure", failure),
        "result_sealed": _sealed(sealer, change, "result", change.result),
    }


def _attempt_row(v: Verification) -> dict[str, Any]:
    row = {name: getattr(v.attempt, name) for name in _ATTEMPTS if hasattr(v.attempt, name)}
    return {**row, "verification_id": v.id, "mode": v.mode}


def entries_of(rows: Sequence[TimelineRow]) -> str:
    """Rows of the timeline as `history.entries`, in JSON."""
    entries = [
        {
            "type": row.type,
            "message": row.message,
            "waiting_for": row.waiting_for,
            "next_check_at": instant(row.next_check_at),
        }
        for row in rows
    ]
    return orjson.dumps(entries).decode()


def _add_history(rows: _Rows, sealer: Sealer, change: Change) -> None:
    v = change.verification
    exchanges = [
        {
            "id": exchange.id,
            "at": exchange.at.isoformat(),
            "call": exchange.call,
            "status": exchange.status,
            "content_type": exchange.content_type,
        }
        for exchange in change.exchanges
    ]
    rows.add(
        "h",
        {
            "verification_id": v.id,
            "n": v.history_count,
            "attempt_id": v.attempt.id,
            "vendor": v.attempt.vendor,
            "entries": entries_of(change.entries),
            "exchanges": orjson.dumps(exchanges).decode() if exchanges else None,
        },
    )
    for position, exchange in enumerate(change.exchanges):
        sealed = sealer.seal("exchanges", "content", exchange.id, exchange.content, packed=True)
        rows.add("c", {"verification_id": v.id, "position": position, "sealed": sealed})


def _sealed(sealer: Sealer, change: Change, column: str, document: bytes | None) -> bytes | None:
    if document is None:
        return None
    return sealer.seal("verifications", column, change.verification.id, _with_positions(document, change), packed=True)


def _with_positions(document: bytes, change: Change) -> bytes:
    """`sources` name each new exchange by its position in the raw document instead of its id."""
    for position, exchange in enumerate(change.exchanges, start=change.verification.exchange_count):
        document = document.replace(f"/exchanges/{exchange.id}".encode(), f"/exchanges/{position}".encode())
    return document


def array(names: Iterable[str]) -> str:
    """A PostgreSQL array of names and JSON pointers as text: arrays cannot be unnested into rows of arrays."""
    return "{" + ",".join(f'"{name}"' for name in names) + "}"
