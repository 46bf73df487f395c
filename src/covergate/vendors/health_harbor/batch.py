"""Many inquiries in one call: `batch_inquiries` takes an array and answers with one row per element.

Invariant: a row reaches only the inquiry that it stands for. If the reply does not say which row belongs to which inquiry,
none of them gets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from covergate.vendors.flow import Call, Reply
from covergate.vendors.vendor import Batching

BATCH_PATH = "/api/v0/mental_health/batch_inquiries"


def _join(calls: Sequence[Call]) -> Call:
    rows = [row for call in calls for row in call.json]
    return Call("POST", BATCH_PATH, json=rows, commits=True, timeout=max(call.timeout for call in calls))


def _split(reply: Reply, count: int) -> Sequence[Reply | None]:
    """A 200 row by row; a 422 to the rows that it names, the others to be sent again; anything else to all."""
    body = reply.body
    if reply.ok:
        if isinstance(body, list) and len(body) == count:
            return [_with(reply, [row]) for row in body]
        # Wrapped once more, so that no flow takes another's row for its own; the look-up tells which were taken on.
        return [_with(reply, [body])] * count
    named = _errors_by_row(body, count) if reply.status == 422 else {}
    if not named:
        return [reply] * count
    return [_with(reply, {"detail": named[index]}) if index in named else None for index in range(count)]


def _with(reply: Reply, body: Any) -> Reply:
    return replace(reply, content=orjson.dumps(body))


def _errors_by_row(body: Any, count: int) -> dict[int, list[Any]]:
    """FastAPI's `detail` by the integer after `body` in `loc`, that integer rewritten to 0."""
    named: dict[int, list[Any]] = {}
    detail = body.get("detail") if isinstance(body, dict) else None
    for error in detail if isinstance(detail, list) else []:
        loc = error.get("loc") if isinstance(error, dict) else None
        match loc:
            case ["body", int(index), *path] if not isinstance(index, bool) and 0 <= index < count:
                named.setdefault(index, []).append({**error, "loc": ["body", 0, *path]})
    return named


BATCHING = Batching(path=BATCH_PATH, limit=100, wait=timedelta(milliseconds=200), join=_join, split=_split)
