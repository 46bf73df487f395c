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

MOST_FOUND, MOST_OFFERED = 50, 20
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
async def settle_candidate(
    request: Request, visitor: OperatorAt, candidate_id: Annotated[str, Path(max_length=40)]
) -> Response:
    """A vendor's row is this payer, a new one, or nobody's business."""
    match visitor.form.one("do"):
        case "find":
            mode = visitor.session.mode
            rows = await candidates.list_candidates(visitor.gateway)
            listed = {one.id: one.listed for one, _ in rows if one.mode == mode}
            if candidate_id not in listed:
                return _back("gone")
            return await _choice(request, visitor, listed[candidate_id].name, "link", f"candidates/{candidate_id}")
        case "ignore":
            if not await candidates.ignore(visitor.gateway, candidate_id):
                return _back("gone")
            await _note(visitor, "payer.ignore", candidate_id)
            return _back("ignored")
        case do:
            payer_id = NEW if do == "new" else _payer_in(visitor)
            linked = await candidates.link(visitor.gateway, candidate_id, payer_id)
            return await _settled(visitor, linked, "payer.link", candidate_id, "linked")


@router.post("/payers/unresolved")
async def settle_unresolved(request: Request, visitor: OperatorAt) -> Response:
    """What requests asked for means this payer, or is nobody's business."""
    given, value, mode = visitor.form.one("kind"), visitor.form.one("value"), visitor.session.mode
    if given not in ("id", "name"):
        raise Problem("invalid_request", "The kind is id or name.")
    kind: NamedBy = cast(Literal["id", "name"], given)
    match visitor.form.one("do"):
        case "find":
            return await _choice(request, visitor, value, "attach", "unresolved", kind=kind, value=value)
        case "ignore":
            if not await unresolved.ignore_unresolved(visitor.gateway, mode, kind, value):
                return _back("gone")
            await _note(visitor, "payer.ignore", None)
            return _back("ignored")
        case _:
            payer_id = _payer_in(visitor)
            attached = await unresolved.attach(visitor.gateway, mode, kind, value, payer_id)
            return await _settled(visitor, attached, "payer.attach", payer_id, "attached")


async def _choice(request: Request, visitor: Visitor, words: str, do: str, path: str, **fields: str) -> Response:
    """The payers that a search finds, to choose one of. What is searched for stands in no address: requests named it."""
    directory = await cast(DirectoryCache, request.app.state.payers).directory(visitor.session.mode)
    q = visitor.form.one("q", words)[:LONGEST_SEARCH]
    found = directory.search(q, None) if q else []
    return render(
        request,
        "payer_choice",
        visitor,
        words=words,
        do=do,
        to=path,
        fields=fields,
        q=q,
        found=found[:MOST_OFFERED],
        number_found=len(found),
    )


def _payer_in(visitor: Visitor) -> str:
    payer_id = visitor.form.one("payer")
    if not payer_id:
        raise Problem("invalid_request", "Choose a payer.")
    return payer_id


async def _settled(visitor: Visitor, linked: Linked, action: str, subject_id: str, done: str) -> Response:
    if linked is Linked.NO_PAYER:
        raise Problem("not_found", "There is no such payer in this mode.")
    if linked is Linked.NO_CANDIDATE:
        return _back("gone")
    await _note(visitor, action, subject_id)
    return _back(done)


async def _note(visitor: Visitor, action: str, subject_id: str | None) -> None:
    async with visitor.gateway.connection() as db:
        await audit.record(db, visitor.caller, action, SubjectKind.PAYER, [subject_id])


def _back(done: str) -> Response:
    return RedirectResponse(f"{MOUNTED_AT}/payers?done={done}", 303)
