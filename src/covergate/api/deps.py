"""Handlers' dependencies: the gateway and the caller. A handler's signature names the scope it needs, and who may have it.

A route is for API keys, for operators, or for both. An operator names a tenant and a mode in headers; a key has its own, whatever
such headers say.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, cast

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from covergate.access import audit
from covergate.access.api_keys import MODES
from covergate.access.caller import MODE_HEADER, TENANT_HEADER, Caller, CallerKind
from covergate.access.credential_cache import CredentialCache
from covergate.access.operators import find_tenant
from covergate.api.limits import Limits
from covergate.api.refusals import origin_of
from covergate.api.validation import UNKNOWN_PARAMETER
from covergate.api.waiters import Waiters
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.http_bounds import source_of
from covergate.states import AuditOutcome, SubjectKind

log = structlog.get_logger(__name__)

KEY_SCHEME, OPERATOR_SCHEME, EITHER_SCHEME = "apiKey", "operator", "apiKeyOrOperator"

ACTING_USER = "X-Acting-User"
_ACTING_USER = re.compile(rb"[\x20-\x7e]{1,128}")

bearer = HTTPBearer(
    scheme_name=KEY_SCHEME,
    auto_error=False,
    bearerFormat="cg_test_… or cg_live_…",
    description="An API key as `covergate keys create` prints it. It decides tenant and mode.",
)
operator_bearer = HTTPBearer(
    scheme_name=OPERATOR_SCHEME,
    auto_error=False,
    bearerFormat="cg_op_…",
    description="An operator's credential as `covergate operators create` prints it. It belongs to no tenant: `X-Tenant` (an id"
    " or a name) and `X-Mode` (test or live) say for whom.",
)

either_bearer = HTTPBearer(scheme_name=EITHER_SCHEME, auto_error=False)
"""One dependency, because a second one would cost each read some 30 µs; the document tells it as the two schemes."""

Credential = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
OperatorCredential = Annotated[HTTPAuthorizationCredentials | None, Depends(operator_bearer)]
EitherCredential = Annotated[HTTPAuthorizationCredentials | None, Depends(either_bearer)]


def gateway_of(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


def waiters_of(request: Request) -> Waiters:
    return cast(Waiters, request.app.state.waiters)


def credentials_of(request: Request) -> CredentialCache:
    return cast(CredentialCache, request.app.state.credentials)


def caller_of(request: Request) -> Caller:
    """Of a request that was authenticated."""
    return cast(Caller, request.state.caller)


def unauthorized() -> Problem:
    return Problem("unauthorized", "send a valid API key as Authorization: Bearer cg_test_… or cg_live_…")


def limits_of(request: Request) -> Limits:
    return cast(Limits, request.app.state.limits)


def add_to_log_line(request: Request, **fields: str) -> None:
    """Ids, never PHI: what else the request's line in the log says."""
    request.scope["state"].setdefault("logged", {}).update(fields)


async def authenticated(request: Request, needs: SecurityScopes, credential: Credential) -> Caller:
    """For API keys."""
    caller = await _identified(request, credential)
    if caller.kind is not CallerKind.KEY:
        raise Problem("insufficient_scope", "this needs a tenant's API key: operators do not act for tenants")
    return _allowed(caller, needs)


async def operator(request: Request, needs: SecurityScopes, credential: OperatorCredential) -> Caller:
    """For operators. None of an API key's scopes is enough."""
    caller = await _identified(request, credential)
    if caller.kind is not CallerKind.OPERATOR:
        raise Problem("insufficient_scope", "this needs an operator's credential")
    return await _named_by(request, _allowed(caller, needs))


async def key_or_operator(request: Request, needs: SecurityScopes, credential: EitherCredential) -> Caller:
    caller = _allowed(await _identified(request, credential), needs)
    return caller if caller.kind is CallerKind.KEY else await _named_by(request, caller)


async def _identified(request: Request, credential: HTTPAuthorizationCredentials | None) -> Caller:
    known, limits = credentials_of(request), limits_of(request)
    # Of two, what stands before the gateway may have looked at the other one.
    one = len(request.headers.getlist("authorization")) == 1
    given = credential.credentials if credential is not None and one else ""
    caller = known.remembered(given) or await limits.guesses.authenticate(given, _source(request))
    if caller is None:
        raise unauthorized()
    request.state.caller = caller = replace(caller, origin=origin_of(request, _acting_user(request)))
    if caller.kind is CallerKind.KEY:
        add_to_log_line(request, tenant_id=caller.tenant_id, api_key_id=caller.id)
    else:
        add_to_log_line(request, operator_id=caller.id)
    if caller.networks:
        await _require_address(request, known, caller)
    known.note_use(caller)
    limits.request(caller.id)
    return caller


def _source(request: Request) -> str:
    return source_of(request.client.host) if request.client is not None else ""


async def _require_address(request: Request, known: CredentialCache, caller: Caller) -> None:
    """Whoever has stolen a key learns nothing: it looks as unknown as any."""
    address = request.client.host if request.client is not None else ""
    if caller.may_come_from(address):
        return
    if known.refusal_is_news(caller, address):
        log.warning("key_refused_by_address", api_key_id=caller.id)
        async with gateway_of(request).connection() as db:
            outcome = AuditOutcome.REFUSED
            await audit.record(db, caller, "key.address_refused", SubjectKind.KEY, [caller.id], outcome)
    raise unauthorized()


def _allowed(caller: Caller, needs: SecurityScopes) -> Caller:
    lacking = [scope for scope in needs.scopes if scope not in caller.scopes]
    if lacking:
        raise Problem("insufficient_scope", f"this needs the scope {', '.join(lacking)}")
    return caller


async def _named_by(request: Request, caller: Caller) -> Caller:
    """The operator, for the tenant and in the mode of the headers."""
    tenant, mode = request.headers.get(TENANT_HEADER), request.headers.get(MODE_HEADER)
    if mode is not None and mode not in MODES:
        raise _wrong_header(MODE_HEADER, f"must be one of: {', '.join(MODES)}")
    if tenant is None:
        request.state.caller = caller = replace(caller, within_mode=mode)
        return caller
    async with gateway_of(request).connection() as db:
        tenant_id = await find_tenant(db, _utf8(tenant))
    if tenant_id is None:
        raise _wrong_header(TENANT_HEADER, "must be the id or the name of a tenant")
    add_to_log_line(request, tenant_id=tenant_id)
    request.state.caller = caller = replace(caller, within_tenant=tenant_id, within_mode=mode)
    return caller


def _utf8(header: str) -> str:
    """A header as it was sent, without what no name can hold."""
    return header.encode("latin-1").decode("utf-8", errors="replace").replace("\x00", "")


def _wrong_header(name: str, message: str) -> Problem:
    return Problem("invalid_request", "a header cannot be used", [FieldError("invalid_value", message, parameter=name)])


def _acting_user(request: Request) -> str | None:
    """The caller's own word for its user. Raises Problem if it is not one the audit can hold."""
    given = [value for name, value in request.scope["headers"] if name == b"x-acting-user"]
    if not given:
        return None
    if len(given) > 1 or _ACTING_USER.fullmatch(given[0]) is None:
        raise _wrong_header(ACTING_USER, "must be 1 to 128 printable ASCII characters, sent once")
    return str(given[0], "ascii")


async def no_query(request: Request) -> None:
    """For routes without query parameters. Unknown parameters are an error everywhere."""
    if request.scope["query_string"]:
        names = dict.fromkeys(request.query_params)
        errors = [FieldError("unknown_parameter", UNKNOWN_PARAMETER, parameter=name[:100]) for name in names]
        raise Problem("invalid_request", "errors lists everything that is wrong", errors[:100])


async def _gateway(request: Request) -> Gateway:
    """A coroutine, as every dependency here is: FastAPI would run a plain function in a thread."""
    return gateway_of(request)


NoQuery = Annotated[None, Depends(no_query)]
GatewayOf = Annotated[Gateway, Depends(_gateway)]

Writer = Annotated[Caller, Security(authenticated, scopes=["verifications:write"])]
Reader = Annotated[Caller, Security(authenticated, scopes=["verifications:read"])]
AccountManager = Annotated[Caller, Security(authenticated, scopes=["accounts:manage"])]
PatientEraser = Annotated[Caller, Security(authenticated, scopes=["patients:erase"])]
AuditReader = Annotated[Caller, Security(authenticated, scopes=["audit:read"])]
WebhookManager = Annotated[Caller, Security(authenticated, scopes=["webhooks:manage"])]
Watcher = Annotated[Caller, Security(key_or_operator, scopes=["verifications:read"])]
"""Sees verifications and the fleet. An operator sees PHI only with the role for it: `Caller.sees_phi`."""
Mender = Annotated[Caller, Security(key_or_operator, scopes=["verifications:write"])]
"""Cancels and asks again; an operator does it for any tenant, and sees no more PHI by it."""
RawReader = Annotated[Caller, Security(key_or_operator, scopes=["verifications:raw"])]
Operator = Annotated[Caller, Security(operator, scopes=["operations"])]
