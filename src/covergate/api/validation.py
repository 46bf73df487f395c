"""Pydantic's errors as ours: JSON pointers or parameter names, a small set of codes, messages that repeat no value.

A code that pydantic does not know is one of our own (`eligibility.inquiry.invalid`) and passes through with its message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import AfterValidator
from pydantic_core.core_schema import ErrorType

from covergate.eligibility.inquiry import invalid
from covergate.eligibility.sourced import pointer
from covergate.errors import FieldError

MOST_ERRORS = 200
LONGEST_KEY = 100
"""An unknown key longer than this is not repeated; the pointer then names the object that holds it."""

_PYDANTIC_TYPES = frozenset(get_args(ErrorType))

_CODES: dict[str, tuple[str, str | None]] = {
    "missing": ("required", "is required"),
    "extra_forbidden": ("unknown_field", "is not known here"),
    "string_type": ("invalid_type", "must be a string"),
    "bool_type": ("invalid_type", "must be true or false"),
    "int_type": ("invalid_type", "must be an integer"),
    "float_type": ("invalid_type", "must be a number"),
    "dict_type": ("invalid_type", "must be an object"),
    "model_type": ("invalid_type", "must be an object"),
    "model_attributes_type": ("invalid_type", "must be an object"),
    "list_type": ("invalid_type", "must be an array"),
    "tuple_type": ("invalid_type", "must be an array"),
    "int_parsing": ("invalid_value", "must be an integer"),
    "string_too_short": ("too_short", None),
    "string_too_long": ("too_long", None),
    "too_short": ("too_short", "has too few items"),
    "too_long": ("too_long", "has too many items"),
    "string_pattern_mismatch": ("invalid_value", None),
    "enum": ("invalid_value", None),
    "literal_error": ("invalid_value", None),
    "greater_than": ("out_of_range", None),
    "greater_than_equal": ("out_of_range", None),
    "less_than": ("out_of_range", None),
    "less_than_equal": ("out_of_range", None),
    "date_parsing": ("invalid_date", "must be a date of the calendar as YYYY-MM-DD"),
    "date_from_datetime_parsing": ("invalid_date", "must be a date of the calendar as YYYY-MM-DD"),
    "timezone_aware": ("invalid_instant", "must have a zone, e.g. 2026-11-21T15:00:00Z"),
    "datetime_parsing": ("invalid_instant", "must be an RFC 3339 instant, e.g. 2026-11-21T15:00:00Z"),
    "datetime_from_date_parsing": ("invalid_instant", "must be an RFC 3339 instant, e.g. 2026-11-21T15:00:00Z"),
}
"""Pydantic's error type → our code and message; None keeps pydantic's message, which names the rule and not the value."""


def one_of(*known: str) -> AfterValidator:
    """For words that are known at run time only."""
    message = f"must be one of: {', '.join(known)}"

    def check(value: str) -> str:
        if value not in known:
            raise invalid("invalid_value", message)
        return value

    return AfterValidator(check)


def field_errors(errors: Sequence[Any], document: Any = None, *, parameters: bool = False) -> list[FieldError]:
    """`document` is what was validated: its shape tells which parts of a location are names in it and which are pydantic's."""
    found: dict[tuple[str, str], FieldError] = {}
    for error in errors:
        code, message = _said(error)
        if parameters:
            # ("query", name) or, in a repeated one, ("query", name, index)
            name = str(error["loc"][1]) if len(error["loc"]) > 1 else str(error["loc"][0])
            code = "unknown_parameter" if code == "unknown_field" else code
            where = name if len(name) <= LONGEST_KEY else name[:LONGEST_KEY] + "…"
            found.setdefault((where, code), FieldError(code, message, parameter=where))
        else:
            where = pointer("", *path_of(error, document))
            found.setdefault((where, code), FieldError(code, message, pointer=where))
        if len(found) == MOST_ERRORS:
            break
    return list(found.values())


def _said(error: Mapping[str, Any]) -> tuple[str, str]:
    type_ = error["type"]
    if type_ in _CODES:
        code, message = _CODES[type_]
        return code, message if message is not None else error["msg"]
    if type_ in _PYDANTIC_TYPES:
        return "invalid_value", "is not valid"
    return type_, error["msg"]


def path_of(error: Mapping[str, Any], document: Any) -> list[str | int]:
    """The keys and indexes from the document's root to what is wrong, without the branches of unions and validators."""
    path: list[str | int] = []
    node = document
    location = error["loc"]
    for position, part in enumerate(location):
        if isinstance(part, int) and isinstance(node, list) and part < len(node):
            node = node[part]
        elif isinstance(part, str) and isinstance(node, dict) and part in node:
            node = node[part]
            if len(part) > LONGEST_KEY:
                break
        elif not (error["type"] == "missing" and position == len(location) - 1 and isinstance(node, dict)):
            continue
        path.append(part)
    return path
