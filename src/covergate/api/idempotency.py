"""The `Idempotency-Key` header: 1 to 255 visible ASCII characters, once."""

from __future__ import annotations

import re

from fastapi import Request

from covergate.errors import FieldError, Problem

HEADER = "Idempotency-Key"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


def idempotency_key(request: Request) -> str | None:
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or _VISIBLE.fullmatch(given[0]) is None:
        wrong = FieldError("invalid_value", "must be 1 to 255 visible ASCII characters, sent once", parameter=HEADER)
        raise Problem("invalid_request", "the Idempotency-Key cannot be used", [wrong])
    return given[0]
