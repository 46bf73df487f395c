"""The command `covergate`: what an operator types (docs/operations.md#processes).

Invariant: stdout carries answers only, stderr logs and errors. Exit codes: 0 done, 1 it ended otherwise than wished, 2 it
could not be tried. What can be expected to go wrong is one line, never a traceback.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from covergate import logs
from covergate import settings as environment
from covergate.cli import (
    accounts,
    audit,
    deliveries,
    encryption,
    keys,
    operators,
    patients,
    payers,
    results,
    tenants,
    users,
    vendors,
    verifications,
)
from covergate.errors import ConfigurationError, PartFailed
from covergate.settings import Settings

app = typer.Typer(
    help="One REST API for insurance-eligibility verification in front of several vendors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
encryption.add_to(keys.app)
app.add_typer(keys.app, name="keys")
app.add_typer(operators.app, name="operators")
app.add_typer(users.app, name="users")
app.add_typer(accounts.app, name="accounts")
app.add_typer(payers.app, name="payers")
app.add_typer(patients.app, name="patients")
app.add_typer(results.app, name="results")
app.add_typer(tenants.app, name="tenants")
app.add_typer(audit.app, name="audit")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(vendors.app, name="vendors")
app.add_typer(verifications.app, name="verifications")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"covergate {version('covergate')}")
        raise typer.Exit


@app.callback()
def covergate(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    try:
        app()
    except PartFailed as error:
        _say(error)
        sys.exit(1)
    except ConfigurationError as error:
        _say(error)
        sys.exit(2)


@app.command()
def up(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Also run the simulated vendors, for test keys.")] = False,
) -> None:
    """Run everything in one process: embedded PostgreSQL if none is named, migrations, API, worker."""
    settings = _settings()
    from covergate import processes, startup

    startup.run(processes.up(settings, sandbox=sandbox))


@app.command()
def serve() -> None:
    """Run the HTTP API."""
    settings = _settings()
    from covergate import processes, startup

    startup.run(processes.serve(settings))


@app.command()
def worker() -> None:
    """Run a worker."""
    settings = _settings()
    from covergate import processes, startup

    startup.run(processes.run_worker(settings))


@app.command()
def sandbox() -> None:
    """Run the simulated vendors."""
    settings = _settings()
    from covergate import processes, startup

    startup.run(processes.simulate(settings))


@app.command()
def migrate(
    upgrade_embedded: Annotated[
        bool, typer.Option("--upgrade-embedded", help="First bring the embedded PostgreSQL to this version's major.")
    ] = False,
) -> None:
    """Create the tables or bring them up to date; may be run any number of times."""
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.db import embedded

    if upgrade_embedded:
        if settings.database_url is not None:
            raise ConfigurationError(
                "--upgrade-embedded is for the embedded database, but COVERGATE_DATABASE_URL is set"
            )
        embedded.upgrade(settings.data_dir)

    async def run() -> None:
        async with startup.opened(settings, 2, "covergate migrate", migrate=True) as gateway:
            await record_command(gateway, "database.migrate")

    startup.run(run())
    typer.echo("The database is up to date.", err=True)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="The body of POST /v1/verifications; - for stdin.")],
    url: Annotated[str, typer.Option(envvar="COVERGATE_URL", help="The gateway.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="COVERGATE_API_KEY", help="An API key.", show_default=False)] = "",
) -> None:
    """Post a verification, follow its timeline, show the result. 0: completed, 1: failed or canceled, 2: not possible."""
    from covergate.cli.verify import verify_file

    raise typer.Exit(asyncio.run(verify_file(file, url, key, Console())))


@app.command(epilog="Example: covergate top --once --json")
def top(
    mode: Annotated[str | None, typer.Option(help="test or live; both unless given.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One picture, instead of one every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One picture as JSON, for programs.")] = False,
) -> None:
    """Show what is open, due, ended and in trouble, live. 2: the database cannot be read."""
    if mode not in (None, "test", "live"):
        raise ConfigurationError("--mode is test or live")
    settings = _settings()
    from covergate import startup
    from covergate.cli.top import show_top

    async def run() -> None:
        async with startup.opened(settings, 2, "covergate top") as gateway:
            modes = ("live", "test") if mode is None else (mode,)
            await show_top(gateway, modes, Console(), once=once, as_json=as_json)

    with suppress(KeyboardInterrupt):
        startup.run(run())


@app.command(
    epilog="Example: covergate listen --forward-to http://127.0.0.1:3000/webhooks --events verification.completed"
)
def listen(
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Where each event is POSTed, as a webhook would be.")
    ] = None,
    events: Annotated[
        list[str] | None, typer.Option(help="Only this type; may be given several times. By default every type.")
    ] = None,
    print_: Annotated[bool, typer.Option("--print", help="Print each event as a line of JSON.")] = False,
    secret: Annotated[
        str | None, typer.Option(envvar="COVERGATE_LISTEN_SECRET", help="whsec_…, to sign with; by default a new one.")
    ] = None,
    url: Annotated[str, typer.Option(envvar="COVERGATE_URL", help="The gateway.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="COVERGATE_API_KEY", help="An API key.", show_default=False)] = "",
) -> None:
    """Follow the events of a key's tenant and mode, and hand each to a server of your own: no public address is needed."""
    from covergate.cli.listen import listen_until_stopped

    asyncio.run(listen_until_stopped(url, key, events or [], forward_to, print_json=print_, secret=secret))


@app.command("portal-link")
def portal_link(
    tenant: Annotated[str, typer.Option(help="Whose webhooks, by name.")],
    mode: Annotated[Literal["test", "live"], typer.Option(help="In which mode.")],
) -> None:
    """Print a one-time link by which a partner comes in to one tenant's webhook pages. It is not shown again."""
    settings = _settings()
    from covergate import startup
    from covergate.access.portal_links import PortalLink, make_portal_link_for

    async def run() -> PortalLink | None:
        async with startup.opened(settings, 2, "covergate portal-link") as gateway:
            return await make_portal_link_for(gateway, tenant, mode)

    if (link := startup.run(run())) is None:
        _say("there is no such tenant: see `covergate tenants list`")
        raise typer.Exit(1)
    typer.echo(link.url)
    _say(f"it lets one visitor in, once, until {link.expires_at:%Y-%m-%d %H:%M} UTC")


@app.command()
def demo(
    stay: Annotated[
        bool | None,
        typer.Option(help="Keep the console open until Ctrl-C.", show_default="on a terminal"),
    ] = None,
) -> None:
    """Show the main job: every vendor of the sandbox, over real HTTP, end to end. Leaves nothing behind."""
    logs.configure("console", "error")
    from covergate import startup
    from covergate.cli.demo import run_demo

    stays = sys.stdin.isatty() and sys.stdout.isatty() if stay is None else stay
    raise typer.Exit(startup.run(run_demo(Console(), stay=stays)))


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _say(what: object) -> None:
    logs.drain()  # this is the last line
    typer.echo(f"covergate: {what}", err=True)
