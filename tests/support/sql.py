"""Any SQL on a gateway's database, each statement by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Row

from covergate.gateway import Gateway


async def run_sql(gateway: Gateway, statement: str, **values: Any) -> Sequence[Row[Any]]:
    """Its rows, if it has any. Parameters as in `:name`."""
    async with gateway.connection() as db:
        result = await db.execute(text(statement), values)
        return result.all() if result.returns_rows else []


async def run_numbered(gateway: Gateway, statement: str, *values: Any) -> Sequence[Row[Any]]:
    """The same with parameters as in `$1`."""
    async with gateway.connection() as db:
        result = await db.exec_driver_sql(statement, values)
        return result.all() if result.returns_rows else []
