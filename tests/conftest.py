"""Fixtures of the whole suite: one real PostgreSQL for the session, a gateway in test mode, its engine, a scripted vendor."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest

from covergate.db.database import Database
from covergate.db.sealing import Sealer
from covergate.gateway import Gateway
from tests.support.commands import Commands, running_nursery
from tests.support.engine import Engine, running_engine
from tests.support.gateways import make_gateway
from tests.support.postgres import (
    ask_for_types_once,
    make_sealer,
    make_template,
    new_database,
    opened_database,
    running_server,
    server_directory,
)
from tests.support.wire import Wire, integrex

TESTS = Path(__file__).parent
ask_for_types_once()
gc.disable()  # until all tests are found: what is made till then stays

FIRST = (
    "e2e/test_outsider.py",
    "e2e/test_kill_points.py",
    "e2e/test_kill.py",
    "console/test_verification.py",
    "console/test_webhooks.py",
    "api/test_audit_events.py",
    "e2e",
    "chaos",
    "console/test_vendors.py",
    "console/test_verifications.py",
    "cli/test_tenants.py",
    "cli/test_vendors_new.py",
    "vendor_health",
    "test_worker.py",
    "console",
    "cli",
    "db",
    "api",
)
"""Files and directories that take longest come first: several processes of pytest then end at about the same time."""


def pytest_configure(config: pytest.Config) -> None:
    """Several processes begin to collect at different ends: what one has compiled the others need not compile again."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    if number and [str(TESTS.parent / argument) for argument in config.args] == [str(TESTS)]:
        rooms = sorted(
            path for path in TESTS.iterdir() if path.match("[a-z]*") and (path.is_dir() or path.match("test_*.py"))
        )
        start = number * len(rooms) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args = [str(path) for path in (*rooms[start:], *rooms[:start])]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(FIRST)}

    @cache
    def place(of: Path) -> tuple[int, Path]:
        path = of.relative_to(TESTS)
        return min(order.get(str(part), len(order)) for part in (path, *path.parents)), path

    items.sort(key=lambda item: place(item.path))


def pytest_collection_finish() -> None:
    """Garbage is looked for among what the tests make, not among modules and items: that took a tenth of their time."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of an empty PostgreSQL that trades crash safety for speed."""
    with running_server() as url:
        yield url


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory in which an embedded server can run."""
    with server_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """The name of a migrated database to copy."""
    return asyncio.run(make_template(postgres_url))


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The address of a database of the test's own with nothing in it."""
    async with new_database(postgres_url) as url:
        yield url


@pytest.fixture
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database of the test's own."""
    async with new_database(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def covergate() -> Iterator[Commands]:
    """Runs the command as it is typed."""
    with running_nursery() as commands:
        yield commands


@pytest.fixture
def sealer() -> Sealer:
    """Of the test's own: it keeps the data keys of its database."""
    return make_sealer()


@pytest.fixture
async def database(database_url: str, sealer: Sealer) -> AsyncIterator[Database]:
    """That database, opened, with the sealer of the tests."""
    async with opened_database(database_url, sealer) as opened:
        yield opened


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    """In test mode, with two clinics."""
    return await make_gateway(database)


@pytest.fixture
def wire() -> Wire:
    """Integrex answers at the second look."""
    return integrex()


@pytest.fixture
async def engine(gateway: Gateway, wire: Wire) -> AsyncIterator[Engine]:
    """One worker's engine, whose steps the test takes itself."""
    async with running_engine(gateway, wire) as engine:
        yield engine
