"""How long a table's rows are kept. Each table's owner states it as `KEPT`; `retention.py` collects and applies it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """For ever, or for `span` (a PostgreSQL interval) after the column `since`; `but_not` is a condition on the row `t`."""

    table: str
    why: str
    span: str | None = None
    since: str = "created_at"
    but_not: str = "false"
