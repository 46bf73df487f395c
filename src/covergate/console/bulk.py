"""Bulk jobs: what would be done to how many, the order, how far it is, and what became of each.

A worker does it, not the page. A count is ordered once, and never for more than it showed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from covergate import ids
from covergate.access import operators
from covergate.access.caller import Caller
from covergate.console.page import render
from covergate.console.visitor import MOUNTED_AT, Changer, Visitor
from covergate.errors import FieldError, Problem
from covergate.states import BulkAction, BulkStatus
from covergate.verifications.bulk_jobs import (
    BulkOrder,
    list_jobs,
    make_job,
    read_filters,
    read_job,
    stop_job,
)
from covergate.verifications.operator import Resolution
from covergate.verifications.queries import Filters

router = APIRouter()

JOBS_SHOWN = 50
UNDER_WAY = (BulkStatus.QUEUED, BulkStatus.RUNNING)
CORRECTIONS_EXAMPLE = "/payer/id = 60054\n/patient/group_number = null"


class BulkAct(NamedTuple):
    """What a button does; `cost` says what it will take, `scope` who sees it."""

    words: str
    action: BulkAction
    scope: str
    cost: str
    resolution: Resolution | None = None
    again: bool = False


BULK_ACTS: Mapping[str, BulkAct] = {
    "ask_again": BulkAct(
        "Ask again",
        BulkAction.RESUBMIT,
        "verifications:write",
        "Makes a new verification of each and pays the vendor for each. Those that were asked again before are left out.",
    ),
    "ask_once_more": BulkAct(
        "Ask again, also what was asked again before",
        BulkAction.RESUBMIT,
        "verifications:write",
        "Makes a new verification of each and pays the vendor for each, also where it was paid for another try before.",
        again=True,
    ),
    "cancel": BulkAct(
        "Cancel",
        BulkAction.CANCEL,
        "verifications:write",
        "Ends each that is open. The vendors' work is not recalled, and may be charged for.",
    ),
    "resolve_resubmit": BulkAct(
        "Resolve: submit again",
        BulkAction.RESOLVE,
        "operations",
        "Submits each again that waits for a person, and pays the vendor for each. If it has the first one after all, it is"
        " asked and paid twice.",
        Resolution.RESUBMIT,
    ),
    "resolve_give_up": BulkAct(
        "Resolve: give up",
        BulkAction.RESOLVE,
        "operations",
        "Fails each that waits for a person, and tells its partner. It costs nothing more.",
        Resolution.GIVE_UP,
    ),
    "redeliver": BulkAct(
        "Deliver events again",
        BulkAction.REDELIVER,
        "webhooks:manage",
        "Sends the events of each once more to the endpoints that they went to. It costs nothing at the vendors.",
    ),
}
_DONE = {
    "counted": "More match now than were counted before, so nothing was ordered. This is the new count.",
    "ordered": "Nothing was done: that count was ordered already, maybe by somebody else. This is what is under way.",
    "stopped": "It is stopped. What was done stays done.",
}
STATUS_KINDS = {BulkStatus.COMPLETED: "good", BulkStatus.CANCELED: "warn"}


def bulk_acts(visitor: Visitor) -> dict[str, BulkAct]:
    return {
        name: act for name, act in BULK_ACTS.items() if visitor.may(act.scope) and visitor.may("verifications:write")
    }


async def count(visitor: Visitor, caller: Caller, filters: Filters, do: str, said: str = "") -> Response:
    """To the page of a dry run."""
    act = bulk_acts(visitor).get(do)
    if act is None:
        raise Problem("insufficient_scope", "Your roles do not allow this, or there is no such action.")
    order = BulkOrder(act.action, filters, resolution=act.resolution, again=act.again)
    job = await make_job(visitor.gateway, caller, order, dry_run=True)
    return _to(f"/{job['id']}", said)


@router.get("/jobs")
async def jobs(
    request: Request, visitor: Changer, after: Annotated[str, Query(max_length=40)] = "", done: str = ""
) -> Response:
    if after and not ids.is_id(ids.BULK_JOB, after):
        raise Problem("invalid_request", "The address cannot be used: after must be a job's id.")
    found = await list_jobs(visitor.gateway, visitor.caller, after or None, JOBS_SHOWN)
    return render(
        request,
        "jobs",
        visitor,
        live=not after,
        said=_DONE.get(done),
        rows=found.data,
        next_after=found.next_after,
        after=after,
        names=await _names(visitor, found.data),
        act_of=act_of,
        status_kinds=STATUS_KINDS,
    )


@router.get("/jobs/{job_id}")
async def job(request: Request, visitor: Changer, job_id: str, done: str = "") -> Response:
    shown = await read_job(visitor.gateway, visitor.caller, job_id)
    others = (await list_jobs(visitor.gateway, visitor.caller, None, JOBS_SHOWN)).data
    act = act_of(shown)
    return render(
        request,
        "job",
        visitor,
        live=shown["status"] in UNDER_WAY,
        said=_DONE.get(done),
        job=shown,
        act=act,
        may=act in bulk_acts(visitor).values(),
        names=await _names(visitor, [shown]),
        others=[one for one in others if one["status"] in UNDER_WAY and one["id"] != job_id],
        act_of=act_of,
        under_way=shown["status"] in UNDER_WAY,
        status_kinds=STATUS_KINDS,
        takes_corrections=shown["action"] == BulkAction.RESUBMIT,
        example=CORRECTIONS_EXAMPLE,
        query=urlencode(shown["filter"], doseq=True),
    )


@router.post("/jobs/{job_id}/order")
async def order_job(visitor: Changer, job_id: str) -> Response:
    """What was counted; if more match by now, they are counted again and nothing is done."""
    try:
        counted = await read_job(visitor.gateway, visitor.caller, job_id)
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return _to("", "ordered")
    act, caller = _allowed(visitor, counted), visitor.within(counted["tenant_id"])
    filters = read_filters(counted["filter"])
    corrections = _corrections(visitor.form.one("corrections")) if act.action is BulkAction.RESUBMIT else {}
    order = BulkOrder(act.action, filters, corrections, act.resolution, act.again)
    try:
        ordered = await make_job(visitor.gateway, caller, order, dry_run=False, counted=job_id)
    except Problem as problem:
        if problem.code == "not_found":
            return _to("", "ordered")
        if problem.code == "too_many_matched":
            return await count(visitor, caller, filters, _name_of(act), "counted")
        raise
    return _to(f"/{ordered['id']}")


@router.post("/jobs/{job_id}/stop")
async def stop(visitor: Changer, job_id: str) -> Response:
    _allowed(visitor, await read_job(visitor.gateway, visitor.caller, job_id))
    await stop_job(visitor.gateway, visitor.caller, job_id)
    return _to(f"/{job_id}", "stopped")


def act_of(job: Mapping[str, Any]) -> BulkAct:
    return next(
        act
        for act in BULK_ACTS.values()
        if (act.action, act.resolution, act.again) == (job["action"], job["resolution"], job["again"])
    )


def _name_of(act: BulkAct) -> str:
    return next(name for name, known in BULK_ACTS.items() if known == act)


def _allowed(visitor: Visitor, job: Mapping[str, Any]) -> BulkAct:
    act = act_of(job)
    if act not in bulk_acts(visitor).values():
        raise Problem("insufficient_scope", "Your roles do not allow this.")
    return act


async def _names(visitor: Visitor, jobs: list[dict[str, Any]]) -> dict[str, str]:
    async with visitor.gateway.connection() as db:
        return dict(await operators.names_of(db, {one["ordered_by"]["id"] for one in jobs if one["ordered_by"]["id"]}))


def _corrections(given: str) -> dict[str, Any]:
    """Of lines `pointer = value`: null and what looks like JSON is JSON, the rest is text. Raises Problem, without the values."""
    found: dict[str, Any] = {}
    errors: list[FieldError] = []
    for number, line in enumerate(given.splitlines(), start=1):
        if not line.strip():
            continue
        at, equals, value = (part.strip() for part in line.partition("="))
        try:
            if not equals or not at.startswith("/"):
                raise ValueError
            found[at] = json.loads(value) if value == "null" or value[:1] in ('"', "[", "{") else value
        except (ValueError, RecursionError):
            errors.append(FieldError("invalid_value", f"Line {number} must be a pointer, = and a value."))
    if errors:
        raise Problem("invalid_request", "Nothing was ordered: go back and mend the corrections.", errors)
    return found


def _to(path: str, done: str = "") -> Response:
    return RedirectResponse(f"{MOUNTED_AT}/jobs{path}{'?done=' if done else ''}{done}", 303)
