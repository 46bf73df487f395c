"""A vendor's reply, read so that each value keeps its place in the raw document.

A translator reads a reply through `Node`; each reading is a `Sourced`, a value with its JSON pointers, and `row` makes the
fields of a result row with their `sources` from them. A value that is not stated is left out, so it stays null.
No shape of a reply makes a reading raise: a value of another type than the document promises is not stated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeGuard, TypeVar

from covergate.eligibility.result import Warning_
from covergate.eligibility.sourced import Sourced, money, percent, pointer
from covergate.eligibility.sourced import row as row
from covergate.eligibility.terms import WarningCode
from covergate.eligibility.warning import warning

_T = TypeVar("_T")

_NOTHING = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value of a reply and its pointer. A member that is not there is a node too, with the value None."""

    value: Any
    pointer: str

    def at(self, key: str) -> Node:
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Node(value, pointer(self.pointer, key))

    def rows(self, key: str) -> list[Node]:
        """The objects of a list; anything else in it is passed over."""
        node = self.at(key)
        return node.objects() if isinstance(node.value, list) else []

    def objects(self) -> list[Node]:
        """The objects of a list, or the one object in its place."""
        if not isinstance(self.value, list):
            return [self] if isinstance(self.value, dict) else []
        return [
            Node(element, pointer(self.pointer, index))
            for index, element in enumerate(self.value)
            if isinstance(element, dict)
        ]

    def read(self, key: str, convert: Callable[[Any], _T | None]) -> Sourced[_T]:
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Sourced(None if value is None else convert(value), (pointer(self.pointer, key),))

    def text(self, key: str) -> Sourced[str]:
        return self.read(key, text)


def text(value: Any) -> str | None:
    """A string, trimmed, or a whole number as it is written; None if blank."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return (value.strip() or None) if isinstance(value, str) else None


_TOKEN = re.compile(r"[!-~]{1,100}")


def token(value: Any) -> str | None:
    """A code or a reference: at most 100 printable ASCII characters without blanks, fit to stand in the clear."""
    trimmed = text(value)
    return trimmed if trimmed is not None and _TOKEN.fullmatch(trimmed) else None


def status_word(value: Any) -> str | None:
    """A status, known or not, fit for the timeline: letters joined by dots, hyphens or underscores, e.g. `error.payer`."""
    return value if isinstance(value, str) and re.fullmatch(r"(?=.{1,40}$)[A-Za-z]+([._-][A-Za-z]+)*", value) else None


def unexplained_word(status: Any) -> str:
    """A status that no document explains, as it may stand in the timeline: whatever is not its usual form is not repeated."""
    return status_word(status) or "not a word"


_WORDED = re.compile(
    r"(?P<number>\$? ?[0-9][0-9,]*(?:\.[0-9]+)? ?%?)"
    r"(?: (?:co-?pay(?:ment)?|co-?insurance))?(?: (?:per|each|a|every) (?:office )?(?:visit|session))?"
    r"(?:[,;]? \(?(?:"
    r"(?P<applies>after(?: the)? deductible(?: is met)?|deductible applies|subject to(?: the)? deductible)"
    r"|(?P<waived>(?:the )?deductible (?:is )?(?:waived|does not apply)|no deductible|not subject to(?: the)? deductible)"
    r")\)?)?"
)
"""An amount or a share with the words that a person puts around it: "20% after deductible", "$25 copay per visit"."""


def number_in_words(value: Any) -> Any:
    """The number of such words; anything else as it is, for whoever reads numbers."""
    match = _worded(value)
    return match["number"] if match else value


def waived_in_words(value: Any) -> bool | None:
    """Whether words around an amount say that the deductible is waived for it."""
    match = _worded(value)
    return None if match is None or match.lastgroup == "number" else match.lastgroup == "waived"


def _worded(value: Any) -> re.Match[str] | None:
    return _WORDED.fullmatch(" ".join(value.casefold().split())) if is_text(value) else None


def whole_percent(value: Any) -> Decimal | None:
    """A share that the vendor writes in whole percents. One up to 1 without a percent sign may be a fraction: it is none."""
    share = percent(value)
    is_doubtful = share is not None and 0 < share <= 1 and "%" not in str(value)
    return None if is_doubtful else share


_NO_LIMIT = re.compile(r"unlimited|no (?:limit|maximum|(?:out[ -]of[ -]pocket|oop)(?: max(?:imum)?| limit)?)")


def no_limit(value: Any) -> bool | None:
    """Words in place of a limit that say that there is none."""
    return True if is_text(value) and _NO_LIMIT.fullmatch(" ".join(value.casefold().split())) else None


def is_met(value: Any) -> bool | None:
    """A word in place of what is used or left of a limit: nothing is left."""
    return True if is_text(value) and value.strip().casefold() in ("met", "satisfied", "fully met") else None


def remaining(value: Any) -> Decimal | None:
    """An amount that is left: below zero, nothing is, nor of a limit that is met."""
    written = str(value).strip()
    negative = written.startswith("-") and money(written[1:]) is not None
    return _NOTHING if negative or is_met(value) else money(value)


def unreadable(
    read: Callable[[str, Callable[[Any], Any]], Sourced[Any]],
    convert: Callable[[Any], Any],
    *keys: str,
    looks_right: Callable[[Any], bool | None] | None = None,
) -> list[str]:
    """The pointers to what stands in the place of a number and is none ("N/A" is no number either, and says nothing).

    `read` is that of a node. `looks_right` tells what should have been a value, if that is no number.
    """
    return [
        at
        for key in keys
        if not (found := read(key, convert)) and read(key, looks_right or looks_like_a_number)
        for at in found.pointers
    ]


def unparsable(**places: Sequence[str]) -> list[Warning_]:
    """A warning for each kind of values ("amounts") of which some could not be read."""
    return [warning(WarningCode.RAW_UNPARSABLE, *at, detail=kind) for kind, at in places.items() if at]


def looks_like_a_number(value: Any) -> bool | None:
    """None for words alone."""
    return True if not isinstance(value, str) or any(map(str.isdecimal, value)) else None


_DAYS = (
    re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day> ?[0-9]|[0-9]{2})(?:[T ][0-9].*)?"),
    re.compile(r"(?P<month>[0-9]{1,2})([/-])(?P<day> ?[0-9]|[0-9]{2})\2(?P<year>[0-9]{4})"),
    re.compile(r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"),
)
"""ISO 8601, the American order, X12. A vendor's document names one of them, and its answers may come in another."""


def stated_day(value: Any) -> date | None:
    match = (
        next((found for form in _DAYS if (found := form.fullmatch(value.strip()))), None) if is_text(value) else None
    )
    try:
        return date(int(match["year"]), int(match["month"]), int(match["day"])) if match else None
    except ValueError:
        return None


def is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def looks_like_a_day(value: Any) -> bool | None:
    """Whether something stands there that should have been a day; zeros and words alone stand for none."""
    return True if is_text(value) and re.search("[1-9]", value) else None


def iso_instant(value: str | None, latest: datetime) -> datetime:
    """ISO 8601, read as UTC if it names no zone; never later than `latest`, the time of the reply, which stands in for it."""
    try:
        instant = datetime.fromisoformat(value or "")
    except ValueError:
        return latest
    return min(instant if instant.tzinfo else instant.replace(tzinfo=UTC), latest)


def joined(separator: str, *parts: Sourced[str]) -> Sourced[str]:
    """One text of several, with the pointers of those that are stated."""
    stated = [part for part in parts if part]
    whole = separator.join(part.value for part in stated if part.value is not None)
    return Sourced(whole or None, tuple(pointer for part in stated for pointer in part.pointers))
