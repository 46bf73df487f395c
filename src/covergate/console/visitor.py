"""Who looks at a page: the session behind the cookie, and what its roles allow.

Invariants: nothing changes by a GET; a form is taken only with its session's token and from a page of ours. A session that has
ended leads to the sign-in page, and back to where its person was.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, cast
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import SecurityScopes

from covergate.access.caller import Caller, Origin
from covergate.access.console_roles import REVEALS
from covergate.access.console_sessions import Session, find_session
from covergate.access.quotas import QuotaPolicy, Quotas
from covergate.errors import Problem
from covergate.gateway import Gateway

MOUNTED_AT = "/console"
MOST_FORM_BYTES = 64 * 1024
MOST_FIELDS = 500
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
LIVE_HEADER = "x-live"
"""On requests that a page makes by itself: they are no sign that anybody is there."""


class SignedOut(Exception):
    """There is no session, or not any more."""


@dataclass(frozen=True, slots=True)
class Form:
    """A posted form. A field that was sent several times has several values."""

    fields: dict[str, list[str]] = field(default_factory=dict)

    def one(self, name: str, default: str = "") -> str:
        """The last value, without blanks around it."""
        return self.fields.get(name, [default])[-1].strip()

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])


@dataclass(frozen=True, slots=True)
class Visitor:
    """`caller` sees no PHI: `seeing` is for pages of one verification."""

    gateway: Gateway
    session: Session
    caller: Caller
    form: Form
    quotas: Quotas = field(repr=False)

    @property
    def is_operator(self) -> bool:
        return self.session.is_operator

    def may(self, scope: str) -> bool:
        return scope in self.session.scopes

    def seeing(self, verification_id: str) -> Caller:
        return self.session.revealing(self.caller, verification_id)

    def within(self, tenant_id: str | None) -> Caller:
        """The caller within one tenant, if an operator chose one."""
        return replace(self.caller, within_tenant=tenant_id) if self.is_operator and tenant_id else self.caller

    def take(self, policy: QuotaPolicy, tenant_id: str | None = None) -> None:
        """From the same bucket as the API. `tenant_id`: whose it is, if an operator does it. Raises Problem `rate_limited`."""
        self.quotas.take(policy, tenant_id or self.session.tenant_id or self.session.actor_id)


def gateway_behind(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


def origin_behind(request: Request) -> Origin:
    return Origin(request.state.request_id, request.client.host if request.client is not None else None)


def cookie_of(gateway: Gateway) -> str:
    """`__Host-` binds it to this host and to TLS; without TLS browsers refuse such a name."""
    return "__Host-covergate" if is_behind_tls(gateway) else "covergate"


def is_behind_tls(gateway: Gateway) -> bool:
    return gateway.settings.public_url.startswith("https://")


def idle_time(gateway: Gateway) -> timedelta:
    return timedelta(minutes=gateway.settings.console_idle_minutes)


def set_cookie(gateway: Gateway, answer: Response, token: str) -> Response:
    answer.set_cookie(cookie_of(gateway), token, path="/", secure=is_behind_tls(gateway), httponly=True, samesite="lax")
    return answer


def forget_cookie(gateway: Gateway, answer: Response) -> Response:
    answer.delete_cookie(cookie_of(gateway), path="/", secure=is_behind_tls(gateway), httponly=True, samesite="lax")
    return answer


async def session_of(request: Request, *, touch: bool = True) -> Session | None:
    """`touch`: the request is a sign of life, unless it says that the page made it by itself."""
    gateway, token = gateway_behind(request), request.cookies.get(cookie_of(gateway_behind(request)), "")
    if not 20 <= len(token) <= 100:
        return None
    return await find_session(gateway, token, idle_time(gateway), touch=touch and LIVE_HEADER not in request.headers)


async def posted_form(request: Request) -> Form:
    """Of a page of ours. Raises Problem for anything else."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem("insufficient_scope", "The form came from another site.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "A form is sent as application/x-www-form-urlencoded.")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_FORM_BYTES:
            raise Problem("body_too_large", f"A form has at most {MOST_FORM_BYTES // 1024} KB.")
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS):
            fields.setdefault(name, []).append(value.replace("\x00", ""))
    except ValueError:  # not UTF-8, or too many fields
        raise Problem("invalid_request", "The form cannot be read.") from None
    return Form(fields)


async def visitor(request: Request, needs: SecurityScopes) -> Visitor:
    """Whoever is signed in, with all of these scopes. Raises SignedOut and Problem."""
    session = await session_of(request)
    if session is None:
        raise SignedOut
    request.state.session = session
    request.state.logged = {"session_id": session.id} | (
        {"tenant_id": session.tenant_id} if session.tenant_id else {"operator_id": session.actor_id}
    )
    form = Form()
    if request.method != "GET":
        form = await posted_form(request)
        token = request.headers.get(CSRF_HEADER) or form.one(CSRF_FIELD)
        if not hmac.compare_digest(token.encode(), session.csrf.encode()):
            raise Problem(
                "insufficient_scope", "This form is not of your session any more. Go back, reload, try again."
            )
    lacking = [scope for scope in needs.scopes if scope not in session.scopes]
    if lacking:
        raise Problem("insufficient_scope", "Your roles do not show this page.")
    gateway = gateway_behind(request)
    quotas = cast(Quotas, request.app.state.quotas)
    return Visitor(gateway, session, session.caller(origin_behind(request)), form, quotas)


def sign_in_first(request: Request, _: SignedOut) -> Response:
    """To the sign-in page, and back by `next` if it was a page; what a page asked for by itself takes the whole page along."""
    where = f"{MOUNTED_AT}/sign-in"
    back = request.headers.get("hx-current-url", "") if "hx-request" in request.headers else str(request.url.path)
    if request.method == "GET" and back.startswith(MOUNTED_AT + "/"):
        where += f"?next={quote(back, safe='/')}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"hx-redirect": where, "cache-control": "no-store"})
    return RedirectResponse(where, 303, headers={"cache-control": "no-store"})


Anybody = Annotated[Visitor, Depends(visitor)]
"""Who is signed in, whatever the roles."""
Looker = Annotated[Visitor, Security(visitor, scopes=["verifications:read"])]
"""Sees verifications, without PHI."""
Revealer = Annotated[Visitor, Security(visitor, scopes=["verifications:read", REVEALS])]
"""May see PHI of what was revealed."""
Changer = Annotated[Visitor, Security(visitor, scopes=["verifications:write"])]
WebhookKeeper = Annotated[Visitor, Security(visitor, scopes=["webhooks:manage"])]
AccountKeeper = Annotated[Visitor, Security(visitor, scopes=["accounts:manage"])]
Auditor = Annotated[Visitor, Security(visitor, scopes=["audit:read"])]
OperatorAt = Annotated[Visitor, Security(visitor, scopes=["operations"])]
