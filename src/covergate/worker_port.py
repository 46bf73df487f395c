"""A worker's own port: `/healthz`, `/readyz`, `/metrics`, as the API has them. No key, no PHI; not for the internet.

`/healthz` says that the event loop turns: whoever restarts a process by it must not do so because the database is away.
`/readyz` names each part of the worker and what ails it.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from covergate import instruments
from covergate.backlog import Backlog
from covergate.db.migrate import require_current
from covergate.db.outage import DATABASE_ERRORS
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.worker import Worker

ANSWER_SECONDS = 3.0
"""A database that answers no sooner counts as away."""


def create_worker_app(worker: Worker) -> Starlette:
    registry = CollectorRegistry()
    backlog = Backlog(registry)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        checks = {**await _database_troubles(worker.gateway), **worker.troubles()}
        if worker.stopping:
            checks["process"] = "is being stopped"
        well = not any(checks.values())
        shown = {
            "status": "ok" if well else "unavailable",
            "checks": {name: why or "ok" for name, why in checks.items()},
        }
        return JSONResponse(shown, 200 if well else 503)

    async def metrics(_: Request) -> Response:
        await backlog.read(worker.gateway)
        text = instruments.exposition(worker.gateway.database.pool_use, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


async def _database_troubles(gateway: Gateway) -> dict[str, str | None]:
    troubles: dict[str, str | None] = {"database": None, "migrations": None}
    try:
        async with asyncio.timeout(ANSWER_SECONDS), gateway.connection() as db:
            await require_current(db)
    except ConfigurationError:
        troubles["migrations"] = "the database has another version's schema"
    except DATABASE_ERRORS as error:
        troubles |= {"database": f"does not answer ({type(error).__name__})", "migrations": "unknown"}
    return troubles
