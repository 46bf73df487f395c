"""Retention of a table's rows. The table's owner states it as `KEPT`; `retention.py` collects and applies it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept for ever, or for `span` (a PostgreSQL interval) after the column `since`, and while `but_not` holds for row `t`."""

    table: str
    why: str
    span: str | None = None
    since: str = "created_at"
    but_not: str = "false"
