"""Problems as answers: `application/problem+json` (RFC 9457), the same shape for everything that goes wrong.

Invariant: nothing that the caller sent, and nothing of an exception's text, is in a problem or in the log.
"""

from __future__ import annotations

import traceback

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from covergate.api.validation import field_errors
from covergate.db.outage import is_away
from covergate.errors import FieldError, Problem

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2


def problem_answer(problem: Problem, request_id: str) -> Response:
    shown = {
        "type": f"urn:covergate:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        "errors": [error.shown() for error in problem.errors],
    }
    headers = {"cache-control": "no-store"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    if problem.status == 401:
        headers["www-authenticate"] = 'Bearer realm="covergate"'
    if problem.status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return Response(orjson.dumps(shown), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def unexpected(error: Exception, request_id: str, route: str) -> Problem:
    """What the caller is told of an exception, and what the log is: where it was raised, not its words."""
    if is_away(error):
        log.warning("database_away", request_id=request_id, route=route, error=type(error).__name__)
        return Problem("unavailable", "try again in a moment", retry_after=RETRY_AFTER_SECONDS)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("request_failed", request_id=request_id, route=route, error=type(error).__name__, where=where[-12:])
    return Problem("internal_error", "this was logged under the request_id")


def install(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _query)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_answer(error, request.state.request_id)


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself finds: no such route, not this method."""
    assert isinstance(error, HTTPException)
    codes = {404: ("not_found", "there is nothing here"), 405: ("method_not_allowed", "see the Allow header")}
    code, detail = codes.get(error.status_code, ("invalid_request", "the request cannot be read"))
    answer = problem_answer(Problem(code, detail), request.state.request_id)
    answer.headers.update(error.headers or {})
    return answer


async def _query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: list[FieldError] = field_errors(error.errors(), parameters=True)
    problem = Problem("invalid_request", "errors lists everything that is wrong", found)
    return problem_answer(problem, request.state.request_id)
