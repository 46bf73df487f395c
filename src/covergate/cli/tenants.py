"""`covergate tenants`: how long a tenant's data is kept, and the end of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from covergate import logs
from covergate import settings as environment
from covergate.cli.patients import confirm, show
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    from covergate.access.tenants import DaysKept, Tenant
    from covergate.erasure import Erasure
    from covergate.settings import Settings

app = typer.Typer(help="Tenants: retention and erasure.", no_args_is_help=True)

_DAYS = "A number of days after the end, 0 for ever, or: default"


@app.command("list")
def list_tenants() -> None:
    """List the tenants: id, name, days of raw replies and of content, and whether it was erased."""
    settings = _settings()
    from covergate import startup
    from covergate.access import tenants

    async def run() -> list[Tenant]:
        async with startup.opened(settings, 2, "covergate tenants") as gateway:
            return await tenants.list_tenants(gateway)

    for tenant in startup.run(run()):
        days = [_shown(tenant.raw_days, settings.raw_days), _shown(tenant.content_days, settings.content_days)]
        typer.echo("\t".join([tenant.id, tenant.name, *days, "erased" if tenant.erased_at else "in use"]))


@app.command("set-retention")
def set_retention(
    tenant: Annotated[str, typer.Option(help="Its name.")],
    raw_days: Annotated[str | None, typer.Option(help=f"The vendors' and the partners' words. {_DAYS}.")] = None,
    content_days: Annotated[
        str | None, typer.Option(help=f"Inquiries and results, raw replies with them. {_DAYS}.")
    ] = None,
) -> None:
    """Say how long this tenant's data is kept after a verification's end. Workers erase what is older, for good."""
    settings = _settings()
    raw, content = _days(raw_days, "--raw-days"), _days(content_days, "--content-days")
    if raw is None and content is None:
        raise ConfigurationError("give --raw-days, --content-days or both")
    from covergate import startup
    from covergate.access import tenants
    from covergate.access.audit import record_command
    from covergate.states import SubjectKind

    async def run() -> bool:
        async with startup.opened(settings, 2, "covergate tenants") as gateway:
            done = await tenants.set_retention(gateway, tenant, raw=raw, content=content)
            if done:
                await record_command(gateway, "tenant.retention", SubjectKind.TENANT)
            return done

    if not startup.run(run()):
        raise ConfigurationError("there is no such tenant: see `covergate tenants list`")


@app.command("erase")
def erase(
    tenant: Annotated[str, typer.Option(help="Its name.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase all that a tenant has: keys are revoked, endpoints closed, verifications emptied. It can be run again."""
    settings = _settings()
    from covergate import startup
    from covergate.erasure import erase_tenant

    async def run(dry: bool) -> Erasure:
        async with startup.opened(settings, 2, "covergate tenants") as gateway:
            return await erase_tenant(gateway, tenant, dry_run=dry)

    if dry_run or not yes:
        show(startup.run(run(True)))
    if dry_run:
        return
    if not yes:
        confirm(f"Erase all of this for good, and the keys and endpoints of {tenant}?")
    show(startup.run(run(False)))


def _days(given: str | None, option: str) -> DaysKept:
    from covergate.access.tenants import AS_SET, MOST_DAYS

    if given is None:
        return None
    if given == "default":
        return AS_SET
    if not given.isdecimal() or not given.isascii() or int(given[:9]) > MOST_DAYS:
        raise ConfigurationError(f"{option} takes a number of days up to {MOST_DAYS}, 0 for ever, or: default")
    return int(given)


def _shown(days: int | None, default: int) -> str:
    """E.g. `90 days`, `for ever (default)`."""
    used = default if days is None else days
    return ("for ever" if used == 0 else f"{used} days") + (" (default)" if days is None else "")


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings
