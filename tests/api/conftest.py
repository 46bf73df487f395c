"""The API over ASGI on a real database; vendors are enabled in test mode, and none of them is running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from covergate.api.app import create_app
from covergate.db.database import Database
from covergate.gateway import Gateway
from tests.support.clients import (
    Body,
    End,
    Keys,
    Lasting,
    Post,
    Rows,
    Stuck,
    bringer_to_a_stop,
    ender,
    make_keys,
    poster,
)
from tests.support.gateways import gateway_on
from tests.support.postgres import make_sealer, new_database, opened_database
from tests.support.sql import run_sql


@pytest.fixture
def gateway(database: Database) -> Gateway:
    return gateway_on(database)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(postgres_url: str, template: str) -> AsyncIterator[Lasting]:
    """For tests after which all is as before."""
    async with new_database(postgres_url, template) as url, opened_database(url, make_sealer()) as database:
        gateway = gateway_on(database)
        app = create_app(gateway)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
        ):
            yield Lasting(gateway, client, await make_keys(gateway))


@pytest.fixture
async def app(gateway: Gateway) -> AsyncIterator[FastAPI]:
    """Started: it listens for notifications."""
    app = create_app(gateway)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def keys(gateway: Gateway) -> Keys:
    return await make_keys(gateway)


@pytest.fixture(scope="session")
def body() -> Body:
    """A body that the named vendor can answer, with top-level changes."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "vendor": "sohar",
            "external_id": "intake-1",
            "payer": {"id": "60054", "name": "Aetna"},
            "patient": {
                "first_name": "Jane",
                "last_name": "Sample",
                "date_of_birth": "1990-09-20",
                "member_id": "ELIGIBLE-0001",
                "ssn": "987654321",
                "address": {"state": "CA"},
            },
            "provider": {"npi": "1234567893"},
            "service": {"place_of_service_code": "10", "specialty": "PSY", "procedure_codes": ["90837"]},
            "metadata": {"clinic": "north"},
            **changes,
        }

    return make


@pytest.fixture
def post(client: httpx.AsyncClient, keys: Keys, body: Body) -> Post:
    """Accepts a verification and returns it."""
    return poster(client, keys, body)


@pytest.fixture
def end(gateway: Gateway) -> End:
    """Ends a verification as a worker would: with the documented result, or with a failure."""
    return ender(gateway)


@pytest.fixture
def stuck(gateway: Gateway) -> Stuck:
    """Has a verification wait for an operator, as after a submission whose fate nobody could find out."""
    return bringer_to_a_stop(gateway)


@pytest.fixture
def rows(gateway: Gateway) -> Rows:
    return partial(run_sql, gateway)
