"""The machine under the processes: its clocks jump, it is paused as a whole, its disk is full."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.chaos import books
from tests.chaos.cluster import APIS, WORKERS
from tests.chaos.experiment import Skipped, Stage
from tests.chaos.faults.entry import fault

PAUSE_SECONDS = 60
"""Of the machine, as its clocks show it; the processes really stand still for a tenth of it."""


@fault("the clocks of a worker and an API jump (+2 h, −2 h; −10 min)", prepares=True, quiet=True)
async def clocks_jump(stage: Stage) -> None:
    """The database's clock counts; a process's own decides only whether a vendor's signature is fresh."""
    jumps = {"worker-1": ("+2h", "-2h", "+0"), "api-1": ("-10m", "-10m", "+0")}
    files = await _on_clocks_of_their_own(stage, *jumps)
    await stage.begin()
    for turn in range(3):
        for name, file in files.items():
            file.write_text(jumps[name][turn])
        await asyncio.sleep(3)


@fault(
    f"the machine of API, workers and PostgreSQL is paused for {PAUSE_SECONDS} s",
    prepares=True,
    blackout=True,
    patience=8,
)
async def machine_paused(stage: Stage) -> None:
    """SIGSTOP to all of them, their clocks and all moments in the database moved; the vendors go on meanwhile.

    The monotonic clock stands still, as it does on a virtual machine.
    """
    cluster = stage.cluster
    files = await _on_clocks_of_their_own(stage, *APIS, *WORKERS)
    await stage.begin()
    for name in files:
        cluster.pause(name)
    try:
        await books.rewind(cluster, PAUSE_SECONDS)
        async with cluster.frozen_postgres(whole=True):
            for file in files.values():
                file.write_text(f"+{PAUSE_SECONDS}")
            await asyncio.sleep(PAUSE_SECONDS / 10)
    finally:
        for name in files:
            cluster.resume(name)


async def _on_clocks_of_their_own(stage: Stage, *names: str) -> dict[str, Path]:
    """Starts these processes anew: each has the clock that its file says, as in `+2h`."""
    library = _faketime()
    files = {name: stage.cluster.directory / f"{name}.clock" for name in names}
    for name, file in files.items():
        file.write_text("+0")
        await stage.change(
            name,
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(file),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
        )
    return files


def _faketime() -> Path:
    """libfaketime, installed where that is possible."""
    for _ in range(2):
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if found:
            return found[0]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            break
        subprocess.run(["apt-get", "install", "-y", "-q", "libfaketime"], check=False, capture_output=True, timeout=120)
    raise Skipped("libfaketime is not installed (Debian: apt install libfaketime)")


@fault("the disk of the log is full", seconds=9, prepares=True, quiet=True)
async def log_disk_full(stage: Stage) -> None:
    mount = Path(tempfile.mkdtemp(dir=stage.cluster.directory))
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=False, capture_output=True)
    if made.returncode:
        raise Skipped("this machine does not let the tests mount a small tmpfs")
    try:
        for name in (*WORKERS, "api-1"):
            await stage.change(name, log=mount / f"{name}.log")
        await stage.begin()
        filler = mount / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        full = shutil.disk_usage(mount).free
        await asyncio.sleep(8)
        if full or shutil.disk_usage(mount).free:
            stage.problems.append("the disk was not full")
        filler.unlink()
    finally:
        # What writes there keeps it until it is started anew.
        subprocess.run(["umount", "--lazy", mount], check=False)
