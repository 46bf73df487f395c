"""Coming in and going: login, password and code; a one-time link; the identity provider; setting an account up."""

from __future__ import annotations

from typing import cast
from urllib.parse import urlsplit

import segno
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from covergate.access import console_users, portal_links
from covergate.access.api_keys import MODES
from covergate.access.console_sessions import choose_mode, end_session, open_session, redeem_link
from covergate.access.console_users import SignedIn
from covergate.access.quotas import QuotaPolicy, Quotas
from covergate.console.navigation import home_of
from covergate.console.page import render
from covergate.console.visitor import (
    MOUNTED_AT,
    Anybody,
    Form,
    Visitor,
    forget_cookie,
    gateway_behind,
    origin_behind,
    posted_form,
    session_of,
    set_cookie,
)
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.http_bounds import source_of

router = APIRouter()

TRIES = QuotaPolicy("console_sign_ins", "sign-ins of one address in a minute", 20, 60)


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = "", idle: str = "") -> Response:
    return _page(request, going_on=own_path(next), was_idle=bool(idle))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    form, gateway = await _taken_from_anybody(request), gateway_behind(request)
    going_on = own_path(form.one("next"))
    who = await console_users.sign_in(gateway, form.one("login"), form.one("password"), form.one("code"))
    if who is None:
        message = "Login, password or code is not right, or the account rests for a quarter of an hour."
        return _page(request, going_on=going_on, message=message, login=form.one("login")[:100], status=401)
    return await let_in(request, gateway, who, going_on=going_on)


@router.get("/enter")
async def enter_page(request: Request) -> Response:
    """A one-time link leads here. Its code stands behind a `#`, which no browser sends, and console.js puts it into the form."""
    return render(request, "enter", message="")


@router.post("/enter")
async def enter(request: Request) -> Response:
    form, gateway = await _taken_from_anybody(request), gateway_behind(request)
    code = form.one("code")
    if (pending := await console_users.pending_user(gateway, code)) is not None:
        return render(request, "set_up", pending=pending, code=code, picture=_picture(pending.totp_uri), message="")
    redeemed = await redeem_link(gateway, code) or await _partner(gateway, code)
    if redeemed is None:
        message = "This link was used, is too old, or was cut off. Ask for a new one."
        return render(request, "enter", message=message, status=401)
    who, mode = redeemed
    return await let_in(request, gateway, who, mode=mode)


async def _partner(gateway: Gateway, code: str) -> tuple[SignedIn, str] | None:
    """Who comes in by a portal link: a partner, to one tenant's webhooks in one mode."""
    async with gateway.connection() as db:
        grant = await portal_links.redeem(db, code)
    return None if grant is None else (SignedIn(grant.link_id, "Partner", grant.tenant_id, ("webhooks",)), grant.mode)


@router.post("/set-up")
async def set_up(request: Request) -> Response:
    form, gateway = await _taken_from_anybody(request), gateway_behind(request)
    code, pending = form.one("code"), await console_users.pending_user(gateway, form.one("code"))
    if pending is None:
        message = "This link was used, is too old, or was cut off. Ask for a new one."
        return render(request, "enter", message=message, status=401)
    # A password may begin or end with a blank.
    password = "".join(form.all("password")[-1:])
    wrong = await console_users.set_up(gateway, code, password, form.one("totp"))
    if wrong is not None:
        picture = _picture(pending.totp_uri)
        return render(request, "set_up", pending=pending, code=code, picture=picture, message=wrong, status=422)
    return _page(request, going_on="", message="The account is set up. Sign in with it.", login=pending.login)


@router.post("/sign-out")
async def sign_out(request: Request, visitor: Anybody) -> Response:
    await end_session(visitor.gateway, visitor.session, visitor.caller.origin)
    return forget_cookie(visitor.gateway, RedirectResponse(f"{MOUNTED_AT}/sign-in", 303))


@router.post("/mode")
async def mode(visitor: Anybody) -> Response:
    """Which mode is looked at; a partner's is given by its link."""
    wanted = visitor.form.one("mode")
    if wanted not in MODES:
        raise Problem("invalid_request", "The mode is test or live.")
    if not visitor.session.is_partner:
        await choose_mode(visitor.gateway, visitor.session, wanted)
    return RedirectResponse(own_path(visitor.form.one("next")) or home_of(visitor), 303)


@router.get("/account")
async def account(request: Request, visitor: Anybody) -> Response:
    """Who is signed in, with which roles."""
    return render(request, "account", visitor)


async def _taken_from_anybody(request: Request) -> Form:
    """A form of a page before sign-in. Raises Problem `rate_limited`."""
    form = await posted_form(request)
    quotas = cast(Quotas, request.app.state.quotas)
    quotas.take(TRIES, source_of(request.client.host) if request.client is not None else "")
    return form


async def let_in(
    request: Request, gateway: Gateway, who: SignedIn, *, mode: str | None = None, going_on: str = ""
) -> Response:
    """A new session: one that was there before is not gone on with."""
    before = await session_of(request)
    if before is not None:
        await end_session(gateway, before, origin_behind(request))
    token = await open_session(gateway, who, origin_behind(request), mode)
    return set_cookie(gateway, RedirectResponse(going_on or f"{MOUNTED_AT}/", 303), token)


def sign_in_again(request: Request, message: str) -> Response:
    return _page(request, going_on="", message=message, status=401)


def _page(
    request: Request, *, going_on: str, message: str = "", login: str = "", was_idle: bool = False, status: int = 200
) -> Response:
    provider = gateway_behind(request).settings.oidc_issuer
    return render(
        request,
        "sign_in",
        status=status,
        going_on=going_on,
        message=message,
        login=login,
        was_idle=was_idle,
        provider=urlsplit(provider).hostname if provider else None,
    )


def own_path(given: str) -> str:
    """A page of the console, or nothing: nobody is sent elsewhere."""
    parts = urlsplit(given)
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith(f"{MOUNTED_AT}/")
    return parts.path if is_ours and len(given) <= 500 and "\\" not in given else ""


def _picture(uri: str) -> Markup:
    """The QR code, as an image that the policy lets through."""
    return Markup('<img class="qr" alt="QR code of the second factor" src="{}">').format(
        segno.make(uri).svg_data_uri(scale=4, border=2)
    )


def home(visitor: Visitor) -> Response | None:
    """Away from `/console/`, for those who do not see that page."""
    where = home_of(visitor)
    return None if where == f"{MOUNTED_AT}/" else RedirectResponse(where, 303)
