"""The routes of the console that need a session."""

from __future__ import annotations

from fastapi.routing import APIRoute

from covergate.console.app import PAGES

FOR_ANYBODY = {"/live", "/sign-in", "/enter", "/set-up", "/oidc/begin", "/oidc/callback", "/static/{version}/{name}"}


def routes() -> list[tuple[str, str]]:
    """(method, path)."""
    found = [route for router in PAGES for route in router.routes if isinstance(route, APIRoute)]
    asked = [route for route in found if route.path not in FOR_ANYBODY]
    assert len(asked) > 40, "a walk over nothing shows nothing"
    return [(method, route.path) for route in asked for method in sorted(route.methods or ())]
