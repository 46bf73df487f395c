"""`covergate accounts`: a tenant's own accounts at vendors. Credentials come from a file, stdin or prompts, never from argv."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from covergate.access.vendor_accounts import Owner
    from covergate.gateway import Gateway
    from covergate.settings import Settings

app = typer.Typer(help="Tenants' own accounts at vendors.", no_args_is_help=True)

OfTenant = Annotated[str, typer.Option(help="Whose account: the tenant's name or id.")]
OfVendor = Annotated[str, typer.Option("--vendor", help="As GET /v1/vendors names it.")]
OfMode = Annotated[
    Literal["test", "live"], typer.Option("--mode", help="test: the vendor's own sandbox; live: production.")
]

_COLUMNS = ("vendor", "mode", "environment", "ends with", "fingerprint", "state", "tested (UTC)", "events_url")
_Brings = TypeVar("_Brings")


@app.command("add")
def add_account(
    tenant: OfTenant,
    vendor: OfVendor,
    mode: OfMode,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help='A JSON object like {"client_id": "…", "client_secret": "…"}; - for stdin. Else it asks.'
        ),
    ] = None,
) -> None:
    """Put an account in, or replace the credentials of the one that is there."""
    from covergate.access.vendor_accounts import put_account
    from covergate.verifications.sweep import wake_refused

    given = _asked(vendor) if file is None else _read(file)

    async def run(gateway: Gateway, owner: Owner) -> dict[str, Any]:
        shown, is_new = await put_account(gateway, owner, None, given)
        if not is_new:
            await wake_refused(gateway, shown["id"])
        return shown

    _show([_run(tenant, vendor, mode, run)])


@app.command("list")
def list_accounts(tenant: OfTenant) -> None:
    """List a tenant's accounts: never the credentials, but their last four characters."""
    from covergate.access import vendor_accounts

    async def run(gateway: Gateway, owner: Owner) -> list[dict[str, Any]]:
        return await vendor_accounts.list_accounts(gateway, owner.tenant_id, "test", "live")

    _show(_run(tenant, "", "", run))


@app.command("remove")
def remove_account(tenant: OfTenant, vendor: OfVendor, mode: OfMode) -> None:
    """Remove an account for good. What is open under it ends at its next step."""
    from covergate.access import vendor_accounts

    _run(tenant, vendor, mode, vendor_accounts.remove_account)


@app.command("test")
def try_account(tenant: OfTenant, vendor: OfVendor, mode: OfMode) -> None:
    """Make one harmless call with an account's credentials. 0: the vendor took them, 1: it did not, or nobody can tell."""
    from covergate.access import vendor_accounts
    from covergate.transport.transport import Transport
    from covergate.verifications.operator import trust_credentials

    async def run(gateway: Gateway, owner: Owner) -> dict[str, Any]:
        allow_private = gateway.settings.allow_private_network
        async with Transport(allow_private_network=allow_private) as transport:
            shown = await vendor_accounts.try_account(gateway, transport, owner)
        if shown["message"] == vendor_accounts.TAKEN:
            await trust_credentials(gateway, vendor, mode, shown["id"])
        return shown

    shown = _run(tenant, vendor, mode, run)
    typer.echo(shown["message"])
    if shown["message"] != vendor_accounts.TAKEN:
        raise typer.Exit(1)


def _run(tenant: str, vendor: str, mode: str, action: Callable[[Gateway, Owner], Awaitable[_Brings]]) -> _Brings:
    settings = _settings()
    from covergate import startup
    from covergate.access.operators import find_tenant
    from covergate.access.vendor_accounts import Owner

    async def run() -> _Brings:
        async with startup.opened(settings, 2, "covergate accounts") as gateway:
            async with gateway.connection() as db:
                tenant_id = await find_tenant(db, tenant)
            if tenant_id is None:
                raise ConfigurationError("there is no such tenant: see `covergate keys list`")
            return await action(gateway, Owner(tenant_id, mode, vendor))

    try:
        return startup.run(run())
    except Problem as problem:
        lines = [f"{error.pointer}: {error.message}" for error in problem.errors] or [problem.detail]
        raise ConfigurationError("; ".join(lines)) from None


def _read(file: Path) -> dict[str, str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        given = orjson.loads(text)
    except (OSError, ValueError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ConfigurationError(
            "the credentials must be a JSON object of texts: docs/vendors has each vendor's fields"
        )
    return given


def _asked(vendor: str) -> dict[str, str]:
    """Each field of the vendor's, secrets without an echo; an empty answer leaves the field out."""
    from covergate.vendors import VENDORS
    from covergate.vendors.account import account_fields, secret_fields

    if vendor not in VENDORS:
        raise ConfigurationError(f"the vendor must be one of: {', '.join(sorted(VENDORS))}")
    if not sys.stdin.isatty():
        raise ConfigurationError("give the credentials with --file, or --file - for stdin")
    kind = VENDORS[vendor].connection
    answers = {
        name: typer.prompt(name, default="", show_default=False, hide_input=name in secret_fields(kind))
        for name in account_fields(kind)
    }
    return {name: value for name, value in answers.items() if value}


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _show(rows: list[dict[str, Any]]) -> None:
    """A table for people, lines with tabs for programs."""
    names = ("vendor", "mode", "environment", "hint", "fingerprint", "state", "tested_at", "events_url")
    lines = [[str(row[name] or "") for name in names] for row in rows]
    console = Console()
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for line in lines:
            table.add_row(*line)
        console.print(table)
        return
    for line in lines:
        typer.echo("\t".join(line))
