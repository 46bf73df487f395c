"""Authorizations on file: the numbers that REF G1 of a row states, with the row's benefit dates (docs/x12.md#authorizations)."""

from __future__ import annotations

from collections.abc import Sequence

from covergate.eligibility.result import Authorization
from covergate.eligibility.x12.rows import BENEFIT_DAYS, EbRow, date_range

_PRIOR_AUTHORIZATION = "G1"
"""REF01: Prior Authorization Number."""


def authorizations_of(rows: Sequence[EbRow]) -> list[Authorization]:
    """One for each number and span of days, however many rows state it."""
    found: dict[tuple[object, ...], Authorization] = {}
    for row in rows:
        days = date_range(row.days, BENEFIT_DAYS)
        for reference in row.references:
            if reference.qualifier == _PRIOR_AUTHORIZATION and reference.number.value:
                stated = (reference.number.value, days.starts_on.value, days.ends_on.value)
                number, starts_on, ends_on = stated
                found[stated] = Authorization(number=number, starts_on=starts_on, ends_on=ends_on)
    return list(found.values())
