"""A sandbox on a real socket, so that cut connections are really cut, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.sandboxes import Sandbox, StartSandbox, sandboxes


@pytest.fixture
async def start_sandbox() -> AsyncIterator[StartSandbox]:
    async with sandboxes() as start:
        yield start


@pytest.fixture
async def sandbox(start_sandbox: StartSandbox) -> Sandbox:
    """A sandbox whose vendors answer after a twentieth of a second."""
    return await start_sandbox(delay_seconds=0.05, rate_limit_seconds=3)
