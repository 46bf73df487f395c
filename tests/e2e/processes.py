"""Worker processes on a house, forked from one that has everything imported, to be killed, paused and ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.house import NEVER_OPENS, House
from tests.support.commands import NURSERY, bare_environment
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import KEYS
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Process:
    """A worker process that can be signalled at any instruction."""

    pid: int
    nursery: Nursery

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self, seconds: float = 30) -> int:
        """How it ended: an exit code, or minus the signal that ended it."""

        async def status() -> tuple[int] | None:
            code = await self.nursery.ask({"poll": self.pid})
            return None if code is None else (code,)

        [code] = await eventually(status, seconds, what=f"end of process {self.pid}", every=0.02)
        return code

    async def stopped(self) -> None:
        """Waits until it has stopped itself (SIGSTOP)."""

        stat = Path(f"/proc/{self.pid}/stat")
        await eventually(
            lambda: stat.read_text().rpartition(")")[2].split()[0] == "T",
            30,
            what=f"stop of process {self.pid}",
            every=0.05,
        )

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL


@dataclass
class Nursery:
    """`tests/support/nursery.py` with the environment of the workers that it forks."""

    process: asyncio.subprocess.Process
    environment: dict[str, str]
    log: Path
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, order: Mapping[str, Any]) -> Any:
        async with self.turn:
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            return json.loads(await self.process.stdout.readline())

    async def start(self, command: str = "worker", /, **environment: str) -> Process:
        """A worker, or another command that runs for long, with these variables beside the usual ones."""
        order = {
            "arguments": [command],
            "environment": self.environment | environment,
            "directory": str(self.log.parent),
            "stdin": os.devnull,
            "stdout": str(self.log),
            "stderr": str(self.log),
        }
        return Process(await self.ask(order), self)


class StartWorker(Protocol):
    """Starts a worker process; keyword arguments are variables of its environment."""

    async def __call__(self, **environment: str) -> Process: ...


@asynccontextmanager
async def running_nursery(house: House, directory: Path) -> AsyncIterator[Nursery]:
    """For workers on this house, which log into `directory`."""
    environment = {
        **bare_environment(),
        "COVERGATE_DATABASE_URL": house.gateway.database.url,
        "COVERGATE_ENCRYPTION_KEYS": KEYS,
        "COVERGATE_DATA_DIR": str(directory),
        "COVERGATE_SANDBOX_URL": house.sandbox_url,
        "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
        "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
        "COVERGATE_CIRCUIT_LEAST_CALLS": str(NEVER_OPENS),
        "COVERGATE_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        NURSERY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=directory,
        env=bare_environment(),
    )
    try:
        yield Nursery(process, environment, directory / "workers.log")
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
