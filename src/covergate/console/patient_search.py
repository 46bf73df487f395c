"""Verifications by their patient's member id: asked by a posted form, so that no address holds PHI; each search is audited.

Invariant: nothing of what was typed is shown again, and what is found is shown without PHI.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from fastapi import APIRouter, Request, Response

from covergate.access.caller import Caller
from covergate.access.console_sessions import REASONS, Reason
from covergate.access.quotas import searches_policy
from covergate.console.page import render
from covergate.console.verifications import TENANT_FILTER, asked_for
from covergate.console.visitor import Revealer, Visitor
from covergate.errors import FieldError, Problem
from covergate.states import OPEN_STATUSES
from covergate.verifications.queries import Filters, list_verifications

router = APIRouter()

MOST_OF_PATIENT = 50
LONGEST_MEMBER_ID = 100
_FIRST_YEAR = 1850


@router.get("/verifications/search")
async def search_form(request: Request, visitor: Revealer) -> Response:
    return _page(request, visitor, None, False)


@router.post("/verifications/search")
async def search(request: Request, visitor: Revealer) -> Response:
    caller, filters = await _asked(visitor)
    visitor.take(searches_policy(visitor.gateway.settings), caller.within_tenant)
    given = visitor.form.one("reason")
    reason = Reason(given) if given in REASONS else None
    if reason is None and visitor.gateway.settings.console_reveal_reason:
        raise Problem("invalid_request", "Say why you look for a patient: choose one of the reasons.")
    seeing = replace(caller, scopes=caller.scopes | {"phi"})
    found = await list_verifications(
        visitor.gateway, seeing, filters, None, MOST_OF_PATIENT, "verification.search", reason=reason
    )
    return _page(request, visitor, found.data, found.next_after is not None)


async def _asked(visitor: Visitor) -> tuple[Caller, Filters]:
    """Raises Problem, which repeats nothing of what was typed."""
    named, member_id, born = (visitor.form.one(name) for name in (TENANT_FILTER, "member_id", "date_of_birth"))
    caller, _ = await asked_for(visitor, {TENANT_FILTER: named} if named else {})
    errors = []
    if caller.within_tenant is None:
        errors.append(FieldError("required", "name whose patient it is", parameter=TENANT_FILTER))
    if not member_id or len(member_id) > LONGEST_MEMBER_ID or not member_id.isprintable():
        message = f"must have 1 to {LONGEST_MEMBER_ID} characters"
        errors.append(FieldError("invalid_value", message, parameter="member_id"))
    day = _day(born)
    if born and day is None:
        errors.append(FieldError("invalid_value", "must be a date like 1980-01-31", parameter="date_of_birth"))
    if errors:
        raise Problem("invalid_request", "Nothing was looked for.", errors)
    return caller, Filters(member_id=member_id, date_of_birth=day)


def _day(given: str) -> date | None:
    try:
        day = date.fromisoformat(given)
    except ValueError:
        return None
    return day if day.year >= _FIRST_YEAR else None


def _page(request: Request, visitor: Visitor, rows: list[dict[str, object]] | None, is_more: bool) -> Response:
    return render(
        request,
        "patient_search",
        visitor,
        rows=rows,
        is_more=is_more,
        most_found=MOST_OF_PATIENT,
        longest=LONGEST_MEMBER_ID,
        reasons=REASONS,
        needs_reason=visitor.gateway.settings.console_reveal_reason,
        open_statuses=OPEN_STATUSES,
    )
