"""The mutable part of a verification and its current attempt: read under a row lock, changed in memory, written back at once.

`locked` and `write` belong to one transaction, so a transition (`transitions.py`) always sees the truth and two processes
never decide at the same time. All instants come from the database's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db import jobs
from covergate.db.jobs import Job
from covergate.db.queue_schema import enqueue_sql
from covergate.db.sealing import Sealer
from covergate.db.sql import Query

OPEN = frozenset({"queued", "in_progress"})


@dataclass
class Attempt:
    id: str
    vendor: str
    vendor_ref: str | None
    state: str
    created_at: datetime
    intent_at: datetime | None
    lookup_after: datetime | None
    submitted_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    failure_code: str | None
    checks: int
    errors_in_row: int


@dataclass(frozen=True, slots=True)
class Successor:
    """The attempt that follows the current one, at the same vendor or another; `not_asked` is that vendor's."""

    id: str
    vendor: str
    not_asked: list[str]


@dataclass
class State:
    """`now` is the database's clock when the lock was held."""

    id: str
    tenant_id: str
    mode: str
    external_id: str | None
    metadata: dict[str, str]
    not_asked: list[str]
    status: str
    outcome: str | None
    outcome_reason: str | None
    failure_code: str | None
    route: list[str]
    allow_second_submission: bool
    payer_retries: int
    follows: str | None
    reused_from: str | None
    step: int
    wake_requested: bool
    waiting_for: str | None
    waiting_since: datetime | None
    next_check_at: datetime | None
    deadline: datetime
    completed_at: datetime | None
    exchange_count: int
    inquiry_sealed: bytes
    result_sealed: bytes | None
    late_result_sealed: bytes | None
    failure_sealed: bytes | None
    now: datetime
    attempt: Attempt
    successor: Successor | None = None
    """Set by a transition that goes on with a new attempt; `write` makes it the current one."""

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    def late(self) -> bool:
        return self.open and self.deadline <= self.now


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call and what came back, secrets redacted, not yet sealed."""

    id: str
    at: datetime
    call: str
    status: int
    content_type: str | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A row for the timeline. `message` is a constant of ours, with numbers and vendor words at most."""

    type: str
    message: str
    at: datetime | None = None
    waiting_for: str | None = None
    next_check_at: datetime | None = None


@dataclass
class Change:
    """What a transition asks for besides the new state: timeline rows, events for partners, jobs."""

    entries: list[Entry] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    ended: bool = False


_VERIFICATION = [f.name for f in fields(State) if f.name not in ("now", "attempt", "successor")]
_ATTEMPT = [f.name for f in fields(Attempt)]
_ENTRY = [f.name for f in fields(Entry)]
_SELECT = (
    "SELECT "
    + ", ".join([f"v.{name} AS v_{name}" for name in _VERIFICATION] + [f"a.{name} AS a_{name}" for name in _ATTEMPT])
    + ", clock_timestamp() AS now FROM verifications v JOIN attempts a ON a.id = v.attempt_id WHERE "
)
_READ = Query(_SELECT + "v.id = :id")
_LOCK = Query(_SELECT + "v.id = :id FOR UPDATE OF v, a")
_LOCK_LATE = Query(
    _SELECT + "v.status IN ('queued', 'in_progress') AND v.deadline <= now() AND v.id <> ALL(:but)"
    " ORDER BY v.deadline LIMIT :limit FOR UPDATE OF v, a SKIP LOCKED"
)


def _state(row: Any) -> State:
    values = list(row.values())
    split = len(_VERIFICATION)
    verification = dict(zip(_VERIFICATION, values, strict=False))
    return State(**verification, now=values[-1], attempt=Attempt(*values[split:-1]))


async def read(db: AsyncConnection, verification_id: str) -> State | None:
    row = await _READ.one(db, {"id": verification_id})
    return _state(row) if row is not None else None


async def locked(db: AsyncConnection, verification_id: str) -> State | None:
    """The same under a row lock, held until the caller's transaction ends.

    Where another attempt became the current one while we waited for the lock, PostgreSQL joins the new verification with
    the old attempt and finds nothing: asked again, it sees both as they are.
    """
    for _ in range(3):
        row = await _LOCK.one(db, {"id": verification_id})
        if row is not None:
            return _state(row)
    return None


async def locked_late(db: AsyncConnection, limit: int, but: Sequence[str]) -> list[State]:
    """Open verifications whose deadline came, the latest first, but for these and those that somebody else has locked."""
    return [_state(row) for row in await _LOCK_LATE.all(db, {"limit": limit, "but": but})]


_LOCK_ATTEMPT = text(f"SELECT {', '.join(_ATTEMPT)} FROM attempts WHERE id = :id FOR UPDATE")


async def locked_attempt(db: AsyncConnection, attempt_id: str) -> Attempt:
    """An attempt that need not be the current one."""
    return Attempt(**(await db.execute(_LOCK_ATTEMPT, {"id": attempt_id})).one()._mapping)


_WRITTEN_VERIFICATION = (
    "route text[], payer_retries smallint, follows text, reused_from text, status text, outcome text,"
    " outcome_reason text, failure_code text, step int, wake_requested boolean,"
    " waiting_for text, waiting_since timestamptz, next_check_at timestamptz, completed_at timestamptz,"
    " exchange_count int, result_sealed bytea, late_result_sealed bytea, failure_sealed bytea"
)
_WRITTEN_ATTEMPT = (
    "vendor_ref text, state text, intent_at timestamptz, lookup_after timestamptz, submitted_at timestamptz,"
    " expires_at timestamptz, ended_at timestamptz, failure_code text, checks int, errors_in_row int"
)


def _assignments(columns: str, prefix: str) -> tuple[list[str], str]:
    pairs = [column.split() for column in columns.split(", ")]
    return [name for name, _ in pairs], ", ".join(f"{name} = CAST(:{prefix}{name} AS {kind})" for name, kind in pairs)


_VERIFICATION_NAMES, _SET_VERIFICATION = _assignments(_WRITTEN_VERIFICATION, "v_")
_ATTEMPT_NAMES, _SET_ATTEMPT = _assignments(_WRITTEN_ATTEMPT, "a_")

_TIMELINE = """
t AS (INSERT INTO timeline (verification_id, at, type, attempt_id, vendor, message, waiting_for, next_check_at)
      SELECT :id, coalesce(at, clock_timestamp()), type, :attempt_id, :vendor, message, waiting_for, next_check_at
      FROM unnest(CAST(:t_at AS timestamptz[]), CAST(:t_type AS text[]), CAST(:t_message AS text[]),
                  CAST(:t_waiting_for AS text[]), CAST(:t_next_check_at AS timestamptz[]))
           WITH ORDINALITY AS r(at, type, message, waiting_for, next_check_at, n) ORDER BY n)"""
_EXCHANGES = """
x AS (INSERT INTO exchanges (verification_id, position, public_id, attempt_id, at, call, status, content_type, content_sealed)
      SELECT :id, position, public_id, :attempt_id, at, call, status, content_type, content_sealed
      FROM unnest(CAST(:x_position AS int[]), CAST(:x_id AS text[]), CAST(:x_at AS timestamptz[]), CAST(:x_call AS text[]),
                  CAST(:x_status AS smallint[]), CAST(:x_content_type AS text[]), CAST(:x_content AS bytea[]))
           AS r(position, public_id, at, call, status, content_type, content_sealed))"""


def _write_statement(parts: list[str]) -> Query:
    return Query(
        f"WITH a AS (UPDATE attempts SET {_SET_ATTEMPT} WHERE id = :attempt_id),"
        + ",".join(parts)
        + f" UPDATE verifications SET {_SET_VERIFICATION} WHERE id = :id",
        id="text",
        attempt_id="text",
        vendor="text",
    )


_JOBS = f"\nj AS ({enqueue_sql()})"
_WRITE = _write_statement([_TIMELINE, _JOBS])
_WRITE_WITH_EXCHANGES = _write_statement([_TIMELINE, _EXCHANGES, _JOBS])


_SUCCEED = text("""
WITH a AS (
  INSERT INTO attempts (id, verification_id, vendor, mode, payer_id, state)
  SELECT :id, id, :vendor, mode, payer_id, 'preparing' FROM verifications WHERE id = :verification_id
)
UPDATE verifications SET attempt_id = :id, vendor = :vendor, not_asked = CAST(:not_asked AS text[])
WHERE id = :verification_id""")


async def write(
    db: AsyncConnection,
    sealer: Sealer,
    state: State,
    entries: list[Entry],
    exchanges: list[tuple[int, Exchange]],
    wanted: list[Job],
) -> None:
    """State, timeline rows, exchanges (with their raw positions) and jobs in one statement. Only under the lock of `locked`."""
    values: dict[str, Any] = {"id": state.id, "attempt_id": state.attempt.id, "vendor": state.attempt.vendor}
    values |= {f"v_{name}": getattr(state, name) for name in _VERIFICATION_NAMES}
    values |= {f"a_{name}": getattr(state.attempt, name) for name in _ATTEMPT_NAMES}
    for name in _ENTRY:
        values[f"t_{name}"] = [getattr(entry, name) for entry in entries]
    if exchanges:
        values["x_position"] = [position for position, _ in exchanges]
        for name in ("id", "at", "call", "status", "content_type"):
            values[f"x_{name}"] = [getattr(exchange, name) for _, exchange in exchanges]
        values["x_content"] = [
            sealer.seal("exchanges", "content", exchange.id, exchange.content) for _, exchange in exchanges
        ]
    values |= jobs.enqueuing(wanted)
    await (_WRITE_WITH_EXCHANGES if exchanges else _WRITE).all(db, values)
    jobs.announce(db, wanted)
    if state.successor is not None:
        await db.execute(_SUCCEED, {"verification_id": state.id, **asdict(state.successor)})


def _columns(columns: str, prefix: str) -> str:
    return ", ".join(prefix + column for column in columns.split(", "))


_WRITE_ALL = Query(f"""
WITH r AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:states AS json))
    AS r(id text, attempt_id text, {_columns(_WRITTEN_VERIFICATION, "v_")}, {_columns(_WRITTEN_ATTEMPT, "a_")})
), a AS (
  UPDATE attempts a SET {", ".join(f"{name} = r.a_{name}" for name in _ATTEMPT_NAMES)} FROM r WHERE a.id = r.attempt_id
), t AS (
  INSERT INTO timeline (verification_id, at, type, attempt_id, vendor, message, waiting_for, next_check_at)
  SELECT id, coalesce(at, clock_timestamp()), type, attempt_id, vendor, message, waiting_for, next_check_at
  FROM ROWS FROM (json_to_recordset(CAST(:entries AS json))
         AS (id text, attempt_id text, vendor text, type text, message text, at timestamptz, waiting_for text,
             next_check_at timestamptz)) WITH ORDINALITY AS e(id, attempt_id, vendor, type, message, at, waiting_for,
                                                              next_check_at, n) ORDER BY n
), j AS ({enqueue_sql()})
UPDATE verifications v SET {", ".join(f"{name} = r.v_{name}" for name in _VERIFICATION_NAMES)} FROM r WHERE v.id = r.id""")


async def write_all(db: AsyncConnection, written: Sequence[tuple[State, list[Entry]]], wanted: list[Job]) -> None:
    """Many at once, where no exchanges and no new attempts are to be written. Only under their locks."""
    states: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for state, said in written:
        names = {"id": state.id, "attempt_id": state.attempt.id}
        states.append(
            names
            | {f"v_{name}": getattr(state, name) for name in _VERIFICATION_NAMES}
            | {f"a_{name}": getattr(state.attempt, name) for name in _ATTEMPT_NAMES}
        )
        entries += [
            names | {"vendor": state.attempt.vendor} | {name: getattr(entry, name) for name in _ENTRY} for entry in said
        ]
    values = {"states": _json(states), "entries": _json(entries)} | jobs.enqueuing(wanted)
    await _WRITE_ALL.all(db, values)
    jobs.announce(db, wanted)


def _json(rows: list[dict[str, Any]]) -> str:
    """As PostgreSQL reads it: bytes in its own notation."""
    return orjson.dumps(rows, default=lambda value: f"\\x{value.hex()}").decode()


def soonest(*instants: datetime | None) -> datetime:
    return min(instant for instant in instants if instant is not None)


def until(moment: datetime, now: datetime) -> timedelta:
    return max(moment - now, timedelta(0))
