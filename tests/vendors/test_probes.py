"""Trying an account's credentials: one call, at the simulated vendors, that starts nothing and makes no record."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.vendors.errors import VendorAuthFailed
from covergate.vendors.flow import drive
from covergate.vendors.vendor import Vendor

SECRET = "right"
each_vendor = pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    sandbox = create_sandbox(SandboxSettings(_env_file=None, secret=SECRET))
    async with Transport(allow_private_network=True, wire=httpx.ASGITransport(sandbox)) as transport:
        yield transport
        assert sandbox.state.world.submissions == []


@each_vendor
@pytest.mark.parametrize("secret", [SECRET, "wrong"])
async def test_right_credentials_are_told_from_wrong_ones(vendor: Vendor, transport: Transport, secret: str) -> None:
    assert vendor.probe is not None
    connection = vendor.connection.sandbox("http://sandbox", secret)
    trying = transport.run(vendor, "test", connection, vendor.probe(connection), "acc_1")
    if secret == SECRET:
        await trying
    else:
        with pytest.raises(VendorAuthFailed):
            await trying


@each_vendor
def test_it_commits_nothing_and_names_nobody(vendor: Vendor) -> None:
    assert vendor.probe is not None
    calls, _ = drive(vendor.probe(vendor.connection.sandbox("http://sandbox", SECRET)), [])
    assert [call.commits for call in calls] == [False]
    assert "mutation" not in str(calls[0].json)
