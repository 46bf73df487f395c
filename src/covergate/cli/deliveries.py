"""`covergate deliveries`: what was sent to a key's webhook endpoints, and sending it again. A client of the public API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="Webhook deliveries of an API key's tenant and mode.", no_args_is_help=True)

_PAGE_ROWS = 100
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_COLUMNS = ("id", "endpoint", "event type", "status", "tries", "last answer", "created (UTC)", "next try (UTC)")

_Url = Annotated[str, typer.Option(envvar="COVERGATE_URL", help="The gateway.")]
_Key = Annotated[str, typer.Option(envvar="COVERGATE_API_KEY", help="An API key.", show_default=False)]
_Endpoint = Annotated[str | None, typer.Option(help="Only this endpoint's: whe_….")]
_Status = Annotated[list[str] | None, typer.Option(help="pending, delivered or exhausted; may be given several times.")]
_Since = Annotated[str | None, typer.Option(help="Made later than this: 30m, 12h, 7d, or an instant.")]


@app.command(
    "list",
    epilog="Examples: covergate deliveries list --status exhausted --since 12h --- "
    "covergate deliveries list --endpoint whe_… --event-type verification.failed --json",
)
def list_deliveries(
    endpoint: _Endpoint = None,
    status: _Status = None,
    event_type: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    since: _Since = None,
    until: Annotated[str | None, typer.Option(help="Made earlier than this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each endpoint, the newest.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each, as the API shows it.")] = False,
    url: _Url = "http://127.0.0.1:8000",
    key: _Key = "",
) -> None:
    """List deliveries, the newest first, of one endpoint or of all."""
    query = {
        "status": status or [],
        "event_type": event_type or [],
        "created_after": _moment(since),
        "created_before": _moment(until),
    }
    query = {name: value for name, value in query.items() if value}
    found = asyncio.run(_list(url, key, endpoint, query, limit))
    if json:
        import orjson

        for one in found:
            typer.echo(orjson.dumps(one).decode())
        return
    console = Console()
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for one in found:
            table.add_row(*_row(one))
        console.print(table)
        return
    for one in found:
        typer.echo("\t".join(_row(one)))


@app.command(
    "redeliver",
    epilog="Examples: covergate deliveries redeliver dlv_… --- "
    "covergate deliveries redeliver --endpoint whe_… --since 12h --status exhausted",
)
def redeliver(
    delivery_ids: Annotated[list[str] | None, typer.Argument(metavar="[DELIVERY_ID]...")] = None,
    endpoint: Annotated[str | None, typer.Option(help="All that this endpoint missed since --since.")] = None,
    since: _Since = None,
    status: Annotated[str, typer.Option(help="With --endpoint: exhausted, pending or all.")] = "exhausted",
    url: _Url = "http://127.0.0.1:8000",
    key: _Key = "",
) -> None:
    """Deliver again: these deliveries, or all that an endpoint missed since a moment. Each keeps its webhook-id."""
    if bool(delivery_ids) == (endpoint is not None) or (endpoint is None) != (since is None):
        raise ConfigurationError("give the ids of deliveries, or --endpoint and --since")
    again = _again(url, key, delivery_ids or []) if endpoint is None else _recover(url, key, endpoint, since, status)
    typer.echo(f"{asyncio.run(again)} will be delivered again")


@app.command("failing")
def failing() -> None:
    """List the endpoints of all tenants that take nothing, the longest failing first. For the gateway's own machine."""
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    from covergate import startup
    from covergate.webhooks.endpoint_health import list_failing

    async def run() -> list[dict[str, Any]]:
        async with startup.opened(settings, 2, "covergate deliveries") as gateway:
            return await list_failing(gateway)

    for one in startup.run(run()):
        typer.echo("\t".join(str(value) for value in one.values()))


async def _list(url: str, key: str, endpoint: str | None, query: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    from covergate.cli.api_client import connected

    async with connected(url, key) as client:
        endpoints = [endpoint]
        if endpoint is None:
            endpoints = [one["id"] for one in await _pages(client, "/v1/webhook-endpoints", {}, None)]
        found = [
            one
            for id_ in endpoints
            for one in await _pages(client, f"/v1/webhook-endpoints/{id_}/deliveries", query, limit)
        ]
    return sorted(found, key=lambda one: str(one["created_at"]), reverse=True)


async def _pages(
    client: httpx.AsyncClient, path: str, query: dict[str, Any], limit: int | None
) -> list[dict[str, Any]]:
    from covergate.cli.api_client import accepted

    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while limit is None or len(found) < limit:
        rows = _PAGE_ROWS if limit is None else min(_PAGE_ROWS, limit - len(found))
        page = accepted(await client.get(path, params={**query, **after, "limit": rows}))
        found += page["data"]
        if not page["has_more"]:
            break
        after = {"after": page["next_cursor"]}
    return found


async def _again(url: str, key: str, delivery_ids: list[str]) -> int:
    from covergate.cli.api_client import accepted, connected

    async with connected(url, key) as client:
        for id_ in delivery_ids:
            accepted(await client.post(f"/v1/deliveries/{id_}/redeliver"))
    return len(delivery_ids)


async def _recover(url: str, key: str, endpoint: str, since: str | None, status: str) -> int:
    from covergate.cli.api_client import accepted, connected

    sent = {"since": _moment(since), "status": status}
    async with connected(url, key) as client:
        recovery = accepted(await client.post(f"/v1/webhook-endpoints/{endpoint}/recover", json=sent, timeout=600))
    return int(recovery["count"])


def _moment(given: str | None) -> str | None:
    """A span before now, or an instant; UTC if it names no zone. Raises ConfigurationError."""
    if given is None:
        return None
    try:
        if given[-1:] in _UNITS and given[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{_UNITS[given[-1]]: int(given[:-1])})
        else:
            moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise ConfigurationError("a time is a span such as 30m, 12h or 7d, or an instant") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()


def _row(one: dict[str, Any]) -> list[str]:
    last = one["attempts"][-1] if one["attempts"] else None
    answer = "–" if last is None else str(last["status"] or last["error"])
    return [
        one["id"],
        one["endpoint_id"],
        one["event_type"],
        one["status"],
        str(len(one["attempts"])),
        answer,
        one["created_at"][:19].replace("T", " "),
        "–" if one["next_attempt_at"] is None else one["next_attempt_at"][:19].replace("T", " "),
    ]
