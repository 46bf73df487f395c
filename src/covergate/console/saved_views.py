"""A person's own views of the list of verifications: kept, renamed and removed by forms; the list shows them as links."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from covergate.access.saved_views import remove_view, rename_view, save_view
from covergate.console.verifications import asked_for, filters_of, query_of
from covergate.console.visitor import MOUNTED_AT, Looker

router = APIRouter()

_LIST = f"{MOUNTED_AT}/verifications"


@router.post("/verifications/views")
async def keep(visitor: Looker) -> Response:
    """Filters that cannot be used are not kept."""
    given = filters_of(visitor.form)
    await asked_for(visitor, given)
    query = query_of(given)
    await save_view(visitor.gateway, visitor.session, visitor.form.one("view_name"), query)
    return RedirectResponse(f"{_LIST}?{query}", 303)


@router.post("/verifications/views/{view_id}/rename")
async def rename(visitor: Looker, view_id: str) -> Response:
    await rename_view(visitor.gateway, visitor.session, view_id, visitor.form.one("view_name"))
    return RedirectResponse(_LIST, 303)


@router.post("/verifications/views/{view_id}/remove")
async def remove(visitor: Looker, view_id: str) -> Response:
    await remove_view(visitor.gateway, visitor.session, view_id)
    return RedirectResponse(_LIST, 303)
