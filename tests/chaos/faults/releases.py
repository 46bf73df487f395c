"""Versions change while there is work: a rolling deploy, and a migration of a database that an earlier version filled."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.cluster import APIS, WORKERS, Cluster
from tests.chaos.experiment import Skipped, Stage
from tests.chaos.faults.entry import fault
from tests.chaos.releases import Release, earlier_release

_BACK = "import asyncio, sys; from covergate.db.migrate import downgrade; asyncio.run(downgrade(*sys.argv[1:]))"


@fault("a rolling deploy: a migration adds columns, old and new side by side", seconds=25)
async def rolling_deploy(stage: Stage) -> None:
    """The order an operator follows: migrate, one process after the other. Afterwards back, the same way."""
    cluster = stage.cluster
    old, new = cluster.release, cluster.next_release()
    code, said = await cluster.command("migrate", release=new)
    if code:
        stage.problems.append(f"migrate: {said}")
        return
    try:
        await cluster.restart("worker-1", release=new)
        await asyncio.sleep(4)
        await cluster.restart("api-1", release=new)
        await asyncio.sleep(2)
        refused, said = await cluster.command("worker", release=old)
        if refused != 2 or "newer version" not in said:
            stage.problems.append(f"an old worker started anew: {refused} {said}")
    finally:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _BACK, cluster.database_url, old.head), env=cluster.environment(new)
        )
        if await process.wait():
            stage.problems.append("the migration could not be taken back")
        await cluster.restart("worker-1", release=old)
        await cluster.restart("api-1", release=old)


async def _of_an_earlier_version(cluster: Cluster) -> None:
    """All processes, on a database of that version, which the cluster keeps."""
    made = await asyncio.to_thread(earlier_release, Path(tempfile.mkdtemp(dir=cluster.directory)) / "earlier")
    if not isinstance(made, Release):
        raise Skipped(made)
    for name in (*APIS, *WORKERS):
        await cluster.stop(name)
    await cluster.new_database(f"earlier_{time.time_ns() % 10**9}")
    code, said = await cluster.command("migrate", release=made)
    assert code == 0, said
    for name in (*APIS, *WORKERS):
        await cluster.start(name, release=made)


@fault(
    "`covergate migrate` of an earlier version's database while its API is asked all the time; then the API is replaced",
    seconds=15,
    blackout=True,
    before=_of_an_earlier_version,
)
async def migrated(stage: Stage) -> None:
    """As docs/operations.md#upgrades has it for a migration that no older code works with: the workers are stopped before."""
    cluster = stage.cluster
    for name in WORKERS:
        await cluster.stop(name)
    began = time.monotonic()
    code, said = await cluster.command("migrate")
    stage.notes.append(f"migrated in {time.monotonic() - began:.1f} s")
    if code:
        stage.problems.append(f"migrate: {said}")
    for name in WORKERS:
        await cluster.start(name)
    for name in APIS:
        await cluster.restart(name)
