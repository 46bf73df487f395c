"""Fixtures for trouble with the database: a server that a test may stop, and a network that fails."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from covergate.db import embedded
from covergate.db.embedded import EmbeddedPostgres
from tests.support.relay import Relay, relaying


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of the module's own: its tests stop, kill and restart it."""
    with tempfile.TemporaryDirectory(prefix="cg", dir="/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") as directory:
        server = embedded.start(Path(directory), durable=False)
        yield server
        server.stop_if_last()


@pytest.fixture
async def relay(postgres_url: str) -> AsyncIterator[Relay]:
    """A port in front of the session's server."""
    async with relaying(postgres_url) as between:
        yield between
