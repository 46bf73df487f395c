"""The sandbox as one ASGI app: each simulated vendor under `/<its name>`, plus what the tests count with.

Invariant: a vendor appears here by one line in `_VENDORS` and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from covergate.sandbox import health_harbor, healthie, integrex, sohar, vsee
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.world import World

_VENDORS: dict[str, Callable[[World], ASGIApp]] = {
    "sohar": sohar.build,
    "integrex": integrex.build,
    "health_harbor": health_harbor.build,
    "vsee": vsee.build,
    "healthie": healthie.build,
}


def create_sandbox(settings: SandboxSettings) -> Starlette:
    """All simulated vendors with fresh state; `app.state.world` is that state."""
    world = World(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await world.close()

    app = Starlette(
        routes=[
            Route("/healthz", _healthz),
            Route("/_sandbox/submissions", _submissions),
            *(Mount(f"/{name}", app=build(world)) for name, build in _VENDORS.items()),
        ],
        lifespan=lifespan,
    )
    app.state.world = world
    return app


async def _healthz(request: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


async def _submissions(request: Request) -> Response:
    world: World = request.app.state.world
    rows = [asdict(submission) for submission in world.submissions]
    return Response(orjson.dumps(rows), media_type="application/json")
