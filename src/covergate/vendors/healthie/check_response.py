"""What a check's `response` holds, in whichever dialect, and the errors in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from covergate.eligibility.failure import Aaa
from covergate.eligibility.result import Member, PostalAddress
from covergate.eligibility.sourced import NOT_STATED, Sourced, pointer
from covergate.eligibility.x12.names import AAA03_NAMES
from covergate.eligibility.x12.rows import Days, EbRow, element
from covergate.vendors.document import Node


@dataclass(frozen=True, slots=True)
class CheckResponse:
    """A check's `response`, in either dialect. `errors` are (code, text) of errors that are no AAA.

    `plan` and `payer` are what stands outside of any row, by the names of the result's fields.
    """

    rows: tuple[EbRow, ...] = ()
    plan_days: tuple[Days, ...] = ()
    aaas: tuple[Aaa, ...] = ()
    errors: tuple[tuple[str | None, str | None], ...] = ()
    message: str | None = None
    """The vendor's own text beside the first AAA or error."""
    insured: Member | None = None
    dependents: tuple[Member, ...] = ()
    plan: Mapping[str, Sourced[Any]] = field(default_factory=dict)
    payer: Mapping[str, Sourced[Any]] = field(default_factory=dict)
    answered_on: date | None = None
    trace_number: str | None = None

    @property
    def is_empty(self) -> bool:
        """It says who is insured at most."""
        return not (self.rows or self.aaas or self.errors)


# AAA04 in words.
_FOLLOW_UPS: dict[str, str] = {
    "please correct and resubmit": "C",
    "resubmission not allowed": "N",
    "please resubmit original transaction": "P",
    "resubmission allowed": "R",
    "do not resubmit; inquiry initiated to a third party": "S",
    "please wait 30 days and resubmit": "W",
    "please wait 10 days and resubmit": "X",
    "do not resubmit; we will hold your request and respond again shortly": "Y",
}


def sort_errors(
    errors: list[Node], code: str, words: str, loop: str | None = None
) -> tuple[tuple[Aaa, ...], tuple[tuple[str | None, str | None], ...]]:
    """Errors whose code is an AAA03 as such; the others by code and text. `loop` is where they stand, if known."""
    aaas: list[Aaa] = []
    others: list[tuple[str | None, str | None]] = []
    for error in errors:
        error_code = error.text(code)
        if error_code.value in AAA03_NAMES:
            follow_up = error.text("followupAction").then(lambda text: _FOLLOW_UPS.get(" ".join(text.lower().split())))
            aaas.append(
                Aaa(
                    code=error_code.value,
                    follow_up=follow_up.value,
                    loop=loop,
                    sources=list(error_code.pointers),
                )
            )
        else:
            others.append((error_code.value, error.text(words).value))
    return tuple(aaas), tuple(others)


def split_codes(node: Node, by: str | None = r"[\^,|]") -> list[Sourced[str]]:
    """The texts of a list, or of one text that joins several."""
    if isinstance(node.value, list):
        parts = [element(value, pointer(node.pointer, index)) for index, value in enumerate(node.value)]
        return [part for part in parts if part]
    whole = element(node.value, node.pointer)
    if whole.value is None:
        return []
    texts = re.split(by, whole.value) if by is not None else [whole.value]
    return [Sourced(text_.strip(), whole.pointers) for text_ in texts if text_.strip()]


def postal_address(parts: Mapping[str, Sourced[str]]) -> Sourced[PostalAddress]:
    """Of the lines that are stated; not stated if none is."""
    stated = {name: part.value for name, part in parts.items() if part}
    if not stated:
        return NOT_STATED
    return Sourced(PostalAddress(**stated), tuple(at for part in parts.values() if part for at in part.pointers))


def compact_day(value: object) -> date | None:
    """`yyyymmdd`."""
    if not isinstance(value, str) or not re.fullmatch("[0-9]{8}", value.strip()):
        return None
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        return None
