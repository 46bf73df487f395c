"""The segments of AdvancedMD's 271, XML turned into JSON, wherever they stand in the tree.

Source: the sample in VSee's "Insurance API (Draft)". It names only a few attributes (`@EB01_…`, `@AAA03_…`, `@MSG01_…`), so
elements are matched by their prefix, a single child and a list of children are the same, and a segment belongs to the
loop whose object holds its EB segment.

Invariant: any JSON at all is walked without an error, without recursion, each value once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from covergate.eligibility.sourced import NOT_STATED, Sourced, pointer
from covergate.eligibility.x12.rows import element

_NAME = re.compile(r"@?([A-Z][A-Z0-9]{1,2})([0-9]{2})(?:[_-]?([0-9]{2}))?(?:_.*)?")
"""`@EB01_EligibilityOrBenefitInformationCode` → EB, 01; `@EB13_02_…` → EB, 13, 02."""
_KEYS = 2048
"""Different keys that are remembered: an answer repeats a few dozen, hundreds of times."""


class LoopLevel(StrEnum):
    """The party that a segment is about; the value is the X12 loop."""

    PAYER = "2100A"
    PROVIDER = "2100B"
    SUBSCRIBER = "2100C"
    DEPENDENT = "2100D"


# HL03 (005010X279A1).
_LEVELS_BY_CODE = {
    "20": LoopLevel.PAYER,
    "21": LoopLevel.PROVIDER,
    "22": LoopLevel.SUBSCRIBER,
    "23": LoopLevel.DEPENDENT,
}

# Words in the names of the sample's elements; "DependentDetail" is not in it and follows their pattern.
_LEVELS_BY_WORD = {
    "InformationSourceDetail": LoopLevel.PAYER,
    "InformationReceiverDetail": LoopLevel.PROVIDER,
    "SubscriberDetail": LoopLevel.SUBSCRIBER,
    "DependentDetail": LoopLevel.DEPENDENT,
}


class Segment(NamedTuple):
    """`loop` is the same for all segments of one EB loop, None outside any; `at` is the object that holds it.

    `party` is the object of the person or organization that it is about: there may be several dependents.
    """

    name: str
    elements: Mapping[str, tuple[Sourced[str], ...]]
    level: LoopLevel | None
    loop: str | None
    at: str = ""
    party: str = ""

    def one(self, position: str) -> Sourced[str]:
        elements = self.elements.get(position)
        return elements[0] if elements else NOT_STATED

    def all(self, position: str) -> tuple[Sourced[str], ...]:
        return self.elements.get(position, ())

    def text(self, position: str) -> str | None:
        return self.one(position).value


class _Place(NamedTuple):
    value: Any
    at: str
    level: LoopLevel | None
    loop: str | None
    is_the_loops_own: bool = False
    party: str = ""


def segments(raw: Any, at: str) -> list[Segment]:
    """All segments below `raw`, which stands at the JSON pointer `at`, in the order of the document."""
    every: list[Segment] = []
    waiting = [_Place(raw, at, None, None)]
    while waiting:
        place = waiting.pop()
        if isinstance(place.value, dict):
            own, below = _read(place)
            every += own
            waiting += reversed(below)
        elif isinstance(place.value, list):
            waiting += [
                _Place(value, at, place.level, place.loop, place.is_the_loops_own, _party_in(place, at))
                for index, value in reversed(list(enumerate(place.value)))
                for at in (pointer(place.at, index),)
            ]
    return every


def _read(place: _Place) -> tuple[list[Segment], list[_Place]]:
    """The segments whose elements are keys of this very object, nearly always one or none; and the children."""
    at, is_eb = place.at, False
    grouped: dict[str, dict[str, tuple[Sourced[str], ...]]] = {}
    below: list[tuple[str, Any]] = []
    for key, value in place.value.items():
        name, position, step, of_eb = _known(key)
        is_eb = is_eb or of_eb
        if name is None:
            if isinstance(value, (dict, list)):
                below.append((key, value))
        elif isinstance(value, str):
            if text := value.strip():
                grouped.setdefault(name, {})[position] = (Sourced(text, (f"{at}/{step}",)),)
        elif elements := _elements(value, f"{at}/{step}"):
            grouped.setdefault(name, {})[position] = elements
    # An object with an EB segment of its own opens a loop, unless the object around it has done so.
    loop = at if is_eb and not place.is_the_loops_own else place.loop
    own = [Segment(name, elements, place.level, loop, place.at, place.party) for name, elements in grouped.items()]
    return own, _below(place, below, loop, is_eb=is_eb) if below else []


class _Key(NamedTuple):
    """`name` and `position` of the element that a key names, None if it names none; `step` is the key in a pointer."""

    name: str | None
    position: str
    step: str
    of_eb: bool


@lru_cache(_KEYS)
def _known(key: str) -> _Key:
    step, of_eb = pointer("", key).removeprefix("/"), _is_of_eb(key)
    match = _NAME.fullmatch(key)
    if match is None:
        return _Key(None, "", step, of_eb)
    return _Key(match[1], match[2] if match[3] is None else f"{match[2]}.{match[3]}", step, of_eb)


def _elements(value: Any, at: str) -> tuple[Sourced[str], ...]:
    """An attribute, or one or several children with text (`#text` if such a child has attributes too)."""
    if isinstance(value, list):
        values: Iterable[tuple[Any, str]] = [(one, pointer(at, index)) for index, one in enumerate(value)]
    elif isinstance(value, dict):
        values = [(value.get("#text"), pointer(at, "#text"))]
    else:
        return (only,) if (only := element(value, at)) else ()
    elements = (element(one, where) for one, where in values)
    return tuple(one for one in elements if one)


def _below(place: _Place, below: list[tuple[str, Any]], loop: str | None, *, is_eb: bool) -> list[_Place]:
    """An object opens a loop for all below it if just one child is an EB segment."""
    level = _level_of_hl(place.value)
    party = place.at if level else place.party
    level = level or place.level
    opens = not is_eb and _ebs(place.value) == 1
    loop = place.at if opens else loop
    return [
        _Place(value, at, _LEVELS_BY_WORD.get(key, level), loop, opens, at if key in _LEVELS_BY_WORD else party)
        for key, value in below
        for at in (pointer(place.at, key),)
    ]


def _party_in(place: _Place, at: str) -> str:
    """Of a list of parties each element is one."""
    return at if place.at == place.party else place.party


def _is_eb(value: Any) -> bool:
    return isinstance(value, dict) and any(map(_is_of_eb, value))


@lru_cache(_KEYS)
def _is_of_eb(key: str) -> bool:
    return key.lstrip("@").startswith("EB01")


def _ebs(value: Mapping[str, Any]) -> int:
    """How many of the children are EB segments."""
    return sum(
        sum(map(_is_eb, child)) if isinstance(child, list) else _is_eb(child)
        for child in value.values()
        if isinstance(child, (dict, list))
    )


def _level_of_hl(value: Mapping[str, Any]) -> LoopLevel | None:
    """The level of an object that has an HL segment as a child."""
    for child in value.values():
        if isinstance(child, dict):
            for key, code in child.items():
                if key.startswith("@HL03") and isinstance(code, str) and code in _LEVELS_BY_CODE:
                    return _LEVELS_BY_CODE[code]
    return None
