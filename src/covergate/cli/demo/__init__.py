"""`covergate demo`: the whole gateway in one process, asked about three patients through every vendor of the sandbox.

What it shows is real: HTTP on every hop, PostgreSQL, a worker, signed webhooks. Invariant: it needs nothing, disturbs
nothing (free ports, a temporary directory, no setting of the user's) and fails if one cell is not as
docs/api.md#7-sandbox-scenarios says.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from covergate.access import api_keys
from covergate.cli.demo.receiver import Receiver
from covergate.cli.demo.scenarios import Case, cases
from covergate.errors import CoverGateError
from covergate.gateway import Gateway
from covergate.processes import console_link, start_gateway, start_sandbox, stop_signals
from covergate.sandbox.settings import SandboxSettings
from covergate.server import listening, running, start_server, url_of
from covergate.settings import Settings
from covergate.startup import opened
from covergate.states import OPEN_STATUSES

LIMIT_SECONDS = 45
"""All verifications have ended and been told of by then, or the demo has failed."""

VENDOR_DELAY_SECONDS = 0.6
POLL_SECONDS = 0.5
HERE = "127.0.0.1"
NARROW = 100
"""Columns of the terminal up to which the table is set tightly; it fits into 80."""

SANDBOX_SECRET = secrets.token_hex(16)

NEXT = """\
Each line was POSTed to /v1/verifications, asked over HTTP at a simulated
vendor, normalized, stored sealed, and told to a partner by a webhook whose
signature was checked. Where to go next (in a checkout: .venv/bin/covergate):

  covergate up --sandbox                            the same, to stay
  covergate keys create --tenant demo --mode test   a key for it
  http://127.0.0.1:8000/docs                        the API, to try
  http://127.0.0.1:8000/console/                    the console; `up` logs a link
  README.md                                         a first verification by curl
"""


class DemoFailed(CoverGateError):
    pass


@dataclass
class Line:
    """One row of the table, filled as it happens."""

    case: Case
    started: float = 0.0
    seconds: float | None = None
    status: str = "…"
    verification: dict[str, Any] = field(default_factory=dict)
    webhook: str = ""
    wrong: str = ""

    @property
    def reading(self) -> str:
        """The outcome with its reason, or the failure's code."""
        if failure := self.verification.get("failure"):
            return str(failure["code"])
        return " ".join(filter(None, (self.verification.get("outcome"), self.verification.get("outcome_reason"))))


async def run_demo(console: Console, *, stay: bool) -> int:
    """0 when everything came back as it should, else 1 with the reasons printed. `stay`: the console is open until Ctrl-C."""
    with stop_signals() as stop:
        staying = asyncio.Event()
        showing = asyncio.create_task(_show(console, stop if stay else None, staying))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({showing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if staying.is_set():
            await asyncio.wait({showing})
        if not showing.done():
            showing.cancel()
            await asyncio.wait({showing})
            console.print("The demo was interrupted.")
            return 1
        wrong = showing.result()
    if not console.is_terminal:
        console.print()  # a live table that is only printed once ends without a line feed
    if not wrong:
        if not stay:
            console.print(NEXT, highlight=False)
        return 0
    for reason in wrong:
        console.print(f"not as expected: {reason}", markup=False, highlight=False)
    return 1


async def _show(console: Console, stop: asyncio.Event | None, staying: asyncio.Event) -> list[str]:
    """What was not as it should be. `stop`: the end of the stay; None: there is none."""
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-demo-")))
        console.print("Starting PostgreSQL, the sandbox, the API, a worker and a webhook receiver …")
        api_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        _, sandbox_url = await start_sandbox(
            stack,
            SandboxSettings(
                host=HERE,
                port=0,
                secret=SANDBOX_SECRET,
                delay_seconds=VENDOR_DELAY_SECONDS,
                gateway_url=url_of(api_socket),
            ),
        )
        receiver = Receiver()
        receiver_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        await stack.enter_async_context(running(await start_server("receiver", receiver.app, receiver_socket)))
        gateway = await stack.enter_async_context(opened(_settings(directory, sandbox_url), 20, "covergate demo"))
        gateway = _impatient(gateway)
        await start_gateway(stack, gateway, api_socket, worker=True)
        key = await api_keys.create_key(gateway, tenant="demo", mode="test")
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url_of(api_socket), headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
            )
        )
        receiver.secret = await _subscribe(client, f"{url_of(receiver_socket)}/webhooks")
        lines = [Line(case) for case in cases(vendor.name for vendor in gateway.enabled("test"))]
        console.print(f"Ready after {time.monotonic() - began:.1f} s at {url_of(api_socket)}. Asking:\n")
        await _ask_all(client, receiver, lines, console)
        wrong = _wrong(receiver, lines)
        if stop is not None and not wrong:
            console.print(f"\n{NEXT}", highlight=False)
            link = await console_link(gateway, url_of(api_socket))
            console.print(
                f"The console shows these verifications. This link opens it, once:\n\n  {link}\n", soft_wrap=True
            )
            console.print("Ctrl-C ends the demo and deletes everything.")
            staying.set()
            await stop.wait()
    return wrong


def _wrong(receiver: Receiver, lines: Sequence[Line]) -> list[str]:
    if receiver.forged:
        return [f"{receiver.forged} webhooks had a signature that does not verify"]
    return [f"{line.case.vendor} {line.case.scenario}: {line.wrong}" for line in lines if line.wrong]


def _settings(directory: Path, sandbox_url: str) -> Settings:
    """Nothing of the user's environment: everything that has a meaning here is given."""
    return Settings(
        database_url=None,
        data_dir=directory,
        encryption_keys=None,
        sandbox_url=sandbox_url,
        sandbox_secret=SANDBOX_SECRET,
        allow_private_network=True,
        vendor_order=None,
        worker_tasks=100,
    )


def _impatient(gateway: Gateway) -> Gateway:
    """Test mode only, and with short waits between two looks, whatever the environment says for the real vendors."""
    connections = {
        (mode, vendor): connection.model_copy(
            update={"poll_seconds": POLL_SECONDS} if "poll_seconds" in type(connection).model_fields else {}
        )
        for (mode, vendor), connection in gateway.connections.items()
        if mode == "test"
    }
    return Gateway(gateway.settings, gateway.database, connections)


async def _subscribe(client: httpx.AsyncClient, url: str) -> str:
    reply = await client.post("/v1/webhook-endpoints", json={"url": url, "event_types": ["*"]})
    if not reply.is_success:
        raise DemoFailed(f"the webhook endpoint was not taken: {reply.status_code} {reply.text}")
    return str(reply.json()["secret"])


async def _ask_all(client: httpx.AsyncClient, receiver: Receiver, lines: Sequence[Line], console: Console) -> None:
    with Live(get_renderable=lambda: _table(lines, console.width), console=console, refresh_per_second=8):
        tasks = [asyncio.create_task(_ask(client, receiver, line)) for line in lines]
        try:
            _, late = await asyncio.wait(tasks, timeout=LIMIT_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for line, task in zip(lines, tasks, strict=True):
            if task in late:
                what = "no webhook came" if line.seconds is not None else f"still {line.status}"
                line.wrong = line.wrong or f"{what} after {LIMIT_SECONDS} s"
            elif error := task.exception():
                line.wrong = f"{type(error).__name__}: {error}"


async def _ask(client: httpx.AsyncClient, receiver: Receiver, line: Line) -> None:
    line.started = time.monotonic()
    reply = await client.post("/v1/verifications", json=line.case.request)
    while True:
        if not reply.is_success:
            line.status, line.wrong = f"HTTP {reply.status_code}", reply.text
            return
        line.verification = reply.json()
        line.status = line.verification["status"]
        if line.status not in OPEN_STATUSES:
            break
        reply = await client.get(f"/v1/verifications/{line.verification['id']}", headers={"Prefer": "wait=20"})
    line.seconds = time.monotonic() - line.started
    expected = line.case.expected
    if (line.status, line.reading) != (expected.status, expected.reading):
        line.wrong = f"{line.status} {line.reading}, should be {expected.status} {expected.reading}"
    told = await receiver.told_of(line.verification["id"])
    line.webhook = "verified"
    if told != line.status:
        line.wrong = f"the webhook said {told}"


def _table(lines: Sequence[Line], width: int) -> Table:
    table = Table(
        box=None,
        padding=(0, 2, 0, 0) if width > NARROW else (0, 1, 0, 0),
        pad_edge=False,
        caption="* has no words for this patient and answers as for ELIGIBLE",
        caption_justify="left",
    )
    for name in ("vendor", "patient", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("outcome", min_width=11)
    table.add_column("copay", justify="right", no_wrap=True)
    table.add_column("deductible left", justify="right", min_width=10)
    table.add_column("sec.", justify="right", no_wrap=True)
    table.add_column("webhook", no_wrap=True)
    for number, line in enumerate(lines):
        if number and line.case.vendor != lines[number - 1].case.vendor:
            table.add_row()
        seconds = line.seconds if line.seconds is not None else time.monotonic() - line.started if line.started else 0.0
        table.add_row(
            line.case.vendor,
            line.case.scenario,
            line.status,
            _outcome(line),
            _money(line.verification, "copay"),
            _money(line.verification, "deductible", "individual", "remaining"),
            f"{seconds:.1f}",
            line.webhook,
        )
    return table


def _outcome(line: Line) -> Text:
    star = " *" if line.reading and line.case.is_beyond_vendor else ""
    return Text(f"{line.reading.replace('_', ' ')}{star}", "red" if line.wrong else "")


def _money(verification: dict[str, Any], *path: str) -> str:
    """From the in-network summary or, where the vendor named no network, from the unknown one; empty if not stated."""
    summary = (verification.get("result") or {}).get("summary") or {}
    for network in ("in", "unknown"):
        value: Any = summary.get(network)
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return f"${value}"
    return ""
