"""The simulated Sohar: token, verifications v2, payers, and Svix-signed events.

Source: Sohar's "Patient Intake" guide, authentication, verifications v2 and webhooks pages (docs.soharhealth.com;
docs/vendors/sohar.md). Credentials: client id `sandbox`, client secret = the sandbox's secret. The webhook secret is
`"whsec_" + base64(sha256(secret + ":sohar"))`, Svix's form of a 32-byte key; the gateway computes it on its own.

Invariant: a request that the documents do not allow gets the documented error body and starts nothing; one that starts
work is recorded before it is answered. If the documents are silent, the sandbox refuses: unknown fields are 400.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from covergate.sandbox import sohar_answers, tokens
from covergate.sandbox.sample_payers import NO_PAYER, SAMPLE_PAYERS
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.world import World

_CLIENT_ID = "sandbox"
_TOKEN_SECONDS = 3600
_LATE_FACTOR = 10
"""A late refusal takes so many times the usual: ten seconds, beyond the shortest deadline."""

# "Create Verification" v2, specialtyCode.
_SPECIALTY_CODES = frozenset({"ABA", "IOP", "OCT", "PHT", "PRC", "PCH", "PSY", "SLP", "SUD", "UGC", "WMT"})

_REQUEST_FIELDS = frozenset({"id", "patient", "subscriber", "payerId", "placeOfServiceCode", "specialtyCode"})
_PATIENT_FIELDS = frozenset({"firstName", "lastName", "dateOfBirth", "state", "memberId"})
_SUBSCRIBER_FIELDS = frozenset({"firstName", "lastName", "dateOfBirth"})


@dataclass
class _Verification:
    """One verification as Sohar keeps it; `status` changes once, when the answer is there."""

    id: str
    request: Mapping[str, Any]
    echo: str | None
    member_id: str
    scenario: Scenario
    created: datetime
    status: str = "pending"


@dataclass
class _InvalidRequest(Exception):
    """The request breaks the documented form; `param` is the field that Sohar names in its 400."""

    param: str


@dataclass
class _Sohar:
    """The simulated service: its verifications and its endpoints."""

    world: World
    verifications: dict[str, _Verification] = field(default_factory=dict)

    async def token(self, request: Request) -> Response:
        body = await _json_object(request)
        for name in ("client_id", "client_secret"):
            _text(body, name)
        if body["client_id"] != _CLIENT_ID or body["client_secret"] != self.world.settings.secret:
            return _error(403)
        return _json(
            {
                "access_token": tokens.issue(self.world, "sohar", _TOKEN_SECONDS),
                "token_type": "Bearer",
                "expires_in": _TOKEN_SECONDS,
            }
        )

    async def create(self, request: Request) -> Response:
        if not self._authorized(request):
            return _error(403)
        body = await _json_object(request)
        _check_request(body)
        patient = body["patient"]
        echo = body.get("id")
        member_id: str = patient["memberId"]
        scenario = scenario_of(member_id)
        if scenario is Scenario.BADPAYER:
            self.world.record_submission("sohar", echo, member_id, "")
            raise _InvalidRequest("payerId")
        person = (member_id, patient["firstName"], patient["lastName"])
        if scenario is Scenario.RATELIMIT and self.world.once(("sohar", "429", echo or person)):
            retry_after = str(self.world.settings.rate_limit_seconds)
            return _json({"error": "rate_limit_error"}, 429, {"Retry-After": retry_after})
        verification = _Verification(
            id=str(uuid.uuid4()),
            request=body,
            echo=echo,
            member_id=member_id,
            scenario=scenario,
            created=datetime.fromtimestamp(self.world.now(), UTC),
        )
        self.verifications[verification.id] = verification
        self.world.record_submission("sohar", verification.echo, member_id, verification.id)
        self.world.spawn(self._work(verification))
        if scenario is Scenario.DROPREPLY:
            return self.world.drop_connection(request)
        return _json({"verificationId": verification.id, "id": verification.echo}, 201)

    async def read(self, request: Request) -> Response:
        if not self._authorized(request):
            return _error(403)
        verification = self.verifications.get(request.path_params["id"])
        if verification is None:
            return _error(404)
        if verification.scenario is Scenario.HTTP500ONCE and self.world.once(("sohar", "500", verification.id)):
            return Response(status_code=500)
        document = orjson.dumps(
            sohar_answers.verification_document(
                self.world,
                verification.request,
                verification_id=verification.id,
                created=verification.created,
                status=verification.status,
                scenario=verification.scenario,
            )
        )
        if verification.scenario is Scenario.BROKENJSON:
            document = document[: len(document) // 2]
        return Response(document, media_type="application/json")

    async def payers(self, request: Request) -> Response:
        if not self._authorized(request):
            return _error(403)
        return _json(
            [
                {
                    "payerId": payer.id,
                    "payerName": payer.name,
                    "aliasPayerIds": list(payer.alias_ids),
                    "aliasPayerNames": list(payer.alias_names),
                }
                for payer in SAMPLE_PAYERS
            ]
        )

    def _authorized(self, request: Request) -> bool:
        token = tokens.bearer_of(request)
        return token is not None and tokens.is_valid(self.world, "sohar", token)

    async def _work(self, verification: _Verification) -> None:
        """Take the scenario's time, set the answer, send the events."""
        scenario = verification.scenario
        if scenario is Scenario.NEVER:
            return
        if scenario is Scenario.SLOW:
            self.world.spawn(
                self._send(
                    "sandbox.verification.pending",
                    verification,
                    message_id=_message_id(),
                )
            )
        is_late = verification.member_id.startswith(sohar_answers.LATE_REFUSAL)
        await asyncio.sleep(self.world.delay(scenario) * (_LATE_FACTOR if is_late else 1))
        verification.status = sohar_answers.final_status(scenario, verification.member_id)
        if scenario is Scenario.NOEVENT:
            return
        message_id = _message_id()
        await self._send("sandbox.verification.updated", verification, message_id)
        if scenario is Scenario.DUPLICATEEVENT:
            await self._send("sandbox.verification.updated", verification, message_id)
            await asyncio.sleep(self.world.delay(Scenario.SLOW))
            await self._send("sandbox.verification.updated", verification, message_id)

    async def _send(self, event: str, verification: _Verification, message_id: str) -> None:
        payload = {
            "event": event,
            "verificationId": verification.id,
            "id": verification.echo,
            "status": verification.status,
        }
        body = orjson.dumps(payload)
        secret = sohar_webhook_secret(self.world.settings.secret)
        headers = _svix_headers(secret, message_id, int(self.world.now()), body)
        await self.world.post_event("sohar", body, {"Content-Type": "application/json", **headers})


def build(world: World) -> ASGIApp:
    """Sohar's API, paths as in its documents."""
    sohar = _Sohar(world)
    return Starlette(
        routes=[
            Route("/oauth/token", sohar.token, methods=["POST"]),
            Route("/v2/verifications", sohar.create, methods=["POST"]),
            Route("/v2/verifications/{id}", sohar.read, methods=["GET"]),
            Route("/v1/payers", sohar.payers, methods=["GET"]),
        ],
        exception_handlers={_InvalidRequest: _invalid_request},
    )


def sohar_webhook_secret(secret: str) -> str:
    """The Svix secret of the sandbox's Sohar: `"whsec_" + base64(sha256(secret + ":sohar"))`."""
    return "whsec_" + base64.b64encode(hashlib.sha256(f"{secret}:sohar".encode()).digest()).decode()


def _svix_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Svix, "verify manually": HMAC-SHA256 over `id.timestamp.body` with the decoded secret, base64, behind `v1,`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "svix-id": message_id,
        "svix-timestamp": str(timestamp),
        "svix-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def _message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


def _check_request(body: Mapping[str, Any]) -> None:
    """Sohar's rules for a create request (v2); raises `_InvalidRequest` at the first that is broken."""
    patient = body.get("patient")
    if not isinstance(patient, Mapping):
        raise _InvalidRequest("patient")
    _no_other_fields(body, _REQUEST_FIELDS)
    _no_other_fields(patient, _PATIENT_FIELDS)
    _text(patient, "firstName")
    _text(patient, "lastName")
    _birth_date(patient)
    _text(patient, "state", r"[A-Z]{2}")
    _text(patient, "memberId")
    if _text(body, "payerId", r"[A-Za-z0-9]{1,20}") == NO_PAYER:
        raise _InvalidRequest("payerId")
    _text(body, "placeOfServiceCode", r"[0-9]{2}")
    if _text(body, "specialtyCode") not in _SPECIALTY_CODES:
        raise _InvalidRequest("specialtyCode")
    if body.get("id") is not None:
        _text(body, "id", r".{1,45}")
    if (subscriber := body.get("subscriber")) is not None:
        if not isinstance(subscriber, Mapping):
            raise _InvalidRequest("subscriber")
        _no_other_fields(subscriber, _SUBSCRIBER_FIELDS)
        _text(subscriber, "firstName")
        _text(subscriber, "lastName")
        _birth_date(subscriber)


def _no_other_fields(fields: Mapping[str, Any], allowed: frozenset[str]) -> None:
    if unknown := sorted(fields.keys() - allowed):
        raise _InvalidRequest(unknown[0])


def _text(fields: Mapping[str, Any], name: str, pattern: str = r".+") -> str:
    """A required string that is not blank and matches all of `pattern`."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip() or not re.fullmatch(pattern, value):
        raise _InvalidRequest(name)
    return value


def _birth_date(fields: Mapping[str, Any]) -> date:
    """MM/DD/YYYY, a day that exists."""
    value = _text(fields, "dateOfBirth", r"[0-9]{2}/[0-9]{2}/[0-9]{4}")
    try:
        return sohar_answers.parse_date(value)
    except ValueError:
        raise _InvalidRequest("dateOfBirth") from None


async def _json_object(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _InvalidRequest("body")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise _InvalidRequest("body") from None
    if not isinstance(body, dict):
        raise _InvalidRequest("body")
    return body


async def _invalid_request(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, _InvalidRequest)  # Starlette calls it for nothing else
    return _json({"error": "invalid_request_error", "param": exc.param}, 400)


def _error(status: int) -> Response:
    return _json({"error": "invalid_request_error"}, status)


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
