"""A partner's server on a real socket, endpoints in the database, and deliveries that the test takes itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from covergate.db.database import Database
from covergate.gateway import Gateway
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.gateways import make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import Partner, partner_server


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    """That may call the partner on loopback."""
    return await make_gateway(database, allow_private_network=True)


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with partner_server() as running:
        yield running


@pytest.fixture
def hooks(gateway: Gateway) -> Hooks:
    return Hooks(gateway)


@pytest.fixture
async def deliverer(gateway: Gateway) -> AsyncIterator[Deliverer]:
    async with Deliverer(gateway, Places(gateway, 100)) as running:
        yield running
