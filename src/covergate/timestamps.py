"""Instants as they are shown, and compared as they are shown: in whole milliseconds, what is beyond them cut off; spans of time
in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_MILLISECOND = timedelta(milliseconds=1)
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def instant(value: datetime | str | None) -> str | None:
    """RFC 3339, UTC, milliseconds."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_since(moment: datetime) -> datetime:
    """The first instant that is shown as `moment` or later."""
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return moment if whole == moment else shown_later(moment)


def beyond(created_after: datetime | None, created_before: datetime | None) -> dict[str, datetime | None]:
    """Both exclusive, as they are shown; for `created_at >= :created_after AND created_at < :created_before`."""
    return {
        "created_after": None if created_after is None else shown_later(created_after),
        "created_before": None if created_before is None else shown_since(created_before),
    }


def shown_later(moment: datetime) -> datetime:
    """The first instant that is shown as later than `moment`; at the end of time the last one."""
    try:
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000) + _MILLISECOND
    except OverflowError:
        return moment


def span(seconds: float | None) -> str:
    """`120 ms`, `40 s`, `4 min`, `3 h 5 min`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    seconds = max(seconds, 0)
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole, parts = int(seconds), list[str]()
    for size, unit in _SPANS:
        if whole >= size or parts:
            number, whole = divmod(whole, size)
            if number:
                parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
