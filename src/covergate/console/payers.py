"""Payers: the directory with each vendor's codes, and the work list of what nobody could resolve."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from covergate.access import audit
from covergate.console.page import render
from covergate.console.visitor import MOUNTED_AT, OperatorAt, Visitor
from covergate.errors import Problem
from covergate.payers import candidates, sync, unresolved
from covergate.payers.candidates import NEW, Linked
from covergate.payers.directory import DirectoryCache
from covergate.payers.unresolved import NamedBy
from covergate.states import SubjectKind

router = APIRouter()

MOST_FOUND = 50
LONGEST_SEARCH = 100

_DONE = {
    "linked": "It is linked. No later list undoes it.",
    "attached": "From now on it means that payer. Requests that were refused can be sent again.",
    "ignored": "It is off the list.",
    "gone": "Somebody else was faster: it was settled already.",
}


@router.get("/payers")
async def payers(request: Request, visitor: OperatorAt, q: str = "", done: str = "") -> Response:
    mode = visitor.session.mode
    directory = await cast(DirectoryCache, request.app.state.payers).directory(mode)
    found = directory.search(q.strip()[:LONGEST_SEARCH], None) if q.strip() else []
    resolves = [
        (one, directory.search(one.value, None)[:5]) for one in await unresolved.list_unresolved(visitor.gateway, mode)
    ]
    return render(
        request,
        "payers",
        visitor,
        done=_DONE.get(done),
        q=q[:LONGEST_SEARCH],
        found=found[:MOST_FOUND],
        number_found=len(found),
        number_known=len(directory.payers),
        candidates=[
            (one, suggested) for one, suggested in await candidates.list_candidates(visitor.gateway) if one.mode == mode
        ],
        unresolved=resolves,
        syncs=await sync.read_syncs(visitor.gateway, mode),
    )


@router.post("/payers/candidates/{candidate_id}")
async def settle_candidate(visitor: OperatorAt, candidate_id: Annotated[str, Path(max_length=40)]) -> Response:
    """A vendor's row is this payer, a new one, or nobody's business."""
    if visitor.form.one("do") == "ignore":
        if not await candidates.ignore(visitor.gateway, candidate_id):
            return _back("gone")
        await _note(visitor, "payer.ignore", candidate_id)
        return _back("ignored")
    payer_id = NEW if visitor.form.one("do") == "new" else _payer_in(visitor)
    linked = await candidates.link(visitor.gateway, candidate_id, payer_id)
    if linked is Linked.NO_PAYER:
        raise Problem("not_found", "There is no such payer in this mode.")
    if linked is Linked.NO_CANDIDATE:
        return _back("gone")
    await _note(visitor, "payer.link", candidate_id)
    return _back("linked")


@router.post("/payers/unresolved")
async def settle_unresolved(visitor: OperatorAt) -> Response:
    """What requests asked for means this payer, or is nobody's business."""
    given, value, mode = visitor.form.one("kind"), visitor.form.one("value"), visitor.session.mode
    if given not in ("id", "name"):
        raise Problem("invalid_request", "The kind is id or name.")
    kind: NamedBy = cast(Literal["id", "name"], given)
    if visitor.form.one("do") == "ignore":
        if not await unresolved.ignore_unresolved(visitor.gateway, mode, kind, value):
            return _back("gone")
        await _note(visitor, "payer.ignore", None)
        return _back("ignored")
    payer_id = _payer_in(visitor)
    if not await unresolved.attach(visitor.gateway, mode, kind, value, payer_id):
        raise Problem("not_found", "There is no such payer in this mode, or somebody else settled it.")
    await _note(visitor, "payer.attach", payer_id)
    return _back("attached")


def _payer_in(visitor: Visitor) -> str:
    """The id that was typed, else the one that was chosen."""
    payer_id = visitor.form.one("payer") or visitor.form.one("suggested")
    if not payer_id:
        raise Problem("invalid_request", "Choose a payer, or type its id (pyr_…).")
    return payer_id


async def _note(visitor: Visitor, action: str, subject_id: str | None) -> None:
    async with visitor.gateway.connection() as db:
        await audit.record(db, visitor.caller, action, SubjectKind.PAYER, [subject_id])


def _back(done: str) -> Response:
    return RedirectResponse(f"{MOUNTED_AT}/payers?done={done}", 303)
