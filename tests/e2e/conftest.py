"""A house with a worker in it, and one whose workers are processes that the test starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.house import House, opened_house
from tests.e2e.processes import Nursery, StartWorker, running_nursery
from tests.support.logged import logged_to


@pytest.fixture(scope="module", autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with logged_to(tmp_path_factory.mktemp("logs") / "house.log"):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(postgres_url: str, template: str) -> AsyncIterator[House]:
    """Everything, a worker included."""
    async with opened_house(postgres_url, template, with_worker=True) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bare_house(postgres_url: str, template: str) -> AsyncIterator[House]:
    """Everything but a worker; see `workers`."""
    async with opened_house(postgres_url, template, with_worker=False) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def nursery(bare_house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    async with running_nursery(bare_house, tmp_path_factory.mktemp("workers")) as nursery:
        yield nursery


@pytest.fixture(scope="module")
def workers(nursery: Nursery) -> StartWorker:
    """Starts a real worker process on the bare house."""
    return nursery.start


@pytest_asyncio.fixture(loop_scope="session")
async def nobody_left(nursery: Nursery) -> AsyncIterator[None]:
    """After the test no worker is alive, whatever became of the test."""
    yield
    await nursery.ask({"kill": "all"})
