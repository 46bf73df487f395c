"""Everything that the database still tells: every sealed value opened with the key ring, and every other column as text."""

from __future__ import annotations

from covergate.db.sealing import Place
from covergate.db.sql import Query
from covergate.db.tables import metadata
from covergate.gateway import Gateway
from covergate.reseal import SEALED_COLUMNS


async def told(gateway: Gateway) -> dict[str, list[str]]:
    """Column → what its rows say, opened if they were sealed."""
    everything: dict[str, list[str]] = {}
    async with gateway.connection() as db:
        for of in SEALED_COLUMNS:
            rows = await Query(
                f"SELECT t.{of.column} AS value, {of.shown} FROM {of.table} t {of.joined} WHERE t.{of.column} IS NOT NULL"
            ).all(db)
            sealed = [value for row in rows for value in (row["value"] if of.many else [row["value"]])]
            await gateway.sealer.meet(db, {row.owner for row in rows}, sealed)
            everything[f"{of.table}.{of.column}"] = [
                gateway.sealer.open(Place(row.owner, row.mode, *of.place, row_id, row.verification_id), value).decode()
                for row in rows
                for row_id, value in (
                    zip(row.row_ids, row["value"], strict=True) if of.many else [(row.row_id, row["value"])]
                )
            ]
        for table in metadata.sorted_tables:
            rows = await Query(f"SELECT CAST(t AS text) AS told FROM {table.name} t").all(db)
            everything[table.name] = [row.told for row in rows]
    return everything


async def columns_telling(gateway: Gateway, *words: str) -> set[str]:
    """Where one of these words is to be found, whatever its case."""
    return {
        column
        for column, texts in (await told(gateway)).items()
        if any(word.casefold() in text.casefold() for text in texts for word in words)
    }
