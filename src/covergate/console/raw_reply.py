"""A vendor's reply as lines to read, with the place that a value came from marked.

Pure. Numbers stand as the vendor wrote them. A string that holds JSON is shown as that JSON: `#` in a pointer enters it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from covergate.eligibility.sourced import pointer

_PLACE = re.compile(r"/exchanges/(\d{1,6})(/body.*)")


@dataclass(frozen=True, slots=True)
class ReplyLine:
    indent: int
    text: str
    is_marked: bool


class _Number(str):
    """As it was written."""


def lines_of(content: bytes, at: str | None) -> list[ReplyLine]:
    """`at` is the pointer of the marked element, from the reply's own beginning, `/body`. Raises ValueError."""
    document = json.loads(content, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    return list(_lines(document, "/body", "", "", 0, at, marked=False))


def _lines(
    value: Any, here: str, before: str, after: str, indent: int, at: str | None, *, marked: bool
) -> Iterator[ReplyLine]:
    marked = marked or here == at
    inner = _held_json(value)
    if inner is not None:
        yield ReplyLine(indent, f"{before}text that holds JSON:", marked)
        yield from _lines(inner, f"{here}#", "", after, indent + 1, at, marked=marked)
    elif isinstance(value, dict) and value:
        yield ReplyLine(indent, f"{before}{{", marked)
        yield from _members(value, here, indent + 1, at, marked=marked)
        yield ReplyLine(indent, f"}}{after}", marked)
    elif isinstance(value, list) and value:
        yield ReplyLine(indent, f"{before}[", marked)
        for index, element in enumerate(value):
            comma = "," if index + 1 < len(value) else ""
            yield from _lines(element, pointer(here, index), "", comma, indent + 1, at, marked=marked)
        yield ReplyLine(indent, f"]{after}", marked)
    else:
        text = str(value) if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)
        yield ReplyLine(indent, f"{before}{text}{after}", marked)


def _members(value: dict[str, Any], here: str, indent: int, at: str | None, *, marked: bool) -> Iterator[ReplyLine]:
    for number, (name, member) in enumerate(value.items(), start=1):
        before = f"{json.dumps(name, ensure_ascii=False)}: "
        comma = "," if number < len(value) else ""
        yield from _lines(member, pointer(here, name), before, comma, indent, at, marked=marked)


def _held_json(value: Any) -> Any:
    """What a string holds, if that is a JSON object or list."""
    if not isinstance(value, str) or isinstance(value, _Number) or not value.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(value, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    except ValueError:
        return None


def address_in_raw(source: str) -> str | None:
    """A pointer of a result's `sources` → the end of the address of the raw reply's page, at the marked place."""
    found = _PLACE.fullmatch(source)
    return None if found is None else f"raw?exchange={found[1]}&at={quote(found[2], safe='/')}#here"
