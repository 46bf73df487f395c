"""Fixtures of the whole suite: one real PostgreSQL, the embedded one, for the session."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from covergate.db import embedded
from covergate.db.database import Database, make_engine
from covergate.db.migrate import migrate
from covergate.db.sealing import KeyRing, Sealer
from tests.commands import Commands, running_nursery

TESTS = Path(__file__).parent
MEMORY_NEEDED = 2 * 1024**3
TEMPLATE = f"covergate_template_{os.getpid()}"
KEYS = "test:" + base64.b64encode(b"only for tests, 32 bytes of key.").decode()


FIRST = ("e2e", "chaos", "standing", "test_vendors_new.py", "test_worker.py")
"""What takes longest comes first: several processes of pytest then end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(order)))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of an empty PostgreSQL that trades crash safety for speed; COVERGATE_TEST_DATABASE_URL names another."""
    if given := os.environ.get("COVERGATE_TEST_DATABASE_URL"):
        yield given
        return
    with _server_directory() as directory:
        server = embedded.start(directory, durable=False)
        yield server.url
        server.stop_if_last()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory in which an embedded server can run."""
    with _server_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """The name of a database that has been migrated once and that nobody is connected to."""

    async def make() -> None:
        await _administer(postgres_url, f"CREATE DATABASE {TEMPLATE}")
        await migrate(_named(postgres_url, TEMPLATE))

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """The address of a database of the test's own with nothing in it."""
    name = f"test_{secrets.token_hex(6)}"
    await _administer(postgres_url, f"CREATE DATABASE {name}")
    yield _named(postgres_url, name)
    await _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    await _administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _named(postgres_url, name)
    await _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def covergate() -> Iterator[Commands]:
    """Runs the command as it is typed."""
    with running_nursery() as commands:
        yield commands


@pytest.fixture(scope="session")
def sealer() -> Sealer:
    return Sealer(KeyRing.parse(KEYS))


@pytest.fixture
async def database(database_url: str, sealer: Sealer) -> AsyncIterator[Database]:
    """That database, opened, with the sealer of the tests."""
    engine = make_engine(database_url, pool_size=10, application_name="tests")
    opened = Database(database_url, engine, sealer)
    yield opened
    await opened.aclose()


@contextmanager
def _server_directory() -> Iterator[Path]:
    """Short, as a unix socket's path must be, and in memory where there is enough: cloning takes 20 ms, not 500."""
    memory = Path("/dev/shm")
    in_memory = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_NEEDED
    with tempfile.TemporaryDirectory(prefix="cg", dir=memory if in_memory else "/tmp") as directory:
        yield Path(directory)


async def _administer(postgres_url: str, statement: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _named(postgres_url: str, name: str) -> str:
    return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
