"""Values together with the places in the raw document that they were read from, and how money and percentages are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

CENT = Decimal("0.01")


def money(value: str | int | float | Decimal | None) -> Decimal | None:
    """US dollars with two decimals, from what vendors write (`$1,234.5`, `30`); None for blank, unreadable or negative."""
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value).replace("$", "").replace(",", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount >= Decimal(10) ** 10:
        return None
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def percent(value: str | int | float | Decimal | None, *, fraction: bool = False) -> Decimal | None:
    """The patient's share 0-100, exact; `fraction` where the vendor writes 0.1 for ten percent. None for anything else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        share = Decimal(str(value).replace("%", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not share.is_finite():
        return None
    share = share * 100 if fraction else share
    return share.normalize() if 0 <= share <= 100 else None


def _percent_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


Sources = dict[str, list[str]]


def pointers(prefix: str, **fields: Iterable[Any] | str | None) -> Sources:
    """`sources` from field → path below `prefix` (one path or several); fields given as None are left out.

    >>> pointers("/exchanges/0/body", total=("benefits", 0, "copay"))
    {'total': ['/exchanges/0/body/benefits/0/copay']}
    """
    found: Sources = {}
    for field, path in fields.items():
        if path is not None:
            found[field] = [pointer(prefix, *([path] if isinstance(path, str) else path))]
    return found


def pointer(prefix: str, *path: Any) -> str:
    """A JSON pointer (RFC 6901) below `prefix`."""
    return prefix + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


T = TypeVar("T")


U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A value as we read it, None where the vendor stated none, and the pointers to what it was read from."""

    value: T | None
    pointers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.value is not None

    def __or__(self, other: Sourced[T]) -> Sourced[T]:
        """This one, or the other where this is not stated."""
        return self or other

    def then(self, convert: Callable[[T], U | None]) -> Sourced[U]:
        return Sourced(None if self.value is None else convert(self.value), self.pointers)
