"""`/v1/verifications`: create, read, list, search, cancel, resubmit, resolve; the timeline and the vendor's raw replies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from covergate import ids
from covergate.access.caller import CallerKind
from covergate.api import examples, schemas
from covergate.api.deps import (
    GatewayOf,
    Mender,
    NoQuery,
    Operator,
    RawReader,
    Reader,
    Watcher,
    Writer,
    add_to_log_line,
    authenticated,
    bearer,
    caller_of,
    gateway_of,
    limits_of,
    no_query,
)
from covergate.api.describe import Described, documented
from covergate.api.http import (
    NoBody,
    WrongFields,
    ended_within,
    idempotency_key,
    invalid_request,
    json_answer,
    json_body,
    validated,
    wait_seconds,
)
from covergate.api.metrics import Metrics
from covergate.api.pages import PageLimit, PageQuery, listed, position, position_of
from covergate.api.shortcut import Shortcut
from covergate.api.validation import OneOf, path_of
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.inquiry import Day, Identifier, Text, invalid
from covergate.eligibility.terms import Outcome
from covergate.errors import FieldError, Problem
from covergate.payers.directory import DirectoryCache
from covergate.payers.unresolved import Unresolved
from covergate.states import Status, WaitingFor
from covergate.vendors import VENDORS
from covergate.verifications.cancel import cancel
from covergate.verifications.checks import errors_beyond_fields
from covergate.verifications.create import Acceptance, Created
from covergate.verifications.operator import Resolution, resolve
from covergate.verifications.queries import Filters, list_verifications, read_one, read_raw, read_timeline
from covergate.verifications.request import CreateVerification, Instant
from covergate.verifications.resubmit import LONGEST_POINTER, resubmit
from covergate.verifications.view import created_view

router = APIRouter(tags=["Verifications"])

TIMELINE_ROWS = 100


def _storable(value: datetime) -> datetime:
    """asyncpg converts to UTC, where the calendar's first and last days may not exist."""
    if not 1900 <= value.year <= 9000:
        raise invalid("out_of_range", "must be a year from 1900 to 9000")
    return value


Moment = Annotated[Instant, AfterValidator(_storable)]


async def _further_errors(request: Request, details: Sequence[ErrorDetails], document: Any) -> list[FieldError]:
    caller, gateway = caller_of(request), gateway_of(request)
    shared = [name for name in VENDORS if await gateway.account_is_shared(caller.tenant_id, caller.mode, name)]
    return errors_beyond_fields([path_of(detail, document) for detail in details], document, shared=shared)


class FilteredBy(BaseModel):
    """Filters of the list; instants are exclusive."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    status: Annotated[list[Status], Field(max_length=5, description="May be given several times")] = Field(
        default_factory=list
    )
    outcome: Outcome | None = Field(default=None, description="How it ended")
    vendor: Annotated[str, OneOf(tuple(VENDORS))] | None = Field(default=None, description="The vendor asked last")
    failure_code: FailureCode | None = Field(default=None, description="Why it failed")
    waiting_for: Annotated[str, OneOf(tuple(WaitingFor))] | None = Field(
        default=None, description="What it waits for: `waiting_for.kind`"
    )
    payer_id: Annotated[str, Text(40)] | None = Field(default=None, description="The electronic id: `payer.id`")
    external_id: Annotated[str, Text(64)] | None = Field(default=None, description="As it was sent")
    family: Annotated[str, Text(40)] | None = Field(
        default=None, description="A verification's id: it, what it retries, and all the retries of the same question"
    )
    created_after: Moment | None = Field(default=None, description="Created later than this")
    created_before: Moment | None = Field(default=None, description="Created earlier than this")
    completed_after: Moment | None = Field(default=None, description="Ended later than this")

    def filters(self) -> Filters:
        named = self.model_dump(exclude={"limit", "after", "status"})
        return Filters(status=tuple(self.status), **named)


class ListQuery(FilteredBy, PageQuery):
    """A page of what matches."""


class SearchVerifications(ListQuery):
    """The list's parameters as a body, and two that are PHI and therefore never in a URL."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    member_id: Identifier | None = None
    date_of_birth: Day | None = None


_body = json_body(CreateVerification, _further_errors)
_WRITES = SecurityScopes(["verifications:write"])


@router.post(
    "/v1/verifications",
    **documented(
        "create_verification",
        "Create a verification",
        "Accepted means kept: the answer is sent once the verification is committed, whatever happens next. Without the scope"
        " `verifications:read` it has no `inquiry`, no results, and of a failure only its code and our own words.",
        body=(CreateVerification, examples.CREATE_VERIFICATION),
        headers=("Idempotency-Key", "Prefer"),
        answers={
            202: Described(
                "Accepted; not ended yet", schemas.VerificationShown, examples.ACCEPTED_VERIFICATION, ("Location",)
            ),
            200: Described(
                "It ended while waiting, or a replay of one that ended",
                schemas.VerificationShown,
                examples.COMPLETED_VERIFICATION,
                ("Location", "Preference-Applied", "Idempotent-Replayed"),
            ),
        },
        problems=(413, 415, 422),
    ),
)
async def create_verification(
    request: Request,
    caller: Writer,
    body: Annotated[CreateVerification, Depends(_body)],
) -> Response:
    await no_query(request)
    key, gateway = idempotency_key(request), gateway_of(request)
    limits_of(request).create(caller.tenant_id)
    payers: DirectoryCache = request.app.state.payers
    acceptance: Acceptance = request.app.state.acceptance
    named = await payers.named(caller.mode, body.payer)
    if named.is_unknown or named.candidates:
        unresolved: Unresolved = request.app.state.unresolved
        unresolved.note(caller.mode, body)
    created = await acceptance.create(caller, body, key, named)
    add_to_log_line(request, verification_id=created.id)
    headers = _told(request, created, caller.mode)
    seconds = wait_seconds(request)
    try:
        ended = seconds is not None and await ended_within(request, caller, created.id, seconds)
    except Problem:
        # The key was revoked meanwhile. What it had accepted is kept, and is told: else it would be sent again.
        if created.row is None:
            raise
        ended = False
    if ended:
        headers["preference-applied"] = f"wait={seconds}"
    elif created.row is not None:
        return json_answer(created_view(created.row, phi=caller.sees_phi), 202, headers)
    shown = await read_one(gateway, caller, created.id)
    return json_answer(shown, 200 if shown["completed_at"] is not None else 202, headers)


async def _accept(request: Request) -> Response:
    caller = await authenticated(request, _WRITES, await bearer(request))
    return await create_verification(request, caller, await _body(request))


_route = router.routes[-1]
assert isinstance(_route, APIRoute)
assert [one.call for one in _route.dependant.dependencies] == [authenticated, _body], "called in `_accept`, all of them"
accepting = Shortcut(_route, _accept)


def _told(request: Request, created: Created, mode: str) -> dict[str, str]:
    """To the metrics; the headers of the answer."""
    metrics: Metrics = request.app.state.metrics
    headers = {"location": f"/v1/verifications/{created.id}"}
    if created.replayed:
        metrics.replayed.labels(mode).inc()
        headers["idempotent-replayed"] = "true"
    return headers


@router.get(
    "/v1/verifications",
    **documented(
        "list_verifications",
        "List verifications",
        "Newest first. Rows leave out `inquiry` and `result`.",
        answers={200: Described("A page", schemas.VerificationList, examples.VERIFICATION_PAGE)},
        problems=(400, 422),
    ),
)
async def get_verifications(
    request: Request, gateway: GatewayOf, caller: Watcher, query: Annotated[ListQuery, Query()]
) -> Response:
    limits_of(request).search(caller.operator_id or caller.tenant_id)
    after = position_of(ids.VERIFICATION, query.after)
    page = await list_verifications(gateway, caller, query.filters(), after, query.limit, "verification.list")
    return json_answer(listed(page))


@router.post(
    "/v1/verifications/search",
    **documented(
        "search_verifications",
        "Search verifications",
        "The list's filters in the body, and `member_id` and `date_of_birth`: PHI never stands in a URL.",
        body=(SearchVerifications, examples.SEARCH_VERIFICATIONS),
        answers={200: Described("A page", schemas.VerificationList, examples.VERIFICATION_PAGE)},
        problems=(400, 413, 415, 422),
    ),
)
async def search_verifications(
    request: Request,
    gateway: GatewayOf,
    caller: Reader,
    _: NoQuery,
    body: Annotated[SearchVerifications, Depends(json_body(SearchVerifications))],
) -> Response:
    limits_of(request).search(caller.tenant_id)
    after = position(body.after, lambda id_: ids.is_id(ids.VERIFICATION, id_), "/after")
    page = await list_verifications(gateway, caller, body.filters(), after, body.limit, "verification.search")
    return json_answer(listed(page))


@router.get(
    "/v1/verifications/{verification_id}",
    **documented(
        "read_verification",
        "Read a verification",
        "With its inquiry and result. `Prefer: wait=N` waits for its end. An operator without the role `phi` sees no inquiry,"
        " no results, and of a failure only its code and our own words.",
        headers=("Prefer",),
        answers={
            200: Described(
                "The verification", schemas.VerificationShown, examples.COMPLETED_VERIFICATION, ("Preference-Applied",)
            )
        },
        problems=(404, 422),
    ),
)
async def read_verification(
    request: Request, gateway: GatewayOf, caller: Watcher, _: NoQuery, verification_id: str
) -> Response:
    headers = {}
    seconds = wait_seconds(request)
    if seconds is not None and await ended_within(request, caller, verification_id, seconds):
        headers["preference-applied"] = f"wait={seconds}"
    return json_answer(await read_one(gateway, caller, verification_id), 200, headers)


@router.post(
    "/v1/verifications/{verification_id}/cancel",
    **documented(
        "cancel_verification",
        "Cancel a verification",
        "It ends at once; canceling again changes nothing. The vendor's work is not recalled: a later answer shows in timeline"
        " and raw replies.",
        answers={
            200: Described("The canceled verification", schemas.VerificationShown, examples.CANCELED_VERIFICATION)
        },
        problems=(404, 409, 413, 415, 422),
    ),
)
async def cancel_verification(
    gateway: GatewayOf,
    caller: Mender,
    _: NoQuery,
    __: NoBody,
    verification_id: str,
) -> Response:
    await cancel(gateway, caller, verification_id)
    return json_answer(await read_one(gateway, caller, verification_id))


class ResubmitVerification(BaseModel):
    """What is to be asked otherwise this time."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    corrections: Annotated[
        dict[Annotated[str, Field(max_length=LONGEST_POINTER)], Any],
        Field(
            max_length=100,
            description="JSON pointer into the request → the value that it has this time",
        ),
    ] = Field(default_factory=dict)


@router.post(
    "/v1/verifications/{verification_id}/resubmit",
    **documented(
        "resubmit_verification",
        "Ask again",
        "A new verification made from what an ended one asked, with corrections: `retry_of` names the ended one, which stays as"
        " it is. The deadline is as far ahead as it was then. An SSN that is not kept any more is not asked: `not_asked` has it.",
        body=(ResubmitVerification, examples.RESUBMIT_VERIFICATION),
        headers=("Idempotency-Key",),
        answers={
            202: Described(
                "Accepted", schemas.VerificationShown, examples.ASKED_AGAIN, ("Location", "Idempotent-Replayed")
            ),
            200: Described(
                "A replay of one that ended",
                schemas.VerificationShown,
                examples.COMPLETED_VERIFICATION,
                ("Location", "Idempotent-Replayed"),
            ),
        },
        problems=(404, 409, 413, 415, 422),
    ),
)
async def resubmit_verification(
    request: Request,
    gateway: GatewayOf,
    caller: Mender,
    _: NoQuery,
    verification_id: str,
    body: Annotated[ResubmitVerification, Depends(json_body(ResubmitVerification, may_be_empty=True))],
) -> Response:
    key, by_key = idempotency_key(request), caller.kind is CallerKind.KEY
    if by_key:
        limits_of(request).create(caller.tenant_id)
    payers: DirectoryCache = request.app.state.payers
    acceptance: Acceptance = request.app.state.acceptance
    try:
        created = await resubmit(
            acceptance,
            payers,
            caller,
            verification_id,
            body.corrections,
            read=partial(validated, CreateVerification),
            key=key,
        )
    except WrongFields as wrong:
        further = await _further_errors(request, wrong.details, wrong.document) if by_key else []
        raise invalid_request([*wrong.errors, *further]) from None
    shown = await read_one(gateway, caller, created.id)
    add_to_log_line(request, retried_as=created.id)
    headers = _told(request, created, shown["mode"])
    return json_answer(shown, 200 if shown["completed_at"] is not None else 202, headers)


class ResolveVerification(BaseModel):
    """An operator's decision about a submission whose fate is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    action: Annotated[
        Resolution,
        Field(
            description="`resubmit`: ask the vendor again, at its price; `give_up`: fail with `submission_unknown`; `found`:"
            " the vendor has it under `vendor_ref`"
        ),
    ]
    vendor_ref: Annotated[str, Text(200)] | None = Field(
        default=None, description="With `found` only: the vendor's reference of the submission"
    )

    def errors(self) -> list[FieldError]:
        if (self.action is Resolution.FOUND) == (self.vendor_ref is not None):
            return []
        needed = self.action is Resolution.FOUND
        message = "must be given: what the vendor calls it" if needed else "must be left out unless it was found"
        return [FieldError("required" if needed else "not_allowed", message, pointer="/vendor_ref")]


@router.post(
    "/v1/verifications/{verification_id}/resolve",
    **documented(
        "resolve_verification",
        "Resolve an unknown submission",
        "For a verification whose `waiting_for.kind` is `operator`; any other is a 409 that says where it stands.",
        body=(ResolveVerification, examples.RESOLVE_VERIFICATION),
        answers={200: Described("The verification", schemas.VerificationShown, examples.RESUBMITTED_VERIFICATION)},
        problems=(404, 409, 413, 415, 422),
    ),
)
async def resolve_verification(
    gateway: GatewayOf,
    caller: Operator,
    _: NoQuery,
    verification_id: str,
    body: Annotated[ResolveVerification, Depends(json_body(ResolveVerification))],
) -> Response:
    if errors := body.errors():
        raise invalid_request(errors)
    await resolve(gateway, caller, verification_id, body.action, body.vendor_ref)
    return json_answer(await read_one(gateway, caller, verification_id))


class TimelineQuery(PageQuery):
    limit: PageLimit = TIMELINE_ROWS


@router.get(
    "/v1/verifications/{verification_id}/timeline",
    **documented(
        "read_verification_timeline",
        "Read a verification's timeline",
        f"Everything that happened, oldest first, without PHI. `limit` defaults to {TIMELINE_ROWS} here.",
        answers={200: Described("A page", schemas.Timeline, examples.TIMELINE_PAGE)},
        problems=(400, 404, 422),
    ),
)
async def read_verification_timeline(
    gateway: GatewayOf, caller: Watcher, query: Annotated[TimelineQuery, Query()], verification_id: str
) -> Response:
    after = position(query.after, lambda number: number.isdigit() and 0 < len(number) < 19)
    return json_answer(listed(await read_timeline(gateway, caller, verification_id, int(after or 0), query.limit)))


@router.get(
    "/v1/verifications/{verification_id}/raw",
    **documented(
        "read_verification_raw",
        "Read the vendor's raw replies",
        "The document that a result's `sources` point into. Tokens and secrets were redacted before storing. For a reused"
        " answer it is the document of the verification in `reused_from`.",
        answers={200: Described("Every exchange, in order", schemas.Raw, examples.RAW)},
        problems=(404, 422),
    ),
)
async def read_verification_raw(gateway: GatewayOf, caller: RawReader, _: NoQuery, verification_id: str) -> Response:
    return json_answer(await read_raw(gateway, caller, verification_id))
