"""`/healthz`: the process is up. `/readyz`: it can do its work. `/metrics`: numbers for Prometheus. None needs a key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, waiters_of
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer
from covergate.api.metrics import Metrics
from covergate.backlog import workers_alive
from covergate.db.migrate import require_current
from covergate.errors import ConfigurationError, Problem
from covergate.gateway import Gateway

router = APIRouter(tags=["Health"])

READY_WITHIN_SECONDS = 3.0


class ReadinessLook:
    """What `/readyz` says. Nobody has to be known to ask, so all who ask at the same time share one look at the database."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._look: asyncio.Future[int] | None = None

    async def workers(self) -> int:
        """The living workers. Raises ConfigurationError, and what says that the database is away."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._ask())
            self._look.add_done_callback(lambda look: look.cancelled() or look.exception())
        # Whoever goes away does not take the others' look along.
        return await asyncio.shield(self._look)

    async def _ask(self) -> int:
        async with asyncio.timeout(READY_WITHIN_SECONDS), self._gateway.connection() as db:
            await require_current(db)
            return await workers_alive(db)


@router.get(
    "/healthz",
    **documented(
        "check_health",
        "Is the process up?",
        "It answers, whatever the database does.",
        answers={200: Described("It is", schemas.Health, examples.HEALTH)},
        problems=(422,),
    ),
)
async def healthz(_: NoQuery) -> Response:
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    **documented(
        "check_readiness",
        "Can it do its work?",
        "The database answers and has this version's schema, and the process is not being stopped. Without a worker"
        " (`workers` is 0) it still accepts verifications, which then wait for one.",
        answers={200: Described("It can", schemas.Readiness, examples.READINESS)},
        problems=(422,),
    ),
)
async def readyz(request: Request, _: NoQuery) -> Response:
    if waiters_of(request).closing:
        raise Problem("unavailable", "the process is being stopped", retry_after=1)
    readiness: ReadinessLook = request.app.state.readiness
    try:
        workers = await readiness.workers()
    except ConfigurationError:
        raise Problem("unavailable", "the database has another version's schema", retry_after=5) from None
    return json_answer({"status": "ok", "workers": workers})


@router.get(
    "/metrics",
    **documented(
        "read_metrics",
        "Metrics for Prometheus",
        "Counts and times; no ids, no tenants, no PHI.",
        answers={200: Described("Text exposition", None, examples.METRICS, media_type="text/plain")},
        problems=(422,),
    ),
)
async def metrics(request: Request, gateway: GatewayOf, _: NoQuery) -> Response:
    measured: Metrics = request.app.state.metrics
    await measured.backlog.read(gateway)
    return Response(measured.exposition(gateway), media_type=CONTENT_TYPE_LATEST)
