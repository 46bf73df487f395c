"""What every command needs before it can do anything: the event loop, and the gateway on its open database.

Invariant: what can be expected to go wrong here comes out as `ConfigurationError`, one line that repeats no value.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from covergate import logs
from covergate.db.database import open_database
from covergate.db.outage import DATABASE_ERRORS
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway, connections_of
from covergate.payers.seed import plant
from covergate.sandbox.settings import SandboxSettings
from covergate.settings import Settings
from covergate.vendors import VENDORS

Result = TypeVar("Result")


def run(command: Coroutine[Any, Any, Result]) -> Result:
    async def watched() -> Result:
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
    """The gateway on its open database. `migrate` None: only the embedded database, which nobody else looks after.

    What is migrated also gets the payers that every payer directory begins with.
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
            await plant(database)
        yield Gateway(settings, database, connections)
    finally:
        await database.aclose()


@contextmanager
def named_variables() -> Iterator[None]:
    """A wrong value of a vendor's or the sandbox's variable becomes one line that names the variable, not the value."""
    try:
        yield
    except ValidationError as error:
        owners: tuple[type[BaseSettings], ...] = (SandboxSettings, *(vendor.connection for vendor in VENDORS.values()))
        prefix = next(owner.model_config.get("env_prefix", "") for owner in owners if owner.__name__ == error.title)
        names = dict.fromkeys(f"{prefix}{details['loc'][0]}".upper() for details in error.errors(include_input=False))
        raise ConfigurationError(f"not a possible value: {', '.join(names)}; see .env.example") from None
