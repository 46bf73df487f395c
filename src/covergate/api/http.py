"""HTTP by hand: the JSON body, the headers `Prefer` and `Idempotency-Key`, and JSON answers.

A body is read raw, within a limit, and is strict JSON: UTF-8, no NaN, no repeated keys, strings that are text. Two readers of
one body must never disagree on what it says. It is validated at once, with everything that is wrong.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar, cast

import orjson
from fastapi import Depends, Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from covergate.access.caller import Caller
from covergate.access.wait_places import WaitPlaces
from covergate.api.deps import credentials_of, gateway_of, unauthorized, waiters_of
from covergate.api.validation import MOST_ERRORS, UNKNOWN_FIELD, field_errors
from covergate.eligibility.sourced import pointer
from covergate.errors import FieldError, Problem
from covergate.verifications.queries import has_ended

MOST_BODY_BYTES = 256 * 1024
LONGEST_INTEGER = 300
"""Digits. Python refuses to parse more than 4,300, and parsing takes time that grows with their square."""

LONGEST_WAIT = 60
SHORTEST_PATIENCE = 0.05
"""Seconds between two looks at a credential that has expired by our clock, but not yet by the database's."""
IDEMPOTENCY_KEY = "Idempotency-Key"

Model = TypeVar("Model", bound=BaseModel)
OtherErrors = Callable[[Request, Sequence[ErrorDetails], Any], Awaitable[list[FieldError]]]

_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED_OR_SEPARATOR = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|([,;])', re.DOTALL)
"""Linear: a quote that is never closed takes the rest, so that no other begins inside it and is searched to the end again."""
_WEIGHT = re.compile(r"q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
MOST_MEDIA_TYPES = 50
_WAIT = re.compile(r'wait\s*=\s*("?)([0-9]++)\1', re.IGNORECASE)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, encoded once, without a model in between. No cache may keep it."""
    return Response(
        orjson.dumps(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def json_body(
    model: type[Model], other_errors: OtherErrors | None = None, *, may_be_empty: bool = False
) -> Callable[[Request], Awaitable[Model]]:
    """A dependency: the validated body. `other_errors` finds those that the model's own errors hide.

    `may_be_empty`: no body is an empty object.
    """

    async def body(request: Request) -> Model:
        if not may_be_empty:
            require_json(request)
        content = await read_body(request, MOST_BODY_BYTES)
        if may_be_empty:
            if not content:
                return model()
            require_json(request)
        try:
            return validated(model, content)
        except WrongFields as wrong:
            errors = wrong.errors
            if other_errors is not None and len(errors) < MOST_ERRORS:
                errors += await other_errors(request, wrong.details, wrong.document)
        raise invalid_request(errors)

    return body


async def no_body(request: Request) -> None:
    """For routes that take nothing: an empty body, or an empty JSON object."""
    content = await read_body(request, MOST_BODY_BYTES)
    if content:
        require_json(request)
        if (document := loads(content)) != {}:
            names = list(document)[:100] if isinstance(document, dict) else []
            errors = [FieldError("unknown_field", UNKNOWN_FIELD, pointer=pointer("", name[:100])) for name in names]
            raise Problem("invalid_request", "this takes no body", errors)


NoBody = Annotated[None, Depends(no_body)]


class WrongFields(Exception):
    """Fields of a body do not validate."""

    def __init__(self, details: Sequence[ErrorDetails], document: Any) -> None:
        super().__init__()
        self.details = details
        self.document = document
        self.errors = field_errors(details, document)


def parsed(model: type[Model], content: bytes) -> Model:
    """Raises Problem `invalid_json` or `invalid_request`."""
    try:
        return validated(model, content)
    except WrongFields as wrong:
        raise invalid_request(wrong.errors) from None


def validated(model: type[Model], content: bytes) -> Model:
    """Raises Problem `invalid_json`, and WrongFields."""
    document = loads(content)
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        # Pydantic's parser takes less depth than Python's; nothing else is JSON to one of them only.
        raise _invalid_json("must be nested less deeply")
    raise WrongFields(details, document)


def invalid_request(errors: Sequence[FieldError]) -> Problem:
    return Problem("invalid_request", "errors lists everything that is wrong", errors)


async def read_body(request: Request, limit: int, hold: Callable[[int], None] = lambda size: None) -> bytes:
    """Chunked or not: nothing past the limit is kept. Raises Problem `body_too_large`, and whatever `hold` does, which is told
    how much is held.
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 12 or int(length) > limit):
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        hold(size)
        chunks.append(chunk)
    return b"".join(chunks)


def require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "send JSON with Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported_media_type", "send the body without Content-Encoding")


def loads(content: bytes) -> Any:
    """The document. Raises Problem `invalid_json`, which tells the line and column if the parser knows them."""
    try:
        text = content.decode()
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
        if "\\u" in text:
            # A lone surrogate is no text: it could be neither stored nor shown.
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _invalid_json(f"must be JSON; reading stopped at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = len(content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        raise _invalid_json(f"must be UTF-8; reading stopped at line {line}, column {column}") from None
    except UnicodeEncodeError:
        raise _invalid_json("must not escape a lone surrogate") from None
    except RecursionError:
        raise _invalid_json("must be nested less deeply") from None
    return document


def _invalid_json(message: str) -> Problem:
    errors = [FieldError("invalid_json", message, pointer="")]
    return Problem("invalid_json", "the body must be JSON in UTF-8 whose objects repeat no key", errors)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _invalid_json("must not repeat a key in an object")
    return document


def _constant(_: str) -> Any:
    raise _invalid_json("must be JSON, which has neither NaN nor Infinity")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise _invalid_json(f"must have integers of at most {LONGEST_INTEGER} digits")
    return int(digits)


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"a body has at most {limit // 1024} KB")


def idempotency_key(request: Request) -> str | None:
    """1 to 255 visible ASCII characters, once."""
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1 or _VISIBLE.fullmatch(given[0]) is None:
        message = "must be 1 to 255 visible ASCII characters, sent once"
        errors = [FieldError("invalid_value", message, parameter=IDEMPOTENCY_KEY)]
        raise Problem("invalid_request", "the Idempotency-Key cannot be used", errors)
    return given[0]


def wait_seconds(request: Request) -> int | None:
    """The first `wait` of `Prefer` (RFC 7240) that makes sense, 60 at most."""
    for header in request.headers.getlist("prefer"):
        for preference in _preferences(header):
            wait = _WAIT.fullmatch(preference.strip())
            if wait is not None:
                digits = wait[2].lstrip("0") or "0"
                return LONGEST_WAIT if len(digits) > 3 else min(int(digits), LONGEST_WAIT)
    return None


def prefers_html(request: Request) -> bool:
    """Whether `Accept` (RFC 9110) likes a page better than JSON; without one, or if it likes both alike, JSON is sent."""
    qualities = {"text/html": 0.0, "application/json": 0.0}
    for header in request.headers.getlist("accept"):
        for wanted in header.split(",")[:MOST_MEDIA_TYPES]:
            name, *parameters = (part.strip().lower() for part in wanted.split(";"))
            if name in qualities:
                qualities[name] = max(qualities[name], _quality(parameters))
            elif name in ("*/*", "application/*"):
                qualities["application/json"] = max(qualities["application/json"], _quality(parameters))
    return qualities["text/html"] > qualities["application/json"]


def _quality(parameters: Sequence[str]) -> float:
    weight = next((value for value in parameters if value.startswith("q=")), "q=1")
    return float(weight[2:]) if _WEIGHT.fullmatch(weight) else 0.0


def _preferences(header: str) -> list[str]:
    """Split at commas outside quotes; what follows a semicolon are parameters of a preference, and `wait` has none."""
    preferences, start, parameters = [], 0, None
    for separator in _QUOTED_OR_SEPARATOR.finditer(header):
        if separator[2] == ";" and parameters is None:
            parameters = separator.start()
        elif separator[2] == ",":
            preferences.append(header[start : separator.start() if parameters is None else parameters])
            start, parameters = separator.end(), None
    preferences.append(header[start : len(header) if parameters is None else parameters])
    return preferences


async def ended_within(request: Request, caller: Caller, verification_id: str, seconds: int) -> bool:
    """Whether the verification has ended, waiting for that up to `seconds`.

    A key with too many requests that wait is answered at once, as if the time were over: a preference may be passed over. They
    are counted over all processes, and only those that find the verification open.
    The waiter is registered first, then the row is read, so no end slips between. Waiting holds no pool connection.
    Raises Problem `not_found`, and `unauthorized` if the credential is revoked or expires meanwhile.
    """
    gateway, waiters, credentials = gateway_of(request), waiters_of(request), credentials_of(request)
    places = cast(WaitPlaces, request.app.state.wait_places)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with waiters.registered(verification_id, caller.id) as woken, places.one_for(caller.id) as takes_place:
        while True:
            woken.clear()
            if not await credentials.is_still_valid(caller):
                raise unauthorized()
            if await has_ended(gateway, caller, verification_id):
                return True
            left = until - loop.time()
            if left <= 0 or waiters.closing or not await takes_place():
                return False
            # A notification may be lost: the row is looked at once more before the wait counts as in vain.
            request.state.waited = True
            patience = max(caller.valid_until - time.monotonic(), SHORTEST_PATIENCE)
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(left, patience))
