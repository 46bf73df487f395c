"""Partners' endpoints are down, slow, gone; other tenants' endpoints and their DNS hang."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from statistics import median
from urllib.parse import urlsplit

from tests.chaos import books
from tests.chaos.cluster import WORKERS
from tests.chaos.experiment import Skipped, Stage
from tests.chaos.faults.entry import fault
from tests.support.dns_server import dns_server

HANGING_ENDPOINTS = 14
HANGING_HOSTS = 8
GOOD_HOST = "good.partner.test"
NEIGHBOURS_AT_ONCE = 60
NEIGHBOURS_SECONDS = 8.0
WEBHOOK_SECONDS = 5.0
"""The longest that other tenants' endpoints may keep a good partner's webhook."""
_WITH_RESOLVER = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"')


@fault("the partner's endpoint is down for an hour (moved clock)", quiet=True, seconds=8)
async def partner_down(stage: Stage) -> None:
    """The clock jumps from one retry to the next: after five the schedule is past its first hour."""
    await stage.cluster.kill("partner")
    began = time.monotonic()
    while time.monotonic() - began < 8:
        await books.hasten_deliveries(stage.cluster, 60)
        await asyncio.sleep(1)
    stage.notes.append(f"{await books.most_tries(stage.cluster, stage.tenant_id)} tries by then")
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
    status = await books.endpoint_status(stage.cluster, stage.endpoints.pop(stage.path("gone")))
    if status != "disabled":
        stage.problems.append(f"the endpoint that answered 410 is {status}")


@fault(f"{HANGING_ENDPOINTS} endpoints of another tenant hang", quiet=True, seconds=9)
async def endpoints_hang(stage: Stage) -> None:
    """How late the good partner's webhooks come is measured."""
    cluster = stage.cluster
    paths = [f"/{stage.clients.name}-neighbour/{number}" for number in range(HANGING_ENDPOINTS)]
    for path in paths:
        await cluster.partner_behaves(path, mode="slow", seconds=3600)
    await _beside_a_neighbour(stage, [cluster.url("partner") + path for path in paths], "main")


@fault(f"the DNS of {HANGING_HOSTS} partner hosts hangs", quiet=True, prepares=True, seconds=12)
async def dns_hangs(stage: Stage) -> None:
    """The good partner has a name, too, which is looked up by the same servers."""
    cluster = stage.cluster
    if subprocess.run([*_WITH_RESOLVER[:4], ":"], check=False, capture_output=True).returncode:
        raise Skipped("this machine does not let the tests give a process an /etc/resolv.conf of its own")
    server = await stage.lasting.enter_async_context(dns_server({GOOD_HOST: ("127.0.0.1",)}))
    resolver = cluster.directory / "resolv.conf"
    resolver.write_text(f"nameserver {server.address}\n")
    for name in WORKERS:
        await stage.change(name, before=(*_WITH_RESOLVER, str(resolver)))
    port = urlsplit(cluster.url("partner")).port
    await stage.address("named", f"http://{GOOD_HOST}:{port}{stage.path('named')}")
    await stage.begin()
    hosts = [f"http://hang{number}.partner.test/webhooks" for number in range(HANGING_HOSTS)]
    await _beside_a_neighbour(stage, hosts, "named")
    if not any(name.startswith("hang") for name in server.asked):
        stage.problems.append("no host that hangs was looked up")


async def _beside_a_neighbour(stage: Stage, urls: Sequence[str], path: str) -> None:
    """Another tenant has these endpoints and ends to tell them; meanwhile the good partner's webhooks are timed."""
    neighbour = await stage.neighbour(*urls)
    await neighbour.clients.post_many(NEIGHBOURS_AT_ONCE, 0, 0)
    await asyncio.sleep(NEIGHBOURS_SECONDS)
    delays = await stage.webhook_delays(path)
    hanging = await books.pending_count(stage.cluster, neighbour.tenant_id)
    await neighbour.leave()
    if hanging < len(urls):
        stage.problems.append(f"{hanging} deliveries hung at {len(urls)} endpoints")
    stage.notes.append(
        f"beside {hanging} that hung {len(delays)} webhooks came after p50 {median(delays):.2f} s, max {delays[-1]:.1f} s"
    )
    if delays[-1] > WEBHOOK_SECONDS:
        stage.problems.append(f"a webhook came {delays[-1]:.1f} s after its event")
