"""`/v1/verifications/{id}/answers`: the fixed questions that a front desk asks, as JSON or as one page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, Watcher
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer, prefers_html
from covergate.eligibility.answers.page import PAGE_HEADERS, answers_page
from covergate.verifications.queries import read_one
from covergate.verifications.view import answers_view

router = APIRouter(tags=["Verifications"])


@router.get(
    "/v1/verifications/{verification_id}/answers",
    **documented(
        "read_verification_answers",
        "Read a verification's answers",
        "Eleven fixed questions, each answered from the result alone: `stated`, `derived`, `not_stated` or `conflict`, with the"
        " reason and its sources. With `Accept: text/html` one page to print. An operator without the role `phi` sees no"
        " answers.",
        answers={
            200: Described("The answers", schemas.Answers, examples.NAMED_ANSWERS, page=examples.ANSWERS_PAGE),
        },
        problems=(404, 422),
    ),
)
async def read_verification_answers(
    request: Request, gateway: GatewayOf, caller: Watcher, _: NoQuery, verification_id: str
) -> Response:
    shown = await read_one(gateway, caller, verification_id, "verification.answers")
    sheet = answers_view(shown, phi=caller.sees_phi)
    if prefers_html(request):
        return Response(answers_page(sheet, shown), media_type="text/html", headers=PAGE_HEADERS)
    return json_answer(sheet, headers={"vary": "accept"})
