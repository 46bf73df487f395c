"""Reads for a caller: one verification as a whole, its timeline, the vendors' raw replies, and lists. Reads of PHI are audited.

Somebody else's verification and an id that cannot be one are the same: not found. Lists are newest first: ids sort by
creation, so the page after an id is found by the id alone. Member ids and birth dates are compared by their keyed digests, under
every key of the ring; they come from a request's body, never from a URL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg
import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import Page, page, plan_for_values
from covergate.db.sealing import SealError
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import (
    ENDS,
    OPEN_STATUSES,
    STORED_WAITS,
    ActorKind,
    AuditOutcome,
    Status,
    SubjectKind,
    WaitingFor,
)
from covergate.timestamps import instant, shown_later, shown_since
from covergate.verifications.digests import birth_digest_parts, member_digest_parts
from covergate.verifications.history import exchanges_of, open_content
from covergate.verifications.seals import STAMPED, open_end, place_in_verification
from covergate.verifications.view import (
    ATTEMPTS,
    COLUMNS,
    CURRENT_STATUS,
    CURRENT_VENDOR,
    JOINED,
    WAITING_FOR,
    WITHIN,
    find_row,
    hidden_view,
    list_view,
    opened_view,
    sealed_in,
)

log = structlog.get_logger(__name__)

_STANDING = Query(
    f"SELECT v.tenant_id, v.mode, v.completed_at IS NOT NULL AS ended FROM verifications v WHERE v.id = :id AND {WITHIN}",
    tenant_id="text",
    mode="text",
)
_TIMELINE = Query(
    """
SELECT h.n * :most + e.number AS number, h.at, h.attempt_id, h.vendor, e.entry FROM history h,
  jsonb_array_elements(h.entries) WITH ORDINALITY AS e(entry, number)
WHERE h.verification_id = :id AND h.n >= :after / :most AND h.n * :most + e.number > :after ORDER BY 1 LIMIT :limit""",
    most="bigint",
    after="bigint",
)
_RAW = Query("""
SELECT h.n, h.verification_id, h.attempt_id, h.exchanges, h.contents_sealed, v.raw_erased_at
FROM history h JOIN verifications v ON v.id = h.verification_id
WHERE h.verification_id = coalesce((SELECT reused_from FROM verifications WHERE id = :id), :id)
  AND (h.exchanges IS NOT NULL OR h.n = 0)
ORDER BY h.n""")
_END = Query(f"""
SELECT v.id, {", ".join(f"v.{name}" for name in STAMPED)}, v.failure_sealed, r.sealed AS result_sealed
FROM verifications v LEFT JOIN results r ON r.verification_id = v.id WHERE v.id = :id""")
MOST_ENTRIES = 100
"""No step writes more rows of the timeline: with it rows are numbered."""


async def read_one(
    gateway: Gateway, caller: Caller, verification_id: str, action: str = "verification.read"
) -> dict[str, Any]:
    """The verification as `GET /v1/verifications/{id}` shows it, its PHI only to a caller that may see it.

    `action` is what the audit calls this read. Raises Problem `not_found`.
    """
    if not ids.is_id(ids.VERIFICATION, verification_id):
        raise no_such_verification()
    async with gateway.connection() as db:
        with audit.coming(gateway) if caller.sees_phi else nullcontext():
            row = await find_row(db, caller.within_tenant, caller.within_mode, verification_id)
            if row is None:
                raise no_such_verification()
            if not caller.sees_phi:
                return hidden_view(row)
            shown = await opened_view(db, gateway.sealer, row)
    await audited(gateway, caller, row, action, [verification_id])
    return shown


async def has_ended(gateway: Gateway, caller: Caller, verification_id: str) -> bool:
    """Without opening anything. Raises Problem `not_found`."""
    async with gateway.connection() as db:
        return bool((await standing_of(db, caller, verification_id)).ended)


async def read_timeline(gateway: Gateway, caller: Caller, verification_id: str, after: int, limit: int) -> Page:
    """Oldest first; holds no PHI. `after` is a row's number, 0 for the beginning. Raises Problem `not_found`."""
    async with gateway.connection() as db:
        await standing_of(db, caller, verification_id)
        values = {"id": verification_id, "after": after, "limit": limit + 1, "most": MOST_ENTRIES}
        rows = await _TIMELINE.all(db, values)
    return page(rows, limit, lambda row: str(row.number), _entry)


async def read_raw(gateway: Gateway, caller: Caller, verification_id: str) -> dict[str, Any]:
    """The document into which a result's `sources` point: every exchange in its order. Raises Problem `not_found`.

    An answer that was taken over (`reused_from`) shows the document of the verification that asked, and is audited as both.
    If the row tells another `reused_from` than was sealed with its end, nothing of that one is shown. If its beginning was
    deleted with an old month, all of it is gone: `sources` would lead to other exchanges.
    """
    async with gateway.connection() as db:
        standing = await standing_of(db, caller, verification_id)
        rows = await _RAW.all(db, {"id": verification_id})
        await gateway.sealer.meet(
            db, [standing.tenant_id], [sealed for row in rows for sealed in row.contents_sealed or ()]
        )
        asked = rows[0].verification_id if rows else verification_id
        told = asked == verification_id or await _end_is_as_sealed(db, gateway, standing, verification_id)
        opened = dict.fromkeys([verification_id, *(row.verification_id for row in rows)])
    await audited(gateway, caller, standing, "verification.raw", list(opened))
    whole = [row for row in rows if row.exchanges is not None] if rows and rows[0].n == 0 else []
    shown = [
        _exchange(gateway, standing, asked, attempt_id, one, sealed if told else b"")
        for attempt_id, one, sealed in exchanges_of(whole)
    ]
    return {"object": "raw", "erased_at": instant(rows[0].raw_erased_at) if rows else None, "exchanges": shown}


async def _end_is_as_sealed(db: AsyncConnection, gateway: Gateway, standing: Record, verification_id: str) -> bool:
    row = await _END.one(db, {"id": verification_id})
    if row is None:
        return False
    ends = {column: row[f"{column}_sealed"] for column in ("result", "failure") if row[f"{column}_sealed"] is not None}
    await gateway.sealer.meet(db, [standing.tenant_id], ends.values())
    for column, sealed in ends.items():
        place = place_in_verification(standing.tenant_id, standing.mode, verification_id, column)
        try:
            open_end(gateway.sealer, place, row, sealed)
        except SealError:
            return False
    return True


async def audited(gateway: Gateway, caller: Caller, row: Mapping[str, Any], action: str, read: Sequence[str]) -> None:
    """`row` says whose they are: an operator may have named nobody. Returns when it is written."""
    by = audit.Actor(ActorKind(caller.kind), caller.id, row["tenant_id"], row["mode"], caller.origin)
    deeds = [audit.Deed(by, action, SubjectKind.VERIFICATION, verification_id) for verification_id in read]
    await audit.record_together(gateway, deeds)


def no_such_verification() -> Problem:
    return Problem("not_found", "there is no such verification")


async def standing_of(db: AsyncConnection, caller: Caller, verification_id: str) -> Record:
    """Whose it is, in which mode, and whether it has ended. Raises Problem `not_found`."""
    if not ids.is_id(ids.VERIFICATION, verification_id):
        raise no_such_verification()
    values = {"id": verification_id, "tenant_id": caller.within_tenant, "mode": caller.within_mode}
    row = await _STANDING.one(db, values)
    if row is None:
        raise no_such_verification()
    return row


def _entry(row: Any) -> dict[str, Any]:
    entry = row.entry
    return {
        "at": instant(row.at),
        "type": entry["type"],
        "attempt_id": row.attempt_id,
        "vendor": row.vendor,
        "message": entry["message"],
        "waiting_for": entry["waiting_for"],
        "next_check_at": entry["next_check_at"],
    }


def _exchange(
    gateway: Gateway,
    standing: Record,
    verification_id: str,
    attempt_id: str,
    exchange: dict[str, Any],
    sealed: bytes | None,
) -> dict[str, Any]:
    """`body` is the reply's JSON as it came, byte for byte, so that no number changes on its way; else `text`.

    Both are null once it was erased.
    """
    body, plain, unreadable, content = None, None, False, b""
    try:
        if sealed is not None:
            content = open_content(gateway.sealer, standing.tenant_id, standing.mode, verification_id, exchange, sealed)
            orjson.loads(content)
            body = orjson.Fragment(content)
    except orjson.JSONDecodeError:
        plain = content.decode(errors="replace")
    except SealError as error:
        log.error("value_not_opened", verification_id=verification_id, column="exchanges", reason=str(error))
        unreadable = True
    return {
        "id": exchange["id"],
        "attempt_id": attempt_id,
        "at": instant(datetime.fromisoformat(exchange["at"])),
        "call": exchange["call"],
        "status": exchange["status"],
        "content_type": exchange["content_type"],
        "body": body,
        "text": plain,
        "unreadable": unreadable,
    }


# --- lists -----------------------------------------------------------------------------------------------------------

LISTED_WITHIN_SECONDS = 10
_WITHIN = Query("SELECT set_config('statement_timeout', :limit, true)")


@dataclass(frozen=True)
class Filters:
    """None and empty: not asked for. Instants are exclusive."""

    status: Sequence[str] = ()
    outcome: str | None = None
    vendor: str | None = None
    failure_code: str | None = None
    waiting_for: str | None = None
    payer_id: str | None = None
    external_id: str | None = None
    family: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    member_id: str | None = None
    date_of_birth: date | None = None


# Up to what was asked first, and down to every retry of it.
_FAMILY = """
WITH RECURSIVE up AS (
  SELECT f.id, f.retry_of FROM verifications f WHERE f.id = :family
  UNION SELECT f.id, f.retry_of FROM up JOIN verifications f ON f.id = up.retry_of
), family AS (
  SELECT id FROM up UNION SELECT f.id FROM family JOIN verifications f ON f.retry_of = family.id
) SELECT id FROM family"""
_CONDITIONS: dict[str, tuple[str, str]] = {
    "status": (f"{CURRENT_STATUS} = ANY(:status)", "text[]"),
    "outcome": ("v.outcome = :outcome", "text"),
    "vendor": (f"{CURRENT_VENDOR} = :vendor", "text"),
    "failure_code": ("v.failure_code = :failure_code", "text"),
    "waiting_for": (f"{WAITING_FOR} = :waiting_for", "text"),
    "payer_id": ("v.payer_id = :payer_id", "text"),
    "external_id": ("v.external_id = :external_id", "text"),
    "family": (f"v.id IN ({_FAMILY})", "text"),
    "created_after": ("v.created_at >= :created_after", "timestamptz"),
    "created_before": ("v.created_at < :created_before", "timestamptz"),
    "completed_after": ("v.completed_at >= :completed_after", "timestamptz"),
    "member_id": ("v.member_digest = ANY(:member_id)", "bytea[]"),
    "date_of_birth": ("v.birth_digest = ANY(:date_of_birth)", "bytea[]"),
}
# By the table that has it, so that an index can find it.
_ENDED = "v.status = ANY(:status)"
_OPEN = "w.status = ANY(:status)"
_STORED_WAIT = "w.waiting_for = :waiting_for"
_NONE = "false"


async def list_verifications(
    gateway: Gateway,
    caller: Caller,
    filters: Filters,
    after: str | None,
    limit: int,
    action: str,
    *,
    reason: str | None = None,
) -> Page:
    """The rows older than the verification `after`. `action` is what the audit calls this read, `reason` why it was made.

    A search by member id or birth date tells something of every verification it finds, and also if it finds none; a list
    opens PHI only where there is a failure in the vendor's words or something that came late.
    """
    caller.require_named()
    await gateway.meet(caller.tenant_id)
    conditions, values, types = matching(gateway, caller, filters)
    if after is not None:
        conditions.append("v.id < :after")
        values["after"] = after
    query = Query(
        f"SELECT {COLUMNS}, r.sealed AS result_sealed, v.late_result_sealed, v.late_failure_sealed, v.failure_sealed,"
        f" {ATTEMPTS} FROM {JOINED}"
        f" WHERE {' AND '.join(conditions)} ORDER BY v.id DESC LIMIT :limit",
        **types,
    )
    values["limit"] = limit + 1
    async with within_time(gateway, LISTED_WITHIN_SECONDS) as db:
        rows = await query.all(db, values)
        searched = filters.member_id is not None or filters.date_of_birth is not None
        opened = ("late_result_sealed", "late_failure_sealed", "failure_sealed")
        read = [row["id"] for row in rows[:limit] if searched or any(row[column] for column in opened)]
        if caller.sees_phi:
            await gateway.sealer.meet(db, [caller.tenant_id], sealed_in(rows))
    if caller.sees_phi:
        by = audit.actor_of(caller)
        deeds = [audit.Deed(by, action, SubjectKind.VERIFICATION, one, reason=reason) for one in read]
        if searched and not read:
            deeds = [audit.Deed(by, action, SubjectKind.VERIFICATION, outcome=AuditOutcome.NOT_FOUND, reason=reason)]
        await audit.record_together(gateway, deeds)
    return page(rows, limit, lambda row: str(row["id"]), lambda row: _listed(gateway, caller, dict(row)))


@asynccontextmanager
async def within_time(gateway: Gateway, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A transaction that looks for what matches. Raises Problem `filter_too_wide`, as no index finds each combination."""
    try:
        async with gateway.transaction() as db:
            await plan_for_values(db)
            await _WITHIN.run(db, {"limit": f"{seconds}s"})
            yield db
    except asyncpg.QueryCanceledError:
        told = "to look at all would take too long: narrow the filter, by time or by an id"
        raise Problem("filter_too_wide", told) from None


FACTS = (
    f"v.id, v.tenant_id, t.name AS tenant, v.mode, v.external_id, {CURRENT_STATUS} AS status, v.outcome, v.failure_code,"
    f" {CURRENT_VENDOR} AS vendor, {WAITING_FOR} AS waiting_for, v.created_at"
)
"""Over `view.JOINED` and the tenant `t`."""


async def list_facts(gateway: Gateway, caller: Caller, filters: Filters, limit: int) -> list[dict[str, Any]]:
    """Newest first, of whatever tenants the caller may see; nothing of it is PHI."""
    conditions, values, types = matching(gateway, caller, filters)
    query = Query(
        f"SELECT {FACTS} FROM {JOINED} JOIN tenants t ON t.id = v.tenant_id WHERE {' AND '.join(conditions) or 'true'}"
        " ORDER BY v.id DESC LIMIT :limit",
        **types,
    )
    async with within_time(gateway, LISTED_WITHIN_SECONDS) as db:
        rows = await query.all(db, {**values, "limit": limit})
    return [fact_of(row) for row in rows]


def fact_of(row: Record) -> dict[str, Any]:
    return {name: instant(value) if name == "created_at" else value for name, value in row.items()}


def matching(gateway: Gateway, caller: Caller, filters: Filters) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """Conditions over `view.JOINED`, values of their parameters, and types of some: what the caller may see and asks for."""
    wanted = _wanted(gateway, caller, filters)
    conditions = [_condition(name, filters) for name in wanted]
    if not _can_be(filters):
        conditions.append(_NONE)
    types = {name: _CONDITIONS[name][1] for name in wanted}
    for name, value in (("tenant_id", caller.within_tenant), ("mode", caller.within_mode)):
        if value is not None:
            conditions.append(f"v.{name} = :{name}")
            wanted[name] = value
    return conditions, wanted, types


def _condition(name: str, filters: Filters) -> str:
    if name == "status" and set(filters.status) <= set(ENDS):
        return _ENDED
    if name == "status" and set(filters.status) <= set(OPEN_STATUSES):
        return _OPEN
    if name == "waiting_for" and filters.waiting_for in STORED_WAITS:
        return _STORED_WAIT
    return _CONDITIONS[name][0]


def _can_be(filters: Filters) -> bool:
    """Whether any verification can be all of it: what has ended waits for nothing, and what is open has no outcome."""
    after, before = filters.created_after, filters.created_before
    if after is not None and before is not None and after >= before:
        return False
    statuses = set(filters.status or Status)
    if filters.waiting_for is not None:
        statuses &= {Status.QUEUED} if filters.waiting_for == WaitingFor.WORKER else set(OPEN_STATUSES)
    if filters.completed_after is not None:
        statuses &= set(ENDS)
    if filters.outcome is not None:
        statuses &= {Status.COMPLETED}
    if filters.failure_code is not None:
        statuses &= {Status.FAILED}
    return bool(statuses)


def is_of_open_ones(filters: Filters) -> bool:
    """Whether only open verifications can match."""
    return filters.waiting_for is not None or (bool(filters.status) and set(filters.status) <= set(OPEN_STATUSES))


def _listed(gateway: Gateway, caller: Caller, row: dict[str, Any]) -> dict[str, Any]:
    if caller.sees_phi:
        return list_view(gateway.sealer, caller.tenant_id, row)
    return {
        name: value for name, value in hidden_view(row).items() if name not in ("inquiry", "result", "renormalized")
    }


def _wanted(gateway: Gateway, caller: Caller, filters: Filters) -> dict[str, Any]:
    wanted = {name: value for name in _CONDITIONS if (value := getattr(filters, name)) is not None and value != ()}
    for name in ("created_after", "completed_after"):
        if name in wanted:
            wanted[name] = shown_later(wanted[name])
    if filters.created_before is not None:
        wanted["created_before"] = shown_since(filters.created_before)
    if filters.status:
        wanted["status"] = list(filters.status)
    if filters.member_id is not None:
        wanted["member_id"] = gateway.sealer.digests(
            caller.tenant_id, "member", *member_digest_parts(caller, filters.member_id)
        )
    if filters.date_of_birth is not None:
        wanted["date_of_birth"] = gateway.sealer.digests(
            caller.tenant_id, "birth", *birth_digest_parts(caller, filters.date_of_birth)
        )
    return wanted
