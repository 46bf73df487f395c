"""A gateway in both modes, the seeds planted, and vendors that list what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.payers.seed import seed_directory
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from tests.support.gateways import SANDBOX_SECRET
from tests.support.payer_lists import Lists, Syncer


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    await seed_directory(database)
    settings = Settings(sandbox_url="http://sandbox.invalid", sandbox_secret=SANDBOX_SECRET, _env_file=None)
    live = {
        ("live", "vsee"): VENDORS["vsee"].connection(
            base_url="https://vsee.invalid",
            account_code="a",
            api_key="k",
            api_secret="s",
            api_token="t",
            _env_file=None,
        )
    }
    return Gateway(settings, database, {**connections_of(settings), **live})


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest.fixture
async def transport(lists: Lists) -> AsyncIterator[Transport]:
    async with Transport(allow_private_network=True, wire=httpx.MockTransport(lists)) as transport:
        yield transport


@pytest.fixture
def syncer(gateway: Gateway, transport: Transport) -> Syncer:
    return Syncer(gateway, transport)
