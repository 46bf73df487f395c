from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from covergate.db import key_ring
from covergate.db.data_keys import GATEWAY, introduce_first
from covergate.db.database import make_engine
from covergate.db.key_ring import KEY_FILE, load_key_ring
from covergate.db.sealing import KeyRing
from covergate.db.tables import encryption_keys
from covergate.errors import ConfigurationError
from covergate.settings import Settings

ONE, TWO = (base64.b64encode(bytes(range(number, number + 32))).decode() for number in (1, 101))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, pool_size=5, application_name="tests")
    yield engine
    await engine.dispose()


def embedded(data_dir: Path) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, database_url=None, encryption_keys=None)


def given(keys: str | None, **others: Any) -> Settings:
    secret = None if keys is None else SecretStr(keys)
    return Settings(_env_file=None, database_url="postgresql://db/covergate", encryption_keys=secret, **others)


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
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"encryption\.key .* restore the file"):
        await load_key_ring(embedded(tmp_path), engine)
    assert (tmp_path / KEY_FILE).read_bytes() == content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
async def test_a_key_file_of_which_others_have_a_part_is_refused(
    engine: AsyncEngine, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(f"k1:{ONE}\n")
    path.chmod(mode)
    for settings in (embedded(tmp_path), given(None, encryption_keys_file=path)):
        with pytest.raises(ConfigurationError, match="can be read by others than its owner") as caught:
            await load_key_ring(settings, engine)
        assert ONE not in str(caught.value)


async def test_the_ring_of_a_file(engine: AsyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"k2:{TWO},k1:{ONE}\n")
    path.chmod(0o400)
    ring = await load_key_ring(given(None, encryption_keys_file=path), engine)
    assert ring == KeyRing.parse(f"k2:{TWO},k1:{ONE}")
    path.chmod(0o600)
    path.write_text("k1:c2VjcmV0")
    with pytest.raises(ConfigurationError, match="key 1 of COVERGATE_ENCRYPTION_KEYS_FILE must be 32 bytes"):
        await load_key_ring(given(None, encryption_keys_file=path), engine)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await load_key_ring(given(None, encryption_keys_file=tmp_path / "none"), engine)


def printing(tmp_path: Path, *lines: str) -> str:
    """A program that prints a ring, as a client of a vault does."""
    path = tmp_path / "print keys"
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o700)
    return f"'{path}' with 'an argument'"


async def test_the_ring_of_a_command(engine: AsyncEngine, tmp_path: Path) -> None:
    command = printing(tmp_path, f"echo k1:{ONE}", 'test "$2" = "an argument"', "echo secret words >&2")
    with capture_logs() as logs:
        ring = await load_key_ring(given(None, encryption_keys_command=command), engine)
    assert ring == KeyRing.parse(f"k1:{ONE}")
    assert logs == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["echo secret words >&2", "exit 3"], "ended with exit code 3"),
        (["echo secret words"], "key 1 of what the program of .* prints must be like k1:"),
        (["printf '\\377secret'"], "is not a key ring"),
        (["yes secret"], "did not end within"),
        (["sleep 60 & wait"], "did not end within"),
    ],
)
async def test_a_command_that_prints_no_ring_is_told_without_its_words(
    engine: AsyncEngine, tmp_path: Path, lines: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "COMMAND_SECONDS", 2.0)
    command = printing(tmp_path, *lines)
    with capture_logs() as logs, pytest.raises(ConfigurationError, match=told) as caught:
        await load_key_ring(given(None, encryption_keys_command=command), engine)
    assert "secret" not in str(caught.value) + str(logs)


async def test_a_command_that_is_no_program_is_told(engine: AsyncEngine, tmp_path: Path) -> None:
    for command in (str(tmp_path / "none"), "'", ""):
        with pytest.raises(ConfigurationError, match="cannot be started"):
            await load_key_ring(given(None, encryption_keys_command=command), engine)


async def test_one_place_for_the_ring(engine: AsyncEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only one of"):
        await load_key_ring(given(f"k1:{ONE}", encryption_keys_file=tmp_path), engine)


async def test_a_place_that_cannot_be_written_is_told(engine: AsyncEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await load_key_ring(embedded(tmp_path / "missing"), engine)


async def test_a_database_of_its_own_needs_keys_of_its_own(engine: AsyncEngine) -> None:
    with pytest.raises(ConfigurationError, match=r"one of COVERGATE_ENCRYPTION_KEYS, .* must be set"):
        await load_key_ring(given(None), engine)


async def test_another_key_under_a_known_id_is_refused(engine: AsyncEngine) -> None:
    await load_key_ring(given(f"k1:{ONE}"), engine)
    with pytest.raises(ConfigurationError, match="id k1 is not the one") as caught:
        await load_key_ring(given(f"k1:{TWO}"), engine)
    assert TWO not in str(caught.value)
    assert await known(engine) == ["k1"]


async def test_rotation_puts_the_new_key_first_and_keeps_the_old(engine: AsyncEngine) -> None:
    ring = await load_key_ring(given(f"k1:{ONE}"), engine)
    async with engine.begin() as db:
        await introduce_first(db, ring, GATEWAY)
    with pytest.raises(ConfigurationError, match="sealed under k1"):
        await load_key_ring(given(f"k2:{TWO}"), engine)
    both = await load_key_ring(given(f"k2:{TWO},k1:{ONE}"), engine)
    assert both == KeyRing.parse(f"k2:{TWO},k1:{ONE}")
    assert await known(engine) == ["k1", "k2"]


async def test_a_key_is_needed_as_long_as_it_wraps_another_or_values_may_stand_under_it(engine: AsyncEngine) -> None:
    ring = await load_key_ring(given(f"k1:{ONE},k2:{TWO}"), engine)
    async with engine.begin() as db:
        await introduce_first(db, ring, GATEWAY)
    with pytest.raises(ConfigurationError, match="the database has data sealed under k1: keep that key"):
        await load_key_ring(given(f"k2:{TWO}"), engine)
    async with engine.begin() as db:
        await db.execute(text("UPDATE data_keys SET wrapped = NULL, destroyed_at = now()"))
        await db.execute(text("UPDATE encryption_keys SET seals_values = true WHERE id = 'k1'"))
    with pytest.raises(ConfigurationError, match="the database has data sealed under k1: keep that key"):
        await load_key_ring(given(f"k2:{TWO}"), engine)
    async with engine.begin() as db:
        await db.execute(text("UPDATE encryption_keys SET seals_values = false"))
    await load_key_ring(given(f"k2:{TWO}"), engine)


async def test_a_retired_key_is_warned_of(engine: AsyncEngine) -> None:
    await load_key_ring(given(f"k2:{TWO},k1:{ONE}"), engine)
    with capture_logs() as logs:
        await load_key_ring(given(f"k2:{TWO}"), engine)
    assert [(entry["event"], entry["key_ids"]) for entry in logs] == [("encryption_key_missing", ["k1"])]
