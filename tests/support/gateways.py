"""A gateway in test mode on a database of the test's own, with two clinics and no vendor running."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import HttpUrl
from sqlalchemy import text

from covergate.access.caller import Caller
from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.vendors.sohar.connection import SoharConnection
from covergate.vendors.vendor import Connection

SANDBOX_SECRET = "sandbox"
"""What the credentials of the tests' sandbox derive from."""
TENANT, OTHER_TENANT = "ten_test", "ten_other"
CALLER = Caller(TENANT, "test", "key_test", frozenset({"verifications:read"}))


async def make_gateway(database: Database, **changes: Any) -> Gateway:
    """With these settings beside the usual ones."""
    settings = settings_at(**{"sandbox_url": "http://sandbox.invalid", **changes})
    async with database.transaction() as db:
        await db.execute(
            text("INSERT INTO tenants (id, name) VALUES (:test, 'Test clinic'), (:other, 'Other clinic')"),
            {"test": TENANT, "other": OTHER_TENANT},
        )
    return Gateway(settings, database, connections_at(settings))


def gateway_on(database: Database) -> Gateway:
    """Behind the API: vendors are enabled in test mode, and none of them is running."""
    settings = settings_at("http://127.0.0.1:9")
    return Gateway(settings, database, connections_at(settings))


Surroundings: TypeAlias = tuple[Path, frozenset[tuple[str, str]]]


def surroundings() -> Surroundings:
    """All that settings and connections are read from beside what a test names: the same, and so are they."""
    return Path.cwd(), frozenset((name, value) for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST")


def settings_at(sandbox_url: str, **changes: Any) -> Settings:
    if changes:
        return Settings(_env_file=None, **{"sandbox_url": sandbox_url, "sandbox_secret": SANDBOX_SECRET, **changes})
    return _settings(sandbox_url, surroundings())


def connections_at(settings: Settings) -> dict[tuple[str, str], Connection]:
    return dict(_connections(settings.sandbox_url, settings.sandbox_secret, surroundings()))


@lru_cache(maxsize=8)
def _settings(sandbox_url: str, _: Surroundings) -> Settings:
    return Settings(_env_file=None, sandbox_url=sandbox_url, sandbox_secret=SANDBOX_SECRET)


@lru_cache(maxsize=8)
def _connections(url: HttpUrl | None, secret: str, _: Surroundings) -> dict[tuple[str, str], Connection]:
    return connections_of(Settings(_env_file=None, sandbox_url=url, sandbox_secret=secret))


def sohar_secret(gateway: Gateway) -> str:
    """What signs Sohar's events in test mode."""
    sohar = gateway.connections["test", "sohar"]
    assert isinstance(sohar, SoharConnection)
    return sohar.webhook_secret
