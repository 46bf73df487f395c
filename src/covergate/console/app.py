"""The console as an application of its own, which the API's serves under `/console`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from covergate.access.quotas import Quotas
from covergate.console import (
    access,
    bulk,
    live,
    now,
    oidc,
    patient_search,
    payers,
    saved_views,
    sign_in,
    static_files,
    vendors,
    verification,
    verifications,
    webhooks,
)
from covergate.console.live import Pulse
from covergate.console.page import error_page
from covergate.console.visitor import SignedOut, sign_in_first
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.transport.transport import Transport
from covergate.vendor_health.statistics import Statistics
from covergate.verifications.create import Acceptance

PAGES = (
    sign_in.router,
    oidc.router,
    now.router,
    verifications.router,
    bulk.router,
    saved_views.router,
    patient_search.router,
    verification.router,
    vendors.router,
    payers.router,
    webhooks.router,
    access.router,
    live.router,
    static_files.router,
)


def create_console(gateway: Gateway) -> FastAPI:
    """Its `lifespan_context` is entered by the application that serves it. Raises ConfigurationError."""
    quotas, pulse = Quotas(gateway), Pulse(gateway)
    transport = Transport(allow_private_network=gateway.settings.allow_private_network)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        duties = [asyncio.create_task(duty.run(), name=name) for name, duty in (("quotas", quotas), ("pulse", pulse))]
        try:
            yield
        finally:
            pulse.close()
            for duty in duties:
                duty.cancel()
                with suppress(asyncio.CancelledError):
                    await duty
            await transport.aclose()

    console = FastAPI(
        title="CoverGate console",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # As the API's: neither exception texts nor addresses may leave by an OpenTelemetry provider.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    console.state.gateway, console.state.quotas, console.state.pulse = gateway, quotas, pulse
    console.state.transport = transport
    console.state.payers = DirectoryCache(gateway)
    console.state.statistics = Statistics(gateway)
    console.state.acceptance = Acceptance(gateway)
    console.state.full_sample = webhooks.thin_only
    console.state.provider = oidc.identity_provider(gateway.settings)
    # Not `include_router`, as in the API's: it makes each route anew.
    for router in PAGES:
        console.router.routes.extend(router.routes)
    console.add_exception_handler(SignedOut, _signed_out)
    console.add_exception_handler(Problem, _problem)
    console.add_exception_handler(HTTPException, _unrouted)
    console.add_exception_handler(RequestValidationError, _wrong_address)
    return console


async def _signed_out(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignedOut)
    return sign_in_first(request, error)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error_page(request, error)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    answer = error_page(request, Problem(code, "There is no such page."))
    answer.headers.update(error.headers or {})
    return answer


async def _wrong_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    names = ", ".join(dict.fromkeys(str(detail["loc"][-1]) for detail in error.errors()))
    return error_page(request, Problem("invalid_request", f"This part of the address cannot be used: {names[:200]}."))
