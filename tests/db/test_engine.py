from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.database import Database, asyncpg_dsn, make_engine, open_database
from covergate.db.sealing import GATEWAY, Place
from covergate.errors import ConfigurationError
from covergate.settings import Settings

SECRET = "hunter2"
KEYS = SecretStr("k1:" + base64.b64encode(bytes(range(32))).decode())


def settings(url: str) -> Settings:
    return Settings(_env_file=None, database_url=url, encryption_keys=KEYS)


async def opened(url: str, *, migrate: bool = False) -> Database:
    return await open_database(settings(url), pool_size=2, application_name="tests", migrate=migrate)


async def change(url: str, statement: str) -> None:
    engine = make_engine(url, pool_size=1, application_name="tests")
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def test_an_empty_database_is_migrated_when_asked(empty_database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no CoverGate tables yet: run `covergate migrate`"):
        await opened(empty_database_url)
    database = await opened(empty_database_url, migrate=True)
    async with database.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM encryption_keys")) == 1
    assert database.sealer.ring.current_key_id == "k1"
    await database.aclose()
    await (await opened(empty_database_url)).aclose()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE alembic_version SET version_num = 'from the future'", "newer version"),
        ("DELETE FROM alembic_version", "no CoverGate tables yet"),
    ],
)
async def test_another_schema_is_refused(database_url: str, statement: str, told: str) -> None:
    await change(database_url, statement)
    with pytest.raises(ConfigurationError, match=told):
        await opened(database_url)


async def test_a_newer_database_is_not_migrated_either(database_url: str) -> None:
    await change(database_url, "UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(ConfigurationError, match="newer version"):
        await opened(database_url, migrate=True)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://user:{SECRET}@127.0.0.1:1/covergate", "127.0.0.1/covergate: "),
        (f"postgresql+asyncpg://user:{SECRET}@127.0.0.1:1/covergate", "127.0.0.1/covergate: "),
        (f"postgresql://user:{SECRET}@nowhere.invalid/covergate", "nowhere.invalid/covergate: "),
        (f"postgresql://user:pass/{SECRET}@127.0.0.1/covergate", "COVERGATE_DATABASE_URL is not a valid"),
        (f"postgresql://user:{SECRET}@127.0.0.1:1/covergate?sslmode=nonsense", "cannot use the database at"),
    ],
)
@pytest.mark.parametrize("migrate", [True, False])
async def test_an_unreachable_database_is_one_line_without_the_password(url: str, told: str, migrate: bool) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await opened(url, migrate=migrate)
    message = str(caught.value)
    assert told in message
    assert SECRET not in message
    assert "\n" not in message


async def test_a_database_that_does_not_exist_is_told(postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="nothing_here").render_as_string(hide_password=False)
    with pytest.raises(ConfigurationError, match='nothing_here: database "nothing_here" does not exist'):
        await opened(url)


async def test_without_a_url_the_embedded_server_is_shared_and_stopped(
    data_dir: Path,
) -> None:
    alone = Settings(_env_file=None, database_url=None, data_dir=data_dir, encryption_keys=None)
    first = await open_database(alone, pool_size=1, application_name="tests", migrate=True)
    second = await open_database(alone, pool_size=1, application_name="tests", migrate=False)
    place = Place(GATEWAY, "test", "t", "c", "r")
    assert second.sealer.open(place, first.sealer.seal(place, b"data")) == b"data"
    await first.aclose()
    async with second.engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await second.aclose()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_a_failed_start_gives_the_embedded_server_back(data_dir: Path) -> None:
    alone = Settings(_env_file=None, database_url=None, data_dir=data_dir, encryption_keys=None)
    with pytest.raises(ConfigurationError, match="no CoverGate tables"):
        await open_database(alone, pool_size=1, application_name="tests", migrate=False)
    assert (data_dir / "postgres").exists()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_an_unusable_data_directory_is_one_line(tmp_path: Path) -> None:
    alone = Settings(_env_file=None, database_url=None, data_dir=tmp_path / ("x" * 120), encryption_keys=None)
    with pytest.raises(ConfigurationError, match="COVERGATE_DATA_DIR"):
        await open_database(alone, pool_size=1, application_name="tests", migrate=True)


async def shown(connection: AsyncConnection, name: str) -> str:
    return str(await connection.scalar(text(f"SHOW {name}")))


async def test_every_connection_has_our_settings(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await shown(connection, "timezone") == "UTC"
        assert await shown(connection, "jit") == "off"
        assert await shown(connection, "statement_timeout") == "30s"
        assert await shown(connection, "application_name") == "tests"
        assert await shown(connection, "transaction_isolation") == "read committed"


async def test_a_failing_statement_does_not_show_its_parameters(database: Database) -> None:
    async with database.engine.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(
                text("SELECT 1 / CAST(:zero AS int), CAST(:name AS text)"), {"zero": 0, "name": SECRET}
            )
    assert SECRET not in str(caught.value)


async def test_the_pool_is_as_large_as_asked(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3, application_name="tests")

    async def backend() -> int:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.01)"))
            return int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)

    assert len(set(await asyncio.gather(*(backend() for _ in range(12))))) == 3
    await engine.dispose()


def test_neither_driver_nor_repr_needs_the_password() -> None:
    url = f"postgresql+asyncpg://user:{SECRET}@host/db?sslmode=require"
    assert asyncpg_dsn(url) == f"postgresql://user:{SECRET}@host/db?sslmode=require"
    assert SECRET not in repr(make_engine(url, pool_size=1, application_name="tests"))
