"""The HTTP application: routers, problems, metrics and the LISTEN connection, around an opened gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from covergate.access.credential_cache import CredentialCache
from covergate.access.vendor_accounts import AccountsWatch, refresh_accounts
from covergate.access.wait_places import WaitPlaces
from covergate.api import (
    answers,
    audit_events,
    bulk_jobs,
    deliveries,
    docs,
    events,
    health,
    openapi,
    patients,
    payers,
    portal_links,
    problems,
    vendor_accounts,
    vendor_events,
    vendors,
    verifications,
    webhook_endpoints,
)
from covergate.api.examples import full_sample
from covergate.api.limits import Limits
from covergate.api.metrics import Metrics
from covergate.api.middleware import Middleware
from covergate.api.refusals import Refusals
from covergate.api.waiters import Waiters
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.payers.seed import seed_directory
from covergate.payers.unresolved import Unresolved
from covergate.transport.transport import Transport
from covergate.vendor_health.statistics import Statistics
from covergate.verifications.create import Acceptance
from covergate.verifications.event_rates import EventRates

RESOURCES = (
    verifications.router,
    answers.router,
    bulk_jobs.router,
    vendors.router,
    vendor_accounts.router,
    payers.router,
    patients.router,
    webhook_endpoints.router,
    deliveries.router,
    events.router,
    portal_links.router,
    audit_events.router,
    vendor_events.router,
    health.router,
    openapi.router,
    docs.router,
)


def create_app(gateway: Gateway, transport: Transport | None = None, console: FastAPI | None = None) -> FastAPI:
    """`transport` tries vendor accounts; it is closed with the app. `console` is served under `/console`.

    Call `app.state.waiters.close()` before stopping the server: it lets every waiting request answer at once.
    """
    credentials, metrics, accounts = CredentialCache(gateway), Metrics(), AccountsWatch(gateway)
    limits, refusals, unresolved = Limits(gateway, credentials), Refusals(gateway), Unresolved(gateway)
    transport = transport or Transport(allow_private_network=gateway.settings.allow_private_network)

    def forget() -> None:
        credentials.forget()
        gateway.tenancy.forget()
        accounts.wake()

    wait_places = WaitPlaces(gateway)
    waiters = Waiters(gateway.database.url, forget, on_accounts_changed=accounts.wake)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await seed_directory(gateway.database)
        # Before the first request: it must not meet the shared account where the tenant has its own.
        await refresh_accounts(gateway)
        duties = [
            asyncio.create_task(waiters.run(), name="waiters"),
            asyncio.create_task(credentials.run(), name="credentials"),
            asyncio.create_task(limits.quotas.run(), name="quotas"),
            asyncio.create_task(wait_places.run(), name="wait places"),
            asyncio.create_task(accounts.run(), name="accounts"),
            asyncio.create_task(refusals.run(), name="refusals"),
            asyncio.create_task(unresolved.run(), name="unresolved"),
        ]
        try:
            async with nullcontext() if console is None else console.router.lifespan_context(console):
                yield
        finally:
            waiters.close()
            for duty in duties:
                duty.cancel()
                with suppress(asyncio.CancelledError):
                    await duty
            await wait_places.give_all_back()
            await credentials.write_uses()
            await transport.aclose()
            await refusals.flush()
            await unresolved.write()

    app = FastAPI(
        title="CoverGate",
        version=openapi.COVERGATE_VERSION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Otherwise an OpenTelemetry provider in the process, or a variable in the environment, would receive exception
        # texts, which can quote a patient, and URLs that carry VSee's token.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.gateway, app.state.waiters, app.state.wait_places = gateway, waiters, wait_places
    app.state.credentials, app.state.metrics = credentials, metrics
    app.state.transport = transport
    app.state.acceptance, app.state.limits = Acceptance(gateway), limits
    app.state.readiness = health.ReadinessLook(gateway)
    app.state.refusals = refusals
    app.state.large_events = vendor_events.LargeEvents()
    app.state.event_rates = EventRates(limits.quotas, gateway.settings.vendor_events_per_second)
    app.state.unresolved = unresolved
    app.state.payers, app.state.statistics = DirectoryCache(gateway), Statistics(gateway)
    app.router.routes.append(verifications.accepting)
    # The routes themselves, made when they were imported: `include_router` makes each anew at an app's first requests.
    for router in RESOURCES:
        app.router.routes.extend(router.routes)
    if console is not None:
        # The examples are the API's; the console sends them as tests to endpoints that get full payloads.
        console.state.full_sample = full_sample
        # What a tenant may do, it may do once: by the API and in the console together.
        console.state.quotas = limits.quotas
        app.mount("/console", console)
        app.add_route("/console", lambda _: RedirectResponse("/console/"), methods=["GET"], include_in_schema=False)
    problems.install_handlers(app, RESOURCES)
    openapi.install_document(app, RESOURCES)
    app.add_middleware(Middleware, metrics=metrics, behind_tls=gateway.settings.public_url.startswith("https://"))
    return app
