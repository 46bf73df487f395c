"""PostgreSQL goes away, stands still, becomes a standby's equal, is short of connections, and hides behind PgBouncer."""

from __future__ import annotations

import asyncio

from tests.chaos import books, pgbouncer
from tests.chaos.cluster import APIS, WORKERS
from tests.chaos.experiment import Skipped, Stage
from tests.chaos.faults.entry import fault

FROZEN_SECONDS = 8
READ_ONLY_SECONDS = 8


@fault("all PostgreSQL backends are terminated, three times")
async def backends_terminated(stage: Stage) -> None:
    for _ in range(3):
        await stage.cluster.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await asyncio.sleep(2.5)


@fault(f"all PostgreSQL backends stand still for {FROZEN_SECONDS} s (SIGSTOP)", blackout=True)
async def backends_frozen(stage: Stage) -> None:
    async with stage.cluster.frozen_postgres():
        await asyncio.sleep(FROZEN_SECONDS)


@fault("PostgreSQL is stopped as by a crash and started 3 s later", short=True, blackout=True)
async def postgres_restarted(stage: Stage) -> None:
    await stage.cluster.stop_postgres()
    await asyncio.sleep(3)
    await stage.cluster.start_postgres()


@fault(f"the primary is read-only for {READ_ONLY_SECONDS} s", blackout=True)
async def read_only_primary(stage: Stage) -> None:
    """As an old primary after a failover, or one whose disk a managed service finds full."""
    try:
        await stage.cluster.rows("ALTER SYSTEM SET default_transaction_read_only = on")
        await stage.cluster.rows("SELECT pg_reload_conf()")
        await asyncio.sleep(READ_ONLY_SECONDS)
    finally:
        await stage.cluster.rows("ALTER SYSTEM RESET default_transaction_read_only")
        await stage.cluster.rows("SELECT pg_reload_conf()")


@fault("pools of one connection, and rows locked for 6 s", seconds=8, prepares=True, blackout=True)
async def pool_exhausted(stage: Stage) -> None:
    for name in (*APIS, *WORKERS):
        await stage.change(name, COVERGATE_API_POOL_SIZE="1", COVERGATE_WORKER_POOL_SIZE="1")
    await stage.begin()
    async with books.open_work_locked(stage.cluster):
        await asyncio.sleep(6)


@fault("PgBouncer (session pooling) in front of PostgreSQL is SIGKILLed twice", prepares=True, blackout=True)
async def pgbouncer_killed(stage: Stage) -> None:
    """With transaction pooling a process is not even to start."""
    cluster = stage.cluster
    if pgbouncer.executable() is None:
        raise Skipped("there is no pgbouncer (Debian: apt install pgbouncer)")
    for mode in ("transaction", "session"):
        await cluster.start(f"pgbouncer-{mode}")
        stage.lasting.push_async_callback(cluster.kill, f"pgbouncer-{mode}")
    code, said = await cluster.command("worker", COVERGATE_DATABASE_URL=cluster.url_through_pgbouncer("transaction"))
    if code != 2 or "session pooling" not in said:
        stage.problems.append(f"a worker behind transaction pooling: {code} {said[-300:]}")
    for name in (*APIS, *WORKERS):
        await stage.change(name, COVERGATE_DATABASE_URL=cluster.url_through_pgbouncer("session"))
    await stage.begin()
    for _ in range(2):
        await cluster.kill("pgbouncer-session")
        await asyncio.sleep(1)
        await cluster.start("pgbouncer-session")
        await asyncio.sleep(2)
