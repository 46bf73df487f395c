"""How Alembic runs: on the connection that `covergate.db.migrate` gives it, or on its own for `alembic` commands."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from covergate import settings
from covergate.db.connect import make_engine
from covergate.db.migrate import ours
from covergate.db.tables import metadata
from covergate.errors import ConfigurationError


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=ours,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    url = settings.load().database_url
    if url is None:
        raise ConfigurationError("alembic commands need COVERGATE_DATABASE_URL; `covergate migrate` does not")
    engine = make_engine(url, pool_size=1, application_name="alembic")
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_alone())
