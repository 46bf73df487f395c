"""One cluster for the experiments of a test run. Only the short ones belong to it, the others to `make chaos` or `-m chaos`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.cluster import Cluster, running_cluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: an experiment that takes its time; not run unless asked for by -m chaos")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bare_cluster() -> AsyncIterator[Cluster]:
    """Its database and no process."""
    async with running_cluster(bare=True) as bare:
        yield bare
