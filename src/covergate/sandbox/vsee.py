"""The simulated VSee Clinic with its AdvancedMD behind it: users, insurance, eligibility checks, `eligibility.checked`.

Source: VSee's API overview, User API and "Insurance API (Draft)" pages (docs/vendors/vsee.md). The API lives
under `/api_v3`; errors are `{"code", "message"}`, successes `{"data"}`. The result of a check is written to the user's
record some time later.

Nothing that VSee sends is signed: its callback address carries a token (`_callback_token`).

Invariant: a check is recorded before its reply goes out, and reads the user's record when it runs, not when it was
requested: a second check on the same coverage overwrites the first, as at VSee.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from covergate.sandbox.sample_plan import plan_dates
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.vsee_271 import CompletedCheck, PersonOnFile, raw_response, response_text
from covergate.sandbox.vsee_settings import VSeeSandboxSettings
from covergate.sandbox.vsee_users import ApiError, User, missing_for_check, read_sso, store_profile
from covergate.sandbox.world import World

_NAME = "vsee"
_ACCOUNT_CODE = "sandbox"
_API_KEY = "sandbox"
_TOKEN_SECONDS = 3600

# GET /insurances/ of the page, the six carriers that it shows.
_INSURERS = {
    "car7551": "AETNA",
    "car7414": "AETNA BETTER HEALTH OF ILLINOIS",
    "car11406": "ANTHEM BLUE SHIELD",
    "car7147": "CIGNA HEALTH CARE",
    "car7580": "MONTGOMERY HEALTH INSURANCE",
    "car7556": "HEALTH CHOICE ARIZONA",
}


def _api_secret(secret: str) -> str:
    """`X-ApiSecret`, which opens `POST /users/sso`: the sandbox's secret itself."""
    return secret


def _admin_token(secret: str) -> str:
    """The `X-ApiToken` of the account's administrator: the sandbox's secret itself."""
    return secret


def _callback_token(secret: str) -> str:
    """`?token=` of the callback address: lower-case hex SHA-256 of the sandbox's secret and `:vsee`."""
    return hashlib.sha256(f"{secret}:vsee".encode()).hexdigest()


@dataclass
class _Clinic:
    """The simulated clinic's state and endpoints."""

    world: World
    told: VSeeSandboxSettings = field(default_factory=VSeeSandboxSettings)
    users: dict[str, User] = field(default_factory=dict)
    by_code: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, tuple[User, int]] = field(default_factory=dict)
    """User tokens, each with the Unix second at which it expires."""
    refused_for_rate: set[tuple[str, str]] = field(default_factory=set)
    """(user id, primary or secondary) whose last check was answered 429; the next one is let through."""
    failing_reads: set[str] = field(default_factory=set)
    """Ids of users whose next read is answered 500."""
    user_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(132407))
    amd_member_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(5991794))
    eligibility_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(2505465))

    async def insurers(self, request: Request) -> Response:
        self._actor(request)
        return _data({"insurers": [{"id": code, "name": name} for code, name in _INSURERS.items()]})

    async def sso(self, request: Request) -> Response:
        secret = request.headers.get("x-apisecret", "")
        self._check_account(request)
        if request.headers.get("x-apikey") != _API_KEY or not self._is_secret(secret, _api_secret):
            raise ApiError(401, "Invalid API key or secret.")
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ApiError(400, "A multipart form is expected.")
        form = await request.form()
        code, user_type, fields = read_sso({name: value for name, value in form.items() if isinstance(value, str)})
        user = self.by_code.get(code) if code else None
        if user is None:
            user = User(
                id=str(next(self.user_ids)),
                code=code,
                type=user_type,
                created=int(self.world.now()),
                amd_member_id=str(next(self.amd_member_ids)),
                fields=fields,
            )
            self.users[user.id] = user
            if code:
                self.by_code[code] = user
        return _data({**user.as_json(_ACCOUNT_CODE), "token": self._issue(user)})

    async def me(self, request: Request) -> Response:
        user = self._actor(request)
        if user is None:
            raise ApiError(403, "This call needs a user's own token.")
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            raise ApiError(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise ApiError(400, "The body must be a JSON object.")
        store_profile(user, body, self.told.insurance_fields)
        return _data(user.as_json(_ACCOUNT_CODE))

    async def check(self, request: Request) -> Response:
        user = self._user_of_path(request)
        carrier_code = request.path_params["carrier_code"]
        section = user.coverage(carrier_code)
        if section is None or carrier_code not in _INSURERS:
            raise ApiError(400, "The carrier is not stored as the user's primary or secondary insurance.")
        order, coverage = section
        if missing := missing_for_check(user, coverage):
            raise ApiError(400, f"Missing data: {', '.join(missing)}")
        member_id = coverage["subscriber_num"]
        scenario = scenario_of(member_id)
        if scenario is Scenario.RATELIMIT and (user.id, order) not in self.refused_for_rate:
            self.refused_for_rate.add((user.id, order))
            raise ApiError(429, "Too many requests.")
        self.refused_for_rate.discard((user.id, order))
        eligibility_id = str(next(self.eligibility_ids))
        self.world.record_submission(_NAME, user.code, member_id, eligibility_id)
        if scenario is Scenario.HTTP500ONCE:
            self.failing_reads.add(user.id)
        self.world.spawn(self._run(user, carrier_code, eligibility_id, scenario))
        if scenario is Scenario.DROPREPLY:
            return self.world.drop_connection(request)
        return _data({"eligibility_id": eligibility_id, "carrier_code": carrier_code})

    async def user(self, request: Request) -> Response:
        user = self._user_of_path(request)
        if user.id in self.failing_reads:
            self.failing_reads.discard(user.id)
            raise ApiError(500, "Internal server error.")
        return _data(user.as_json(_ACCOUNT_CODE))

    async def find_users(self, request: Request) -> Response:
        if self._actor(request) is not None:
            raise ApiError(403, "This call needs an administrator's token.")
        q, user_type = request.query_params.get("q", "").lower(), request.query_params.get("type")
        users = [
            user.as_json(_ACCOUNT_CODE)
            for user in self.users.values()
            if user_type in (None, user.type)
            and q in f"{user.fields['first_name']} {user.fields['last_name']} {user.code}".lower()
        ]
        return JSONResponse({"data": users, "total_count": len(users)})

    async def _run(self, user: User, carrier_code: str, eligibility_id: str, scenario: Scenario) -> None:
        await asyncio.sleep(self.world.delay(scenario))
        section = user.coverage(carrier_code)
        if section is None or scenario is Scenario.NEVER:
            return
        order, coverage = section
        check = self._as_check(user, carrier_code, coverage, eligibility_id)
        raw = raw_response(check)
        coverage.update(
            insurance_coverage_id=f"37{user.amd_member_id}{1 if order == 'primary' else 2}",
            eligibility_id=eligibility_id,
            last_checked=int(self.world.now()),
            eligibility_response=response_text(check),
            eligibility_text="",
            raw_response=raw,
        )
        if scenario is not Scenario.NOEVENT:
            await self._announce(user, eligibility_id, coverage, times=2 if scenario is Scenario.DUPLICATEEVENT else 1)

    def _as_check(self, user: User, carrier_code: str, coverage: dict[str, Any], eligibility_id: str) -> CompletedCheck:
        patient = PersonOnFile(
            user.fields["first_name"],
            user.fields["last_name"],
            user.fields["dob"],
            user.fields["street_addr"],
            user.fields["city"],
            user.fields["state"],
            user.fields["zip"],
        )
        about = user.insurance["patient"]
        scenario = scenario_of(coverage["subscriber_num"])
        begins, ends = plan_dates(self.world, ended=scenario is Scenario.INACTIVE)
        return CompletedCheck(
            eligibility_id=eligibility_id,
            payer_id=carrier_code,
            payer_name=_INSURERS[carrier_code],
            patient=patient,
            gender="M" if user.fields["gender"] == 1 else "F",
            subscriber=patient if about["respparty"] == "self" else _guarantor(about),
            respparty=about["respparty"],
            member_id=coverage["subscriber_num"],
            group_number=coverage.get("group_number", ""),
            scenario=scenario,
            at=datetime.fromtimestamp(self.world.now(), UTC),
            plan_begins=begins,
            plan_ends=ends,
        )

    async def _announce(self, user: User, eligibility_id: str, coverage: dict[str, Any], times: int) -> None:
        body = orjson.dumps(
            {
                "id": str(uuid.uuid4()),
                "type": "eligibility.checked",
                "created": int(self.world.now()),
                "account_code": _ACCOUNT_CODE,
                "data": {
                    "eligibility_id": eligibility_id,
                    "member_id": user.id,
                    "eligibility_response": coverage["eligibility_response"],
                    "external_member_id": user.amd_member_id,
                },
            }
        )
        params = {"token": _callback_token(self.world.settings.secret)}
        for _ in range(times):
            await self.world.post_event(_NAME, body, {"Content-Type": "application/json"}, params)

    def _issue(self, user: User) -> dict[str, Any]:
        now = int(self.world.now())
        token, refresh_token = secrets.token_hex(20), secrets.token_hex(20)
        self.tokens[token] = (user, now + _TOKEN_SECONDS)
        return {
            "user_id": user.id,
            "token": token,
            "expiry": now + _TOKEN_SECONDS,
            "refresh_token": {
                "user_id": user.id,
                "token": refresh_token,
                "expiry": now + 24 * _TOKEN_SECONDS,
                "created": now,
            },
        }

    def _check_account(self, request: Request) -> None:
        if request.headers.get("x-accountcode") != _ACCOUNT_CODE:
            raise ApiError(401, "Unknown account.")

    def _is_secret(self, given: str, formula: Callable[[str], str]) -> bool:
        return hmac.compare_digest(given.encode(), formula(self.world.settings.secret).encode())

    def _actor(self, request: Request) -> User | None:
        """The user whose token this is; None for the administrator's."""
        self._check_account(request)
        token = request.headers.get("x-apitoken", "")
        if self._is_secret(token, _admin_token):
            return None
        user, expiry = self.tokens.get(token, (None, 0))
        if user is None or self.world.now() >= expiry:
            raise ApiError(401, "Invalid or expired token.")
        return user

    def _user_of_path(self, request: Request) -> User:
        """The user in the path, `-` being the token's own, if the token may see them."""
        actor = self._actor(request)
        user_id = request.path_params["id"]
        if user_id == "-" and actor is not None:
            return actor
        if actor is not None and actor.id != user_id:
            raise ApiError(403, "You may not see this user.")
        if user_id not in self.users:
            raise ApiError(404, "User not found.")
        return self.users[user_id]


def build(world: World) -> ASGIApp:
    """The vendor under `/api_v3`, both spellings of the list of insurers and of `/me` included."""
    clinic = _Clinic(world)

    async def refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, ApiError)
        headers = {"Retry-After": str(world.settings.rate_limit_seconds)} if exc.status == 429 else None
        return JSONResponse({"code": exc.status, "message": exc.message}, exc.status, headers)

    return Starlette(
        routes=[
            *(Route(f"/api_v3{path}", clinic.insurers) for path in ("/insurances/", "/insurance/")),
            Route("/api_v3/users/sso", clinic.sso, methods=["POST"]),
            *(Route(f"/api_v3{path}", clinic.me, methods=["POST"]) for path in ("/me", "/me.json")),
            Route("/api_v3/users/{id}/{carrier_code}/eligibility", clinic.check, methods=["POST"]),
            Route("/api_v3/users/{id}", clinic.user),
            Route("/api_v3/users", clinic.find_users),
        ],
        exception_handlers={ApiError: refused, HTTPException: _no_such_page},
    )


async def _no_such_page(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"code": exc.status_code, "message": "Sorry, this page is not available."}, exc.status_code)


def _data(data: dict[str, Any]) -> Response:
    return JSONResponse({"data": data})


def _guarantor(about: dict[str, Any]) -> PersonOnFile:
    first_name, _, last_name = about["guarantor_name"].rpartition(" ")
    return PersonOnFile(
        first_name,
        last_name,
        about["guarantor_dob"],
        about["guarantor_address"],
        about["guarantor_city"],
        about["guarantor_state"],
        about["guarantor_zip"],
    )
