"""One page of a list: rows in a fixed order by id, and the id from which the next page goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Page:
    """`next_after` is None on the last page."""

    data: list[dict[str, Any]]
    next_after: str | None


def page(rows: Sequence[_Row], limit: int, key: Callable[[_Row], str], view: Callable[[_Row], dict[str, Any]]) -> Page:
    """`rows` were asked for with `LIMIT limit + 1`: one too many says that there is more."""
    shown = rows[:limit]
    return Page([view(row) for row in shown], key(shown[-1]) if len(rows) > limit else None)
