"""Processes of the gateway die, pause, are stopped, and nobody reads what they say."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from tests.chaos import books
from tests.chaos.cluster import APIS, WORKERS
from tests.chaos.experiment import Stage
from tests.chaos.faults.entry import fault
from tests.chaos.ledger import partner_lines


@fault("a worker is SIGKILLed every 2 seconds")
async def worker_killed(stage: Stage) -> None:
    for turn in stage.turns(4):
        name = WORKERS[turn % 2]
        await stage.cluster.kill(name)
        await stage.cluster.start(name)
        await asyncio.sleep(1)


@fault("a worker is paused past its leases, and resumed", seconds=12)
async def worker_paused(stage: Stage) -> None:
    for name in WORKERS:
        stage.cluster.pause(name)
        await asyncio.sleep(1)
        await books.end_leases(stage.cluster)
        await asyncio.sleep(5)
        stage.cluster.resume(name)
        await asyncio.sleep(0.5)


@fault("an API process is SIGKILLed and started again")
async def api_killed(stage: Stage) -> None:
    for turn in range(3):
        name = APIS[turn % 2]
        await stage.cluster.kill(name)
        await asyncio.sleep(1)
        await stage.cluster.start(name)


@fault("a worker and an API are told to stop (SIGTERM) under load")
async def drained(stage: Stage) -> None:
    """Nothing is handed over twice: no submission, and no webhook either."""
    for name in ("worker-1", "api-1"):
        seconds = await stage.cluster.stop(name)
        stage.notes.append(f"{name} drained in {seconds:.1f} s")
        if seconds > 30:
            stage.problems.append(f"{name} took {seconds:.1f} s to stop")
        if stage.cluster.processes[name].said("drain_cut_short"):
            stage.problems.append(f"{name} cut jobs short")
        await stage.cluster.start(name)
    await asyncio.sleep(3)
    seen = Counter(line["id"] for line in partner_lines(stage.cluster) if line["path"] == stage.path())
    stage.problems += [f"webhook {id_} came {times} times" for id_, times in seen.items() if times > 1]


@fault("the stderr of all processes is a full pipe that nobody reads", seconds=8, prepares=True, quiet=True)
async def stderr_blocked(stage: Stage) -> None:
    """Each is stopped in order afterwards, with its pipe still full."""
    for name in (*WORKERS, *APIS):
        reading, writing = os.pipe()
        stage.lasting.callback(os.close, reading)
        os.set_blocking(writing, False)
        try:
            while os.write(writing, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(writing, True)
        await stage.change(name, stderr=writing)
        os.close(writing)
    await stage.begin()
    await asyncio.sleep(8)
