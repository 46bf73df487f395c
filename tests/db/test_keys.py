from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from covergate.db.database import make_engine
from covergate.db.key_ring import KEY_FILE, load_key_ring
from covergate.db.sealing import KeyRing
from covergate.db.tables import encryption_keys
from covergate.errors import ConfigurationError
from covergate.settings import Settings

ONE, TWO = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, pool_size=5, application_name="tests")
    yield engine
    await engine.dispose()


def embedded(data_dir: Path) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, database_url=None, encryption_keys=None)


def given(keys: str | None) -> Settings:
    secret = None if keys is None else SecretStr(keys)
    return Settings(_env_file=None, database_url="postgresql://db/covergate", encryption_keys=secret)


async def known(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.scalars(select(encryption_keys.c.id).order_by(encryption_keys.c.id)))


async def test_the_first_start_makes_a_key_for_its_owner_only_and_says_so(engine: AsyncEngine, tmp_path: Path) -> None:
    with capture_logs() as logs:
        made = await load_key_ring(embedded(tmp_path), engine)
    path = tmp_path / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(entry["event"], entry["path"]) for entry in logs] == [("encryption_key_created", str(path))]
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]
    assert base64.b64encode(made.keys[made.current_key_id]).decode() not in str(logs)
    assert await known(engine) == [made.current_key_id]


async def test_the_second_start_reads_it(engine: AsyncEngine, tmp_path: Path) -> None:
    made = await load_key_ring(embedded(tmp_path), engine)
    with capture_logs() as logs:
        assert await load_key_ring(embedded(tmp_path), engine) == made
    assert logs == []


async def test_what_was_made_can_be_given_as_the_setting(engine: AsyncEngine, tmp_path: Path) -> None:
    made = await load_key_ring(embedded(tmp_path), engine)
    assert await load_key_ring(given((tmp_path / KEY_FILE).read_text()), engine) == made


async def test_a_start_that_died_after_writing_the_key_goes_on_with_it(engine: AsyncEngine, tmp_path: Path) -> None:
    made = await load_key_ring(embedded(tmp_path), engine)
    async with engine.begin() as connection:
        await connection.execute(delete(encryption_keys))
    assert await load_key_ring(embedded(tmp_path), engine) == made


async def test_no_new_key_where_the_database_has_one(engine: AsyncEngine, tmp_path: Path) -> None:
    await load_key_ring(embedded(tmp_path), engine)
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(ConfigurationError, match=r"encryption\.key is missing"):
        await load_key_ring(embedded(tmp_path), engine)
    assert not (tmp_path / KEY_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"k1:", b"\xff\xfe", f"k1:{ONE[:20]}".encode()])
async def test_a_damaged_key_file_is_told_and_kept(engine: AsyncEngine, tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"encryption\.key .* restore the file"):
        await load_key_ring(embedded(tmp_path), engine)
    assert (tmp_path / KEY_FILE).read_bytes() == content


async def test_a_key_file_that_others_can_read_is_warned_of(engine: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(f"k1:{ONE}\n")
    (tmp_path / KEY_FILE).chmod(0o644)
    with capture_logs() as logs:
        await load_key_ring(embedded(tmp_path), engine)
    assert [entry["event"] for entry in logs] == ["encryption_key_readable_by_others"]


async def test_a_place_that_cannot_be_written_is_told(engine: AsyncEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await load_key_ring(embedded(tmp_path / "missing"), engine)


async def test_a_database_of_its_own_needs_keys_of_its_own(engine: AsyncEngine) -> None:
    with pytest.raises(ConfigurationError, match="COVERGATE_ENCRYPTION_KEYS must be set"):
        await load_key_ring(given(None), engine)


async def test_another_key_under_a_known_id_is_refused(engine: AsyncEngine) -> None:
    await load_key_ring(given(f"k1:{ONE}"), engine)
    with pytest.raises(ConfigurationError, match="id k1 is not the one") as caught:
        await load_key_ring(given(f"k2:{TWO},k1:{TWO}"), engine)
    assert TWO not in str(caught.value)
    assert await known(engine) == ["k1"]


async def test_rotation_puts_the_new_key_first_and_keeps_the_old(engine: AsyncEngine) -> None:
    await load_key_ring(given(f"k1:{ONE}"), engine)
    with pytest.raises(ConfigurationError, match="sealed under k1"):
        await load_key_ring(given(f"k2:{TWO}"), engine)
    both = await load_key_ring(given(f"k2:{TWO},k1:{ONE}"), engine)
    assert both == KeyRing.parse(f"k2:{TWO},k1:{ONE}")
    assert await known(engine) == ["k1", "k2"]


async def test_a_retired_key_is_warned_of(engine: AsyncEngine) -> None:
    await load_key_ring(given(f"k2:{TWO},k1:{ONE}"), engine)
    with capture_logs() as logs:
        await load_key_ring(given(f"k2:{TWO}"), engine)
    assert [(entry["event"], entry["key_ids"]) for entry in logs] == [("encryption_key_missing", ["k1"])]
