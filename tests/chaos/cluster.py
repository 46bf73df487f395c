"""Everything that a deployment has, as real processes: two APIs, two workers, the sandbox, a partner, PostgreSQL (durable).

All are started with the command an operator types, from one release, and can be killed, paused, stopped and started again,
each with changed settings. Between the gateway and the vendors stands `proxy.py`. Ports stay the same over restarts.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from sqlalchemy import make_url

from covergate.db import embedded
from covergate.db.embedded.cluster import MAJOR, bring_up
from covergate.db.embedded.cluster import Cluster as EmbeddedCluster
from covergate.db.migrate import migrate
from covergate.db.sealing import KeyRing, Sealer
from covergate.gateway import Gateway
from covergate.settings import Settings
from tests.chaos import pgbouncer
from tests.chaos.releases import Release, next_release, this_release
from tests.support.commands import bare_environment
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import opened_database
from tests.support.waiting import eventually

HERE = Path(__file__).parent
KEYS = "chaos:" + base64.b64encode(b"only for chaos, 32 bytes of key!").decode()
APIS = ("api-1", "api-2")
WORKERS = ("worker-1", "worker-2")
EVERYTHING = ("proxy", "sandbox", "partner", *APIS, *WORKERS)
START_SECONDS = 60
VENDOR_DELAY_SECONDS = 0.3


@dataclass
class Process:
    """One process of the cluster, under its name; `log` is its stderr."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    ready: Callable[[Process], Awaitable[bool]]
    popen: subprocess.Popen[bytes] | None = None
    started_at: int = 0
    """The size of the log when it was started last."""

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    def said(self, what: str) -> bool:
        """Whether its log has this since it was started."""
        with self.log.open("rb") as file:
            file.seek(self.started_at)
            return what.encode() in file.read()


@dataclass
class Cluster:
    directory: Path
    release: Release
    server: EmbeddedCluster
    database_url: str
    processes: dict[str, Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    deaths: list[tuple[str, float]] = field(default_factory=list)
    """Which process was SIGKILLed when, in Unix seconds."""
    serving: Release | None = None
    """The release of the API that was started last."""

    @property
    def api_urls(self) -> list[str]:
        return [self.url(name) for name in APIS]

    @property
    def partner_log(self) -> Path:
        return self.directory / "partner.jsonl"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    # Processes.

    async def start(
        self,
        name: str,
        *,
        release: Release | None = None,
        log: Path | None = None,
        stderr: int | None = None,
        before: Sequence[str] = (),
        **settings: str,
    ) -> Process:
        """With these settings beside the usual ones, until it is started the next time. Returns when it is ready.

        `stderr`: a file descriptor instead of the log.
        """
        process = self._made(name, release or self.release)
        if name in APIS:
            self.serving = release or self.release
        environment = process.environment | settings
        process.log = log or process.log
        process.log.touch()
        process.started_at = process.log.stat().st_size
        with process.log.open("ab") as file:
            process.popen = subprocess.Popen(
                [*before, *process.command],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file if stderr is None else stderr,
            )
        self.processes[name] = process

        async def ready() -> bool:
            if not process.running:
                raise AssertionError(f"{name} did not start: {process.log.read_text()[-2000:]}")
            return await process.ready(process)

        await eventually(ready, START_SECONDS, what=f"start of {name}", every=0.05)
        return process

    async def kill(self, name: str) -> None:
        self.deaths.append((name, time.time()))
        await self._end(name, signal.SIGKILL, 10)

    async def stop(self, name: str, seconds: float = 90) -> float:
        """SIGTERM: how many seconds it took to end, which it must do in order."""
        began = time.monotonic()
        code = await self._end(name, signal.SIGTERM, seconds)
        assert code == 0, f"{name} ended with {code}"
        return time.monotonic() - began

    async def restart(self, name: str, **how: Any) -> None:
        await self.stop(name)
        await self.start(name, **how)

    def pause(self, name: str) -> None:
        self.processes[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.processes[name].signal(signal.SIGCONT)

    async def mend(self) -> None:
        """Whatever an experiment left dead or changed is as it should be."""
        for name in EVERYTHING:
            if name not in self.processes or not self.processes[name].running:
                await self.start(name)

    async def _end(self, name: str, number: signal.Signals, seconds: float) -> int:
        process = self.processes[name]
        assert process.popen is not None
        process.signal(number)

        def ended() -> tuple[int] | None:
            code = process.popen.poll() if process.popen is not None else 0
            return None if code is None else (code,)

        [code] = await eventually(ended, seconds, what=f"end of {name}", every=0.05)
        return code

    def _made(self, name: str, release: Release) -> Process:
        kind = name.partition("-")[0]
        commands: dict[str, list[str]] = {
            "api": [str(release.covergate), "serve"],
            "worker": [str(release.covergate), "worker"],
            "sandbox": [str(release.covergate), "sandbox"],
            "partner": [sys.executable, str(HERE / "partner.py"), str(self._port(name)), str(self.partner_log)],
            "proxy": [
                *(sys.executable, str(HERE / "proxy.py"), str(self._port(name))),
                *(f"http://127.0.0.1:{self._port('sandbox')}", ",".join(self.api_urls)),
            ],
        }
        environment = self.environment(release) | {
            "COVERGATE_PORT": str(self._port(name)),
            "COVERGATE_WORKER_PORT": str(self._port(name)),
            "COVERGATE_SANDBOX_URL": f"{self.url('proxy')}/{name}",
            "COVERGATE_SANDBOX_PORT": str(self._port("sandbox")),
        }

        async def worker_ready(process: Process) -> bool:
            """Its log says so; where nobody can read that, its port."""
            return process.said('"ready"') or await _serves(self.url(name), "/readyz")

        async def server_ready(process: Process) -> bool:
            return await _serves(self.url(name))

        async def takes_connections(process: Process) -> bool:
            return await _accepts(self._port(name))

        if kind == "pgbouncer":
            mode = name.partition("-")[2]
            commands[kind] = pgbouncer.command(self.directory / name, self._port(name), self.server.pgdata, mode)
        ready = {"worker": worker_ready, "pgbouncer": takes_connections}.get(kind, server_ready)
        return Process(name, commands[kind], environment, self.directory / f"{name}.log", ready)

    def environment(self, release: Release) -> dict[str, str]:
        return (
            bare_environment()
            | release.environment
            | {
                "COVERGATE_DATABASE_URL": self.database_url,
                "COVERGATE_DATA_DIR": str(self.directory / "data"),
                "COVERGATE_ENCRYPTION_KEYS": KEYS,
                "COVERGATE_SANDBOX_URL": f"{self.url('proxy')}/command",
                "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
                "COVERGATE_SANDBOX_GATEWAY_URL": self.url("proxy"),
                "COVERGATE_SANDBOX_DELAY_SECONDS": str(VENDOR_DELAY_SECONDS),
                "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
                "COVERGATE_CIRCUIT_REST_SECONDS": "1",
                "COVERGATE_SOHAR_POLL_SECONDS": "1",
                "COVERGATE_LOG_FORMAT": "json",
            }
        )

    def _port(self, name: str) -> int:
        if name not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.ports[name] = free.getsockname()[1]
        return self.ports[name]

    async def answer(self, *arguments: str) -> str:
        """What one run of `covergate`, of the release that serves, prints."""
        release = self.serving or self.release
        process = await asyncio.create_subprocess_exec(
            str(release.covergate),
            *arguments,
            cwd=self.directory,
            env=self.environment(release),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        printed, said = await asyncio.wait_for(process.communicate(), START_SECONDS)
        assert process.returncode == 0, said.decode()
        return printed.decode().strip()

    async def command(self, *arguments: str, release: Release | None = None, **settings: str) -> tuple[int, str]:
        """Exit code and stderr of one run of `covergate`."""
        process = await asyncio.create_subprocess_exec(
            str((release or self.release).covergate),
            *arguments,
            cwd=self.directory,
            env=self.environment(release or self.release) | settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), START_SECONDS)
        return process.returncode or 0, said.decode()

    def next_release(self) -> Release:
        return next_release(self.release, Path(tempfile.mkdtemp(dir=self.directory)) / "next")

    def complaints(self, since: float) -> Counter[str]:
        """Warnings and errors in the logs since then (Unix seconds): process, event and error, how often."""
        found: Counter[str] = Counter()
        for name in (*APIS, *WORKERS):
            for line in (self.directory / f"{name}.log").read_text(errors="replace").splitlines():
                with suppress(ValueError):  # a line that was cut, or a traceback's
                    said = json.loads(line)
                    if said["level"] in {"warning", "error"} and _seconds(said["timestamp"]) >= since:
                        found[f"{name}: {said['event']} {said.get('error', '')}"] += 1
        return found

    # PostgreSQL.

    async def stop_postgres(self) -> None:
        """As a crash would: no checkpoint, no goodbye."""
        await asyncio.to_thread(
            self.server.run,
            "pg_ctl",
            "stop",
            "--mode=immediate",
            "--wait",
            "--silent",
            "--pgdata",
            str(self.server.pgdata),
        )

    async def start_postgres(self) -> None:
        await asyncio.to_thread(bring_up, self.server, durable=True)

    @asynccontextmanager
    async def frozen_postgres(self, *, whole: bool = False) -> AsyncIterator[None]:
        """SIGSTOP to the backends of this database, or to the `whole` server, while the block runs."""
        backends = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        pids = [row["pid"] for row in await self.rows(backends)]
        if whole:
            postmaster = psutil.Process(int((self.server.pgdata / "postmaster.pid").read_text().split()[0]))
            pids = [postmaster.pid, *(child.pid for child in postmaster.children())]
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                _send(pid, signal.SIGCONT)

    async def new_database(self, name: str) -> None:
        """Empty, and from now on the one that processes are started with."""
        await self.rows(f"CREATE DATABASE {name}")
        self.database_url = make_url(self.database_url).set(database=name).render_as_string(hide_password=False)

    def url_through_pgbouncer(self, mode: str) -> str:
        """Of the database, by way of the process `pgbouncer-<mode>`."""
        database = make_url(self.database_url).database
        return f"postgresql://postgres@127.0.0.1:{self._port(f'pgbouncer-{mode}')}/{database}"

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """On a connection of its own, so that no fault outlives itself here."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def scalar(self, statement: str, *values: Any) -> Any:
        [row] = await self.rows(statement, *values)
        return row[0]

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Gateway]:
        """For what has no route of its own: keys, and the operator's word."""
        sealer = Sealer(KeyRing.parse(KEYS))
        async with opened_database(self.database_url, sealer, pool_size=2, application_name="chaos") as database:
            yield Gateway(Settings(database_url=self.database_url, _env_file=None), database)

    # The network.

    async def trouble(self, *, vendor: dict[str, Any] | None = None, events: dict[str, Any] | None = None) -> None:
        """What the proxy does from now on; without arguments nothing any more."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            reply = await client.post(f"{self.url('proxy')}/_control", json={"vendor": vendor, "events": events})
            reply.raise_for_status()

    async def stretch_calls(self, seconds: float) -> None:
        """Every committing call is on the line for so long from now on; 0 for as long as it takes."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            (await client.post(f"{self.url('proxy')}/_control", json={"line": seconds})).raise_for_status()

    async def committing_calls(self, since: float) -> list[dict[str, Any]]:
        """`proxy.Call` as JSON, of all callers."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return list((await client.get(f"{self.url('proxy')}/_calls", params={"since": since})).json())

    async def proxy_state(self) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return dict((await client.get(f"{self.url('proxy')}/_control")).json())

    async def partner_behaves(self, path: str, **behaviour: Any) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            (await client.post(f"{self.url('partner')}/_control", json={"path": path, **behaviour})).raise_for_status()

    async def submissions(self) -> list[dict[str, Any]]:
        """What the vendors were really asked to do, as they counted it."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return list((await client.get(f"{self.url('sandbox')}/_sandbox/submissions")).json())


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a backend that has ended meanwhile
        os.kill(pid, number)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _serves(url: str, path: str = "/healthz") -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            return (await client.get(url + path)).status_code == 200
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def running_cluster(*, bare: bool = False) -> AsyncIterator[Cluster]:
    """All processes, or (`bare`) the migrated database alone; at the end of the block nothing is left, on disk neither."""
    directory = Path(tempfile.mkdtemp(prefix="cgc", dir="/tmp"))
    directory.chmod(0o711)  # the server's own user passes through
    server = await asyncio.to_thread(embedded.start, directory / "data")
    cluster: Cluster | None = None
    try:
        database_url = make_url(server.url).set(database="chaos").render_as_string(hide_password=False)
        cluster = Cluster(
            directory,
            this_release(directory / "release"),
            EmbeddedCluster.at(directory / "data", MAJOR),
            database_url,
        )
        admin = await asyncpg.connect(server.url)
        await admin.execute("CREATE DATABASE chaos")
        await admin.close()
        for name in EVERYTHING:
            cluster._port(name)
        await migrate(database_url)
        await asyncio.gather(*(cluster.start(name) for name in EVERYTHING if not bare))
        yield cluster
    finally:
        if cluster is not None:
            for process in cluster.processes.values():
                if process.popen is not None and process.running:
                    process.popen.kill()
                    process.popen.wait()
        await asyncio.to_thread(server.stop_if_last)
        shutil.rmtree(directory, ignore_errors=True)
