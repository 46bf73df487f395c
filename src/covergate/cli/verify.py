"""`covergate verify`: a client of the public API that posts one verification and follows it to its end.

Invariant: it knows only what docs/api.md promises. It prints no patient data beyond what the answer is about: coverage, plan and
benefits.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from covergate.cli.api_client import Json, accepted, connected
from covergate.errors import ConfigurationError
from covergate.states import OPEN_STATUSES, Status

WAIT_SECONDS = 2
"""How long one request waits for the end; between two of them the timeline is read."""

_NETWORKS = {"in": "in network", "out": "out of network", "unknown": "network not stated"}


async def verify_file(file: Path, url: str, key: str, console: Console) -> int:
    """0: completed, 1: failed or canceled. Raises ConfigurationError where the gateway did not take it or is lost."""
    body = _read(file)
    async with connected(url, key, Prefer=f"wait={WAIT_SECONDS}") as client:
        ended = await _follow(client, body, console)
    console.print(result_table(ended, asked=orjson.loads(body)))
    return 0 if ended["status"] == Status.COMPLETED else 1


def result_table(verification: Json, asked: Json) -> Table:
    """How it ended, as rows of name and value. Of what the vendor has no place for only what was `asked` is shown."""
    table = Table(title=f"{verification['id']} · {verification['vendor']}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = _ending(verification)
    if not_asked := [pointer for pointer in verification["not_asked"] if _states(asked, pointer)]:
        rows.append(("could not be asked", "\n".join(not_asked)))
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _read(file: Path) -> bytes:
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{file} is not JSON: line {error.lineno}, column {error.colno}") from None
    return body


async def _follow(client: httpx.AsyncClient, body: bytes, console: Console) -> Json:
    sent = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4()), "Prefer": "wait=0"}
    verification = accepted(await client.post("/v1/verifications", content=body, headers=sent))
    path = f"/v1/verifications/{verification['id']}"
    shown = 0
    while True:
        ended = verification["status"] not in OPEN_STATUSES
        rows = accepted(await client.get(f"{path}/timeline"))["data"]
        for row in rows[shown:]:
            console.print(Text(f"{row['at'][11:23]:<12}  {row['type']:<24}  {row['message']}"), soft_wrap=True)
        shown = len(rows)
        if ended:
            return verification
        verification = accepted(await client.get(path))


def _ending(verification: Json) -> list[tuple[str, str]]:
    rows = [("status", verification["status"])]
    if failure := verification["failure"]:
        rows += [
            ("failure", failure["code"]),
            ("", failure["message"]),
            ("who can fix it", failure["fix_by"]),
            ("worth a retry", "yes" if failure["retryable"] else "no"),
        ]
        if failure["suggestion"]:
            rows.append(("suggestion", failure["suggestion"]))
    if verification["outcome"]:
        reason = verification["outcome_reason"]
        rows.append(("outcome", verification["outcome"] + (f" ({reason})" if reason else "")))
    if result := verification["result"]:
        rows += _result(result)
    return rows


def _states(asked: Any, pointer: str) -> bool:
    """Whether the document has something at the JSON pointer."""
    for name in pointer.removeprefix("/").split("/"):
        if isinstance(asked, list):
            asked = asked[int(name)] if name.isdigit() and int(name) < len(asked) else None
        else:
            asked = asked.get(name) if isinstance(asked, dict) else None
    return asked not in (None, [], {})


def _result(result: Json) -> list[tuple[str, str]]:
    covered = {True: "yes", False: "no", None: "not stated"}[result["service_covered"]]
    rows = [("coverage", result["coverage"]), ("service covered", covered)]
    plan, payer = result["plan"], result["payer"]
    rows.append(("payer", _joined(payer["name"], payer["id"])))
    rows.append(("plan", _joined(plan["name"], plan["type_name"] or plan["type"], plan["starts_on"], plan["ends_on"])))
    for network, words in _NETWORKS.items():
        if summary := result["summary"][network]:
            rows.append((words, _summary(summary)))
    rows += [("warning", warning["message"]) for warning in result["warnings"]]
    return [(name, value) for name, value in rows if value]


_LEVELS = ("individual", "family", "unknown_level")


def _summary(summary: Json) -> str:
    told = []
    if summary["copay"] is not None:
        told.append(f"copay ${summary['copay']}")
    if summary["coinsurance_percent"] is not None:
        told.append(f"coinsurance {summary['coinsurance_percent']:g}%")
    for name in ("deductible", "out_of_pocket_max"):
        for level in _LEVELS:
            if (limit := summary[name][level]) is None:
                continue
            amounts = [f"{part} ${limit[part]}" for part in ("total", "used", "remaining") if limit[part] is not None]
            amounts += ["no limit"] if limit["unlimited"] else []
            words = f"{name.replace('_', ' ')}" + ("" if level == "unknown_level" else f", {level}")
            told.append(f"{words}: {', '.join(amounts)}")
    if summary["authorization_required"] is not None:
        told.append("authorization " + ("required" if summary["authorization_required"] else "not required"))
    return "\n".join(told)


def _joined(*values: str | None) -> str:
    return ", ".join(value for value in values if value)
