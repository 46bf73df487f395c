"""The API over ASGI on a real database; vendors are enabled in test mode, and none of them is running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from fastapi import FastAPI

from covergate.api import examples
from covergate.api.app import create_app
from covergate.db.database import Database
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.failure import failure as failure_of
from covergate.gateway import Gateway
from covergate.states import AttemptState
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.model import Exchange
from tests.support.clients import Body, End, Headers, Keys, Lasting, Post, Rows, Stuck, make_keys
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


@pytest.fixture
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

    async def create(key: Headers | None = None, **changes: Any) -> dict[str, Any]:
        answer = await client.post("/v1/verifications", json=body(**changes), headers=key or keys.full)
        assert answer.status_code == 202, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    return create


@pytest.fixture
def end(gateway: Gateway) -> End:
    """Ends a verification as a worker would: with the documented result, or with a failure."""

    async def close(
        verification_id: str, failure: FailureCode | None = None, exchanges: list[Exchange] | None = None
    ) -> None:
        async with gateway.transaction() as db:
            v = (await store.lock(db, gateway.sealer, [verification_id]))[verification_id]
            if failure is not None:
                change = lifecycle.failed(v, failure_of(failure), "for a test")
            else:
                change = lifecycle.completed(v, "eligible", None, orjson.dumps(examples.RESULT))
            await apply(db, gateway.sealer, [replace(change, exchanges=tuple(exchanges or ()))])

    return close


@pytest.fixture
def stuck(gateway: Gateway) -> Stuck:
    """Has a verification wait for an operator, as after a submission whose fate nobody could find out."""

    async def wait_for_operator(verification_id: str) -> None:
        async with gateway.transaction() as db:
            v = (await store.lock(db, gateway.sealer, [verification_id]))[verification_id]
            v = replace(v, attempt=replace(v.attempt, state=AttemptState.SUBMITTING))
            await apply(db, gateway.sealer, [lifecycle.wait_for_operator(v)])

    return wait_for_operator


@pytest.fixture
def rows(gateway: Gateway) -> Rows:
    return partial(run_sql, gateway)
