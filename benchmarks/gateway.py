"""The gateway as its own processes, and what is measured of it: accepting, listing, end to end, announcing.

PostgreSQL (embedded, durable), one API, one worker, a vendor, a partner: a process each. The load comes from this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from benchmarks import load, machine
from covergate.db import embedded

CONNECTIONS = 32
LISTING_CONNECTIONS = 8
PATIENCE_SECONDS = 180.0
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


@dataclass(frozen=True)
class EndToEnd:
    """Per second; `cpu_ms` are milliseconds of CPU per verification by process."""

    per_second: float
    accepted_per_second: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True)
class Announced:
    """Seconds. `after_commit`: from the event's own time, right before the commit that ended the verification, to the partner."""

    after_commit: list[float]
    after_post: list[float]


@dataclass
class Setup:
    """Everything but the API and the worker, which `api` and `worker` run for as long as they are wanted."""

    directory: Path
    database_url: str
    environment: dict[str, str]
    vendor_port: int
    receiver_port: int
    api_port: int
    floor_port: int
    key: str
    number: int = 0
    api: psutil.Process | None = None
    worker: psutil.Process | None = None
    secret: str = ""

    @property
    def postgres(self) -> psutil.Process:
        pid = (self.directory / "data" / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]
        return psutil.Process(int(pid))

    @property
    def authorized(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def creates(self, number: int) -> list[bytes]:
        """That many different requests."""
        first, self.number = self.number, self.number + number
        return [self._create(each) for each in range(first, first + number)]

    def _create(self, each: int) -> bytes:
        patient = {**BODY["patient"], "member_id": f"BENCH{each:08}"}
        body = {**BODY, "patient": patient, "external_id": f"intake-{each}"}
        headers = {**self.authorized, "idempotency-key": f"bench-{os.getpid()}-{each}"}
        return load.request("POST", "/v1/verifications", self.api_port, body, headers)

    def floor_requests(self, number: int) -> list[bytes]:
        body = {**BODY, "patient": {**BODY["patient"], "member_id": "BENCH00000001"}, "external_id": "intake-1"}
        return [load.request("POST", "/v1/verifications", self.floor_port, body)] * number


@contextmanager
def set_up(directory: Path) -> Iterator[Setup]:
    data = directory / "data"
    vendor_port, receiver_port, api_port, floor_port = (machine.free_port() for _ in range(4))
    environment = {
        "COVERGATE_DATA_DIR": str(data),
        "COVERGATE_PORT": str(api_port),
        "COVERGATE_LOG_FORMAT": "json",
        "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
        "COVERGATE_INTEGREX_BASE_URL": f"http://127.0.0.1:{vendor_port}",
        "COVERGATE_INTEGREX_CLIENT_ID": "benchmark",
        "COVERGATE_INTEGREX_CLIENT_SECRET": "benchmark",
        "COVERGATE_INTEGREX_POLL_SECONDS": "0",
    }
    with ExitStack() as stack:
        server = embedded.start(data)
        stack.callback(server.stop_if_last)
        for name, port in (("vendor", vendor_port), ("receiver", receiver_port)):
            command = machine.module(name, str(port))
            stack.enter_context(machine.Child(name, command, machine.environment(), directory, port))
        covergate(environment, directory, "migrate")
        key = covergate(environment, directory, "keys", "create", "--tenant", "benchmark", "--mode", "live")
        yield Setup(directory, server.url, environment, vendor_port, receiver_port, api_port, floor_port, key.strip())


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "covergate"), *arguments]


def covergate(environment: dict[str, str], directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"covergate {arguments[0]}: {done.stderr}")
    return done.stdout


@contextmanager
def floor(setup: Setup) -> Iterator[None]:
    environment = {**machine.environment(), "FLOOR_DATABASE_URL": setup.database_url}
    program = machine.module("floor_accept", str(setup.floor_port))
    with machine.Child("floor_accept", program, environment, setup.directory, setup.floor_port):
        yield


@contextmanager
def api(setup: Setup) -> Iterator[None]:
    with machine.Child("api", command("serve"), setup.environment, setup.directory, setup.api_port) as child:
        setup.api = child.process
        yield


@contextmanager
def worker(setup: Setup) -> Iterator[None]:
    with machine.Child("worker", command("worker"), setup.environment, setup.directory) as child:
        setup.worker = child.process
        yield


async def subscribe(setup: Setup) -> None:
    wanted = {"url": f"http://127.0.0.1:{setup.receiver_port}/webhooks", "event_types": ["*"]}
    made = await load.ask(setup.api_port, "POST", "/v1/webhook-endpoints", wanted, setup.authorized)
    setup.secret = made["secret"]
    await expect(setup)


async def expect(setup: Setup) -> None:
    """The partner forgets what came before."""
    await load.ask(setup.receiver_port, "POST", "/expect", {"secret": setup.secret})


async def accept_floor(setup: Setup, number: int) -> float:
    """Requests per second."""
    return (await load.drive(setup.floor_port, setup.floor_requests(number), CONNECTIONS)).per_second


async def accept(setup: Setup, number: int) -> float:
    """Requests per second, with nobody working on what was accepted; afterwards it is gone again."""
    accepted = await load.drive(setup.api_port, setup.creates(number), CONNECTIONS)
    await forget(setup)
    return accepted.per_second


async def forget(setup: Setup) -> None:
    """Removes what was accepted; the ids of `full_tables` begin with 00, those of our time with 01."""
    db = await asyncpg.connect(setup.database_url)
    try:
        await db.execute("DELETE FROM pgqueuer WHERE execute_after < now() + interval '1 day'")
        await db.execute("DELETE FROM verifications WHERE id >= 'ver_01' AND status IN ('queued', 'in_progress')")
        await db.execute("DELETE FROM idempotency_keys")
        await db.execute("VACUUM ANALYZE verifications, attempts, timeline, idempotency_keys, pgqueuer")
    finally:
        await db.close()


async def end_to_end_floor(setup: Setup, number: int) -> float:
    """Per second."""
    await expect(setup)
    ports = (str(setup.vendor_port), str(setup.receiver_port))
    process = await asyncio.create_subprocess_exec(
        *machine.module("floor_end_to_end", *ports, setup.secret, str(number)),
        env={**os.environ, **machine.environment()},
        cwd=setup.directory,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return number / float(printed)


async def end_to_end(setup: Setup, number: int) -> EndToEnd:
    await expect(setup)
    assert setup.api is not None
    assert setup.worker is not None
    processes = {"API": setup.api, "worker": setup.worker, "PostgreSQL": setup.postgres}
    prepared = setup.creates(number)
    before = {name: machine.cpu_seconds(process) for name, process in processes.items()}
    started = time.time()
    accepted = await load.drive(setup.api_port, prepared, CONNECTIONS)
    arrived = await _all_arrived(setup, number)
    seconds = max(at for at, _ in arrived.values()) - started
    cpu = {name: machine.cpu_seconds(process) - before[name] for name, process in processes.items()}
    return EndToEnd(number / seconds, accepted.per_second, {name: spent / number * 1000 for name, spent in cpu.items()})


async def _all_arrived(setup: Setup, number: int) -> dict[str, tuple[float, float]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await load.ask(setup.receiver_port, "GET", "/count") < number:
            await asyncio.sleep(0.1)
    told = await load.ask(setup.receiver_port, "GET", "/arrived")
    if told["forged"]:
        raise RuntimeError(f"{told['forged']} webhooks had a wrong signature")
    return dict(told["arrived"])


async def announced(setup: Setup, number: int, per_second: float) -> Announced:
    """A steady trickle."""
    await expect(setup)
    connection = await load.Connection.open(setup.api_port)
    posted: dict[str, float] = {}
    started = time.time()
    for each, prepared in enumerate(setup.creates(number)):
        await asyncio.sleep(max(0.0, started + each / per_second - time.time()))
        at = time.time()
        posted[json.loads(await connection.send(prepared))["id"]] = at
    await connection.aclose()
    arrived = await _all_arrived(setup, number)
    return Announced(
        sorted(at - ended for at, ended in arrived.values()),
        sorted(at - posted[id_] for id_, (at, _) in arrived.items()),
    )


async def listing(setup: Setup, number: int) -> float:
    """Pages of 20 per second, the newest."""
    prepared = load.request("GET", "/v1/verifications?limit=20", setup.api_port, headers=setup.authorized)
    return (await load.drive(setup.api_port, [prepared] * number, LISTING_CONNECTIONS)).per_second


def peaks(setup: Setup) -> dict[str, float]:
    """Megabytes. A PostgreSQL process counts without the buffers that all of them share."""
    assert setup.api is not None
    assert setup.worker is not None
    backends = [setup.postgres, *setup.postgres.children()]
    return {
        "API": machine.peak_megabytes(setup.api.pid),
        "worker": machine.peak_megabytes(setup.worker.pid),
        "largest PostgreSQL process": max(machine.private_megabytes(backend) for backend in backends),
    }
