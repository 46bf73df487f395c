"""One page of a list: rows in a fixed order by id, and the id from which the next page goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query

_Row = TypeVar("_Row")
_PLANNED_FOR_VALUES = Query("SET LOCAL plan_cache_mode = force_custom_plan")


@dataclass(frozen=True, slots=True)
class Page:
    """`next_after` is None on the last page."""

    data: list[dict[str, Any]]
    next_after: str | None


def page(rows: Sequence[_Row], limit: int, key: Callable[[_Row], str], view: Callable[[_Row], dict[str, Any]]) -> Page:
    """`rows` were asked for with `LIMIT limit + 1`: one too many says that there is more."""
    shown = rows[:limit]
    return Page([view(row) for row in shown], key(shown[-1]) if len(rows) > limit else None)


async def plan_for_values(db: AsyncConnection) -> None:
    """Has the rest of the caller's transaction planned for its values, instead of once for all.

    A plan that knows neither the limit nor the filters takes a page for a tenth of the table, and a tenant for the average one:
    it launches parallel workers for twenty rows, or walks a large tenant's rows to find a small one's.
    """
    await _PLANNED_FOR_VALUES.run(db)
