"""Saved views: filters of the verifications' list under a name, each seen by the person who saved it and nobody else.

A view holds a list's filters as they stand in an address, which are no PHI. It goes when its person's account is revoked, with
the tenant, and when its person has not come for `VIEWS_KEPT`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.db.kept import Kept
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway

if TYPE_CHECKING:
    from covergate.access.console_sessions import Session

MOST_VIEWS = 50
"""Of one person."""
LONGEST_VIEW_NAME = 60
VIEWS_KEPT = "400 days"

KEPT = (
    Kept(
        "saved_views", "as long as their person comes: whoever signs in elsewhere has no account", VIEWS_KEPT, "used_at"
    ),
)

_MINE = "actor_id = :actor_id AND tenant_id IS NOT DISTINCT FROM CAST(:tenant_id AS text)"
_LIST = Query(
    f"SELECT id, name, query, used_at < now() - interval '1 day' AS is_stale FROM saved_views WHERE {_MINE} ORDER BY name, id"
)
_TOUCH = Query(f"UPDATE saved_views SET used_at = clock_timestamp() WHERE {_MINE}")
_SAVE = Query(
    f"""
INSERT INTO saved_views (id, actor_id, tenant_id, name, query)
SELECT :id, :actor_id, :tenant_id, :name, :query WHERE (SELECT count(*) FROM saved_views WHERE {_MINE}) < :most""",
    tenant_id="text",
    id="text",
    actor_id="text",
    name="text",
    query="text",
)
_RENAME = Query(f"UPDATE saved_views SET name = :name WHERE id = :id AND {_MINE}")
_REMOVE = Query(f"DELETE FROM saved_views WHERE id = :id AND {_MINE}")
_REMOVE_ALL = Query("DELETE FROM saved_views WHERE actor_id = :actor_id")


async def list_views(gateway: Gateway, session: Session) -> list[Record]:
    """Id, name and query, by name."""
    async with gateway.connection() as db:
        views = await _LIST.all(db, _owner(session))
        if any(view.is_stale for view in views):
            await _TOUCH.run(db, _owner(session))
    return views


async def save_view(gateway: Gateway, session: Session, name: str, query: str) -> None:
    """`query` was read as filters before. Raises Problem."""
    values = {
        **_owner(session),
        "id": ids.new(ids.SAVED_VIEW),
        "name": _name_of(name),
        "query": query,
        "most": MOST_VIEWS,
    }
    if not query:
        raise Problem("invalid_request", "Nothing was saved: choose a filter first.")
    try:
        async with gateway.transaction() as db:
            saved = await _SAVE.run(db, values)
    except asyncpg.UniqueViolationError:
        raise _taken() from None
    if not saved:
        raise Problem("invalid_request", f"Nothing was saved: you have {MOST_VIEWS} views. Remove one first.")


async def rename_view(gateway: Gateway, session: Session, view_id: str, name: str) -> None:
    """Raises Problem."""
    try:
        async with gateway.transaction() as db:
            renamed = await _RENAME.run(db, {**_owner(session), "id": view_id, "name": _name_of(name)})
    except asyncpg.UniqueViolationError:
        raise _taken() from None
    if not renamed:
        raise _no_such_view()


async def remove_view(gateway: Gateway, session: Session, view_id: str) -> None:
    """Raises Problem."""
    async with gateway.transaction() as db:
        removed = await _REMOVE.run(db, {**_owner(session), "id": view_id})
    if not removed:
        raise _no_such_view()


async def forget_views(db: AsyncConnection, actor_id: str) -> None:
    """All that a person saved, whichever tenant it was of."""
    await _REMOVE_ALL.run(db, {"actor_id": actor_id})


def _owner(session: Session) -> dict[str, Any]:
    return {"actor_id": session.actor_id, "tenant_id": session.tenant_id}


def _name_of(given: str) -> str:
    name = " ".join(given.split())
    if not 1 <= len(name) <= LONGEST_VIEW_NAME or not name.isprintable():
        raise Problem("invalid_request", f"A view's name has 1 to {LONGEST_VIEW_NAME} characters.")
    return name


def _taken() -> Problem:
    return Problem("invalid_request", "Nothing was changed: you have a view of this name.")


def _no_such_view() -> Problem:
    return Problem("not_found", "You have no such view: it may have been removed in another window.")
