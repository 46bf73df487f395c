"""A value together with the places in the raw document that it was read from; how money and percentages are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Generic, NamedTuple, TypeVar

from covergate.eligibility.part import ResultPart

_T = TypeVar("_T")
_U = TypeVar("_U")

_CENT = Decimal("0.01")
_TOO_MUCH = Decimal(10) ** 9


class PhraseSource(ResultPart):
    """Where a payer's fixed phrase stands, and the entry of the phrase book that read it: `phrase:<id>@<version>`."""

    pointers: list[str]
    by: str


Sources = dict[str, list[str] | PhraseSource]
"""Of each stated field of a row its pointers, for a value that a phrase says with the phrase."""


def pointers_at(sources: Mapping[str, Any], field: str) -> list[str]:
    """The pointers of a field, however its value was read; none if it is not stated. Also of `sources` as JSON."""
    source: list[str] | PhraseSource | Mapping[str, Any] = sources.get(field, [])
    if isinstance(source, list):
        return source
    return source.pointers if isinstance(source, PhraseSource) else list(source["pointers"])


class Sourced(NamedTuple, Generic[_T]):
    """A value as it was read, None if the vendor did not state it, and the JSON pointers to where it stands."""

    value: _T | None
    pointers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.value is not None

    def __or__(self, other: Sourced[_T]) -> Sourced[_T]:
        """This one, or the other if this is not stated."""
        return self if self.value is not None else other

    def then(self, convert: Callable[[_T], _U | None]) -> Sourced[_U]:
        return NOT_STATED if self.value is None else Sourced(convert(self.value), self.pointers)

    def meaning(self, table: Mapping[_T, _U], otherwise: _U) -> _U:
        """The table's entry for this code, `otherwise` for a code that is not stated or not in the table."""
        return otherwise if self.value is None else table.get(self.value, otherwise)


NOT_STATED: Sourced[Any] = Sourced(None)


def pointers_of(fields: Iterable[Sourced[Any]]) -> list[str]:
    """The pointers of the stated ones of these, sorted, each once."""
    pointers = {pointer for field in fields if field.value is not None for pointer in field.pointers}
    return sorted(pointers) if len(pointers) > 1 else list(pointers)


def row(**fields: Sourced[Any]) -> dict[str, Any]:
    """The stated fields, and their `sources`, as arguments for a row of `eligibility.result`."""
    stated: dict[str, Any] = {}
    sources: dict[str, list[str]] = {}
    for name, (value, pointers) in fields.items():
        if value is not None:
            stated[name] = value
            if pointers:
                sources[name] = list(pointers)
    stated["sources"] = sources
    return stated


def pointer(prefix: str, *path: Any) -> str:
    """A JSON pointer (RFC 6901) below `prefix`.

    >>> pointer("/exchanges/0/body", "benefits", 0, "copay")
    '/exchanges/0/body/benefits/0/copay'
    """
    for step in path:
        name = str(step)
        if "~" in name or "/" in name:
            name = name.replace("~", "~0").replace("/", "~1")
        prefix = f"{prefix}/{name}"
    return prefix


def money(value: str | int | float | Decimal | None) -> Decimal | None:
    """US dollars with two decimals, from vendors' spellings (`$1,234.5`, `30`).

    None for what is blank, unreadable, negative or of ten digits, which no benefit has.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value).replace("$", "").replace(",", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount >= _TOO_MUCH:
        return None
    return amount.quantize(_CENT, rounding=ROUND_HALF_UP)


def percent(value: str | int | float | Decimal | None, *, fraction: bool = False) -> Decimal | None:
    """The patient's share, 0-100, exact; None for anything else.

    `fraction` if the vendor writes 0.1 for ten percent; what carries a percent sign is none.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        share = Decimal(str(value).replace("%", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not share.is_finite():
        return None
    share = share * 100 if fraction and "%" not in str(value) else share
    return share.normalize() if 0 <= share <= 100 else None
