"""One gateway as its own processes, as it is shipped: its own commands, its public API, a database of its own on the stage.

`program` is the `covergate` of any checkout, so that two versions can be measured in one run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from benchmarks import load, machine
from benchmarks.stage import Stage, create_database
from covergate.settings import Settings

OWN = Path(sys.executable).parent / "covergate"
"""This checkout's."""

BODY: dict[str, Any] = {
    "vendor": "integrex",
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": {
        "first_name": "Jane",
        "last_name": "Sample",
        "date_of_birth": "1990-09-20",
        "address": {"state": "CA"},
    },
    "provider": {"npi": "1234567893"},
    "service": {"service_type_codes": ["30"], "place_of_service_code": "10", "specialty": "PSY"},
    "metadata": {"clinic": "north"},
}
PAYERS = (
    {"id": "60054", "name": "Aetna"},
    {"id": "62308", "name": "Cigna"},
    {"id": "61101", "name": "Humana"},
    {"id": "87726", "name": "UnitedHealthcare"},
)
"""In turns: one payer alone gets no more than a share of its vendor's lane."""
_numbers = count()


@dataclass
class Gateway:
    """`workers`: those that run now; `peaks`: megabytes, the most that any process of the kind held so far."""

    name: str
    stage: Stage
    program: Path
    environment: dict[str, str]
    api_port: int
    key: str
    secrets: dict[str, str] = field(default_factory=dict)
    """Path at the receiver → the secret of the endpoint that has it."""
    api: psutil.Process | None = None
    workers: list[psutil.Process] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        return self.stage.database_url(self.name)

    @property
    def settings(self) -> Settings:
        """For what is measured inside its database."""
        keys = SecretStr(self.environment["COVERGATE_ENCRYPTION_KEYS"])
        return Settings(database_url=self.database_url, encryption_keys=keys, _env_file=None)

    @property
    def authorized(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def creates(self, number: int) -> list[bytes]:
        """That many different requests."""
        return [self._create(next(_numbers)) for _ in range(number)]

    def _create(self, number: int) -> bytes:
        patient = {**BODY["patient"], "member_id": f"BENCH{number:08}"}
        payer = PAYERS[number % len(PAYERS)]
        body = {**BODY, "patient": patient, "payer": payer, "external_id": f"intake-{number}"}
        headers = {**self.authorized, "idempotency-key": f"bench-{os.getpid()}-{number}"}
        return load.request("POST", "/v1/verifications", self.api_port, body, headers)

    def note_peaks(self) -> None:
        """A PostgreSQL process counts without the buffers that all of them share."""
        backends = [self.stage.postgres, *self.stage.postgres.children()]
        held = {
            "API": machine.peak_megabytes(self.api.pid) if self.api else 0.0,
            "worker": max((machine.peak_megabytes(worker.pid) for worker in self.workers), default=0.0),
            "largest PostgreSQL process": max(machine.private_megabytes(backend) for backend in backends),
        }
        self.peaks = {name: max(megabytes, self.peaks.get(name, 0.0)) for name, megabytes in held.items()}


@contextmanager
def running(stage: Stage, name: str, program: Path) -> Iterator[Gateway]:
    """With its API, without a worker; one partner is subscribed to everything."""
    asyncio.run(create_database(stage, name))
    api_port = machine.free_port()
    environment = {
        "COVERGATE_DATABASE_URL": stage.database_url(name),
        "COVERGATE_DATA_DIR": str(stage.directory / f"data-{name}"),
        "COVERGATE_ENCRYPTION_KEYS": f"bench:{b64encode(secrets.token_bytes(32)).decode()}",
        "COVERGATE_PORT": str(api_port),
        "COVERGATE_LOG_FORMAT": "json",
        "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
        "COVERGATE_INTEGREX_BASE_URL": f"http://127.0.0.1:{stage.vendor_port}",
        "COVERGATE_INTEGREX_CLIENT_ID": "benchmark",
        "COVERGATE_INTEGREX_CLIENT_SECRET": "benchmark",
        "COVERGATE_INTEGREX_POLL_SECONDS": "0",
        "COVERGATE_TEST_EVENTS_PER_MINUTE": "0",
    }
    gateway = Gateway(name, stage, program, environment, api_port, "")
    _covergate(gateway, "migrate")
    gateway.key = make_key(gateway, "benchmark")
    with machine.Child(f"api-{name}", [str(program), "serve"], environment, stage.directory, api_port) as child:
        gateway.api = child.process
        asyncio.run(subscribe(gateway, gateway.key, "/webhooks"))
        yield gateway


@contextmanager
def working(gateway: Gateway, workers: int = 1) -> Iterator[None]:
    """So many more workers run inside the block."""
    with ExitStack() as stack:
        begun = []
        for _ in range(workers):
            name = f"worker-{gateway.name}-{len(gateway.workers)}"
            command = [str(gateway.program), "worker"]
            child = stack.enter_context(machine.Child(name, command, gateway.environment, gateway.stage.directory))
            begun.append(child.process)
            gateway.workers.append(child.process)
        try:
            yield
        finally:
            gateway.note_peaks()
            gateway.workers = [worker for worker in gateway.workers if worker not in begun]


async def fill(gateway: Gateway, ended: int, parked: int) -> str:
    """Has the gateway's own checkout fill its tables, as only it knows them. Says in a line what was made."""
    python = gateway.program.parent / "python"
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-m", "benchmarks.rows", gateway.database_url, str(ended), str(parked)),
        cwd=python.parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the tables of {gateway.name} could not be filled")
    return printed.decode().strip()


def make_key(gateway: Gateway, tenant: str) -> str:
    return _covergate(gateway, "keys", "create", "--tenant", tenant, "--mode", "live").strip()


async def subscribe(gateway: Gateway, key: str, path: str) -> str:
    """An endpoint at the receiver that is told of everything; its id."""
    wanted = {"url": f"http://127.0.0.1:{gateway.stage.receiver_port}{path}", "event_types": ["*"]}
    headers = {"authorization": f"Bearer {key}"}
    made = await load.ask(gateway.api_port, "POST", "/v1/webhook-endpoints", wanted, headers)
    gateway.secrets[path] = made["secret"]
    return str(made["id"])


def _covergate(gateway: Gateway, *arguments: str) -> str:
    done = subprocess.run(
        [str(gateway.program), *arguments],
        env={**os.environ, **gateway.environment},
        cwd=gateway.stage.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"covergate {arguments[0]}: {done.stderr}")
    return done.stdout
