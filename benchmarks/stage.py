"""What all measurements share: PostgreSQL (the embedded one, durable), a vendor, a partner and floor 1, each a process.

Gateways under measurement have a database each on this one server, so that empty and full tables, or two versions, can take
turns within seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from benchmarks import machine
from covergate.db import embedded


@dataclass(frozen=True)
class Stage:
    directory: Path
    server_url: str
    vendor_port: int
    receiver_port: int
    floor_port: int

    @property
    def postgres(self) -> psutil.Process:
        pid = (self.directory / "data" / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]
        return psutil.Process(int(pid))

    def database_url(self, name: str) -> str:
        return self.server_url.replace("/postgres?", f"/{name}?", 1)

    async def script(self, program: str, *arguments: str) -> dict[str, Any]:
        """Runs one of the floors to its end; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *machine.module(program, *arguments),
            env={**os.environ, **machine.environment()},
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{program} ended with {process.returncode}")
        return dict(json.loads(printed))


@contextmanager
def set_up() -> Iterator[Stage]:
    """In a directory of its own, on disk and not in memory: fsync is to cost what it costs."""
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="cgbench", dir="/var/tmp", ignore_cleanup_errors=True)
        directory = Path(stack.enter_context(scratch))
        directory.chmod(0o711)  # started by root, PostgreSQL runs as another user
        server = embedded.start(directory / "data")
        stack.callback(server.stop_if_last)
        stage = Stage(directory, server.url, *(machine.free_port() for _ in range(3)))
        asyncio.run(create_database(stage, "floor"))
        floor = {"FLOOR_DATABASE_URL": stage.database_url("floor")}
        for name, port, variables in (
            ("vendor", stage.vendor_port, {}),
            ("receiver", stage.receiver_port, {}),
            ("floor_accept", stage.floor_port, floor),
        ):
            program, environment = machine.module(name, str(port)), {**machine.environment(), **variables}
            stack.enter_context(machine.Child(name, program, environment, directory, port))
        yield stage


async def create_database(stage: Stage, name: str) -> None:
    db = await asyncpg.connect(stage.server_url)
    try:
        await db.execute(f"CREATE DATABASE {name}")
    finally:
        await db.close()
