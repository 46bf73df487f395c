"""`/v1/patients/erase`: everything that tells of one patient, for good. The dry run comes first: it is the default."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, PatientEraser
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer, json_body
from covergate.eligibility.inquiry import Day, Identifier
from covergate.erasure import ANSWER_WITHIN_SECONDS, erase_patient
from covergate.timestamps import instant

router = APIRouter(tags=["Patients"])


class ErasePatient(BaseModel):
    """A patient as verifications name one: both must match. PHI stands in the body, never in a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    member_id: Annotated[Identifier, Field(description="Compared without case, blanks and dashes")]
    date_of_birth: Day
    dry_run: Annotated[bool, Field(description="`false` erases; else it is only counted")] = True


@router.post(
    "/v1/patients/erase",
    **documented(
        "erase_patient",
        "Erase a patient",
        "Erases what the key's tenant and mode hold of a patient, and cannot be undone: inquiries, results, the vendors' and the"
        " partners' words. Verifications stay as bare rows with `erased_at`; open ones are canceled first. Unless `dry_run` is"
        " `false`, it only counts. It concerns what was accepted up to `until`. Not `complete`: send it again.",
        body=(ErasePatient, examples.ERASE_PATIENT),
        answers={200: Described("What was, or would be, erased", schemas.ErasureShown, examples.ERASURE)},
        problems=(413, 415, 422),
    ),
)
async def post_erasure(
    gateway: GatewayOf,
    caller: PatientEraser,
    _: NoQuery,
    body: Annotated[ErasePatient, Depends(json_body(ErasePatient))],
) -> Response:
    erasure = await erase_patient(
        gateway,
        caller,
        body.member_id,
        body.date_of_birth,
        dry_run=body.dry_run,
        within_seconds=ANSWER_WITHIN_SECONDS,
    )
    return json_answer(
        {
            "object": "erasure",
            "dry_run": erasure.dry_run,
            "complete": erasure.complete,
            "until": instant(erasure.until),
            "counts": dict(erasure.counts),
        }
    )
