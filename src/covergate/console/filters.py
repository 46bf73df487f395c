"""Filters in an address: what cannot be used is named, never left out in silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from covergate.errors import FieldError, Problem

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment_in(name: str, given: str) -> datetime | None:
    """A date, an instant (UTC if it names no zone), or a span before now: `30m`, `12h`, `7d`. None: not given."""
    given = given.strip()
    if not given:
        return None
    try:
        if given[-1] in _UNITS and given[:-1].isascii() and given[:-1].isdigit():
            return datetime.now(UTC) - timedelta(**{_UNITS[given[-1]]: int(given[:-1])})
        moment = datetime.fromisoformat(given)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong_filter(
            name, "must be a date like 2026-11-28, an instant like 2026-11-28T09:30Z, or a span like 12h"
        ) from None


def wrong_filter(name: str, message: str) -> Problem:
    return Problem(
        "invalid_request", "A filter cannot be used.", [FieldError("invalid_value", message, parameter=name)]
    )
