"""The simulated Integrex: OAuth2 client credentials and the polled "Enhanced Eligibility V2".

Source: "Integrex Health Enhanced Eligibility V2" (PDF); for gaps, RFC 6749 and version 1 (docs/vendors/integrex.md).
Credentials: client id `sandbox`, client secret = the sandbox's secret, by HTTP Basic or in the form. No webhooks.

Invariant: a request that the document does not allow gets 400 and starts nothing; one that starts work is recorded before
it is answered. If the document is silent, the sandbox refuses: a 270's fields are required, unknown fields are 400.
The document has two words for a bad login: 401 answers a request without a token, 402 one whose token is no (longer) good.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from covergate.sandbox import integrex_answers, tokens
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.world import World

_CLIENT_ID = "sandbox"
_TOKEN_SECONDS = 3600

_REQUIRED_FIELDS = (
    "patientFirstName",
    "patientLastName",
    "patientDob",
    "memberId",
    "billingProviderNpi",
    "beginDos",
)

# "[POST] Enhanced Eligibility Request": every parameter, and the form of those that have one.
_ANY_TEXT = re.compile(r".*")
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_GENDER = re.compile(r"[FM]")
_REQUEST_FIELDS: dict[str, re.Pattern[str]] = {
    "patientDob": _ISO_DATE,
    "patientFirstName": _ANY_TEXT,
    "patientLastName": _ANY_TEXT,
    "patientSsn": _ANY_TEXT,
    "patientGender": _GENDER,
    "memberId": _ANY_TEXT,
    "subscriberFirstName": _ANY_TEXT,
    "subscriberLastName": _ANY_TEXT,
    "subscriberSsn": _ANY_TEXT,
    "subscriberGender": _GENDER,
    "subscriberDob": _ISO_DATE,
    "billingProviderNpi": re.compile(r"[0-9]{10}"),
    "beginDos": _ISO_DATE,
    "endDos": _ISO_DATE,
    "serviceType": re.compile(r"[0-9]{2}"),
    "payerId": _ANY_TEXT,
    "payerName": _ANY_TEXT,
    "employerName": _ANY_TEXT,
    "internalAccountNumber1": _ANY_TEXT,
    "internalAccountNumber2": _ANY_TEXT,
}


@dataclass
class _Ticket:
    """One request that Integrex works on, under the id that its POST gave out."""

    id: str
    request: Mapping[str, str]
    scenario: Scenario
    ready_at: float
    was_polled: bool = False


@dataclass
class _BadData(Exception):
    """The request breaks the documented form: 400 with this message."""

    message: str


@dataclass
class _Integrex:
    """The simulated service: its tickets and its endpoints."""

    world: World
    tickets: dict[str, _Ticket] = field(default_factory=dict)

    async def auth(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if content_type != "application/x-www-form-urlencoded":
            return _json({"error": "invalid_request"}, 400)
        form = await request.form()
        if form.get("grant_type") != "client_credentials":
            return _json({"error": "unsupported_grant_type"}, 400)
        credentials = _basic_credentials(request) or (form.get("client_id"), form.get("client_secret"))
        if credentials != (_CLIENT_ID, self.world.settings.secret):
            return _json({"error": "invalid_client"}, 401)
        return _json(
            {
                "access_token": tokens.issue(self.world, "integrex", _TOKEN_SECONDS),
                "token_type": "Bearer",
                "expires_in": _TOKEN_SECONDS,
            }
        )

    async def submit(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        body = _checked_request(await request.body())
        scenario = scenario_of(body["memberId"])
        echo = body.get("internalAccountNumber1") or None
        person = (body["memberId"], body["patientFirstName"], body["patientLastName"])
        if scenario is Scenario.RATELIMIT and self.world.once(("integrex", "429", echo or person)):
            retry_after = str(self.world.settings.rate_limit_seconds)
            return _json({"message": "Too Many Requests"}, 429, {"Retry-After": retry_after})
        # Version 1 gave out 19-digit numbers in a string, too long for a JSON number.
        ticket_id = str(10**18 + secrets.randbelow(9 * 10**18))
        self.tickets[ticket_id] = _Ticket(ticket_id, body, scenario, self.world.now() + self.world.delay(scenario))
        self.world.record_submission("integrex", echo, body["memberId"], ticket_id)
        if scenario is Scenario.DROPREPLY:
            return self.world.drop_connection(request)
        return _json({"id": ticket_id})

    async def read(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        ticket_id = request.query_params.get("id")
        if not ticket_id:
            raise _BadData("id is required")
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            raise _BadData("id is not known")
        if ticket.scenario is Scenario.HTTP500ONCE and self.world.once(("integrex", "500", ticket.id)):
            return _json({"message": "Internal Server Error"}, 500)
        if not self._is_ready(ticket):
            return _json({}, 202)
        answer = orjson.dumps(integrex_answers.answer_document(self.world, ticket.request, ticket.id, ticket.scenario))
        if ticket.scenario is Scenario.BROKENJSON:
            answer = answer[: len(answer) // 2]
        return Response(answer, media_type="application/json")

    def _is_ready(self, ticket: _Ticket) -> bool:
        """Whether the answer is there. Without any delay the first GET still says 202, so that each inquiry polls twice."""
        if ticket.scenario is Scenario.NEVER:
            return False
        if self.world.settings.delay_seconds == 0:
            ticket.was_polled, was_polled = True, ticket.was_polled
            return was_polled
        return self.world.now() >= ticket.ready_at

    def _refusal(self, request: Request) -> Response | None:
        """The refusal of a request without a good token or `env`; None if it is let in."""
        token = tokens.bearer_of(request)
        if token is None:
            return _json({"message": "Unauthorized"}, 401)
        if not tokens.is_valid(self.world, "integrex", token):
            return _json({"message": "Authentication Error"}, 402)
        if request.headers.get("env", "T") != "T":
            return _json({"message": "env must be T"}, 400)
        return None


def build(world: World) -> ASGIApp:
    """Integrex's API, paths as in its document."""
    integrex = _Integrex(world)
    return Starlette(
        routes=[
            Route("/api/v2/auth", integrex.auth, methods=["POST"]),
            Route("/api/v2/enhanced-eligibility", integrex.submit, methods=["POST"]),
            Route("/api/v2/enhanced-eligibility", integrex.read, methods=["GET"]),
        ],
        exception_handlers={_BadData: _bad_data},
    )


def _checked_request(raw: bytes) -> Mapping[str, str]:
    """The body of a POST; raises `_BadData` at the first rule that is broken."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _BadData("the body is not JSON") from None
    if not isinstance(body, dict):
        raise _BadData("the body is not an object")
    for name, value in body.items():
        if name not in _REQUEST_FIELDS:
            raise _BadData(f"{name} is not a parameter")
        if not isinstance(value, str):
            raise _BadData(f"{name} must be a string")
        if value and not _REQUEST_FIELDS[name].fullmatch(value):
            raise _BadData(f"{name} is not valid")
        if value and _REQUEST_FIELDS[name] is _ISO_DATE:
            _check_day(name, value)
    for name in _REQUIRED_FIELDS:
        if not body.get(name, "").strip():
            raise _BadData(f"{name} is required")
    if not (body.get("payerId") or body.get("payerName")):
        raise _BadData("payerId or payerName is required")
    if body.get("endDos") and body["endDos"] < body["beginDos"]:
        raise _BadData("endDos is before beginDos")
    return body


def _check_day(name: str, value: str) -> None:
    try:
        date.fromisoformat(value)
    except ValueError:
        raise _BadData(f"{name} is not a date") from None


def _basic_credentials(request: Request) -> tuple[str, str] | None:
    """User and password of an HTTP Basic header, None if there is none that can be read."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password


async def _bad_data(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, _BadData)  # Starlette calls it for nothing else
    return _json({"message": exc.message}, 400)


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
