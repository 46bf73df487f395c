"""The start of every command: the event loop, the gateway on its open database, a look at its settings.

Invariant: an expected failure here is a `ConfigurationError`, one line that repeats no value.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
import uvloop
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from covergate import logs
from covergate.db.connect import is_this_machine, unverified_hosts
from covergate.db.database import open_database
from covergate.db.outage import DATABASE_ERRORS
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway, connections_of
from covergate.payers.seed import seed_directory
from covergate.sandbox.variables import SANDBOX_SETTINGS
from covergate.sandbox_secret import sandbox_secret
from covergate.settings import PREFIX, Settings
from covergate.vendors import VENDORS
from covergate.vendors.vendor import Connection

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

OTHER_VARIABLES = frozenset(
    {
        "COVERGATE_URL",
        "COVERGATE_API_KEY",
        "COVERGATE_SECRETS_DIR",
        "COVERGATE_TEST_KILL_AT",
        "COVERGATE_TEST_STOP_AT",
    }
)
"""Read elsewhere: by `covergate verify`, `secret_files` and `crash_points`."""


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
    if settings.sandbox_url is not None:
        settings = settings.model_copy(update={"sandbox_secret": sandbox_secret(settings)})
    with named_variables():
        connections = connections_of(settings)
    _refuse_the_unprotected(settings, connections)
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


def _refuse_the_unprotected(settings: Settings, connections: Mapping[tuple[str, str], Connection]) -> None:
    """PHI and credentials leave this machine only over TLS with a certificate that was checked. Raises ConfigurationError."""
    hosts = [] if settings.allow_unverified_database else unverified_hosts(settings.database_url or "")
    if hosts:
        raise ConfigurationError(
            f"COVERGATE_DATABASE_URL leads to {', '.join(hosts)} without sslmode=verify-full; on a network that nobody "
            "else is on, COVERGATE_ALLOW_UNVERIFIED_DATABASE=true allows it"
        )
    if settings.allow_http_vendors:
        return
    for (mode, name), connection in connections.items():
        url = urlsplit(connection.base_url)
        if mode == "live" and url.scheme == "http" and not is_this_machine(url.hostname or ""):
            variable = f"{_prefix_of(type(connection))}base_url".upper()
            raise ConfigurationError(
                f"{variable} must begin with https://: {name} would be sent patients in the clear; for tests, "
                "COVERGATE_ALLOW_HTTP_VENDORS=true allows it"
            )


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
        if connection.model_fields_set - {"shared"} and not connection.complete:
            needed = [name for name in ("base_url", *connection.required) if not getattr(connection, name)]
            missing = [f"{_prefix_of(vendor.connection)}{name}".upper() for name in needed]
            log.warning("vendor_incomplete", vendor=vendor.name, missing=missing)
    announcing = [vendor.name for vendor in gateway.enabled("live") if vendor.read_event is not None]
    if announcing and is_this_machine(urlsplit(gateway.settings.public_url).hostname or ""):
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
    return (Settings, *SANDBOX_SETTINGS, *(vendor.connection for vendor in VENDORS.values()))


def _prefix_of(owner: type[BaseSettings]) -> str:
    return owner.model_config.get("env_prefix", "")
