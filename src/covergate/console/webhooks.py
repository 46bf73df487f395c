"""Webhooks: a tenant's endpoints and what was sent to them, for its people, its partners, and operators, who see all tenants'.

A full payload is never shown, and no secret but a new one, once. What a partner's server answered may quote a patient: operators
see it only with a reason, and every look is audited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, cast
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from covergate.access.caller import Caller
from covergate.access.console_roles import REVEALS
from covergate.access.console_sessions import REASONS, Reason
from covergate.access.operators import find_tenant
from covergate.access.quotas import REDELIVERIES, endpoint_tests_policy
from covergate.console.filters import moment_in, wrong_filter
from covergate.console.page import render
from covergate.console.visitor import LIVE_HEADER, MOUNTED_AT, Visitor, WebhookKeeper
from covergate.eligibility.inquiry import today_eastern
from covergate.errors import FieldError, Problem
from covergate.states import DeliveryStatus, EndpointStatus, EventType
from covergate.webhooks import deliveries, endpoints, recovery
from covergate.webhooks.endpoint_list import (
    MOST_MISSED_COUNTED,
    MOST_WAITING_COUNTED,
    count_missed,
    list_standing,
    read_answers,
    read_secrets,
    read_standing_of,
    see_delivery,
    within_endpoint,
)
from covergate.webhooks.events import EVERY, FULL
from covergate.webhooks.recovery import STATUSES
from covergate.webhooks.signature_check import Finding, check_signature, headers_in

router = APIRouter()

DELIVERIES_SHOWN = 50
MOST_PAGES = 10_000
LONGEST_URL, LONGEST_DESCRIPTION = 2048, 200
_SAID: dict[str, tuple[str, str]] = {
    "changed": ("done", "It was changed. What is sent from now on goes by it."),
    "enabled": ("done", "It is enabled. What it missed can be sent anew: see below."),
    "switched_off": ("done", "It is disabled. Nothing is sent to it until it is enabled."),
    "deleted": ("done", "The endpoint was deleted; what was still to be sent to it has ended."),
    "redelivered": ("done", "It is delivered once more."),
    "tests": ("done", "A sample of each event type is on its way."),
    "test": ("done", "The test is on its way: this is its delivery."),
    "gone": ("wrong", "Somebody else was faster: the endpoint was deleted already."),
    "endpoint_disabled": ("wrong", "Nothing was done: the endpoint is disabled. Enable it first."),
}
"""What became of a form, by the address that it leads to → the kind and the words of the message."""
_NOTHING_ASKED = dict.fromkeys(("status", "type", "created_after", "created_before"), "")
_RECOVERED = "recovered"
_MISSED: dict[recovery.Missed, str] = {
    "exhausted": "given up (exhausted)",
    "pending": "waiting for a later try (pending)",
    "all": "both",
}

FullSample = Callable[[EventType, date], dict[str, Any] | None]


def thin_only(_: EventType, __: date) -> dict[str, Any] | None:
    """For a console that nobody gave full samples."""
    return None


# --- all endpoints -----------------------------------------------------------------------------------------------------


@router.get("/webhooks")
async def webhooks_page(
    request: Request,
    visitor: WebhookKeeper,
    done: str = "",
    page: Annotated[int, Query(ge=1, le=MOST_PAGES)] = 1,
) -> Response:
    return await _list(request, visitor, said=_SAID.get(done), page=page)


@router.post("/webhooks")
async def make_webhook(request: Request, visitor: WebhookKeeper) -> Response:
    """The secret is on the page that answers, and nowhere else."""
    form = visitor.form
    try:
        wanted = endpoints.NewEndpoint(
            url=_url(visitor),
            event_types=_event_types(visitor),
            payload="thin",
            description=form.one("description")[:LONGEST_DESCRIPTION] or None,
        )
        made = await endpoints.create_endpoint(visitor.gateway, await _within_named(visitor), wanted)
    except Problem as problem:
        if problem.code not in ("invalid_request", "too_many_endpoints"):
            raise
        return await _list(request, visitor, problem=problem, status=problem.status)
    return render(request, "webhook_secret", visitor, status=201, made=made, is_new=True, ends=())


async def _list(
    request: Request,
    visitor: Visitor,
    *,
    said: tuple[str, str] | None = None,
    problem: Problem | None = None,
    status: int = 200,
    page: int = 1,
) -> Response:
    rows, has_more = await list_standing(visitor.gateway, visitor.caller, page)
    return render(
        request,
        "webhooks",
        visitor,
        status=status,
        live=problem is None,
        rows=rows,
        page=page,
        has_more=has_more,
        most_waiting=MOST_WAITING_COUNTED,
        event_types=list(EventType),
        form=visitor.form,
        problem=problem,
        said=said,
    )


# --- the check ---------------------------------------------------------------------------------------------------------


@router.get("/webhooks/check")
async def check_page(request: Request, visitor: WebhookKeeper, endpoint: str = "") -> Response:
    return await _check(request, visitor, chosen=endpoint)


@router.post("/webhooks/check")
async def check_pasted(request: Request, visitor: WebhookKeeper) -> Response:
    """Nothing that was pasted is kept, logged, or shown again: it may hold PHI."""
    chosen = visitor.form.one("endpoint")
    caller = await within_endpoint(visitor.gateway, visitor.caller, chosen)
    own, others = await read_secrets(visitor.gateway, caller, chosen)
    # Blanks around the body count, so it is taken as it came.
    body = "".join(visitor.form.all("body")[-1:])
    findings = check_signature(headers_in(visitor.form.one("headers")), body, own, others, datetime.now(UTC))
    return await _check(request, visitor, chosen=chosen, findings=findings)


async def _check(request: Request, visitor: Visitor, *, chosen: str, findings: list[Finding] | None = None) -> Response:
    rows, _ = await list_standing(visitor.gateway, visitor.caller)
    if chosen and chosen not in {row.id for row in rows}:
        rows = [await read_standing_of(visitor.gateway, visitor.caller, chosen), *rows]
    return render(request, "webhook_check", visitor, rows=rows, chosen=chosen, findings=findings)


# --- one delivery ------------------------------------------------------------------------------------------------------


@router.get("/webhooks/deliveries/{delivery_id}")
async def delivery_page(request: Request, visitor: WebhookKeeper, delivery_id: str, done: str = "") -> Response:
    answers = None
    # What renews itself reads no answers: nobody looked.
    if not visitor.is_operator and LIVE_HEADER not in request.headers:
        await see_delivery(visitor.gateway, visitor.caller, delivery_id)
        answers = await read_answers(visitor.gateway, visitor.caller, delivery_id)
    return await _delivery(request, visitor, delivery_id, answers, _SAID.get(done))


@router.post("/webhooks/deliveries/{delivery_id}/answers")
async def show_answers(request: Request, visitor: WebhookKeeper, delivery_id: str) -> Response:
    """For an operator who may see PHI, with a reason."""
    if visitor.is_operator and not visitor.may(REVEALS):
        raise Problem("insufficient_scope", "Your roles do not show partners' answers: they may quote patients.")
    given = visitor.form.one("reason")
    reason = Reason(given) if given in REASONS else None
    if reason is None and visitor.is_operator and visitor.gateway.settings.console_reveal_reason:
        raise Problem("invalid_request", "Say why you look at the answers: choose one of the reasons.")
    answers = await read_answers(visitor.gateway, visitor.caller, delivery_id, reason)
    return await _delivery(request, visitor, delivery_id, answers)


@router.post("/webhooks/deliveries/{delivery_id}/redeliver")
async def delivery_again(visitor: WebhookKeeper, delivery_id: str) -> Response:
    seen = await see_delivery(visitor.gateway, visitor.caller, delivery_id)
    visitor.take(REDELIVERIES, seen.tenant_id)
    try:
        await deliveries.redeliver(visitor.gateway, _within(visitor, seen.tenant_id), delivery_id)
    except Problem as problem:
        return _delivery_back(delivery_id, _code_of(problem))
    return _delivery_back(delivery_id, "redelivered")


async def _delivery(
    request: Request,
    visitor: Visitor,
    delivery_id: str,
    answers: list[tuple[datetime, str | None]] | None,
    said: tuple[str, str] | None = None,
) -> Response:
    seen = await see_delivery(visitor.gateway, visitor.caller, delivery_id)
    shown = {"type": seen.delivery["event_type"], "timestamp": seen.event_at, "data": seen.data}
    return render(
        request,
        "webhook_delivery",
        visitor,
        # The answer to a form stands at an address that cannot be asked for.
        live=request.method == "GET"
        and (seen.delivery["status"] == DeliveryStatus.PENDING or LIVE_HEADER in request.headers),
        seen=seen,
        d=seen.delivery,
        payload=orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode(),
        answers=answers,
        may_ask=visitor.is_operator and visitor.may(REVEALS),
        needs_reason=visitor.gateway.settings.console_reveal_reason,
        reasons=REASONS,
        said=said,
    )


def _delivery_back(delivery_id: str, done: str) -> Response:
    """`delivery_id` was found, so it is an id."""
    return RedirectResponse(f"{MOUNTED_AT}/webhooks/deliveries/{delivery_id}?done={done}", 303)


# --- one endpoint ------------------------------------------------------------------------------------------------------


@router.get("/webhooks/{endpoint_id}")
async def webhook_page(
    request: Request,
    visitor: WebhookKeeper,
    endpoint_id: str,
    status: str = "",
    type: str = "",
    created_after: str = "",
    created_before: str = "",
    after: Annotated[str, Query(max_length=200)] = "",
    done: str = "",
    number: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    said = _SAID.get(done)
    if done == _RECOVERED:
        said = ("done", f"{number} {'delivery is' if number == 1 else 'deliveries are'} sent anew, the oldest first.")
    asked = {"status": status, "type": type, "created_after": created_after, "created_before": created_before}
    return await _endpoint(request, visitor, endpoint_id, asked, after, said=said)


@router.post("/webhooks/{endpoint_id}/change")
async def change_webhook(request: Request, visitor: WebhookKeeper, endpoint_id: str) -> Response:
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    row = await read_standing_of(visitor.gateway, visitor.caller, endpoint_id)
    try:
        changes: dict[str, Any] = {
            "url": _url(visitor),
            "event_types": _event_types(visitor),
            "description": visitor.form.one("description")[:LONGEST_DESCRIPTION] or None,
        }
        if row.payload == FULL and visitor.form.one("payload") == "thin":
            changes["payload"] = "thin"
        await endpoints.update_endpoint(visitor.gateway, caller, endpoint_id, changes)
    except Problem as problem:
        if problem.code != "invalid_request":
            raise
        return await _endpoint(
            request, visitor, endpoint_id, _NOTHING_ASKED, "", problem=problem, http_status=problem.status
        )
    return _back(endpoint_id, "changed")


@router.post("/webhooks/{endpoint_id}/switch")
async def switch_webhook(visitor: WebhookKeeper, endpoint_id: str) -> Response:
    """On or off, as the form says: whoever pressed the same button before does not undo it."""
    wanted = visitor.form.one("status")
    if wanted not in tuple(EndpointStatus):
        raise Problem("invalid_request", "An endpoint is enabled or disabled.")
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    await endpoints.update_endpoint(visitor.gateway, caller, endpoint_id, {"status": wanted})
    return _back(endpoint_id, "enabled" if wanted == EndpointStatus.ENABLED else "switched_off")


@router.post("/webhooks/{endpoint_id}/delete")
async def delete_webhook(visitor: WebhookKeeper, endpoint_id: str) -> Response:
    _needs_sure(visitor)
    try:
        caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
        await endpoints.delete_endpoint(visitor.gateway, caller, endpoint_id)
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return RedirectResponse(f"{MOUNTED_AT}/webhooks?done=gone", 303)
    return RedirectResponse(f"{MOUNTED_AT}/webhooks?done=deleted", 303)


@router.post("/webhooks/{endpoint_id}/rotate")
async def rotate_webhook(request: Request, visitor: WebhookKeeper, endpoint_id: str) -> Response:
    _needs_sure(visitor)
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    made = await endpoints.rotate_secret(visitor.gateway, caller, endpoint_id)
    row = await read_standing_of(visitor.gateway, visitor.caller, endpoint_id)
    return render(request, "webhook_secret", visitor, made=made, is_new=False, ends=row.older_secrets_until)


@router.post("/webhooks/{endpoint_id}/test")
async def send_samples(request: Request, visitor: WebhookKeeper, endpoint_id: str) -> Response:
    """Of one type, or of each."""
    wanted = visitor.form.one("type")
    if wanted != EVERY and wanted not in tuple(EventType):
        raise Problem("invalid_request", "There is no such event type.")
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    full_sample, today = cast(FullSample, request.app.state.full_sample), today_eastern(datetime.now(UTC))
    delivery_id = ""
    for type_ in EventType if wanted == EVERY else [EventType(wanted)]:
        visitor.take(endpoint_tests_policy(visitor.gateway.settings), caller.within_tenant)
        try:
            delivery_id = await endpoints.send_test(
                visitor.gateway, caller, endpoint_id, type_, full_sample(type_, today)
            )
        except Problem as problem:
            return _back(endpoint_id, _code_of(problem))
    return _back(endpoint_id, "tests") if wanted == EVERY else _delivery_back(delivery_id, "test")


@router.get("/webhooks/{endpoint_id}/recover")
async def missed_page(
    request: Request, visitor: WebhookKeeper, endpoint_id: str, since: str = "24h", what: str = "exhausted"
) -> Response:
    """How many there are, before anything is sent."""
    moment, missed = _asked_of_missed(since, what)
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    return render(
        request,
        "webhook_recover",
        visitor,
        e=await read_standing_of(visitor.gateway, visitor.caller, endpoint_id),
        since=since,
        moment=moment,
        what=missed,
        whats=_MISSED,
        number=await count_missed(visitor.gateway, caller, endpoint_id, moment, missed),
        most=MOST_MISSED_COUNTED,
    )


@router.post("/webhooks/{endpoint_id}/recover")
async def recover_webhook(visitor: WebhookKeeper, endpoint_id: str) -> Response:
    moment, missed = _asked_of_missed(visitor.form.one("since"), visitor.form.one("what"))
    caller = await within_endpoint(visitor.gateway, visitor.caller, endpoint_id)
    visitor.take(REDELIVERIES, caller.within_tenant)
    try:
        number = await recovery.recover(visitor.gateway, caller, endpoint_id, moment, missed)
    except Problem as problem:
        return _back(endpoint_id, _code_of(problem))
    return RedirectResponse(f"{MOUNTED_AT}/webhooks/{endpoint_id}?done={_RECOVERED}&number={number}", 303)


async def _endpoint(
    request: Request,
    visitor: Visitor,
    endpoint_id: str,
    asked: dict[str, str],
    after: str,
    *,
    said: tuple[str, str] | None = None,
    problem: Problem | None = None,
    http_status: int = 200,
) -> Response:
    row = await read_standing_of(visitor.gateway, visitor.caller, endpoint_id)
    filters = deliveries.DeliveryFilters(
        statuses=_one_of("status", asked["status"], DeliveryStatus),
        event_types=_one_of("type", asked["type"], EventType),
        created_after=moment_in("created_after", asked["created_after"]),
        created_before=moment_in("created_before", asked["created_before"]),
    )
    if after:
        try:
            deliveries.place_in_list(after)
        except ValueError:
            raise wrong_filter("after", "must be as a page of this list gave it") from None
    found = await deliveries.list_deliveries(
        visitor.gateway, _within(visitor, row.tenant_id), endpoint_id, filters, after or None, DELIVERIES_SHOWN
    )
    return render(
        request,
        "webhook",
        visitor,
        status=http_status,
        live=not after and problem is None,
        e=row,
        rows=found.data,
        asked=asked,
        query=urlencode({name: value for name, value in asked.items() if value}),
        next_after=quote(found.next_after, safe="") if found.next_after else None,
        after=after,
        statuses=list(DeliveryStatus),
        event_types=list(EventType),
        every=EVERY,
        most_waiting=MOST_WAITING_COUNTED,
        form=visitor.form,
        problem=problem,
        said=said,
    )


def _one_of(name: str, given: str, known: Iterable[str]) -> tuple[str, ...]:
    if given and given not in tuple(known):
        raise wrong_filter(name, f"must be one of: {', '.join(known)}")
    return (given,) if given else ()


def _asked_of_missed(since: str, what: str) -> tuple[datetime, recovery.Missed]:
    if what not in STATUSES:
        raise wrong_filter("what", f"must be one of: {', '.join(STATUSES)}")
    moment = moment_in("since", since)
    if moment is None:
        raise wrong_filter("since", "must be given")
    return moment, what


async def _within_named(visitor: Visitor) -> Caller:
    """For a new endpoint an operator says whose it is."""
    if not visitor.is_operator:
        return visitor.caller
    async with visitor.gateway.connection() as db:
        tenant_id = await find_tenant(db, visitor.form.one("tenant"))
    if tenant_id is None:
        raise wrong_filter("tenant", "must be a tenant's id or name")
    return _within(visitor, tenant_id)


def _within(visitor: Visitor, tenant_id: str) -> Caller:
    return replace(visitor.caller, within_tenant=tenant_id)


def _url(visitor: Visitor) -> str:
    url = visitor.form.one("url")
    if not url or len(url) > LONGEST_URL:
        error = FieldError("invalid_value", f"must have 1 to {LONGEST_URL} characters", pointer="/url")
        raise Problem("invalid_request", "The address cannot be used.", [error])
    return url


def _event_types(visitor: Visitor) -> tuple[str, ...]:
    """All, unless some are chosen: whoever chose all and some means all."""
    chosen = tuple(dict.fromkeys(visitor.form.all("event_types")))
    return chosen if chosen and EVERY not in chosen else (EVERY,)


def _needs_sure(visitor: Visitor) -> None:
    if visitor.form.one("sure") != "yes":
        raise Problem("invalid_request", "Tick the box beside the button to say that you mean it.")


def _code_of(problem: Problem) -> str:
    """What the page says of it. Raises what it has no words for."""
    if problem.code not in _SAID:
        raise problem
    return problem.code


def _back(endpoint_id: str, done: str) -> Response:
    """`endpoint_id` was found, so it is an id."""
    return RedirectResponse(f"{MOUNTED_AT}/webhooks/{endpoint_id}?done={done}", 303)
