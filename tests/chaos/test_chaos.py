"""Faults against the promises (docs/architecture.md#the-promises): the short ones each time, all of them with `-m chaos`."""

from __future__ import annotations

import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.experiment import HURRIED, THOROUGH, run
from tests.chaos.faults import FAULTS

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.short])
async def test_a_short_fault_loses_nothing_and_doubles_nothing(cluster: Cluster, name: str) -> None:
    row = await run(cluster, FAULTS[name], HURRIED)
    assert row.account is not None and row.account.verifications > 0
    assert row.ok, row.explained()


@pytest.mark.chaos
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_loses_nothing_and_doubles_nothing(cluster: Cluster, name: str) -> None:
    row = await run(cluster, FAULTS[name], THOROUGH)
    if row.skipped is not None:
        pytest.skip(row.skipped)
    assert row.ok, row.explained()
