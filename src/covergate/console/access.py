"""Access: who may come in (sessions, people, operators, keys, vendor accounts), and the audit of what was done."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Annotated, Any, cast
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import RedirectResponse

from covergate import ids
from covergate.access import api_keys, console_sessions, console_users, operators, vendor_accounts
from covergate.access.audit import AuditFilters, list_fleets, list_own
from covergate.access.quotas import ACCOUNT_CHANGES
from covergate.access.vendor_accounts import Owner
from covergate.console.filters import moment_in, wrong_filter
from covergate.console.page import HEADERS, render
from covergate.console.visitor import (
    MOUNTED_AT,
    AccountKeeper,
    Auditor,
    OperatorAt,
    Visitor,
    idle_time,
)
from covergate.db.page import Page
from covergate.errors import Problem
from covergate.states import AuditOutcome
from covergate.transport.transport import Transport
from covergate.verifications.operator import prove_account

router = APIRouter()

ROWS = 50
MOST_EXPORTED = 10_000
_FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
_SUBJECT = Annotated[str, Path(max_length=100)]


@router.get("/access")
async def access(request: Request, visitor: Auditor, done: str = "") -> Response:
    gateway, session = visitor.gateway, visitor.session
    accounts: list[dict[str, Any]] = []
    if session.tenant_id is not None and visitor.may("accounts:manage"):
        accounts = await vendor_accounts.list_accounts(gateway, session.tenant_id, *api_keys.MODES)
    return render(
        request,
        "access",
        visitor,
        done=_DONE.get(done),
        sessions=await console_sessions.list_sessions(gateway, idle_time(gateway), session.tenant_id),
        keys=await api_keys.list_keys(gateway, tenant=session.tenant),
        operators=await operators.list_operators(gateway) if visitor.may("operations") else None,
        users=[
            user
            for user in await console_users.list_users(gateway)
            if visitor.is_operator or user.tenant == session.tenant
        ],
        accounts=accounts,
    )


_DONE = {
    "session": "The session was ended.",
    "key": "The key was revoked. No process takes it any more.",
    "operator": "The operator was revoked.",
    "user": "The account was revoked, and its sessions ended.",
    "removed": "The vendor account was removed.",
    "gone": "Somebody else was faster: it was revoked, ended or removed already.",
}


def _back(done: str) -> Response:
    return RedirectResponse(f"{MOUNTED_AT}/access?done={done}", 303)


@router.post("/access/sessions/{session_id}/end")
async def end_session(visitor: Auditor, session_id: _SUBJECT) -> Response:
    _require_power_to_end(visitor)
    ended = await console_sessions.end_other_session(visitor.gateway, visitor.caller, session_id)
    return _back("session" if ended else "gone")


@router.post("/access/keys/{key_id}/revoke")
async def revoke_key(visitor: Auditor, key_id: _SUBJECT) -> Response:
    _require_power_to_end(visitor)
    return _back("key" if await api_keys.revoke_key(visitor.gateway, key_id, visitor.caller) else "gone")


@router.post("/access/operators/{operator_id}/revoke")
async def revoke_operator(visitor: OperatorAt, operator_id: _SUBJECT) -> Response:
    return _back(
        "operator" if await operators.revoke_operator(visitor.gateway, operator_id, visitor.caller) else "gone"
    )


@router.post("/access/users/{login}/revoke")
async def revoke_user(visitor: OperatorAt, login: _SUBJECT) -> Response:
    return _back("user" if await console_users.revoke_user(visitor.gateway, login, visitor.caller) else "gone")


@router.post("/access/accounts/{vendor}/remove")
async def remove_account(visitor: AccountKeeper, vendor: _SUBJECT) -> Response:
    owner = Owner(visitor.caller.tenant_id, visitor.caller.mode, vendor)
    visitor.take(ACCOUNT_CHANGES, owner.tenant_id)
    try:
        await vendor_accounts.remove_account(visitor.gateway, owner, visitor.caller)
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return _back("gone")
    return _back("removed")


@router.post("/access/accounts/{vendor}/test")
async def test_account(request: Request, visitor: AccountKeeper, vendor: _SUBJECT) -> Response:
    """Makes one harmless call; what came back stands on the page."""
    owner = Owner(visitor.caller.tenant_id, visitor.caller.mode, vendor)
    visitor.take(ACCOUNT_CHANGES, owner.tenant_id)
    transport = cast(Transport, request.app.state.transport)
    tested = await prove_account(visitor.gateway, transport, owner, visitor.caller)
    return render(request, "account_tested", visitor, tested=tested)


def _require_power_to_end(visitor: Visitor) -> None:
    """Of operators `operations`, of a tenant's people `administrator`."""
    if not visitor.may("operations") and not visitor.may("accounts:manage"):
        raise Problem("insufficient_scope", "Your roles do not end sessions or keys.")


# --- the audit ---------------------------------------------------------------------------------------------------------


async def _asked(
    action: str = "",
    actor: str = "",
    subject: str = "",
    outcome: str = "",
    since: str = "",
    until: str = "",
    tenant: str = "",
) -> dict[str, str]:
    """The filters of the address, each empty if it is not there."""
    return {
        "action": action,
        "actor": actor,
        "subject": subject,
        "outcome": outcome,
        "since": since,
        "until": until,
        "tenant": tenant,
    }


AskedOfAudit = Annotated[dict[str, str], Depends(_asked)]


@router.get("/audit")
async def audit(request: Request, visitor: Auditor, asked: AskedOfAudit, after: str = "") -> Response:
    found = await _found(visitor, asked, after or None, ROWS)
    actors = {row["actor"]["id"] for row in found.data if row["actor"]["id"]}
    async with visitor.gateway.connection() as db:
        names = await operators.names_of(db, actors)
    return render(
        request,
        "audit",
        visitor,
        rows=found.data,
        names=names,
        asked=asked,
        query=urlencode({name: value for name, value in asked.items() if value}),
        next_after=found.next_after,
        after=after,
        outcomes=list(AuditOutcome),
    )


@router.get("/audit/export/{kind}")
async def export_audit(visitor: Auditor, asked: AskedOfAudit, kind: str) -> Response:
    """What the filters find, the newest `MOST_EXPORTED` rows. The whole chain with its proofs: `covergate audit export`."""
    if kind not in _FORMATS:
        raise Problem("not_found", "The audit is exported as ndjson or csv.")
    rows = (await _found(visitor, asked, None, MOST_EXPORTED)).data
    text = "".join(orjson.dumps(row).decode() + "\n" for row in rows) if kind == "ndjson" else _csv(rows)
    named = {"content-disposition": f'attachment; filename="covergate-audit-{datetime.now(UTC):%Y-%m-%d}.{kind}"'}
    return Response(text, media_type=_FORMATS[kind], headers=HEADERS | named)


async def _found(visitor: Visitor, asked: dict[str, str], after: str | None, limit: int) -> Page:
    """Raises Problem that names the filter that cannot be used."""
    if after is not None and not ids.is_id(ids.AUDIT_EVENT, after):
        raise wrong_filter("after", "must be an audit event's id")
    try:
        outcome = AuditOutcome(asked["outcome"]) if asked["outcome"] else None
    except ValueError:
        raise wrong_filter("outcome", f"must be one of: {', '.join(AuditOutcome)}") from None
    filters = AuditFilters(
        action=asked["action"][:60] or None,
        actor=asked["actor"][:100] or None,
        subject=asked["subject"][:100] or None,
        outcome=outcome,
        since=moment_in("since", asked["since"]),
        until=moment_in("until", asked["until"]),
    )
    if not visitor.is_operator:
        return await list_own(visitor.gateway, visitor.caller, filters, after, limit)
    tenant_id = None
    if asked["tenant"]:
        async with visitor.gateway.connection() as db:
            tenant_id = await operators.find_tenant(db, asked["tenant"])
        if tenant_id is None:
            raise wrong_filter("tenant", "must be a tenant's id or name")
    return await list_fleets(visitor.gateway, visitor.within(tenant_id), filters, after, limit)


def _csv(rows: list[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    names = ("at", "action", "actor kind", "actor", "acting user", "address", "request", "subject kind", "subject")
    writer.writerow([*names, "outcome", "count", "reason"])
    for row in rows:
        actor, subject = row["actor"], row["subject"]
        cells = (row["at"], row["action"], actor["kind"], actor["id"], row["acting_user"], row["address"])
        more = (row["request_id"], subject["kind"], subject["id"], row["outcome"], row["count"], row["reason"])
        writer.writerow([_cell(value) for value in (*cells, *more)])
    return file.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet must not take the caller's word for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
