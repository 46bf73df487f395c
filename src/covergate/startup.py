"""The start of every command: the event loop, the gateway on its open database, a look at its settings.

Invariant: an expected failure here is a `ConfigurationError`, one line that repeats no value.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
import uvloop
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from covergate import logs
from covergate.db.database import open_database
from covergate.db.outage import DATABASE_ERRORS
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway, connections_of
from covergate.payers.seed import seed_directory
from covergate.sandbox.settings import SandboxSettings
from covergate.settings import PREFIX, Settings
from covergate.vendors import VENDORS

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

OTHER_VARIABLES = frozenset({"COVERGATE_URL", "COVERGATE_API_KEY", "COVERGATE_TEST_KILL_AT", "COVERGATE_TEST_STOP_AT"})
"""Read elsewhere: by `covergate verify` and by `crash_points`."""


def run(command: Coroutine[Any, Any, _Result]) -> _Result:
    async def watched() -> _Result:
        asyncio.get_running_loop().set_exception_handler(logs.loop_failure)
        return await command

    try:
        return uvloop.run(watched())
    except DATABASE_ERRORS as error:
        # Their texts may quote values.
        raise ConfigurationError(f"the database could not be used any more ({type(error).__name__})") from None


@asynccontextmanager
async def opened(
    settings: Settings, pool_size: int, application_name: str, *, migrate: bool | None = None
) -> AsyncIterator[Gateway]:
    """The gateway on its open database. `migrate` None: only the embedded database, which has no other administrator.

    A migrated database also gets the payers that every payer directory begins with.
    """
    if migrate is None:
        migrate = settings.database_url is None
    with named_variables():
        connections = connections_of(settings)
    database = await open_database(
        settings,
        pool_size=pool_size,
        application_name=application_name,
        migrate=migrate,
    )
    try:
        if migrate:
            await seed_directory(database)
        yield Gateway(settings, database, connections)
    finally:
        await database.aclose()


@contextmanager
def named_variables() -> Iterator[None]:
    """A wrong value of a vendor's or the sandbox's variable becomes one line that names the variable, not the value."""
    try:
        yield
    except ValidationError as error:
        prefix = next(_prefix_of(owner) for owner in _settings_classes() if owner.__name__ == error.title)
        names = dict.fromkeys(f"{prefix}{details['loc'][0]}".upper() for details in error.errors(include_input=False))
        raise ConfigurationError(f"not a possible value: {', '.join(names)}; see .env.example") from None


def warn_of_settings(gateway: Gateway) -> None:
    """Names what is probably not meant: a misspelt variable, half of a vendor, an address that vendors cannot reach."""
    if unknown := unknown_variables():
        log.warning("settings_unknown", names=unknown, advice="nothing reads them; see .env.example")
    for vendor in VENDORS.values():
        connection = vendor.connection()
        if connection.model_fields_set and not connection.complete:
            needed = [name for name in ("base_url", *connection.required) if not getattr(connection, name)]
            missing = [f"{_prefix_of(vendor.connection)}{name}".upper() for name in needed]
            log.warning("vendor_incomplete", vendor=vendor.name, missing=missing)
    announcing = [vendor.name for vendor in gateway.enabled("live") if vendor.read_event is not None]
    if announcing and _is_loopback(gateway.settings.public_url):
        log.warning(
            "public_url_is_loopback",
            vendors=announcing,
            advice="set COVERGATE_PUBLIC_URL: these vendors send events to it, which answer sooner than polling",
        )


def unknown_variables() -> list[str]:
    """Names in the environment and `.env` that begin like ours and that nothing reads."""
    known = {
        f"{_prefix_of(owner)}{name}".upper() for owner in _settings_classes() for name in owner.model_fields
    } | OTHER_VARIABLES
    named = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    return sorted(name for name in named - known if name.startswith(PREFIX))


def _settings_classes() -> tuple[type[BaseSettings], ...]:
    return (Settings, SandboxSettings, *(vendor.connection for vendor in VENDORS.values()))


def _prefix_of(owner: type[BaseSettings]) -> str:
    return owner.model_config.get("env_prefix", "")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
