"""Everything that goes wrong here, one thing at a time: each fault is a function that makes it happen and takes it back.

Sleeps in it are how long the fault lasts, not waits for something.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos import clock
from tests.chaos.cluster import APIS, WORKERS
from tests.chaos.experiment import Fault, Inject, Skipped, Stage
from tests.chaos.ledger import partner_lines

FAULTS: dict[str, Fault] = {}


def fault(text: str, **facts: Any) -> Callable[[Inject], Inject]:
    """Enters the function into the table under its name."""

    def enter(inject: Inject) -> Inject:
        name = inject.__name__
        FAULTS[name] = Fault(name, text, inject, **facts)
        return inject

    return enter


# Processes.


@fault("a worker is SIGKILLed every 2 seconds", verifications=60)
async def worker_killed(stage: Stage) -> None:
    for turn in stage.turns(4):
        name = WORKERS[turn % 2]
        await stage.cluster.kill(name)
        await stage.cluster.start(name)
        await asyncio.sleep(1)


@fault("a worker is paused past its heartbeat, and resumed", verifications=60, seconds=12)
async def worker_paused(stage: Stage) -> None:
    for name in WORKERS:
        stage.cluster.pause(name)
        await asyncio.sleep(1)
        await clock.miss_heartbeats(stage.cluster)
        await asyncio.sleep(5)
        stage.cluster.resume(name)
        await asyncio.sleep(0.5)


@fault("an API process is SIGKILLed and started again", verifications=60, seconds=10)
async def api_killed(stage: Stage) -> None:
    for turn in range(3):
        name = APIS[turn % 2]
        await stage.cluster.kill(name)
        await asyncio.sleep(1)
        await stage.cluster.start(name)


@fault("a worker and an API are told to stop (SIGTERM) under load", verifications=60, seconds=10)
async def drained(stage: Stage) -> None:
    """Nothing is handed over twice: no submission, and no webhook either."""
    await stage.cluster.trouble(vendor={"mode": "slow", "seconds": 2})
    await asyncio.sleep(2)
    for name in ("worker-1", "api-1"):
        seconds = await stage.cluster.stop(name)
        stage.notes.append(f"{name} drained in {seconds:.1f} s")
        if seconds > 30:
            stage.problems.append(f"{name} took {seconds:.1f} s to stop")
        if stage.cluster.processes[name].said("drain_cut_short"):
            stage.problems.append(f"{name} cut jobs short")
        await stage.cluster.start(name)
    await stage.cluster.trouble()
    await asyncio.sleep(3)
    seen = Counter(line["id"] for line in partner_lines(stage.cluster) if line["path"] == stage.path())
    stage.problems += [f"webhook {id_} came {times} times" for id_, times in seen.items() if times > 1]


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


_BACK = "import asyncio, sys; from covergate.db.migrate import downgrade; asyncio.run(downgrade(*sys.argv[1:]))"


@fault("the clocks of a worker and an API jump (+2 h, −2 h; −10 min)", seconds=10, prepares=True, quiet=True)
async def clocks_jump(stage: Stage) -> None:
    """The database's clock counts; a process's own decides only whether a vendor's signature is fresh."""
    library = _faketime()
    jumps = {"worker-1": ("+2h", "-2h", "+0"), "api-1": ("-10m", "-10m", "+0")}
    files = {name: stage.cluster.directory / f"{name}.clock" for name in jumps}
    for name, file in files.items():
        file.write_text("+0")
        await stage.change(
            name,
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(file),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
        )
    await stage.begin()
    for turn in range(3):
        for name, file in files.items():
            file.write_text(jumps[name][turn])
        await asyncio.sleep(3)


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


# The database.


@fault("all PostgreSQL backends are terminated, three times", verifications=60)
async def backends_terminated(stage: Stage) -> None:
    for _ in range(3):
        await stage.cluster.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await asyncio.sleep(2.5)


@fault("PostgreSQL is stopped as by a crash and started 3 s later", short=True, verifications=60, blackout=True)
async def postgres_restarted(stage: Stage) -> None:
    await asyncio.sleep(2)
    await stage.cluster.stop_postgres()
    await asyncio.sleep(3)
    await stage.cluster.start_postgres()


@fault("pools of one connection, and rows locked for 6 s", seconds=8, prepares=True, blackout=True)
async def pool_exhausted(stage: Stage) -> None:
    for name in (*APIS, *WORKERS):
        await stage.change(name, COVERGATE_API_POOL_SIZE="1", COVERGATE_WORKER_POOL_SIZE="1")
    await stage.begin()
    connection = await asyncpg.connect(stage.cluster.database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT id FROM verifications WHERE status IN ('queued', 'in_progress') FOR UPDATE SKIP LOCKED"
            )
            await connection.execute("LOCK TABLE timeline IN SHARE MODE")
            await asyncio.sleep(6)
    finally:
        await connection.close()


# Vendors.


def _vendor(name: str, text: str, seconds: float = 8, **facts: Any) -> Callable[..., None]:
    def enter(**behaviour: Any) -> None:
        async def inject(stage: Stage) -> None:
            await stage.cluster.trouble(vendor=behaviour)
            await asyncio.sleep(seconds)
            done = (await stage.cluster.proxy_state())["done"]
            await stage.cluster.trouble()
            stage.notes.append(str(done))
            if not done:
                stage.problems.append("the fault met no call")

        inject.__name__ = name
        fault(text, **{"seconds": seconds, "verifications": 60, **facts})(inject)

    return enter


_vendor("vendors_500", "vendors answer 500, the work undone")(mode="status", status=500, share=70)
_vendor("vendors_500_after_work", "vendors answer 500, the work done")(
    mode="status", status=500, share=70, after_work=True
)
_vendor("vendors_429", "vendors answer 429 without Retry-After")(mode="status", status=429, share=70)
_vendor("vendors_429_retry_after", "vendors answer 429 with Retry-After: 3")(
    mode="status", status=429, share=70, headers={"Retry-After": "3"}
)
_vendor("vendors_hang", "vendors hang for 35 s, then cut the connection", seconds=35)(mode="hang", share=70)
_vendor("vendors_cut", "vendors cut the connection in the middle of a reply")(mode="cut", share=60)
_vendor("vendors_garbage", "vendors reply garbage with a 200")(mode="garbage", share=40)
_vendor("tokens_expire", "vendors refuse a token after three calls", quiet=True)(mode="expire", uses=3)
_vendor("events_overtake", "events come before the answer to their submission", quiet=True)(
    mode="hold_submissions", seconds=2
)


# Vendors' events.


def _events(name: str, text: str, seconds: float = 8, **facts: Any) -> Callable[..., None]:
    def enter(**behaviour: Any) -> None:
        async def inject(stage: Stage) -> None:
            await stage.cluster.trouble(events=behaviour)
            await asyncio.sleep(seconds)
            done = (await stage.cluster.proxy_state())["done"]
            await stage.cluster.trouble()
            stage.notes.append(str(done))
            stage.problems += [f"{times} {what}" for what, times in done.items() if what.startswith("forged_accepted")]
            if not done:
                stage.problems.append("the fault met no event")

        inject.__name__ = name
        fault(text, **{"seconds": seconds, "verifications": 60, "quiet": True, **facts})(inject)

    return enter


_events("events_twice", "events come three times, at the same moment")(mode="twice")
_events("events_late", "events come 5 s late")(mode="late", seconds=5)
_events("events_reversed", "events come out of order, the last first", mix=("SLOW", "ELIGIBLE", "INACTIVE"))(
    mode="reversed", seconds=2
)
_events("events_forged", "each event comes with three forged ones")(mode="forged")
_events("events_never", "no event comes")(mode="never")


# The partner.


@fault("the partner's endpoint is down for an hour (moved clock)", quiet=True, verifications=60, seconds=8)
async def partner_down(stage: Stage) -> None:
    """The clock jumps from one retry to the next: after five the schedule is past its first hour."""
    await stage.cluster.kill("partner")
    began = time.monotonic()
    while time.monotonic() - began < 8:
        await clock.move_deliveries(stage.cluster, 60)
        await asyncio.sleep(1)
    tries = await stage.cluster.scalar(
        "SELECT max(d.tries) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.tenant_id = $1",
        stage.tenant_id,
    )
    stage.notes.append(f"{tries} tries by then")
    await stage.cluster.start("partner")


@fault(
    "the partner's endpoint takes 3 s for each webhook; another of its own is fast", quiet=True, paths=("main", "slow")
)
async def partner_slow(stage: Stage) -> None:
    await stage.cluster.partner_behaves(stage.path("slow"), mode="slow", seconds=3)
    await asyncio.sleep(10)
    await stage.cluster.partner_behaves(stage.path("slow"), mode="ok")


@fault("the partner's endpoint flaps between 204 and 500 every second", quiet=True)
async def partner_flapping(stage: Stage) -> None:
    await stage.cluster.partner_behaves(stage.path(), mode="flap", seconds=1, status=500)
    await asyncio.sleep(10)
    await stage.cluster.partner_behaves(stage.path(), mode="ok")


@fault("one of two endpoints answers 410", quiet=True, paths=("main", "gone"))
async def partner_gone(stage: Stage) -> None:
    """It is disabled, visibly; what was to go there is exhausted, and new ends have one delivery only."""
    await stage.cluster.partner_behaves(stage.path("gone"), mode="status", status=410)
    await asyncio.sleep(9)
    status = await stage.cluster.scalar(
        "SELECT status FROM webhook_endpoints WHERE id = $1", stage.endpoints.pop(stage.path("gone"))
    )
    if status != "disabled":
        stage.problems.append(f"the endpoint that answered 410 is {status}")
