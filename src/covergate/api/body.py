"""Request bodies: read raw, within a limit, strict JSON, validated at once with everything that is wrong.

Strict: UTF-8, no NaN, no repeated keys, strings that are text. Two readers of one body must never disagree on what it says.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from covergate.api.validation import MOST_ERRORS, field_errors
from covergate.errors import FieldError, Problem

LIMIT = 256 * 1024

Model = TypeVar("Model", bound=BaseModel)
EverythingWrong = Callable[[Sequence[ErrorDetails], Any], list[FieldError]]


def json_body(
    model: type[Model], everything_wrong: EverythingWrong | None = None
) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that is the validated body. `everything_wrong` finds what the model's own errors hide."""

    async def body(request: Request) -> Model:
        require_json(request)
        return parsed(model, await read_body(request, LIMIT), everything_wrong)

    return body


async def no_body(request: Request) -> None:
    """For routes that take nothing: an empty body, or an empty JSON object."""
    content = await read_body(request, LIMIT)
    if content:
        require_json(request)
        if (document := loads(content)) != {}:
            names = list(document)[:100] if isinstance(document, dict) else []
            found = [FieldError("unknown_field", "is not known here", pointer=f"/{_escaped(name)}") for name in names]
            raise Problem("invalid_request", "this takes no body", found)


def parsed(model: type[Model], content: bytes, everything_wrong: EverythingWrong | None = None) -> Model:
    """Raises Problem `invalid_json` or `invalid_request`."""
    document = loads(content)
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        raise _invalid_json()
    found = field_errors(details, document)
    if everything_wrong is not None and len(found) < MOST_ERRORS:
        found += everything_wrong(details, document)
    raise Problem("invalid_request", "errors lists everything that is wrong", found)


async def read_body(request: Request, limit: int) -> bytes:
    """Chunked or not: nothing past the limit is kept. Raises Problem `body_too_large`."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 12 or int(length) > limit):
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "send JSON with Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported_media_type", "send the body without Content-Encoding")


def loads(content: bytes) -> Any:
    """The document. Raises Problem `invalid_json`."""
    try:
        text = content.decode()
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_int=_integer)
        if "\\u" in text:
            # A lone surrogate is no text: it could be neither stored nor shown.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise _invalid_json() from None
    return document


def _invalid_json() -> Problem:
    found = FieldError("invalid_json", "is not JSON, is nested too deeply, or repeats a key", pointer="")
    return Problem("invalid_json", "the body must be JSON in UTF-8 whose objects repeat no key", [found])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError
    return document


def _refuse(_: str) -> Any:
    """NaN and Infinity are not JSON."""
    raise ValueError


def _integer(digits: str) -> int:
    if len(digits) > 300:
        raise ValueError
    return int(digits)


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"a body has at most {limit // 1024} KB")


def _escaped(name: str) -> str:
    return name[:100].replace("~", "~0").replace("/", "~1")
