"""`/v1/verifications/bulk`, `/v1/bulk-jobs`: one action on all verifications that match, first counted, then done by a worker."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from covergate import ids
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, Mender, NoQuery, limits_of
from covergate.api.describe import Described, documented
from covergate.api.http import NoBody, idempotency_key, json_answer, json_body
from covergate.api.pages import PageQuery, listed, position_of
from covergate.api.verifications import FilteredBy
from covergate.states import BulkAction
from covergate.verifications.bulk_jobs import (
    SAMPLE,
    BulkOrder,
    list_jobs,
    read_job,
    require_power,
    stop_job,
)
from covergate.verifications.bulk_keys import make_job_once
from covergate.verifications.operator import Resolution
from covergate.verifications.resubmit import LONGEST_POINTER

router = APIRouter(tags=["Bulk jobs"])


class BulkFilter(FilteredBy):
    """The filters of the list of verifications; at least one."""


class BulkVerifications(BaseModel):
    """What is to be done to the verifications that match."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    action: BulkAction
    filter: BulkFilter
    corrections: Annotated[
        dict[Annotated[str, Field(max_length=LONGEST_POINTER)], Any],
        Field(max_length=100, description="For `resubmit`: the same in each, as in a single resubmission"),
    ] = Field(default_factory=dict)
    resolution: Literal["resubmit", "give_up"] | None = Field(default=None, description="For `resolve`: what to decide")
    again: bool = Field(default=False, description="For `resubmit`: also what was asked again before, at another fee")
    dry_run: bool = Field(default=True, description="`false` does it; else it is only counted")

    def order(self) -> BulkOrder:
        resolution = None if self.resolution is None else Resolution(self.resolution)
        return BulkOrder(self.action, self.filter.filters(), self.corrections, resolution, self.again)


@router.post(
    "/v1/verifications/bulk",
    **documented(
        "order_bulk_job",
        "Act on many verifications",
        f"Counts what matches, with {SAMPLE} of it as a sample; with `dry_run` `false` a worker then does one after the other."
        " What changed meanwhile is skipped, with the reason. `resubmit` pays for each, within half of the tenant's quota of"
        " creates, and leaves out what was asked again before unless `again`. `redeliver` also needs `webhooks:manage`;"
        " `resolve` is for operators, who act across tenants unless they name one.",
        body=(BulkVerifications, examples.BULK_VERIFICATIONS),
        headers=("Idempotency-Key",),
        answers={
            200: Described("What matches", schemas.BulkJobShown, examples.COUNTED_JOB, ("Idempotent-Replayed",)),
            202: Described(
                "It will be done", schemas.BulkJobShown, examples.QUEUED_JOB, ("Location", "Idempotent-Replayed")
            ),
        },
        problems=(413, 415, 422),
    ),
)
async def post_bulk(
    request: Request,
    gateway: GatewayOf,
    caller: Mender,
    _: NoQuery,
    body: Annotated[BulkVerifications, Depends(json_body(BulkVerifications))],
) -> Response:
    require_power(caller, body.action)
    limits_of(request).search(caller.operator_id or caller.tenant_id)
    key = idempotency_key(request)
    shown, replayed = await make_job_once(gateway, caller, body.order(), dry_run=body.dry_run, key=key)
    headers = {"idempotent-replayed": "true"} if replayed else {}
    if body.dry_run:
        return json_answer(shown, 200, headers)
    return json_answer(shown, 202, {**headers, "location": f"/v1/bulk-jobs/{shown['id']}"})


@router.get(
    "/v1/bulk-jobs",
    **documented(
        "list_bulk_jobs",
        "List bulk jobs",
        "Newest first, for 30 days after their end, without their reports. A key sees those that its tenant's keys ordered in its"
        " mode.",
        answers={200: Described("A page", schemas.BulkJobList, examples.BULK_JOB_PAGE)},
        problems=(400, 422),
    ),
)
async def get_bulk_jobs(gateway: GatewayOf, caller: Mender, query: Annotated[PageQuery, Query()]) -> Response:
    after = position_of(ids.BULK_JOB, query.after)
    return json_answer(listed(await list_jobs(gateway, caller, after, query.limit)))


@router.get(
    "/v1/bulk-jobs/{job_id}",
    **documented(
        "read_bulk_job",
        "Read a bulk job",
        "How far it is, and what became of each verification so far.",
        answers={200: Described("The job", schemas.BulkJobShown, examples.ENDED_JOB)},
        problems=(404, 422),
    ),
)
async def get_bulk_job(gateway: GatewayOf, caller: Mender, _: NoQuery, job_id: str) -> Response:
    return json_answer(await read_job(gateway, caller, job_id))


@router.post(
    "/v1/bulk-jobs/{job_id}/cancel",
    **documented(
        "cancel_bulk_job",
        "Stop a bulk job",
        "At once; what was done stays done. Again, or after its end, it changes nothing.",
        answers={200: Described("The job", schemas.BulkJobShown, examples.STOPPED_JOB)},
        problems=(404, 413, 415, 422),
    ),
)
async def post_bulk_job_cancel(gateway: GatewayOf, caller: Mender, _: NoQuery, __: NoBody, job_id: str) -> Response:
    return json_answer(await stop_job(gateway, caller, job_id))
