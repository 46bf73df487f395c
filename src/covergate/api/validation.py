"""Pydantic's errors as ours: JSON pointers or parameter names, few codes, and messages that say what would be right.

A message begins with "must" and never repeats a value. A code that pydantic does not know is our own
(`eligibility.inquiry.invalid`) and keeps its message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, Field
from pydantic_core.core_schema import ErrorType

from covergate.eligibility.inquiry import invalid
from covergate.eligibility.sourced import pointer
from covergate.errors import FieldError

MOST_ERRORS = 200
LONGEST_KEY = 100
"""A longer unknown key is not repeated: the pointer then names its object."""

_PYDANTIC_TYPES = frozenset(get_args(ErrorType))

MUST_BE_GIVEN = "must be given"
UNKNOWN_FIELD = "must be left out: there is no such field"
UNKNOWN_PARAMETER = "must be left out: there is no such parameter"
INSTANT = "must be an RFC 3339 instant with a zone, e.g. 2026-11-21T15:00:00Z"

_MESSAGES: dict[str, tuple[str, str]] = {
    "missing": ("required", MUST_BE_GIVEN),
    "extra_forbidden": ("unknown_field", UNKNOWN_FIELD),
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
    "string_too_short": ("too_short", "must have at least {min_length} character{s}"),
    "string_too_long": ("too_long", "must have at most {max_length} character{s}"),
    "too_short": ("too_short", "must have at least {min_length} item{s}"),
    "too_long": ("too_long", "must have at most {max_length} item{s}"),
    "enum": ("invalid_value", "must be one of: {expected}"),
    "literal_error": ("invalid_value", "must be one of: {expected}"),
    "greater_than": ("out_of_range", "must be more than {gt}"),
    "greater_than_equal": ("out_of_range", "must be {ge} or more"),
    "less_than": ("out_of_range", "must be less than {lt}"),
    "less_than_equal": ("out_of_range", "must be {le} or less"),
    "date_parsing": ("invalid_date", "must be a date of the calendar as YYYY-MM-DD"),
    "date_from_datetime_parsing": ("invalid_date", "must be a date of the calendar as YYYY-MM-DD"),
    "timezone_aware": ("invalid_instant", INSTANT),
    "datetime_parsing": ("invalid_instant", INSTANT),
    "datetime_from_date_parsing": ("invalid_instant", INSTANT),
}
"""Pydantic's error type → our code and message. Braces are filled from the rule, never from the value."""


@dataclass(frozen=True, slots=True)
class OneOf(GroupedMetadata):
    """One of a set of words known only at run time."""

    words: tuple[str, ...]

    def __iter__(self) -> Iterator[object]:
        yield AfterValidator(self._known)
        yield Field(json_schema_extra={"enum": list(self.words)})

    def _known(self, value: str) -> str:
        if value not in self.words:
            raise invalid("invalid_value", f"must be one of: {', '.join(self.words)}")
        return value


def field_errors(errors: Sequence[Any], document: Any = None, *, parameters: bool = False) -> list[FieldError]:
    """`document` is the validated body: its shape tells which parts of a location are its own names and which pydantic's."""
    told: dict[tuple[str, str], FieldError] = {}
    for error in errors:
        code, message = _told(error)
        if parameters:
            # ("query", name) or, in a repeated one, ("query", name, index)
            name = str(error["loc"][1]) if len(error["loc"]) > 1 else str(error["loc"][0])
            if code == "unknown_field":
                code, message = "unknown_parameter", UNKNOWN_PARAMETER
            where = name if len(name) <= LONGEST_KEY else name[:LONGEST_KEY] + "…"
            told.setdefault((where, code), FieldError(code, message, parameter=where))
        else:
            where = pointer("", *path_of(error, document))
            told.setdefault((where, code), FieldError(code, message, pointer=where))
        if len(told) == MOST_ERRORS:
            break
    return list(told.values())


def _told(error: Mapping[str, Any]) -> tuple[str, str]:
    """Our code and message for one of pydantic's errors."""
    type_ = error["type"]
    if type_ in _MESSAGES:
        code, message = _MESSAGES[type_]
        rule = error.get("ctx", {})
        least = rule.get("min_length", rule.get("max_length"))
        words = str(rule.get("expected", "")).replace("'", "").replace(" or ", ", ")
        return code, message.format_map({**rule, "expected": words, "s": "" if least == 1 else "s"})
    if type_ in _PYDANTIC_TYPES:
        return "invalid_value", "must be valid"
    return type_, error["msg"]


def path_of(error: Mapping[str, Any], document: Any) -> list[str | int]:
    """The keys and indexes from the root to the error, without pydantic's branches of unions and validators."""
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
