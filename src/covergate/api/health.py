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

router = APIRouter(tags=["Health"])

READY_WITHIN_SECONDS = 3.0


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
async def readyz(request: Request, gateway: GatewayOf, _: NoQuery) -> Response:
    if waiters_of(request).closing:
        raise Problem("unavailable", "the process is being stopped", retry_after=1)
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS), gateway.connection() as db:
            await require_current(db)
            workers = await workers_alive(db)
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
