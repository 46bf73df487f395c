"""Results as they were stored, by whichever version: whatever is shown has every key that is documented today."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import Result

FIRST_MAPPING_VERSION = "2026-11-21"
"""Of results from before a result named its rules."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Of a part of the result: key → what it is where nothing was stated, and the keys below which there are parts."""

    defaults: dict[str, Any]
    parts: tuple[tuple[str, type[ResultPart], bool], ...]
    """Key, the part's class, and whether it is a list of them."""


def with_every_key(stored: dict[str, Any]) -> dict[str, Any]:
    """The result, as JSON, with the keys that it lacks: null, [], false or "unknown", as where nothing was stated.

    Nothing is concluded from what is there: a result of earlier rules is not one of today's (`mapping_version`).
    """
    return _whole(Result, {"mapping_version": FIRST_MAPPING_VERSION, **stored})


def _whole(model: type[ResultPart], stored: dict[str, Any]) -> dict[str, Any]:
    form = _form_of(model)
    whole = {**form.defaults, **stored}
    for key, below, many in form.parts:
        value = whole.get(key)
        if value:
            whole[key] = [_whole(below, one) for one in value] if many else _whole(below, value)
    return whole


@cache
def _form_of(model: type[ResultPart]) -> _Form:
    defaults, parts = {}, []
    for name, field in model.model_fields.items():
        key = field.serialization_alias or field.alias or name
        origin = get_origin(field.annotation)
        below = _part_in(field.annotation)
        if below is not None:
            parts.append((key, below, origin is list))
        if not field.is_required():
            defaults[key] = _default(field)
        elif origin in _EMPTY:
            defaults[key] = _EMPTY[origin]
        elif type(None) in get_args(field.annotation):
            defaults[key] = None
    return _Form(defaults, tuple(parts))


_EMPTY: dict[Any, Any] = {list: [], dict: {}}


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, ResultPart):
        return default.model_dump(mode="json")
    return default.value if isinstance(default, Enum) else default


def _part_in(annotation: Any) -> type[ResultPart] | None:
    """The class of the part, or of the parts, that a field holds."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, ResultPart)), None)
