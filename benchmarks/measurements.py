"""What is measured of a gateway and of the floors, one function each; `plan.py` has them take turns."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from benchmarks import gateway as gateways
from benchmarks import load, machine, rows
from benchmarks.gateway import Gateway
from benchmarks.stage import Stage

CONNECTIONS = 32
LISTING_CONNECTIONS = 8
PATIENCE_SECONDS = 180.0
CALLS = 3
"""Of a verification to the vendor; the floors make as many."""
CLAIMED = 32
KEPT_UP = 1.0
"""Seconds after the last request within which the last webhook of a steady load is in, if the gateway keeps up with it."""
PARTNERS, ENDPOINTS = 4, 2


@dataclass
class Cost:
    """Of each verification: milliseconds of CPU by process, bytes of WAL, transactions that write."""

    cpu_ms: dict[str, float] = field(default_factory=dict)
    wal_bytes: float = 0.0
    writes: float = 0.0

    @property
    def cpu(self) -> float:
        return sum(self.cpu_ms.values())


@dataclass(frozen=True)
class EndToEnd:
    per_second: float
    accepted_per_second: float
    cost: Cost


@dataclass(frozen=True)
class Bare:
    per_second: float
    cpu_ms: float


@dataclass(frozen=True)
class Step:
    """A steady load. Seconds: of the POST itself, from POST to webhook, from the end's own commit to webhook."""

    per_second: int
    kept_up: bool
    accepted: list[float]
    delivered: list[float]
    after_commit: list[float]
    late: float
    cost: Cost


# The floors


async def floor_accept(stage: Stage, number: int) -> float:
    body = {
        **gateways.BODY,
        "patient": {**gateways.BODY["patient"], "member_id": "BENCH00000001"},
        "external_id": "intake-1",
    }
    prepared = load.request("POST", "/v1/verifications", stage.floor_port, body)
    return (await load.drive(stage.floor_port, [prepared] * number, CONNECTIONS)).per_second


async def floor_end_to_end(gateway: Gateway, number: int) -> float:
    await expect(gateway)
    ports = str(gateway.stage.vendor_port), str(gateway.stage.receiver_port)
    told = await gateway.stage.script("floor_end_to_end", *ports, gateway.secrets["/webhooks"], str(number))
    return number / float(told["seconds"])


async def floor_bare(gateway: Gateway, number: int, part: str = "verify") -> Bare:
    await expect(gateway)
    stage = gateway.stage
    ports = str(stage.vendor_port), str(stage.receiver_port)
    async with calls_made(stage, number * CALLS if part == "verify" else 0):
        told = await stage.script("floor_bare", part, *ports, gateway.secrets["/webhooks"], str(number))
    return Bare(number / float(told["seconds"]), float(told["cpu_seconds"]) / number * 1000)


# The gateway


async def accept(gateway: Gateway, number: int) -> float:
    """Requests per second, with nobody working on what was accepted; afterwards it is gone again."""
    accepted = await load.drive(gateway.api_port, gateway.creates(number), CONNECTIONS)
    await rows.forget_open(gateway.database_url)
    return accepted.per_second


async def end_to_end(gateway: Gateway, number: int) -> EndToEnd:
    """Posted as fast as they are accepted, until the last webhook is in."""
    await expect(gateway)
    prepared, cost = gateway.creates(number), Cost()
    async with calls_made(gateway.stage, number * CALLS), costs(gateway, cost, number):
        started = time.time()
        accepted = await load.drive(gateway.api_port, prepared, CONNECTIONS)
        arrived = await all_arrived(gateway.stage, number)
    seconds = max(at for at, _, _ in arrived) - started
    return EndToEnd(number / seconds, accepted.per_second, cost)


async def steady(gateway: Gateway, per_second: int, seconds: float) -> Step:
    await expect(gateway)
    number, cost = round(per_second * seconds), Cost()
    prepared = gateway.creates(number)
    async with costs(gateway, cost, number):
        answers = await load.pace(gateway.api_port, prepared, per_second)
        ended = time.time()
        arrived = await all_arrived(gateway.stage, number)
        await asyncio.sleep(0.3)  # the last deliveries are recorded after they arrived
    posted = {json.loads(one.body)["id"]: one.posted for one in answers}
    return Step(
        per_second,
        max(at for at, _, _ in arrived) - ended <= KEPT_UP,
        sorted(one.answered - one.posted for one in answers),
        sorted(at - posted[verification] for at, verification, _ in arrived),
        sorted(at - made for at, _, made in arrived),
        load.percentile([one.late for one in answers], 99),
        cost,
    )


async def at_rest(gateway: Gateway, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU a second by process, with nothing to do."""
    cost = Cost()
    async with costs(gateway, cost, 1):
        await asyncio.sleep(seconds)
    return {name: spent / seconds for name, spent in cost.cpu_ms.items()}


async def listing(gateway: Gateway, number: int) -> float:
    """Pages of 20 per second, the newest."""
    prepared = load.request("GET", "/v1/verifications?limit=20", gateway.api_port, headers=gateway.authorized)
    return (await load.drive(gateway.api_port, [prepared] * number, LISTING_CONNECTIONS)).per_second


async def claiming(gateway: Gateway, times: int) -> float:
    """Claims of 32 per second, one after the other, while 200 are due: by their median. No worker may run."""
    await load.drive(gateway.api_port, gateway.creates(200), CONNECTIONS)
    taken = await rows.claims(gateway.settings, CLAIMED, times)
    await rows.forget_open(gateway.database_url)
    return 1 / statistics.median(taken)


async def partners(gateway: Gateway) -> list[tuple[str, str]]:
    """Some tenants with some endpoints each: (key, endpoint)."""
    keys = [gateways.make_key(gateway, f"partner-{number}") for number in range(PARTNERS)] * ENDPOINTS
    return [(key, await gateways.subscribe(gateway, key, f"/partner-{number}")) for number, key in enumerate(keys)]


async def deliveries(gateway: Gateway, endpoints: list[tuple[str, str]], number: int) -> float:
    """Webhooks per second, from the first that arrives to the last, of test events that waited for a worker."""
    await expect(gateway)
    posts = []
    for each in range(number):
        key, endpoint = endpoints[each % len(endpoints)]
        headers = {"authorization": f"Bearer {key}"}
        path = f"/v1/webhook-endpoints/{endpoint}/test"
        posts.append(load.request("POST", path, gateway.api_port, headers=headers))
    await load.drive(gateway.api_port, posts, CONNECTIONS)
    with gateways.working(gateway):
        times = [at for at, _, _ in await all_arrived(gateway.stage, number)]
    return (number - 1) / (max(times) - min(times))


# What they share


async def expect(gateway: Gateway) -> None:
    """The receiver forgets what came before and knows this gateway's secrets."""
    await load.ask(gateway.stage.receiver_port, "POST", "/expect", gateway.secrets)


async def all_arrived(stage: Stage, number: int) -> list[tuple[float, str, float]]:
    """When it came, of whom it tells, when its event was made: of each webhook."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (came := await load.ask(stage.receiver_port, "GET", "/count")) < number:
        if time.monotonic() > until:
            raise RuntimeError(f"after {PATIENCE_SECONDS:.0f} s {came} of {number} webhooks have come")
        await asyncio.sleep(0.1)
    told = await load.ask(stage.receiver_port, "GET", "/arrived")
    if told["forged"]:
        raise RuntimeError(f"{told['forged']} webhooks had a wrong signature")
    return [(at, verification, made) for at, verification, made in told["arrived"].values()]


@asynccontextmanager
async def calls_made(stage: Stage, number: int) -> AsyncIterator[None]:
    """Raises RuntimeError if the vendor got another number of calls, give or take one in a hundred."""
    before = await load.ask(stage.vendor_port, "GET", "/calls")
    yield
    made = await load.ask(stage.vendor_port, "GET", "/calls") - before
    if abs(made - number) > number / 100:
        raise RuntimeError(f"{made} calls to the vendor instead of {number}: floor and gateway are not comparable")


@asynccontextmanager
async def costs(gateway: Gateway, cost: Cost, number: int) -> AsyncIterator[None]:
    """Fills `cost` with what the block took, divided by `number`."""
    assert gateway.api is not None
    processes = {"API": [gateway.api], "worker": gateway.workers, "PostgreSQL": [gateway.stage.postgres]}

    def spent() -> dict[str, float]:
        return {name: sum(machine.cpu_seconds(each) for each in all_) for name, all_ in processes.items()}

    db = await asyncpg.connect(gateway.stage.server_url)
    try:
        wal, writes = await _written(db)
        before = spent()
        yield
        after = spent()
        wal_after, writes_after = await _written(db)
    finally:
        await db.close()
    cost.cpu_ms = {name: (after[name] - before[name]) / number * 1000 for name in processes}
    cost.wal_bytes, cost.writes = (wal_after - wal) / number, (writes_after - writes) / number


async def _written(db: asyncpg.Connection) -> tuple[int, int]:
    """Bytes of WAL and transaction ids so far, of the whole server, where nobody else writes."""
    row = await db.fetchrow(
        "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    )
    return int(row[0]), int(row[1])
