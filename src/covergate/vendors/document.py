"""What a vendor stated, together with where it stands in the raw document.

A translator reads a reply through `Node`; each reading is a `Sourced`, a value and its JSON pointers, and `row` makes the
fields of a result row with their `sources` from them. What the vendor did not state is left out, so it stays null.
No shape of a reply makes a reading raise: what is not what the document promises is not stated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from covergate.eligibility.sourced import Sourced, money, pointer
from covergate.eligibility.sourced import row as row

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value of a reply and its pointer. `key` names a member, also where there is none."""

    value: Any
    pointer: str

    def at(self, key: str) -> Node:
        value = self.value.get(key) if isinstance(self.value, Mapping) else None
        return Node(value, pointer(self.pointer, key))

    def rows(self, key: str) -> list[Node]:
        """The objects of a list; anything else in it is passed over."""
        node = self.at(key)
        elements = node.value if isinstance(node.value, list) else []
        return [
            Node(element, pointer(node.pointer, index))
            for index, element in enumerate(elements)
            if isinstance(element, Mapping)
        ]

    def read(self, key: str, convert: Callable[[Any], _T | None]) -> Sourced[_T]:
        node = self.at(key)
        return Sourced(None if node.value is None else convert(node.value), (node.pointer,))

    def text(self, key: str) -> Sourced[str]:
        return self.read(key, text)


def text(value: Any) -> str | None:
    """A string that is not blank, trimmed; whole numbers as they are written."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return (value.strip() or None) if isinstance(value, str) else None


def token(value: Any) -> str | None:
    """A code or a reference: at most 100 printable ASCII characters without blanks, fit to stand in the clear."""
    found = text(value)
    return found if found is not None and re.fullmatch(r"[!-~]{1,100}", found) else None


def remaining(value: Any) -> Decimal | None:
    """Money that is left: below zero is nothing left."""
    written = str(value).strip()
    negative = written.startswith("-") and money(written[1:]) is not None
    return Decimal("0.00") if negative else money(value)


def iso_date(value: Any) -> date | None:
    return _day(value, "%Y-%m-%d")


def american_date(value: Any) -> date | None:
    return _day(value, "%m/%d/%Y")


def _day(value: Any, form: str) -> date | None:
    try:
        return datetime.strptime(value.strip(), form).date() if isinstance(value, str) else None
    except ValueError:
        return None


def iso_instant(value: str | None, otherwise: datetime) -> datetime:
    """ISO 8601, read as UTC where it names no zone; never later than `otherwise`, the reply it stands in."""
    try:
        instant = datetime.fromisoformat(value or "")
    except ValueError:
        return otherwise
    return min(instant if instant.tzinfo else instant.replace(tzinfo=UTC), otherwise)


def joined(separator: str, *parts: Sourced[str]) -> Sourced[str]:
    """One text of several, with the pointers of those that are stated."""
    stated = [part for part in parts if part]
    whole = separator.join(part.value for part in stated if part.value is not None)
    return Sourced(whole or None, tuple(pointer for part in stated for pointer in part.pointers))
