"""What else is wrong with a verification whose fields do not validate, so that one 422 lists everything.

What is broken is taken out and replaced by a sample where the field is required; then the rules that look at the whole run
on the rest. What they say about a replaced field is dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from covergate.api.validation import path_of
from covergate.eligibility.sourced import pointer
from covergate.errors import FieldError
from covergate.verifications.create import further_reasons
from covergate.verifications.request import CreateVerification

_PERSON = {"first_name": "x", "last_name": "x", "date_of_birth": "2000-01-01"}
_SAMPLES: dict[str, dict[str, str]] = {
    "payer": {"name": "x"},
    "patient": {**_PERSON, "member_id": "x"},
    "subscriber": {**_PERSON, "patient_relationship": "other"},
}


def further_errors(details: Sequence[ErrorDetails], document: Any) -> list[FieldError]:
    if not isinstance(document, dict):
        return []
    mended = copy.deepcopy(document)
    touched = {_taken_out(mended, path_of(detail, document)) for detail in details}
    touched |= _filled(mended)
    try:
        request = CreateVerification.model_validate_json(orjson.dumps(mended), strict=True)
    except (ValidationError, orjson.JSONEncodeError):
        return []
    now = datetime.now(UTC)
    wrong = request.wrong_with(now)
    wrong += further_reasons(request, {}, now, {found.pointer for found in wrong})
    return [found for found in wrong if not _about(found.pointer or "", touched) and not _needs_directory(found)]


def _taken_out(document: dict[str, Any], path: list[str | int]) -> str:
    """Removes what the path names, the whole list where it leads into one; the pointer to what was removed."""
    names: list[str] = []
    for part in path:
        if isinstance(part, int):
            break
        names.append(part)
    node: Any = document
    for name in names[:-1]:
        node = node.get(name) if isinstance(node, dict) else None
    if names and isinstance(node, dict):
        node.pop(names[-1], None)
    return pointer("", *names)


def _filled(mended: dict[str, Any]) -> set[str]:
    """Puts samples where something required is missing; the pointers to them."""
    filled: set[str] = set()
    for part, sample in _SAMPLES.items():
        given = mended.get(part)
        if part == "subscriber" and given is None:
            continue
        if part == "payer" and isinstance(given, dict) and any(value is not None for value in given.values()):
            continue
        given = given if isinstance(given, dict) else {}
        filled |= {pointer("", part, name) for name in sample if name not in given}
        mended[part] = {**sample, **given}
    return filled


def _about(where: str, touched: set[str]) -> bool:
    return any(
        where == path or where.startswith(f"{path}/") or path.startswith(f"{where}/") for path in touched if path
    )


def _needs_directory(found: FieldError) -> bool:
    """Whether a payer's codes are known is not asked for a request that is wrong anyway."""
    return (found.pointer or "").startswith(("/payer", "/vendor_options"))
