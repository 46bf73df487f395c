"""`covergate keys`: tenants' API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.settings import Settings

if TYPE_CHECKING:
    from covergate.access.api_keys import ApiKey

_COLUMNS = (
    *(
        "id",
        "tenant",
        "mode",
        "ends with",
        "state",
        "created (UTC)",
        "scopes",
        "name",
        "expires (UTC)",
        "last used (UTC)",
    ),
    "from",
)

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose key; the tenant is made if it is new.")],
    mode: Annotated[Literal["test", "live"], typer.Option(help="test: the sandbox; live: the vendors.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="May be given several times. By default verifications:write, verifications:read, webhooks:manage."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 90d, 4w, a date or an instant.")] = None,
    allow_from: Annotated[
        list[str] | None,
        typer.Option(help="An address or a network (CIDR) from which it is taken; may be given several times."),
    ] = None,
) -> None:
    """Make an API key and print it, alone. It is not shown again."""
    settings = _settings()
    from covergate import startup
    from covergate.access import api_keys, credentials

    async def run() -> str:
        async with startup.opened(settings, 2, "covergate keys") as gateway:
            return await api_keys.create_key(
                gateway,
                tenant=tenant,
                mode=mode,
                scopes=scope,
                name=name,
                expires_at=credentials.expiry_of(expires),
                networks=allow_from or (),
            )

    typer.echo(startup.run(run()))


@app.command("list")
def list_keys(tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None) -> None:
    """List the API keys: never the keys themselves, but their last four characters."""
    settings = _settings()
    from covergate import startup
    from covergate.access import api_keys

    async def run() -> list[ApiKey]:
        async with startup.opened(settings, 2, "covergate keys") as gateway:
            return await api_keys.list_keys(gateway, tenant=tenant)

    _print(_COLUMNS, [_row(key) for key in startup.run(run())])


@app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")]) -> None:
    """Revoke an API key: no process takes it any more, and its open waits end. Lists the webhook endpoints that it made."""
    settings = _settings()
    from covergate import startup
    from covergate.access import api_keys
    from covergate.webhooks import endpoints

    async def run() -> tuple[bool, list[dict[str, Any]]]:
        async with startup.opened(settings, 2, "covergate keys") as gateway:
            return await api_keys.revoke_key(gateway, key_id), await endpoints.list_made_by(gateway, key_id)

    revoked, made = startup.run(run())
    _print(
        ("id", "status", "payload", "created (UTC)", "url"),
        [[one["id"], one["status"], one["payload"], one["created_at"], one["url"]] for one in made],
    )
    if made:
        _say("these webhook endpoints were made with the key and go on receiving events: delete those that should not")
    if not revoked:
        _say("there is no such key, or it was revoked before: see `covergate keys list`")
        raise typer.Exit(1)


def _row(key: ApiKey) -> list[str]:
    created, expires, used = (
        f"{at:%Y-%m-%d %H:%M}" if at else "–" for at in (key.created_at, key.expires_at, key.last_used_at)
    )
    return [
        key.id,
        key.tenant,
        key.mode,
        f"…{key.hint}",
        key.state,
        created,
        " ".join(key.scopes) or "–",
        key.name or "–",
        expires,
        used,
        " ".join(key.networks) or "anywhere",
    ]


def _print(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """A table for people, lines with tabs for programs."""
    console = Console()
    if not rows:
        return
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    for row in rows:
        typer.echo("\t".join(row))


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _say(what: str) -> None:
    logs.drain()  # this is the last line
    typer.echo(f"covergate: {what}", err=True)
