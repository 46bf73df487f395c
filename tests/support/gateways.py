"""A gateway in test mode on a database of the test's own, with two clinics and no vendor running."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from covergate.access.caller import Caller
from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.vendors.sohar.connection import SoharConnection

SANDBOX_SECRET = "sandbox"
"""What the credentials of the tests' sandbox derive from."""
TENANT, OTHER_TENANT = "ten_test", "ten_other"
CALLER = Caller(TENANT, "test", "key_test", frozenset({"verifications:read"}))


async def make_gateway(database: Database, **changes: Any) -> Gateway:
    """With these settings beside the usual ones."""
    settings = Settings(
        _env_file=None, **{"sandbox_url": "http://sandbox.invalid", "sandbox_secret": SANDBOX_SECRET, **changes}
    )
    async with database.transaction() as db:
        await db.execute(
            text("INSERT INTO tenants (id, name) VALUES (:test, 'Test clinic'), (:other, 'Other clinic')"),
            {"test": TENANT, "other": OTHER_TENANT},
        )
    return Gateway(settings, database, connections_of(settings))


def gateway_on(database: Database) -> Gateway:
    """Behind the API: vendors are enabled in test mode, and none of them is running."""
    settings = Settings(sandbox_url="http://127.0.0.1:9", sandbox_secret=SANDBOX_SECRET, _env_file=None)
    return Gateway(settings, database, connections_of(settings))


def sohar_secret(gateway: Gateway) -> str:
    """What signs Sohar's events in test mode."""
    sohar = gateway.connections["test", "sohar"]
    assert isinstance(sohar, SoharConnection)
    return sohar.webhook_secret
