"""One verification: where it stands and what can be done, its story, who was told of it and who looked at it.

PHI is masked until somebody asks for it with a reason, and then for a few minutes. What renews itself never shows PHI: it is
asked for by nobody who would have to be written into the audit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from covergate.access import audit
from covergate.access.console_roles import REVEALS
from covergate.access.console_sessions import REASONS, REVEALED_FOR, Reason, reveal
from covergate.access.quotas import REDELIVERIES, creates_policy
from covergate.console.page import leaving, render
from covergate.console.raw_reply import address_in_raw, lines_of
from covergate.console.story_picture import STEP_MARKS, picture_of
from covergate.console.visitor import (
    LIVE_HEADER,
    MOUNTED_AT,
    Changer,
    Looker,
    OperatorAt,
    Revealer,
    Visitor,
    WebhookKeeper,
    origin_behind,
)
from covergate.eligibility.answers.page import PAGE_HEADERS, answer_rows, answers_page, facts_of
from covergate.eligibility.card import card_of
from covergate.errors import FieldError, Problem
from covergate.states import OPEN_STATUSES, DeliveryStatus, Status, SubjectKind
from covergate.vendors import VENDORS
from covergate.verifications.cancel import cancel
from covergate.verifications.look_now import look_now
from covergate.verifications.operator import Resolution, resolve
from covergate.verifications.queries import read_one, read_raw, standing_of
from covergate.verifications.request import CreateVerification
from covergate.verifications.resubmit import resubmit, unless_retried
from covergate.verifications.story import Story, read_story
from covergate.verifications.view import answers_view
from covergate.verifications.waiting import ACT_WORDS, Act, possible_acts, sentence_of
from covergate.webhooks.deliveries import redeliver

router = APIRouter()


class Said(NamedTuple):
    words: str
    kind: str = "done"


DONE: dict[str, Said] = {
    "resubmit": Said("It is submitted again."),
    "give_up": Said("It was given up."),
    "found": Said("The vendor is asked for it under that reference."),
    "look_now": Said("It is looked at as soon as its vendor may be called."),
    "cancel": Said("It was canceled."),
    "asked_again": Said("This is the new verification. The earlier one stays as it is."),
    "redeliver": Said("It is delivered once more."),
    "reveal": Said(f"The patient is shown for {REVEALED_FOR.seconds // 60} minutes. That was written into the audit."),
    "masked": Said("To see what the vendor said, show the patient first.", ""),
    "changed": Said(
        "Nothing was done: it changed while you looked at it, maybe by somebody else. This is how it stands now.",
        "wrong",
    ),
    "already_retried": Said(
        "Nothing was done: it was asked again meanwhile, maybe by somebody else. See below.", "wrong"
    ),
    "inquiry_erased": Said("Nothing was done: what it asked is not kept any more.", "wrong"),
    "vendor_ref_taken": Said("Nothing was done: another attempt has this reference already.", "wrong"),
    "endpoint_disabled": Said("Nothing was done: the endpoint is disabled. Enable it first.", "wrong"),
}
"""What became of a form, by the address that it leads to → what is said of it."""
MOST_LOOKS = 50
_NOT_A_WORD = re.compile(r"(?!v\d+$)(?=.*\d|.{25}).+")
CORRECTIONS: dict[str, str] = {
    "/patient/member_id": "Member id",
    "/patient/first_name": "First name",
    "/patient/last_name": "Last name",
    "/patient/date_of_birth": "Date of birth",
    "/patient/group_number": "Group number",
    "/payer/id": "Payer's electronic id",
    "/provider/npi": "Provider's NPI",
    "/service/date": "Service date",
    "/vendor": "Vendor",
}
"""Pointer into the request → what a form calls it."""
DATED = frozenset({"/patient/date_of_birth", "/service/date"})
"""Only for those who see the patient: dates are compared with one another."""
_ACT_PATHS = {Act.CANCEL: "cancel", Act.ASK_AGAIN: "ask-again", Act.LOOK_NOW: "look-now"}
"""Act → the last part of its form's address; the others are decisions, all of one address."""
_STANDING_KINDS = {"eligible": "good", "ineligible": "warn", "failed": "bad"}
_TARGET = "hx-target"
"""Which part a page renews."""


@router.get("/verifications/{verification_id}")
async def verification(request: Request, visitor: Looker, verification_id: str) -> Response:
    live, part = LIVE_HEADER in request.headers, request.headers.get(_TARGET, "")
    if live and part == "patient" and visitor.session.is_revealed(verification_id):
        return Response(status_code=204)
    said = DONE.get(request.query_params.get("done", ""))
    return await _page(request, visitor, verification_id, live=live, said=said)


@router.post("/verifications/{verification_id}/reveal")
async def reveal_patient(request: Request, visitor: Looker, verification_id: str) -> Response:
    gateway, given = visitor.gateway, visitor.form.one("reason")
    reason = Reason(given) if given in REASONS else None
    if reason is None and gateway.settings.console_reveal_reason:
        raise Problem("invalid_request", "Say why you look at the patient: choose one of the reasons.")
    async with gateway.transaction() as db:
        standing = await standing_of(db, visitor.caller, verification_id)
        await reveal(db, visitor.session, verification_id, reason)
        whose: dict[str, Any] = {"tenant_id": standing.tenant_id, "mode": standing.mode, "reason": reason}
        caller = visitor.session.caller(origin_behind(request))
        await audit.record(db, caller, "verification.reveal", SubjectKind.VERIFICATION, [verification_id], **whose)
    return _back(verification_id, "reveal")


@router.post("/verifications/{verification_id}/cancel")
async def cancel_verification(visitor: Changer, verification_id: str) -> Response:
    shown = await read_one(visitor.gateway, visitor.caller, verification_id)
    if shown["status"] == Status.CANCELED:
        return _back(verification_id, "changed")
    try:
        await cancel(visitor.gateway, visitor.caller, verification_id)
    except Problem as problem:
        return _refused(verification_id, problem)
    return _back(verification_id, "cancel")


@router.post("/verifications/{verification_id}/look-now")
async def look_at_once(visitor: Changer, verification_id: str) -> Response:
    looks = await look_now(visitor.gateway, visitor.caller, verification_id)
    return _back(verification_id, "look_now" if looks else "changed")


@router.post("/verifications/{verification_id}/resolve")
async def resolve_verification(visitor: OperatorAt, verification_id: str) -> Response:
    shown = await read_one(visitor.gateway, visitor.caller, verification_id)
    action = visitor.form.one("action")
    if action not in tuple(Resolution):
        raise Problem("invalid_request", "There is no such decision.")
    # Somebody may have decided on an earlier wait, and it waits again: that is not what this person saw.
    if visitor.form.one("since") != (shown["waiting_for"] or {}).get("since"):
        return _back(verification_id, "changed")
    try:
        vendor_ref = visitor.form.one("vendor_ref") if action == Resolution.FOUND else None
        await resolve(visitor.gateway, visitor.caller, verification_id, Resolution(action), vendor_ref)
    except Problem as problem:
        return _refused(verification_id, problem)
    return _back(verification_id, action)


@router.post("/verifications/{verification_id}/ask-again")
async def ask_again(request: Request, visitor: Changer, verification_id: str) -> Response:
    caller, state = visitor.seeing(verification_id), request.app.state
    corrections: dict[str, Any] = {at: value for at in CORRECTIONS if (value := visitor.form.one(at))}
    if "/payer/id" in corrections:
        corrections |= {"/payer/name": None, "/payer/directory_id": None}
    known = visitor.form.one("known", "0")
    if not visitor.is_operator:
        visitor.take(creates_policy(visitor.gateway.settings))
    try:
        created = await resubmit(
            state.acceptance,
            state.payers,
            caller,
            verification_id,
            corrections,
            read=_request_of,
            claim=unless_retried(verification_id, int(known) if known.isdecimal() and len(known) < 6 else 0),
        )
    except Problem as problem:
        return _refused(verification_id, problem)
    return _back(created.id, "asked_again")


def _request_of(body: bytes) -> CreateVerification:
    """Raises Problem, which names the fields and repeats nothing of what was typed."""
    try:
        return CreateVerification.model_validate_json(body, strict=True)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        wrong = list(dict.fromkeys("/" + "/".join(map(str, detail["loc"])) for detail in details))
        errors = [FieldError("invalid_value", "cannot be used", pointer=at) for at in wrong]
        raise Problem("invalid_request", "Nothing was asked: go back and correct it.", errors) from None


@router.post("/verifications/{verification_id}/redeliver")
async def redeliver_event(visitor: WebhookKeeper, verification_id: str) -> Response:
    async with visitor.gateway.connection() as db:
        standing = await standing_of(db, visitor.caller, verification_id)
    visitor.take(REDELIVERIES, standing.tenant_id)
    try:
        await redeliver(visitor.gateway, visitor.within(standing.tenant_id), visitor.form.one("delivery"))
    except Problem as problem:
        return _refused(verification_id, problem)
    return _back(verification_id, "redeliver")


@router.get("/verifications/{verification_id}/print")
async def printed(visitor: Revealer, verification_id: str) -> Response:
    """One page to file, the API's own. Shown only while the patient is."""
    caller = visitor.seeing(verification_id)
    shown = await read_one(visitor.gateway, caller, verification_id, "verification.answers")
    if not caller.sees_phi:
        return _back(verification_id, "masked")
    headers = PAGE_HEADERS | leaving(visitor, visitor.session.revealed[verification_id], _path_of(verification_id))
    return Response(answers_page(answers_view(shown, phi=True), shown), media_type="text/html", headers=headers)


@router.get("/verifications/{verification_id}/raw")
async def raw_reply(
    request: Request,
    visitor: Revealer,
    verification_id: str,
    exchange: Annotated[int, Query(ge=0, le=100_000)] = 0,
    at: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """What a vendor sent, with the place `at` marked. Shown only while the patient is."""
    caller = visitor.seeing(verification_id)
    if not caller.sees_phi:
        await read_one(visitor.gateway, caller, verification_id)
        return _back(verification_id, "masked")
    document = await read_raw(visitor.gateway, caller, verification_id)
    exchanges = document["exchanges"]
    if exchange >= len(exchanges):
        raise Problem("not_found", "There is no such reply: it may have been erased.")
    shown = exchanges[exchange]
    lines = None if shown["body"] is None else lines_of(orjson.dumps(shown["body"]), at)
    return render(
        request,
        "raw_reply",
        visitor,
        hides_at=visitor.session.revealed[verification_id],
        verification_id=verification_id,
        number=exchange,
        exchange=shown,
        erased_at=document["erased_at"],
        count=len(exchanges),
        lines=lines,
        at_pointer=at,
        is_there=at is None or any(line.is_marked for line in lines or ()),
    )


def _path_of(verification_id: str) -> str:
    """`verification_id` was found, so it is an id."""
    return f"{MOUNTED_AT}/verifications/{verification_id}"


def _back(verification_id: str, done: str) -> Response:
    return RedirectResponse(f"{_path_of(verification_id)}?done={done}", 303)


def _refused(verification_id: str, problem: Problem) -> Response:
    """Back to the page as it stands now, which says that nothing was done, if something changed meanwhile."""
    if problem.status != 409:
        raise problem
    return _back(verification_id, problem.code if problem.code in DONE else "changed")


async def _page(
    request: Request,
    visitor: Visitor,
    verification_id: str,
    *,
    live: bool = False,
    said: Said | None = None,
) -> Response:
    gateway = visitor.gateway
    # What renews itself reads no PHI.
    caller = visitor.caller if live else visitor.seeing(verification_id)
    shown = await read_one(gateway, caller, verification_id)
    story = _masked(await read_story(gateway, visitor.caller, verification_id), caller.sees_phi)
    looks = None
    if visitor.may("audit:read") and not live:
        looks = await audit.list_about(gateway, visitor.caller, verification_id, MOST_LOOKS)
    now, scopes = datetime.now(UTC), visitor.session.scopes
    is_open = shown["status"] in OPEN_STATUSES
    latest = story.timeline[-1]["type"] if story.timeline else None
    answer = render(
        request,
        "verification",
        visitor,
        live=is_open or _is_told(story) or caller.sees_phi or live,
        hides_at=visitor.session.revealed[verification_id] if caller.sees_phi else None,
        v=shown,
        story=story,
        is_open=is_open,
        sentence=sentence_of(shown, latest, now, scopes),
        acts=possible_acts(shown, scopes),
        Act=Act,
        retries=sum(one["retry_of"] == verification_id for one in story.family),
        corrections={at: words for at, words in CORRECTIONS.items() if caller.sees_phi or at not in DATED},
        dated=DATED,
        vendors=[vendor.name for vendor in gateway.enabled(shown["mode"], story.tenant_id)],
        ref_words=VENDORS[shown["vendor"]].ref_words if shown["vendor"] in VENDORS else "",
        act_words=ACT_WORDS,
        act_paths=_ACT_PATHS,
        standing_kind=_STANDING_KINDS.get(shown["outcome"] or shown["status"], "quiet"),
        picture=picture_of(shown, story, now),
        kinds=STEP_MARKS,
        revealed=caller.sees_phi,
        may_reveal=visitor.may(REVEALS),
        revealed_until=visitor.session.revealed.get(verification_id),
        reasons=REASONS,
        needs_reason=gateway.settings.console_reveal_reason,
        looks=looks,
        card=card_of(shown["result"]) if shown["result"] else None,
        late_card=card_of(shown["late_result"]) if shown["late_result"] else None,
        facts=facts_of(shown["inquiry"]),
        answers=answer_rows(answers_view(shown, phi=True)["answers"]) if caller.sees_phi else [],
        places_of=lambda sources: _places(verification_id, sources),
        said=said,
    )
    if live and request.headers.get(_TARGET) == "open" and not is_open:
        # It ended: the whole page is another one.
        answer.headers["hx-refresh"] = "true"
    return answer


def _places(verification_id: str, sources: Sequence[str]) -> list[str]:
    """Addresses of the places in the raw replies."""
    ends = [address_in_raw(source) for source in sources]
    return [f"{MOUNTED_AT}/verifications/{verification_id}/{end}" for end in ends if end is not None]


def _is_told(story: Story) -> bool:
    """Whether somebody is still to be told of it."""
    return any(delivery["status"] == DeliveryStatus.PENDING for delivery in story.deliveries)


def _masked(story: Story, sees_phi: bool) -> Story:
    exchanges = [{**one, "call": _without_ids(one["call"], sees_phi)} for one in story.exchanges]
    return replace(story, exchanges=exchanges)


def _without_ids(call: str, sees_phi: bool) -> str:
    """`GET /users/4711/eligibility` → `GET /users/…/eligibility`: a vendor's own id of a patient is PHI."""
    if sees_phi:
        return call
    method, _, path = call.partition(" ")
    return f"{method} {'/'.join('…' if _NOT_A_WORD.fullmatch(part) else part for part in path.split('/'))}"
