"""The commands for encryption keys: `covergate keys status`, `rewrap`, `reseal`, `lost` (docs/security.md#keys)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    from covergate.reseal import Resealed

MOST_NAMED = 20


def add_to(keys: typer.Typer) -> None:
    keys.command("status")(status)
    keys.command("rewrap")(rewrap_keys)
    keys.command("reseal")(reseal_values)
    keys.command("lost")(lost)


def status(
    values: Annotated[
        bool, typer.Option("--values", help="Also count what is sealed under each; reads all of it.")
    ] = False,
) -> None:
    """Show the keys of the ring, the data keys under them and, if wanted, what is sealed under each."""
    settings = _settings()
    from covergate import reseal as resealing
    from covergate import startup
    from covergate.db import data_keys

    async def run() -> None:
        async with startup.opened(settings, 2, "covergate keys") as gateway:
            async with gateway.connection() as db:
                ring, alive = await data_keys.ring_in(db), await data_keys.alive(db)
            counted = await resealing.counts(gateway) if values else {}
            ours = list(gateway.sealer.ring.keys)
        under: dict[str, list[str]] = defaultdict(list)
        for (column, key_id), number in sorted(counted.items()):
            under[key_id].append(f"{number} of {column}")
        for row in ring:
            where = "first in the ring" if row.id == ours[0] else "in the ring" if row.id in ours else "not in the ring"
            sealed = [*under.get(row.id, []), *(["maybe values"] if row.seals_values else [])]
            _tell(row.id, where, f"wraps {row.wraps} data keys", f"seals {', '.join(sealed) or 'nothing'}")
        for row in alive:
            since = row.retired_at or row.seals_from
            state = f"{'retired' if row.retired_at else 'seals from'} {since:%Y-%m-%d %H:%M}"
            sealed = [*under.pop(row.id, []), *(["maybe older values"] if row.old_values else [])]
            _tell(row.id, row.owner or "the gateway", f"under {row.encryption_key_id}", state, ", ".join(sealed))

    startup.run(run())


def rewrap_keys() -> None:
    """Wrap every data key under the first key of the ring. Sealed values are not touched."""
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.db import data_keys
    from covergate.db.sealing import SealError

    async def run() -> int:
        async with startup.opened(settings, 2, "covergate keys") as gateway, gateway.connection() as db:
            await record_command(gateway, "encryption_key.rewrap")
            return await data_keys.rewrap_all(db, gateway.sealer.ring)

    try:
        done = startup.run(run())
    except SealError as error:
        raise ConfigurationError(f"a data key cannot be unwrapped: {error}") from None
    typer.echo(f"{done} data keys were wrapped anew.", err=True)


def reseal_values(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's; by default everybody's, and the gateway's.")
    ] = None,
) -> None:
    """Make new data keys, seal everything anew under them and destroy the old ones. May be run again after a kill."""
    settings = _settings()
    from covergate import reseal as resealing
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.db.data_keys import GATEWAY
    from covergate.db.sealing import SealError
    from covergate.db.sql import Query

    async def run() -> Resealed:
        async with startup.opened(settings, 2, "covergate keys") as gateway:
            async with gateway.connection() as db:
                rows = await Query("SELECT id, name FROM tenants ORDER BY id").all(db)
            owners = [row.id for row in rows if tenant in (None, row.name, row.id)]
            if tenant is not None and not owners:
                raise ConfigurationError("there is no such tenant")
            await record_command(gateway, "encryption_key.reseal")
            return await resealing.reseal(gateway, owners if tenant else [GATEWAY, *owners], told=_note)

    try:
        progress = startup.run(run())
    except SealError as error:
        raise ConfigurationError(f"a data key cannot be unwrapped: {error}") from None
    _note(f"{progress.resealed} values were sealed anew, {progress.destroyed} data keys destroyed")
    unreadable = sorted(place for places in progress.unreadable.values() for place in places)
    if unreadable:
        for place in unreadable[:MOST_NAMED]:
            _note(f"does not open: {place}")
        _note(f"{len(unreadable)} values do not open and were left; the old data keys of their tenants were kept")
        raise typer.Exit(1)


def lost(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Of the ring, e.g. k1.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="What was sealed under it cannot be read any more: do it.")
    ] = False,
) -> None:
    """Give a lost key of the ring up, and with it every data key that it wraps. The gateway then starts without it."""
    settings = _settings()
    from covergate import startup
    from covergate.access import audit
    from covergate.db import data_keys
    from covergate.db.connect import make_engine

    if settings.database_url is None:
        raise ConfigurationError("of the embedded database the only key is lost: remove its data directory")
    if not yes:
        raise ConfigurationError(f"what stands under {key_id} is lost with it: say --yes if the key cannot be restored")
    url = settings.database_url

    async def run() -> int:
        engine = make_engine(url, pool_size=1, application_name="covergate keys")
        try:
            async with engine.begin() as db:
                await audit.record(db, audit.command_line(), "encryption_key.lost")
                return await data_keys.lose(db, key_id)
        finally:
            await engine.dispose()

    typer.echo(f"{startup.run(run())} data keys are lost.", err=True)


def _settings() -> Any:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _tell(*fields: str) -> None:
    typer.echo("\t".join(fields))


def _note(text: str) -> None:
    typer.echo(text, err=True)
