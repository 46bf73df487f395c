"""The payers that the vendors' documents name, planted into every database with ids that never change.

`payers.json`: `codes` hold in both modes. VSee's carrier codes are a clinic's own, so those that its page shows as examples
hold in test mode only. Sources: Health Harbor's OpenAPI document (60054) and its older list of insurers; VSee's "Insurance
API" (the carriers); Sohar's sandbox page (60054, 62308, 84980, 06111, OSCAR); the rest are payers as the sandbox lists them.
Planting adds and never overwrites: what a person or a vendor's list settled stays, and so does a payer that a list brought first.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.database import Database
from covergate.db.sql import Query
from covergate.payers import store

_PLANTED = Query("SELECT seed_digest FROM payer_directory")
_MARK = Query("UPDATE payer_directory SET seed_digest = :digest")


async def seed_directory(database: Database) -> None:
    """Once for each state of the file; any number of processes may do so at the same time."""
    content = resources.files(__package__).joinpath("payers.json").read_bytes()
    digest = hashlib.sha256(content).digest()
    async with database.transaction() as db:
        if await _PLANTED.scalar(db) == digest:
            return
        await store.lock_directory(db)
        await _plant(db, orjson.loads(content))
        await store.bump_version(db)
        await _MARK.run(db, {"digest": digest})


async def _plant(db: AsyncConnection, seeds: list[dict[str, Any]]) -> None:
    taken = await store.listed_electronic_ids(db)
    listed = [row for row in seeds if row.get("electronic_id") not in taken]
    await store.add_payers(db, "both", [(row["id"], row["name"], row.get("electronic_id")) for row in listed])
    aliases = [(row["id"], alias) for row in listed for alias in row.get("aliases", ())]
    await store.add_names(db, "both", "alias", aliases)
    for mode, parts in (("test", ("codes", "test_codes")), ("live", ("codes",))):
        for vendor in sorted({vendor for row in listed for part in parts for vendor in row.get(part, {})}):
            known = [(row[part][vendor], row["id"]) for row in listed for part in parts if vendor in row.get(part, {})]
            await store.add_codes(db, vendor, mode, "seed", known)
