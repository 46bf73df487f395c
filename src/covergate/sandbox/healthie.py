"""The simulated Healthie: one GraphQL endpoint, executed for real over `healthie_schema.graphql`, and policy webhooks.

Source: Healthie's developer guide on authentication, errors, webhooks and their signature (docs/vendors/healthie.md).
Errors come in three layers: HTTP, GraphQL `errors` and a mutation's `messages`; the rate limit is a GraphQL error under
HTTP 200.

Invariant: only `policy.*` events are sent, and none of them carries anything but ids and field names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import orjson
from graphql import build_schema, graphql
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from covergate.sandbox.healthie_records import Policy
from covergate.sandbox.healthie_resolvers import ConnectionCut, RateLimited, RateLimitedInWords, Resolvers, ServerFailed
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.world import World

_NAME = "healthie"
_SCHEMA = build_schema(files("covergate.sandbox").joinpath("healthie_schema.graphql").read_text())

_TOO_MANY_REQUESTS = {"message": "Too many requests. Please try again later."}
_RATE_LIMIT_CODE = {"extensions": {"code": "TOO_MANY_REQUESTS"}}


def _api_key(secret: str) -> str:
    """The API key, sent raw after the word Basic: the sandbox's secret itself."""
    return secret


def _webhook_secret(secret: str) -> str:
    """The signature secret: `whsec_` and the lower-case hex SHA-256 of the sandbox's secret and `:healthie`."""
    return "whsec_" + hashlib.sha256(f"{secret}:healthie".encode()).hexdigest()


def _signature_headers(secret: str, path: str, body: bytes) -> dict[str, str]:
    """The guide's signature. The digest is signed without its `=`, as the guide's own sample takes it apart."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    query = ""
    signed = f"post {path} {query} {digest.split('=')[0]} application/json {len(body)}"
    signature = hmac.digest(_webhook_secret(secret).encode(), signed.encode(), "sha256").hex()
    return {
        "Content-Type": "application/json",
        "Content-Digest": f"SHA-256={digest}",
        "Signature-Input": 'sig1=("@method" "@path" "@query" "content-digest" "content-type" "content-length")',
        "Signature": f"sig1={signature}",
    }


def build(world: World) -> ASGIApp:
    """The vendor's one endpoint, `POST /graphql`; anything else is an HTML page, as at Healthie."""

    async def announce(event_type: str, policy: Policy, changed_fields: list[str]) -> None:
        scenario = scenario_of(policy.member_id)
        if scenario is Scenario.NOEVENT:
            return
        event: dict[str, Any] = {"resource_id": int(policy.id), "resource_id_type": "Policy", "event_type": event_type}
        if event_type == "policy.updated":
            event["changed_fields"] = changed_fields
        body = orjson.dumps(event)
        path = f"{urlsplit(world.settings.gateway_url).path.rstrip('/')}/v1/vendor-events/{_NAME}"
        headers = _signature_headers(world.settings.secret, path, body)
        for _ in range(2 if scenario is Scenario.DUPLICATEEVENT else 1):
            await world.post_event(_NAME, body, headers)

    root = Resolvers(world, announce).root()

    async def endpoint(request: Request) -> Response:
        if not _is_authorized(world, request):
            return _errors(401, "You must be signed in to do that.", "UNAUTHENTICATED")
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            return _errors(400, "The request body is not JSON.", "BAD_REQUEST")
        if not _is_request(body):
            return _errors(400, "A query string is expected.", "BAD_REQUEST")
        result = await graphql(
            _SCHEMA,
            body["query"],
            root_value=root,
            variable_values=body.get("variables"),
            operation_name=body.get("operationName"),
        )
        causes = [type(error.original_error) for error in result.errors or []]
        if ConnectionCut in causes:
            return world.drop_connection(request)
        if RateLimited in causes:
            return JSONResponse({"errors": [_TOO_MANY_REQUESTS | _RATE_LIMIT_CODE]})
        if RateLimitedInWords in causes:
            return JSONResponse({"errors": [_TOO_MANY_REQUESTS]})
        if ServerFailed in causes:
            return _errors(500, "Internal server error", "INTERNAL_SERVER_ERROR")
        # Without data nothing was executed: the document or its variables do not fit the schema.
        return JSONResponse(result.formatted, 200 if result.data is not None else 400)

    return Starlette(
        routes=[Route("/graphql", endpoint, methods=["POST"])],
        exception_handlers={404: _no_such_page},
    )


def _is_authorized(world: World, request: Request) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    is_key = hmac.compare_digest(key.encode(), _api_key(world.settings.secret).encode())
    return scheme == "Basic" and is_key and request.headers.get("authorizationsource") == "API"


def _is_request(body: object) -> bool:
    return (
        isinstance(body, Mapping)
        and isinstance(body.get("query"), str)
        and isinstance(body.get("variables"), Mapping | None)
        and isinstance(body.get("operationName"), str | None)
    )


def _errors(status: int, message: str, code: str) -> Response:
    return JSONResponse({"errors": [{"message": message, "extensions": {"code": code}}]}, status)


async def _no_such_page(request: Request, exc: Exception) -> Response:
    return HTMLResponse("<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>", 404)
