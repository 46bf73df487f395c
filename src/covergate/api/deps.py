"""Handlers' dependencies: the gateway and the caller. A handler's signature names the scope it needs."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from covergate.access.api_keys import ApiKeyCache
from covergate.access.caller import Caller
from covergate.api.validation import UNKNOWN_PARAMETER
from covergate.api.waiters import Waiters
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway

bearer = HTTPBearer(
    scheme_name="apiKey",
    auto_error=False,
    bearerFormat="cg_test_… or cg_live_…",
    description="An API key as `covergate keys create` prints it. It decides tenant and mode.",
)


def gateway_of(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


def waiters_of(request: Request) -> Waiters:
    return cast(Waiters, request.app.state.waiters)


def add_to_log_line(request: Request, **fields: str) -> None:
    """Ids, never PHI: what else the request's line in the log says."""
    request.state.logged = getattr(request.state, "logged", {}) | fields


async def authenticated(
    request: Request,
    needs: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    keys = cast(ApiKeyCache, request.app.state.keys)
    caller = None if credentials is None else await keys.authenticate(credentials.credentials)
    if caller is None:
        raise Problem("unauthorized", "send a valid API key as Authorization: Bearer cg_test_… or cg_live_…")
    add_to_log_line(request, tenant_id=caller.tenant_id, api_key_id=caller.api_key_id)
    lacking = [scope for scope in needs.scopes if scope not in caller.scopes]
    if lacking:
        raise Problem("insufficient_scope", f"this needs the scope {', '.join(lacking)}")
    return caller


async def no_query(request: Request) -> None:
    """For routes without query parameters. Unknown parameters are an error everywhere."""
    if request.scope["query_string"]:
        names = dict.fromkeys(request.query_params)
        errors = [FieldError("unknown_parameter", UNKNOWN_PARAMETER, parameter=name[:100]) for name in names]
        raise Problem("invalid_request", "errors lists everything that is wrong", errors[:100])


async def _gateway(request: Request) -> Gateway:
    """A coroutine, as every dependency here is: FastAPI would run a plain function in a thread."""
    return gateway_of(request)


async def _request_id(request: Request) -> str:
    return cast(str, request.state.request_id)


NoQuery = Annotated[None, Depends(no_query)]
GatewayOf = Annotated[Gateway, Depends(_gateway)]
RequestId = Annotated[str, Depends(_request_id)]

Writer = Annotated[Caller, Security(authenticated, scopes=["verifications:write"])]
Reader = Annotated[Caller, Security(authenticated, scopes=["verifications:read"])]
RawReader = Annotated[Caller, Security(authenticated, scopes=["verifications:raw"])]
Operator = Annotated[Caller, Security(authenticated, scopes=["operations"])]
WebhookManager = Annotated[Caller, Security(authenticated, scopes=["webhooks:manage"])]
