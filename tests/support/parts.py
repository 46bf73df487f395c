"""The types of what a result is made of: nothing checks them when it is made."""

from __future__ import annotations

from covergate.eligibility.part import ResultPart


def check_types(part: ResultPart) -> None:
    """Raises ValidationError if a value, at any depth, is not of its field's type."""
    values = dict(part)
    type(part).model_validate(values, strict=True)
    for value in values.values():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, ResultPart):
                check_types(one)
