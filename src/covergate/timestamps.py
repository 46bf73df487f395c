"""Instants as they are shown."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(value: datetime | str | None) -> str | None:
    """RFC 3339, UTC, milliseconds."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
