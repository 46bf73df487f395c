"""Problems as answers: `application/problem+json` (RFC 9457), one shape for everything that goes wrong.

Invariant: neither a problem nor the log holds anything the caller sent or an exception says.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import orjson
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from covergate.api.refusals import Refusals
from covergate.api.validation import field_errors
from covergate.db.outage import is_away
from covergate.errors import Problem

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
    headers = {"cache-control": "no-store", **problem.headers}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    if problem.status == 401:
        headers["www-authenticate"] = 'Bearer realm="covergate"'
    if problem.status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return Response(orjson.dumps(shown), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def unexpected(error: Exception, request_id: str, route: str) -> Problem:
    """The problem for an unexpected exception. The log gets where it was raised, never its text."""
    if is_away(error):
        log.warning("database_away", request_id=request_id, route=route, error=type(error).__name__)
        return Problem("unavailable", "try again in a moment", retry_after=RETRY_AFTER_SECONDS)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("request_failed", request_id=request_id, route=route, error=type(error).__name__, where=where[-12:])
    return Problem("internal_error", "this was logged under the request_id")


def install_handlers(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """`routers` are those that the app includes."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]

    async def unrouted(request: Request, error: Exception) -> Response:
        """The router's own answers: no such route, or not with this method."""
        assert isinstance(error, HTTPException)
        codes = {404: ("not_found", "there is nothing here"), 405: ("method_not_allowed", "see the Allow header")}
        code, detail = codes.get(error.status_code, ("invalid_request", "the request cannot be read"))
        answer = problem_answer(Problem(code, detail), request.state.request_id)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            # The router names the methods of the first route that fits the path; others may have it too. Of two paths that
            # fit, the one with fewer parameters is meant: `search` is no id.
            fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
            fewest = min((route.path.count("{") for route in fitting), default=0)
            fitting = [route for route in fitting if route.path.count("{") == fewest]
            answer.headers["allow"] = ", ".join(sorted({method for route in fitting for method in route.methods or ()}))
        return answer

    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(RequestValidationError, _query)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    refusals: Refusals = request.app.state.refusals
    await refusals.note(request, error)
    return problem_answer(error, request.state.request_id)


async def _query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = field_errors(error.errors(), parameters=True)
    problem = Problem("invalid_request", "errors lists everything that is wrong", errors)
    return problem_answer(problem, request.state.request_id)
