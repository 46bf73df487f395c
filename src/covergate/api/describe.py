"""A route's own words in the OpenAPI document: bodies, answers, headers and problems, each with an example.

Schemas are named here and defined in `openapi.py`. Handlers answer with bytes, so none of this runs per request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from covergate.api import examples

REFERENCE = "#/components/schemas/"


@dataclass(frozen=True)
class Described:
    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"
    page: str | None = None
    """An example of the same answer as `text/html`."""


REQUEST_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "Kept 24 hours per tenant and mode. A replay creates nothing; the same key with another body is a 422.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
        "example": "intake-8841-1",
    },
    "Prefer": {
        "description": "`wait=N`: answer when the verification has ended, or after N seconds (60 at most).",
        "schema": {"type": "string"},
        "example": "wait=30",
    },
}

ACTING_USER_PARAMETER: dict[str, Any] = {
    "name": "X-Acting-User",
    "in": "header",
    "required": False,
    "description": "Whom the request is for, in the caller's own terms: kept in the audit as it is. Must hold no PHI.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[\\x20-\\x7e]+$"},
    "example": "staff-4711",
}
"""A parameter of every route that needs a key."""

ANSWER_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"description": "Names this request in logs and audit", "schema": {"type": "string"}},
    "Location": {"description": "Where the new resource is", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "`wait=N` when it ended in time", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds until it may be tried again", "schema": {"type": "integer"}, "example": 3},
    "RateLimit": {
        "description": "The quota that is used up, what is left of it, and the seconds until there is more"
        " (draft-ietf-httpapi-ratelimit-headers)",
        "schema": {"type": "string"},
        "example": '"requests";r=0;t=3',
    },
    "RateLimit-Policy": {
        "description": "That quota, and the seconds in which an empty one fills",
        "schema": {"type": "string"},
        "example": '"requests";q=100000;w=10',
    },
    "Idempotent-Replayed": {"description": "`true` for a replay", "schema": {"type": "string", "const": "true"}},
}


def documented(
    operation_id: str,
    summary: str,
    description: str,
    *,
    answers: dict[int, Described],
    body: tuple[type[BaseModel] | None, Any] | None = None,
    body_required: bool = True,
    headers: tuple[str, ...] = (),
    problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Keyword arguments of a route. `openapi.py` adds 500 and 503, and 401 and 403 to routes that need a scope."""
    extra: dict[str, Any] = {}
    if headers:
        extra["parameters"] = [
            {"name": name, "in": "header", "required": False, **REQUEST_HEADERS[name]} for name in headers
        ]
    if body is not None:
        model, example = body
        schema = reference(model) if model is not None else {}
        extra["requestBody"] = {
            "required": body_required,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": description,
        "response_class": Response,
        "response_model": None,
        "responses": {status: _answer(answer) for status, answer in answers.items()}
        | {status: problem(status) for status in problems},
        "openapi_extra": extra,
    }


def component(model: type[BaseModel]) -> str:
    """The model's name in the document."""
    return str(model.model_config.get("title") or model.__name__)


def reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"{REFERENCE}{component(model)}"}


def problem(status: int) -> dict[str, Any]:
    example = examples.PROBLEM_OF_STATUS[status]
    limits = ("Retry-After", "RateLimit", "RateLimit-Policy") if status == 429 else ()
    return {
        "description": example["title"],
        "headers": _headers(*limits),
        "content": {"application/problem+json": {"schema": {"$ref": f"{REFERENCE}ProblemDetails"}, "example": example}},
    }


def _answer(answer: Described) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.description, "headers": _headers(*answer.headers)}
    if answer.example is not None:
        schema = reference(answer.model) if answer.model is not None else {"type": "string"}
        shown["content"] = {answer.media_type: {"schema": schema, "example": answer.example}}
    if answer.page is not None:
        shown["content"]["text/html"] = {"schema": {"type": "string"}, "example": answer.page}
    return shown


def _headers(*names: str) -> dict[str, Any]:
    return {name: ANSWER_HEADERS[name] for name in ("X-Request-Id", *names)}
