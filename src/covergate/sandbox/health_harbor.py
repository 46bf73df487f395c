"""The simulated Health Harbor: token and Basic, mental-health inquiries one by one and in batches, one subscription.

Source: its OpenAPI document of `batch_inquiries` (errors are FastAPI's), and the pages on authentication, reading and
listing inquiries, and webhooks (docs.healthharbor.co; docs/vendors/health_harbor.md).

An inquiry is a phone call: PENDING, IN_PROGRESS (`results` null all the while), then SUCCESS or FAILED. A caller can
report what the representative said, not why a payer's computer would refuse, so BADMEMBER, BADNAME, BADDOB, BADNPI,
BADPAYER and PAYERDOWN behave as ELIGIBLE. Four starts of a member id exist here only: `CALLFAILED`, `ROWREFUSED`, `NUMBERREFUSED`
and `SHUFFLED`.

Invariant: a batch with one bad row creates nothing; every created row is recorded before the reply goes out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from covergate.sandbox import tokens
from covergate.sandbox.health_harbor_request import InquiryRequest, unmet_rules
from covergate.sandbox.health_harbor_results import results_of
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.world import World

_NAME = "health_harbor"
_USERNAME = "sandbox"
_TOKEN_SECONDS = 24 * 60 * 60

_CALL_FAILED = "CALLFAILED"
"""Start of a member id whose call fails: status FAILED, a summary, no results."""
_ROW_REFUSED = "ROWREFUSED"
"""Start of a member id whose row is answered `"success": false` inside a 200."""
_NUMBER_REFUSED = "NUMBERREFUSED"
"""Start of a member id that the validation of the request does not accept: a 422 that names the field."""
_SHUFFLED = "SHUFFLED"
"""Start of a member id in whose batch the rows of the reply come in another order than those of the request."""

_EVENT_ROWS = 25
"""Inquiries in one webhook message; more are split over several."""
CALL_BEGINS_AT, HALF_WAY_AT = 0.2, 0.6
"""When the call begins and when its second message goes out, as parts of the vendor's delay."""


def _password(secret: str) -> str:
    """The password (the "API key") of the account `sandbox`: the sandbox's secret itself."""
    return secret


def _webhook_secret(secret: str) -> str:
    """The key of `X-HealthHarbor-Signature`: lower-case hex SHA-256 of the sandbox's secret and `:health_harbor`."""
    return hashlib.sha256(f"{secret}:health_harbor".encode()).hexdigest()


def _signature(secret: str, body: bytes) -> str:
    """`X-HealthHarbor-Signature`: lower-case hex HMAC-SHA256 of the raw body."""
    return hmac.digest(_webhook_secret(secret).encode(), body, "sha256").hex()


class _SubscriptionRequest(BaseModel):
    """The one webhook subscription of the account. Its field names are not documented; these are the sandbox's own."""

    model_config = ConfigDict(strict=True, extra="forbid")

    callback_url: str
    update_frequency_minutes: Annotated[int, Field(ge=1)] = 5


@dataclass
class _Inquiry:
    """One phone call as the vendor keeps it."""

    id: str
    request: InquiryRequest
    scenario: Scenario
    created: str
    status: str = "PENDING"
    summary: str = ""
    results: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "creation_ts": self.created,
            "summary": self.summary,
            "request": self.request.model_dump(exclude_unset=True),
            "results": self.results,
        }


@dataclass
class _CallCenter:
    """The simulated service's state: its inquiries and its subscription."""

    world: World
    subscription: dict[str, Any] | None = None
    inquiries: dict[str, _Inquiry] = field(default_factory=dict)
    by_external_id: dict[str, list[_Inquiry]] = field(default_factory=dict)

    def create(self, requests: Sequence[InquiryRequest]) -> list[dict[str, Any]]:
        """Take on the rows of one call; gives the documented answer row by row."""
        answers: list[dict[str, Any]] = []
        begun: dict[Scenario, list[_Inquiry]] = {}
        created = datetime.fromtimestamp(self.world.now(), UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        for request in requests:
            if request.member_id.startswith(_ROW_REFUSED):
                answers.append({"success": False, "inquiry_id": ""})
                continue
            inquiry = _Inquiry(str(uuid.uuid4()), request, scenario_of(request.member_id), created)
            self.inquiries[inquiry.id] = inquiry
            if request.external_id:
                self.by_external_id.setdefault(request.external_id, []).append(inquiry)
            self.world.record_submission(_NAME, request.external_id or None, request.member_id, inquiry.id)
            begun.setdefault(inquiry.scenario, []).append(inquiry)
            answers.append({"success": True, "inquiry_id": inquiry.id})
        if any(request.member_id.startswith(_SHUFFLED) for request in requests):
            answers.reverse()
        for scenario, group in begun.items():
            self.world.spawn(self._call(scenario, group))
        return answers

    def find(self, external_id: str | None, limit: int) -> list[_Inquiry]:
        """The newest inquiries first."""
        inquiries = list(self.inquiries.values()) if external_id is None else self.by_external_id.get(external_id, [])
        return inquiries[::-1][:limit]

    async def _call(self, scenario: Scenario, inquiries: list[_Inquiry]) -> None:
        seconds = self.world.delay(scenario)
        await asyncio.sleep(seconds * CALL_BEGINS_AT)
        for inquiry in inquiries:
            inquiry.status, inquiry.summary = "IN_PROGRESS", "The call has begun."
        self._announce(scenario, inquiries)
        await asyncio.sleep(seconds * (HALF_WAY_AT - CALL_BEGINS_AT))
        for inquiry in inquiries:
            inquiry.summary = "A representative is looking up the benefits."
        self._announce(scenario, inquiries)
        if scenario is Scenario.NEVER:
            return
        await asyncio.sleep(seconds * (1 - HALF_WAY_AT))
        for inquiry in inquiries:
            if inquiry.request.member_id.startswith(_CALL_FAILED):
                inquiry.status, inquiry.summary = "FAILED", "The payer's line was closed on every attempt."
                continue
            inquiry.results = results_of(self.world, inquiry.request, inquiry.id, scenario)
            inquiry.status, inquiry.summary = "SUCCESS", "The representative confirmed the patient's benefits."
        self._announce(scenario, inquiries)

    def _announce(self, scenario: Scenario, inquiries: list[_Inquiry]) -> None:
        """Send the subscription the inquiries as they are at this moment."""
        if self.subscription is None or scenario is Scenario.NOEVENT:
            return
        for start in range(0, len(inquiries), _EVENT_ROWS):
            rows = [inquiry.as_json() for inquiry in inquiries[start : start + _EVENT_ROWS]]
            body = orjson.dumps(
                {
                    "subscription_id": self.subscription["subscription_id"],
                    "message_hash": hashlib.sha256(orjson.dumps(rows)).hexdigest(),
                    "inquiries": rows,
                }
            )
            self.world.spawn(self._post(body, times=2 if scenario is Scenario.DUPLICATEEVENT else 1))

    async def _post(self, body: bytes, times: int) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-HealthHarbor-Signature": _signature(self.world.settings.secret, body),
        }
        for _ in range(times):
            await self.world.post_event(_NAME, body, headers)


def build(world: World) -> ASGIApp:
    """The vendor under its own paths, `/api/v0/…`, with the account already subscribed to the gateway."""
    gateway_callback = f"{world.settings.gateway_url.rstrip('/')}/v1/vendor-events/{_NAME}"
    center = _CallCenter(world)
    center.subscription = _subscription(_SubscriptionRequest(callback_url=gateway_callback))

    async def authorized(request: Request) -> None:
        if not _is_authorized(world, request):
            raise HTTPException(401, "Could not validate credentials", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(RequestValidationError, _validation_error)
    account = [Depends(authorized)]

    @app.post("/api/v0/auth/token")
    async def token(request: Request) -> dict[str, str]:
        form = await _multipart(request)
        if form["username"] != _USERNAME or form["password"] != _password(world.settings.secret):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Bearer"})
        return {"access_token": tokens.issue(world, _NAME, _TOKEN_SECONDS), "token_type": "bearer"}

    @app.post("/api/v0/mental_health/batch_inquiries", dependencies=account)
    async def create_batch(request: Request, inquiries: list[InquiryRequest]) -> Response:
        errors = [
            _error("body", index, name, message=message)
            for index, inquiry in enumerate(inquiries)
            for name, message in _unmet(inquiry)
        ]
        return take_on(request, inquiries, errors, single=False)

    @app.post("/api/v0/mental_health/inquiries", dependencies=account)
    async def create_one(request: Request, inquiry: InquiryRequest) -> Response:
        errors = [_error("body", name, message=message) for name, message in _unmet(inquiry)]
        return take_on(request, [inquiry], errors, single=True)

    def take_on(
        request: Request, inquiries: list[InquiryRequest], errors: list[dict[str, Any]], single: bool
    ) -> Response:
        if errors:
            raise RequestValidationError(errors)
        if [inquiry for inquiry in inquiries if _is_first_try(world, inquiry)]:  # every row counts as tried
            retry_after = str(world.settings.rate_limit_seconds)
            raise HTTPException(429, "Too many requests", {"Retry-After": retry_after})
        answers = center.create(inquiries)
        if any(scenario_of(inquiry.member_id) is Scenario.DROPREPLY for inquiry in inquiries):
            return world.drop_connection(request)
        return JSONResponse(answers[0] if single else answers)

    @app.get("/api/v0/mental_health/inquiries", dependencies=account)
    async def find(external_id: str | None = None, limit: Annotated[int, Query(ge=1)] = 200) -> Response:
        return JSONResponse([inquiry.as_json() for inquiry in center.find(external_id, limit)])

    @app.get("/api/v0/mental_health/inquiries/{inquiry_id}", dependencies=account)
    async def read(inquiry_id: str) -> Response:
        inquiry = center.inquiries.get(inquiry_id)
        if inquiry is None:
            raise HTTPException(404, "Inquiry not found")
        if inquiry.scenario is Scenario.HTTP500ONCE and world.once((_NAME, "500", inquiry.id)):
            return Response("Internal Server Error", 500, media_type="text/plain")
        body = orjson.dumps(inquiry.as_json())
        if inquiry.scenario is Scenario.BROKENJSON:
            body = body[: len(body) // 2]
        return Response(body, media_type="application/json")

    @app.post("/api/v0/subscription/", dependencies=account)
    async def subscribe(subscription: _SubscriptionRequest) -> dict[str, Any]:
        if subscription.callback_url != gateway_callback:
            message = "the sandbox posts only to the gateway it was started with"
            raise RequestValidationError([_error("body", "callback_url", message=message)])
        center.subscription = _subscription(subscription)
        return center.subscription

    @app.get("/api/v0/subscription/", dependencies=account)
    async def view_subscription() -> dict[str, Any]:
        if center.subscription is None:
            raise HTTPException(404, "No subscription")
        return center.subscription

    @app.delete("/api/v0/subscription/", dependencies=account)
    async def unsubscribe() -> dict[str, bool]:
        center.subscription = None
        return {"success": True}

    return app


def _unmet(inquiry: InquiryRequest) -> list[tuple[str, str]]:
    refused = [("member_id", "not a member id of this payer")] if inquiry.member_id.startswith(_NUMBER_REFUSED) else []
    return [*unmet_rules(inquiry), *refused]


def _is_authorized(world: World, request: Request) -> bool:
    token = tokens.bearer_of(request)
    if token is not None:
        return tokens.is_valid(world, _NAME, token)
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(given, f"{_USERNAME}:{_password(world.settings.secret)}".encode())


def _is_first_try(world: World, inquiry: InquiryRequest) -> bool:
    """Whether this row makes its call run into the rate limit."""
    return scenario_of(inquiry.member_id) is Scenario.RATELIMIT and world.once(
        (_NAME, "429", inquiry.external_id or inquiry.member_id)
    )


def _subscription(request: _SubscriptionRequest) -> dict[str, Any]:
    return {"subscription_id": str(uuid.uuid4()), **request.model_dump()}


async def _multipart(request: Request) -> FormData:
    """The form of a token request: multipart, as documented, with both fields as text."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RequestValidationError([_error("body", message="multipart form data is expected")])
    form = await request.form()
    errors = [
        _error("body", name, message="field required")
        for name in ("username", "password")
        if not isinstance(form.get(name), str)
    ]
    if errors:
        raise RequestValidationError(errors)
    return form


def _error(*loc: str | int, message: str) -> dict[str, Any]:
    return {"loc": loc, "msg": message, "type": "value_error"}


async def _validation_error(request: Request, exc: Exception) -> Response:
    """FastAPI's 422 with the documented three keys only; the offending input is not repeated."""
    assert isinstance(exc, RequestValidationError)
    detail = [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in exc.errors()]
    return JSONResponse({"detail": detail}, 422)
