from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any

import orjson
from sqlalchemy import text

from covergate import ids
from covergate.db.database import Database
from covergate.payers.seed import seed_directory
from covergate.payers.store import read_payers
from covergate.vendors import VENDORS

SEEDS: list[dict[str, Any]] = orjson.loads(resources.files("covergate.payers").joinpath("payers.json").read_bytes())


def test_the_file_is_consistent() -> None:
    assert all(ids.is_id(ids.PAYER, row["id"]) for row in SEEDS)
    for key in ("id", "name", "electronic_id"):
        values = [row[key].upper() for row in SEEDS if key in row]
        assert len(values) == len(set(values))
    assert {vendor for row in SEEDS for part in ("codes", "test_codes") for vendor in row.get(part, {})} <= set(VENDORS)
    assert [row["name"] for row in SEEDS] == sorted(row["name"] for row in SEEDS)


async def _rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.connection() as db:
        return [tuple(row) for row in await db.execute(text(statement))]


async def test_planted_once_by_any_number_of_processes(database: Database) -> None:
    await asyncio.gather(*(seed_directory(database) for _ in range(4)))
    await seed_directory(database)
    assert len(await _rows(database, "SELECT id FROM payers")) == len(SEEDS)
    assert len(await _rows(database, "SELECT version FROM payer_directory")) == 1


async def test_a_carrier_code_of_the_documents_never_reaches_live_mode(database: Database) -> None:
    await seed_directory(database)
    async with database.connection() as db:
        modes = {mode: await read_payers(db, mode) for mode in ("test", "live")}
    vendors = {mode: {vendor for payer in payers for vendor in payer.vendors} for mode, payers in modes.items()}
    assert vendors == {"test": set(VENDORS), "live": set(VENDORS) - {"vsee"}}


async def test_a_newer_file_overwrites_nothing(database: Database) -> None:
    await seed_directory(database)
    async with database.connection() as db:
        await db.execute(text("UPDATE payer_codes SET payer_id = (SELECT max(id) FROM payers), source = 'person'"))
        await db.execute(text("UPDATE payer_directory SET seed_digest = 'older'"))
    await seed_directory(database)
    assert await _rows(database, "SELECT DISTINCT source FROM payer_codes") == [("person",)]


async def test_a_payer_that_a_list_brought_first_stays_the_only_one_of_its_id(database: Database) -> None:
    async with database.connection() as db:
        await db.execute(text("INSERT INTO payers (id, mode, name, electronic_id) VALUES ('p1', 'test', 'A', '60054')"))
    await seed_directory(database)
    assert await _rows(database, "SELECT id FROM payers WHERE electronic_id = '60054'") == [("p1",)]
