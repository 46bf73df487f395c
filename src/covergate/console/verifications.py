"""Verifications: the list with filters that stand in the address.

Addresses hold ids, states and times, never PHI. One action on all that match begins here and goes on in `bulk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from covergate import ids
from covergate.access.caller import Caller
from covergate.access.console_roles import REVEALS
from covergate.access.operators import find_tenant
from covergate.access.quotas import searches_policy
from covergate.access.saved_views import list_views
from covergate.console.bulk import bulk_acts, count
from covergate.console.page import render
from covergate.console.visitor import Changer, Form, Looker, Visitor
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.terms import Outcome
from covergate.errors import FieldError, Problem
from covergate.states import OPEN_STATUSES, Status, WaitingFor
from covergate.vendors import VENDORS
from covergate.verifications.queries import Filters, is_of_open_ones
from covergate.verifications.standings import COUNTED_UP_TO, count_matching, list_standings

router = APIRouter()

ROWS_SHOWN = 50
LONGEST_FILTER = 64
TODAY = "today"
"""As an instant: since midnight, UTC."""

FIXED_VIEWS: Mapping[str, Mapping[str, str]] = {
    "Needs a person": {"waiting_for": WaitingFor.OPERATOR},
    "Failed today": {"status": Status.FAILED, "completed_after": TODAY},
    "Waiting for credentials": {"waiting_for": WaitingFor.CREDENTIALS},
    "Held back": {"waiting_for": WaitingFor.HOLD},
}
"""Name → filters."""
CHOICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "status": ("Status", tuple(Status)),
    "outcome": ("Outcome", tuple(Outcome)),
    "failure_code": ("Why it failed", tuple(FailureCode)),
    "vendor": ("Vendor", tuple(VENDORS)),
    "waiting_for": ("Waits for", tuple(WaitingFor)),
}
"""Filter → its label and what it can be."""
TYPED: Mapping[str, tuple[str, str]] = {
    "payer_id": ("Payer's electronic id", "60054"),
    "external_id": ("The tenant's own reference", ""),
    "family": ("Retries of (id)", "ver_…"),
    "created_after": ("Created after", "2026-11-28T09:30Z"),
    "created_before": ("Created before", "2026-11-29"),
    "completed_after": ("Ended after", TODAY),
}
"""Filter → its label and an example."""
TENANT_FILTER = "tenant"
"""A filter for operators: an id or a name."""
_INSTANTS = ("created_after", "created_before", "completed_after")
_KINDS = {
    Outcome.ELIGIBLE: "good",
    Outcome.INELIGIBLE: "warn",
    Outcome.UNKNOWN: "warn",
    Status.FAILED: "bad",
}


@router.get("/verifications")
async def verifications(request: Request, visitor: Looker) -> Response:
    given = {name: value for name, value in request.query_params.items() if value}
    after = given.pop("after", None)
    if after is not None and not ids.is_id(ids.VERIFICATION, after):
        raise _wrong("after", "must be a verification's id")
    visitor.take(searches_policy(visitor.gateway.settings))
    caller, filters = await asked_for(visitor, given)
    found = await list_standings(visitor.gateway, caller, filters, after, ROWS_SHOWN)
    if after is None and found.next_after is None:
        number: int | None = len(found.data)
    else:
        number = None if found.looked_at else await count_matching(visitor.gateway, caller, filters)
    own = await list_views(visitor.gateway, visitor.session)
    return render(
        request,
        "verifications",
        visitor,
        live=after is None,
        rows=found.data,
        next_after=found.next_after,
        after=after,
        asked=given,
        query=query_of(given),
        number=number,
        looked_at=found.looked_at,
        looked_at_open=is_of_open_ones(filters),
        most_counted=COUNTED_UP_TO,
        choices=CHOICES,
        typed=TYPED,
        views={name: urlencode(view) for name, view in FIXED_VIEWS.items()},
        own_views=own,
        may_search=visitor.may(REVEALS),
        standing_kind=_standing_kind,
        open_statuses=OPEN_STATUSES,
        acts=bulk_acts(visitor),
    )


@router.post("/verifications/bulk")
async def count_for_bulk(visitor: Changer) -> Response:
    """A dry run of what is to be done to all that match; its page asks for the rest."""
    given = filters_of(visitor.form)
    caller, filters = await asked_for(visitor, given)
    return await count(visitor, caller, filters, visitor.form.one("do"))


def filters_of(form: Form) -> dict[str, str]:
    """Filter → what a form has of it, unread."""
    return {name: value for name in (*_READ, TENANT_FILTER) if (value := form.one(name))}


def query_of(given: Mapping[str, str]) -> str:
    """As it stands in an address, in the order of the page's form."""
    return urlencode({name: given[name] for name in (*_READ, TENANT_FILTER) if name in given})


def _standing_kind(row: Mapping[str, Any]) -> str:
    if row["waiting_for"] in (WaitingFor.OPERATOR, WaitingFor.CREDENTIALS):
        return "warn"
    return _KINDS.get(row["outcome"] or row["status"], "quiet")


async def asked_for(visitor: Visitor, given: Mapping[str, str]) -> tuple[Caller, Filters]:
    """For whom, and what is asked for. Raises Problem that names each filter that cannot be used, and repeats no value."""
    errors: list[FieldError] = []
    named: dict[str, Any] = {}
    caller = visitor.caller
    for name, value in given.items():
        try:
            if name == TENANT_FILTER and visitor.is_operator:
                caller = visitor.within(await _tenant_id(visitor, value))
            elif name in _READ:
                named[name] = _READ[name](value)
            else:
                raise ValueError("there is no such filter")
        except ValueError as error:
            errors.append(FieldError("invalid_value", str(error), parameter=name[:40]))
    if errors:
        raise Problem("invalid_request", "A filter cannot be used. Nothing was looked for.", errors)
    return caller, Filters(**named)


async def _tenant_id(visitor: Visitor, named: str) -> str:
    async with visitor.gateway.connection() as db:
        tenant_id = await find_tenant(db, named)
    if tenant_id is None:
        raise ValueError("must be a tenant's id or name")
    return tenant_id


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of: {', '.join(known)}")
        return value

    return read


def _text(value: str) -> str:
    if len(value) > LONGEST_FILTER or not value.isprintable():
        raise ValueError(f"must have at most {LONGEST_FILTER} characters")
    return value


def _verification_id(value: str) -> str:
    if not ids.is_id(ids.VERIFICATION, value):
        raise ValueError("must be a verification's id (ver_…)")
    return value


def _moment(value: str) -> datetime:
    now = datetime.now(UTC)
    if value == TODAY:
        # Filters leave the instant itself out.
        return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(microseconds=1)
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = datetime.min.replace(tzinfo=UTC)
    if not 1900 <= moment.year <= 9000:
        raise ValueError(f"must be {TODAY}, a date like 2026-11-28, or an instant like 2026-11-28T09:30Z")
    return moment


_READ: Mapping[str, Callable[[str], Any]] = {
    **{name: _one_of(known) for name, (_, known) in CHOICES.items()},
    "status": lambda value: (_one_of(tuple(Status))(value),),
    "payer_id": _text,
    "external_id": _text,
    "family": _verification_id,
    **dict.fromkeys(_INSTANTS, _moment),
}
"""Filter → what it means. Raises ValueError that says what it must be."""


def _wrong(name: str, message: str) -> Problem:
    return Problem(
        "invalid_request", "A filter cannot be used.", [FieldError("invalid_value", message, parameter=name)]
    )
