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
_SHAPES = 2048
"""Sets of keys that are remembered: an answer repeats a few dozen, hundreds of times."""


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
        return self.elements.get(position, ABSENT)[0]

    def all(self, position: str) -> tuple[Sourced[str], ...]:
        return self.elements.get(position, ())

    def text(self, position: str) -> str | None:
        return self.elements.get(position, ABSENT)[0].value


ABSENT: tuple[Sourced[str], ...] = (NOT_STATED,)


_Place = tuple[Any, str, LoopLevel | None, str | None, bool, str]
"""A value, where it stands, its level, its loop, whether the object around it opened that loop, its party."""


def segments(raw: Any, at: str) -> list[Segment]:
    """All segments below `raw`, which stands at the JSON pointer `at`, in the order of the document."""
    every: list[Segment] = []
    waiting: list[_Place] = [(raw, at, None, None, False, "")]
    while waiting:
        value, at, level, loop, is_the_loops_own, party = waiting.pop()
        if isinstance(value, dict):
            shape = _shape(tuple(value))
            # An object with an EB segment of its own opens a loop, unless the object around it has done so.
            if shape.is_eb and not is_the_loops_own:
                loop = at
            for name, positions in shape.segments:
                if elements := _elements_in(value, at, positions):
                    every.append(_new(Segment, (name, elements, level, loop, at, party)))
            if shape.others:
                waiting += _below(value, at, level, loop, party, shape)
        elif isinstance(value, list):
            # Of a list of parties each element is one.
            waiting += [
                (one, here, level, loop, is_the_loops_own, here if at == party else party)
                for index, one in reversed(list(enumerate(value)))
                for here in (f"{at}/{index}",)
            ]
    return every


_new = tuple.__new__
"""Makes a NamedTuple of its values, in half of the time: an answer has a thousand of them."""


class _Shape(NamedTuple):
    """What the keys of an object name. Each key stands beside its step in a pointer (`/@EB01_`).

    `segments` has the elements of each segment by their positions, `others` the keys that name no element.
    """

    segments: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    others: tuple[tuple[str, str], ...]
    is_eb: bool
    levels: tuple[str, ...]


@lru_cache(_SHAPES)
def _shape(keys: tuple[str, ...]) -> _Shape:
    named: dict[str, list[tuple[str, str, str]]] = {}
    others: list[tuple[str, str]] = []
    for key in keys:
        match, step = _NAME.fullmatch(key), pointer("", key)
        if match is None:
            others.append((key, step))
        else:
            position = match[2] if match[3] is None else f"{match[2]}.{match[3]}"
            named.setdefault(match[1], []).append((key, position, step))
    return _Shape(
        segments=tuple((name, tuple(elements)) for name, elements in named.items()),
        others=tuple(others),
        is_eb=any(key.lstrip("@").startswith("EB01") for key in keys),
        levels=tuple(key for key in keys if key.startswith("@HL03")),
    )


def _elements_in(
    value: Mapping[str, Any], at: str, positions: tuple[tuple[str, str, str], ...]
) -> dict[str, tuple[Sourced[str], ...]]:
    found: dict[str, tuple[Sourced[str], ...]] = {}
    for key, position, step in positions:
        stated = value[key]
        if isinstance(stated, str):
            if text := stated.strip():
                found[position] = (_new(Sourced, (text, (at + step,))),)
        elif elements := _elements(stated, at + step):
            found[position] = elements
    return found


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


def _below(
    value: Mapping[str, Any], at: str, level: LoopLevel | None, loop: str | None, party: str, shape: _Shape
) -> list[_Place]:
    """The children that are no elements, last first. An object opens a loop for all below it if just one is an EB segment."""
    ebs, own_level = _told_by_children(value)
    if own_level:
        level, party = own_level, at
    opens = ebs == 1 and not shape.is_eb
    if opens:
        loop = at
    return [
        (child, here, _LEVELS_BY_WORD.get(key, level), loop, opens, here if key in _LEVELS_BY_WORD else party)
        for key, step in reversed(shape.others)
        if isinstance(child := value[key], (dict, list))
        for here in (at + step,)
    ]


def _told_by_children(value: Mapping[str, Any]) -> tuple[int, LoopLevel | None]:
    """How many of the children are EB segments, and the level that an HL segment among them names."""
    ebs, level = 0, None
    for child in value.values():
        if isinstance(child, dict):
            shape = _shape(tuple(child))
            ebs += shape.is_eb
            for key in shape.levels if level is None else ():
                level = level or _LEVELS_BY_CODE.get(child[key]) if isinstance(child[key], str) else level
        elif isinstance(child, list):
            ebs += sum(_shape(tuple(one)).is_eb for one in child if isinstance(one, dict))
    return ebs, level
