"""The shape of a reply: its keys and JSON types without a value, for a reply whose values must not be kept."""

from __future__ import annotations

from typing import Any

import orjson

DEEPEST = 20

_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}


def shape_of(content: bytes) -> Any:
    """Objects by their keys, of a list its first element, of anything else the name of its type."""
    try:
        return _shape(orjson.loads(content), 0)
    except orjson.JSONDecodeError:
        return "not JSON" if content else None


def _shape(value: Any, depth: int) -> Any:
    if depth < DEEPEST and isinstance(value, dict):
        return {key: _shape(member, depth + 1) for key, member in value.items()}
    if depth < DEEPEST and isinstance(value, list):
        return [_shape(member, depth + 1) for member in value[:1]]
    return _TYPES.get(type(value))
