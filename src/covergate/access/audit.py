"""The audit: who did what to which thing, from where, and what became of it. Ids only: never PHI, never a search's values.

Reads of PHI, whatever changes who gets it, and what was refused. Invariants: a row is written before its answer leaves, in the
transaction of the change that it tells of, or in one with those of other reads; rows are only added (docs/security.md#audit).
`audit_chain.py` closes them into batches that tell when one was altered, removed or slipped in.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access.caller import NOWHERE, Caller, Origin
from covergate.db.group_commit import GroupCommit
from covergate.db.kept import Kept
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.page import Page, page, plan_for_values
from covergate.db.sql import Query, Record
from covergate.gateway import Gateway
from covergate.states import ActorKind, AuditOutcome, SubjectKind
from covergate.timestamps import instant

KEPT = (
    Kept("audit_events", "HIPAA: six years, 45 CFR 164.316(b)(2)(i); then its owner drops the month"),
    Kept("audit_batches", "the links of the audit's chain, a few hundred bytes each"),
)

_RECORD = Query("""
INSERT INTO audit_events (id, tenant_id, mode, action, actor_kind, actor_id, acting_user, address, request_id,
  subject_kind, subject_id, outcome, count, reason)
SELECT r.id, :tenant_id, :mode, :action, :actor_kind, :actor_id, :acting_user, :address, :request_id,
  :subject_kind, r.subject_id, :outcome, :count, :reason
FROM unnest(CAST(:ids AS text[]), CAST(:subject_ids AS text[])) AS r(id, subject_id)""")

_COLUMNS = {
    **dict.fromkeys(("id", "tenant_id", "mode", "action", "actor_kind", "actor_id", "acting_user", "address"), "text"),
    **dict.fromkeys(("request_id", "subject_kind", "subject_id", "outcome"), "text"),
    "count": "int",
    "reason": "text",
}
# One document: arrays, one for each column, take a batch longer to send.
_RECORD_TOGETHER = Query(f"""
INSERT INTO audit_events ({", ".join(_COLUMNS)})
SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS r ({", ".join(map(" ".join, _COLUMNS.items()))})""")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, for whom and from where. `tenant_id` None: it concerns the whole gateway."""

    kind: ActorKind
    id: str | None
    tenant_id: str | None = None
    mode: str | None = None
    origin: Origin = NOWHERE


def actor_of(caller: Caller) -> Actor:
    return Actor(ActorKind(caller.kind), caller.id, caller.within_tenant, caller.within_mode, caller.origin)


def command_line(tenant_id: str | None = None, mode: str | None = None) -> Actor:
    """The user of this machine who runs the command, as the operating system knows it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        name = str(os.getuid())
    return Actor(ActorKind.CLI, f"{name}@{socket.gethostname()}", tenant_id, mode)


IN_STATEMENT = ("audit_id", "actor_kind", "actor_id", "acting_user", "address", "request_id")


def columns_of(caller: Caller) -> dict[str, str | None]:
    """Values for a statement that writes its audit rows itself: those of `IN_STATEMENT`."""
    origin = caller.origin
    values = (
        *(ids.new(ids.AUDIT_EVENT), caller.kind.value, caller.id),
        *(origin.acting_user, origin.address, origin.request_id),
    )
    return dict(zip(IN_STATEMENT, values, strict=True))


async def record(
    db: AsyncConnection,
    by: Actor | Caller,
    action: str,
    subject_kind: SubjectKind | None = None,
    subject_ids: Sequence[str | None] = (None,),
    outcome: AuditOutcome = AuditOutcome.ALLOWED,
    *,
    tenant_id: str | None = None,
    mode: str | None = None,
    count: int = 1,
    reason: str | None = None,
) -> None:
    """A row for each subject; `(None,)`: one without. `action` is the thing and what was done, e.g. `verification.read`.

    `tenant_id` and `mode`: whose it is, if the actor does not say that: an operator may have named none. `reason`: why PHI was
    looked at, one of a few, never free text.
    """
    if not subject_ids:
        return
    actor = actor_of(by) if isinstance(by, Caller) else by
    await _RECORD.run(
        db,
        {
            "ids": [ids.new(ids.AUDIT_EVENT) for _ in subject_ids],
            "tenant_id": tenant_id or actor.tenant_id,
            "mode": mode or actor.mode,
            "action": action,
            "actor_kind": actor.kind,
            "actor_id": actor.id,
            "acting_user": actor.origin.acting_user,
            "address": actor.origin.address,
            "request_id": actor.origin.request_id,
            "subject_kind": subject_kind,
            "subject_ids": list(subject_ids),
            "outcome": outcome,
            "count": count,
            "reason": reason,
        },
    )


@dataclass(frozen=True, slots=True)
class Deed:
    """What `record_together` writes a row of."""

    by: Actor
    action: str
    subject_kind: SubjectKind | None = None
    subject_id: str | None = None
    outcome: AuditOutcome = AuditOutcome.ALLOWED
    count: int = 1
    reason: str | None = None

    def row(self) -> tuple[Any, ...]:
        """In the order of `_COLUMNS`."""
        by, origin = self.by, self.by.origin
        whose = (ids.new(ids.AUDIT_EVENT), by.tenant_id, by.mode, self.action, by.kind, by.id)
        came_from = (origin.acting_user, origin.address, origin.request_id)
        return (*whose, *came_from, self.subject_kind, self.subject_id, self.outcome, self.count, self.reason)


async def record_together(gateway: Gateway, deeds: Sequence[Deed]) -> None:
    """A row for each, in one transaction with the rows of others that come meanwhile. Returns when it is committed.

    For what is not part of a change: most of a row's cost is that of its transaction.
    """
    if deeds:
        await _group(gateway).add(deeds)


def coming(gateway: Gateway) -> AbstractContextManager[None]:
    """In the block something is read for which `record_together` comes next: others' rows wait for it, for a moment."""
    return _group(gateway).coming()


def _group(gateway: Gateway) -> GroupCommit[Sequence[Deed], None]:
    if (group := gateway.groups.get("audit")) is None:
        writer = _Writer(gateway)
        group = gateway.groups["audit"] = GroupCommit(writer.write, rest=writer.rest)
    return group


class _Writer:
    """Keeps its connection from one batch to the next, as long as they come without a gap."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept = AsyncExitStack()
        self._db: AsyncConnection | None = None

    async def write(self, groups: Sequence[Sequence[Deed]]) -> list[None]:
        rows = [dict(zip(_COLUMNS, deed.row(), strict=True)) for deeds in groups for deed in deeds]
        try:
            if self._db is None:
                self._db = await self._kept.enter_async_context(self._gateway.connection())
            await _RECORD_TOGETHER.run(self._db, {"rows": orjson.dumps(rows).decode()})
        # Broad on purpose: whatever it was, the next batch has a connection that knows nothing of it.
        except BaseException:
            await self.rest()
            raise
        return [None] * len(groups)

    async def rest(self) -> None:
        self._db = None
        with suppress(*DATABASE_ERRORS):  # a connection that was cut is not put back
            await self._kept.aclose()


async def record_command(
    gateway: Gateway, action: str, subject_kind: SubjectKind | None = None, subject_id: str | None = None
) -> None:
    """What a user of this machine did at the command line, if it had no transaction of its own to be written in."""
    async with gateway.connection() as db:
        await record(db, command_line(), action, subject_kind, [subject_id])


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """None: not asked for. `since` is inclusive, `until` is not."""

    action: str | None = None
    actor: str | None = None
    subject: str | None = None
    outcome: AuditOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None


_CONDITIONS: dict[str, tuple[str, str]] = {
    "action": ("action = :action", "text"),
    "actor": ("actor_id = :actor", "text"),
    "subject": ("subject_id = :subject", "text"),
    "outcome": ("outcome = :outcome", "text"),
    "since": ("at >= :since", "timestamptz"),
    "until": ("at < :until", "timestamptz"),
    "after": ("id < :after", "text"),
    "tenant_id": ("tenant_id = :tenant_id", "text"),
    "mode": ("(mode = :mode OR mode IS NULL)", "text"),
}


async def list_own(gateway: Gateway, caller: Caller, filters: AuditFilters, after: str | None, limit: int) -> Page:
    """The tenant's own rows in the key's mode, and those of both modes, newest first. Reading them is audited, too."""
    bounds = {"tenant_id": caller.tenant_id, "mode": caller.mode, "after": after}
    async with gateway.transaction() as db:
        rows = await _matching(db, filters, bounds, limit + 1)
        await record(db, caller, "audit.list")
    return page(rows, limit, lambda row: str(row.id), _view)


async def list_fleets(gateway: Gateway, caller: Caller, filters: AuditFilters, after: str | None, limit: int) -> Page:
    """Everybody's rows in all modes, newest first, for an operator; `caller.within_tenant` narrows it. Audited, too."""
    async with gateway.transaction() as db:
        rows = await _matching(db, filters, {"tenant_id": caller.within_tenant, "after": after}, limit + 1)
        await record(db, caller, "audit.list")
    return page(rows, limit, lambda row: str(row.id), _view)


async def list_all(gateway: Gateway, filters: AuditFilters, tenant_id: str | None, limit: int) -> list[Record]:
    """Of the whole gateway, or of one tenant, newest first. Reading them is audited, too."""
    async with gateway.transaction() as db:
        rows = await _matching(db, filters, {"tenant_id": tenant_id}, limit)
        await record(db, command_line(tenant_id), "audit.list")
    return rows


async def _matching(db: AsyncConnection, filters: AuditFilters, bounds: dict[str, Any], limit: int) -> list[Record]:
    asked = {name: value for name, value in _asked(filters) if value is not None}
    asked |= {name: value for name, value in bounds.items() if value is not None}
    conditions = " AND ".join(_CONDITIONS[name][0] for name in asked) or "true"
    query = Query(
        "SELECT id, at, tenant_id, mode, action, actor_kind, actor_id, acting_user, address, request_id, subject_kind,"
        f" subject_id, outcome, count, reason FROM audit_events WHERE {conditions} ORDER BY id DESC LIMIT :limit",
        **{name: _CONDITIONS[name][1] for name in asked},
    )
    await plan_for_values(db)
    return await query.all(db, {**asked, "limit": limit})


_ABOUT = Query(
    """
SELECT a.id, a.at, a.action, a.actor_kind, a.actor_id, a.acting_user, a.outcome, a.reason,
  coalesce(k.name, u.name, CASE WHEN :tenant_id IS NULL THEN o.name END) AS name
FROM audit_events a
  LEFT JOIN api_keys k ON a.actor_kind = :key AND k.id = a.actor_id
  LEFT JOIN operators o ON o.id = a.actor_id
  LEFT JOIN console_users u ON u.id = a.actor_id AND (:tenant_id IS NULL OR u.tenant_id = :tenant_id)
WHERE a.subject_id = :subject_id AND (:tenant_id IS NULL OR a.tenant_id = :tenant_id)
ORDER BY a.id DESC LIMIT :limit""",
    tenant_id="text",
)


async def list_about(gateway: Gateway, caller: Caller, subject_id: str, limit: int) -> list[Record]:
    """What was done to one thing that is known to be the caller's, newest first, with the names of those who did it.

    A tenant's people are not told the names of the gateway's operators. Reading it is audited, too.
    """
    values = {"subject_id": subject_id, "tenant_id": caller.within_tenant, "key": ActorKind.KEY, "limit": limit}
    async with gateway.transaction() as db:
        await plan_for_values(db)
        rows = await _ABOUT.all(db, values)
        await record(db, caller, "audit.list")
    return rows


def _asked(filters: AuditFilters) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(filters, name)) for name in AuditFilters.__slots__)


def _view(row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "audit_event",
        "at": instant(row.at),
        "action": row.action,
        "actor": {"kind": row.actor_kind, "id": row.actor_id},
        "acting_user": row.acting_user,
        "address": row.address,
        "request_id": row.request_id,
        "subject": {"kind": row.subject_kind, "id": row.subject_id},
        "outcome": row.outcome,
        "count": row["count"],
        "reason": row.reason,
    }
