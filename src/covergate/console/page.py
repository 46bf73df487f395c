"""A page: a template in the common frame, with headers that let nothing in from elsewhere and nothing be kept.

Templates get `visitor` (None before sign-in), `path`, `live` (whether the page renews itself) and what their page gives. Filters:
`when` (an instant in the viewer's zone, with the UTC beside it), `ago`, `span`, `count_of`, `percent`, `words`, `plain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from covergate.console.navigation import entries_for
from covergate.console.static_files import address_of
from covergate.console.visitor import CSRF_FIELD, MOUNTED_AT, Visitor, gateway_behind
from covergate.eligibility.answers.page import STEP_BY_WORDS
from covergate.eligibility.plain_words import plain
from covergate.errors import Problem
from covergate.timestamps import instant, span
from covergate.verifications.waiting import vendor_title

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_TITLES = {
    "insufficient_scope": "You may not do this",
    "invalid_request": "This cannot be done as it stands",
    "invalid_cursor": "This part of the list is not there",
    "method_not_allowed": "There is no such page",
    "unauthorized": "You are not signed in",
}
"""Problem code → its title for people, if the API's speaks of requests and keys."""


def render(
    request: Request,
    template: str,
    visitor: Visitor | None = None,
    *,
    status: int = 200,
    live: bool = False,
    hides_at: datetime | None = None,
    **given: Any,
) -> Response:
    """`live`: the parts of it that say so are renewed when something changes. `hides_at`: until then it may show PHI."""
    gateway = gateway_behind(request)
    text = _TEMPLATES.get_template(f"{template}.html.jinja").render(
        visitor=visitor,
        path=request.url.path,
        entries=entries_for(visitor) if visitor else (),
        live=live,
        hides_in=_seconds_to(hides_at) if hides_at and live else None,
        has_live_vendors=bool(gateway.enabled("live")),
        **given,
    )
    headers = dict(HEADERS)
    if visitor is not None:
        # With script a live page masks its own part, so that nothing is lost that somebody types elsewhere on it.
        headers |= leaving(visitor, None if live else hides_at, request.url.path)
    return Response(text, status_code=status, media_type="text/html", headers=headers)


def leaving(visitor: Visitor, hides_at: datetime | None, path: str) -> dict[str, str]:
    """Whoever has left the desk is shown the door, and what was revealed is masked in time, with script or without."""
    seconds, url = visitor.gateway.settings.console_idle_minutes * 60 + 5, f"{MOUNTED_AT}/sign-in?idle=1"
    if hides_at is not None:
        seconds, url = min((seconds, url), (_seconds_to(hides_at), path))
    return {"refresh": f"{seconds}; url={url}"}


def _seconds_to(moment: datetime) -> int:
    """At least one, and not before it."""
    return max(1, ceil((moment - datetime.now(UTC)).total_seconds()) + 1)


def error_page(request: Request, problem: Problem) -> Response:
    """Says what is wrong and where to go on, and repeats nothing of what was sent."""
    answer = render(
        request,
        "error",
        status=problem.status,
        problem=problem,
        title=_TITLES.get(problem.code, problem.title),
        request_id=request.state.request_id,
        signed_in=hasattr(request.state, "session"),
    )
    if "hx-request" in request.headers:
        # Into the place for messages, whatever the request's own target was.
        answer.headers["hx-retarget"], answer.headers["hx-reselect"] = "#message", "#problem"
        answer.headers["hx-reswap"] = "innerHTML"
    if problem.retry_after is not None:
        answer.headers["retry-after"] = str(problem.retry_after)
    return answer


def when(value: datetime | str | None) -> Markup | str:
    """An instant for people: console.js writes it in the viewer's zone, and leaves the UTC beside it."""
    shown = instant(value)
    if shown is None:
        return "–"
    utc = f"{shown[:10]} {shown[11:19]} UTC"
    return Markup('<time datetime="{}">{}</time>').format(shown, utc)


def ago(value: datetime | str | None) -> str:
    """For how long it has been; `in 4 min` for what is to come."""
    if value is None:
        return "–"
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return f"in {span(-seconds)}" if seconds < -0.5 else f"{span(seconds)} ago"


def grouped(value: float | None) -> str:
    """With narrow spaces between thousands."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"


def words(value: str | None) -> str:
    """A code for people: `needs_attention` → `needs attention`."""
    return "–" if value is None else str(value).replace("_", " ")


def _csrf(visitor: Visitor) -> Markup:
    """The hidden field that every form has."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, visitor.session.csrf)


def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("covergate.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {
        "when": when,
        "ago": ago,
        "span": span,
        "count_of": grouped,
        "percent": share,
        "words": words,
        "plain": plain,
        "vendor_title": vendor_title,
    }
    environment.filters.update(filters)
    environment.globals.update(
        {"at": MOUNTED_AT, "static": address_of, "csrf": _csrf, "step_by": STEP_BY_WORDS, "vendor_title": vendor_title}
    )
    return environment


_TEMPLATES = templates()
