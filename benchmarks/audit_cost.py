"""What the audit costs a read: `GET /v1/verifications/{id}` by two API processes on one database, of which one writes no rows.

python -m benchmarks.audit_cost [--turns N] [--seconds S] [--connections N]

They take short turns, so that what else the machine does falls on both; each turn is compared with the other one of its pair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import psutil
import uvloop

from benchmarks import load, machine, noise, stage
from benchmarks.gateway import OWN, Gateway, running, working

UNAUDITED = "unaudited"


@dataclass
class Server:
    """Of each turn: reads a second, and microseconds of CPU a read took of the API and of PostgreSQL."""

    port: int
    api: psutil.Process
    per_second: list[float] = field(default_factory=list)
    api_us: list[float] = field(default_factory=list)
    postgres_us: list[float] = field(default_factory=list)

    @property
    def cpu_us(self) -> list[float]:
        return [api + postgres for api, postgres in zip(self.api_us, self.postgres_us, strict=True)]


def main() -> None:
    if sys.argv[1:] == [UNAUDITED]:
        _serve_without_audit()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_cost")
    parser.add_argument("--turns", type=int, default=60, help="pairs of turns")
    parser.add_argument("--seconds", type=float, default=0.5, help="about so long is a turn")
    parser.add_argument("--connections", type=int, default=32, help="reads under way at once")
    asked = parser.parse_args()
    with ExitStack() as stack:
        set_up = stack.enter_context(stage.set_up())
        gateway = stack.enter_context(running(set_up, "gateway", OWN))
        port = machine.free_port()
        environment = {**gateway.environment, **machine.environment(), "COVERGATE_PORT": str(port)}
        command = machine.module("audit_cost", UNAUDITED)
        other = stack.enter_context(machine.Child(UNAUDITED, command, environment, set_up.directory, port))
        assert gateway.api is not None
        servers = {UNAUDITED: Server(port, other.process), "audited": Server(gateway.api_port, gateway.api)}
        watch = stack.enter_context(noise.Watch(roots={psutil.Process().pid, set_up.postgres.pid}))
        uvloop.run(_measure(gateway, servers, asked.turns, asked.seconds, asked.connections))
    print(_told(servers))
    print(f"Others used {watch.others:.2f} cores meanwhile; {watch.stolen:.2f} were stolen.")


async def _measure(
    gateway: Gateway, servers: Mapping[str, Server], turns: int, seconds: float, connections: int
) -> None:
    path = f"/v1/verifications/{await _completed(gateway)}"
    prepared = {
        name: load.request("GET", path, server.port, headers=gateway.authorized) for name, server in servers.items()
    }
    number = 200
    for name, server in servers.items():
        number = max(connections * 4, round((await _rate(server, [prepared[name]] * 500, connections)) * seconds))
    for turn in range(turns):
        for name, server in list(servers.items())[:: 1 if turn % 2 else -1]:
            api, postgres = machine.cpu_seconds(server.api), machine.cpu_seconds(gateway.stage.postgres)
            server.per_second.append(await _rate(server, [prepared[name]] * number, connections))
            server.api_us.append((machine.cpu_seconds(server.api) - api) / number * 1e6)
            server.postgres_us.append((machine.cpu_seconds(gateway.stage.postgres) - postgres) / number * 1e6)


async def _rate(server: Server, prepared: Sequence[bytes], connections: int) -> float:
    return (await load.drive(server.port, prepared, connections)).per_second


async def _completed(gateway: Gateway) -> str:
    """A verification with its result."""
    with working(gateway):
        made = json.loads((await load.drive(gateway.api_port, gateway.creates(1), 1)).bodies[0])
        until = time.monotonic() + 30
        while time.monotonic() < until:
            shown: dict[str, Any] = await load.ask(
                gateway.api_port, "GET", f"/v1/verifications/{made['id']}", headers=gateway.authorized
            )
            if shown["status"] == "completed":
                return str(made["id"])
            await asyncio.sleep(0.1)
    raise RuntimeError("the verification did not end")


def _told(servers: Mapping[str, Server]) -> str:
    bare, audited = servers[UNAUDITED], servers["audited"]
    lines = [
        f"{name:9} {median(one.per_second):6.0f} reads/s; CPU of a read: API {median(one.api_us):5.0f} us,"
        f" PostgreSQL {median(one.postgres_us):4.0f} us"
        for name, one in servers.items()
    ]
    for what, shares in (
        ("of throughput", [1 - mine / its for mine, its in zip(audited.per_second, bare.per_second, strict=True)]),
        ("more CPU", [mine / its - 1 for mine, its in zip(audited.cpu_us, bare.cpu_us, strict=True)]),
    ):
        low, middle, high = quantiles(shares, n=4)
        error = 1.25 * (high - low) / 1.349 / len(shares) ** 0.5
        lines.append(
            f"the audit takes {middle:.1%} {what} (standard error {error:.1%}; half of {len(shares)} pairs:"
            f" {low:.1%} to {high:.1%})"
        )
    return "\n".join(lines)


def _serve_without_audit() -> None:
    from covergate.access import audit
    from covergate.cli.main import main as covergate
    from covergate.verifications import queries

    async def nothing(*_: object, **__: object) -> None:
        return

    queries.audited = nothing
    audit.coming = lambda _: nullcontext()  # type: ignore[assignment]  # nothing comes, and nobody waits for it
    sys.argv = ["covergate", "serve"]
    covergate()


if __name__ == "__main__":
    main()
