"""Access: who may come in, and what was done: keys, vendor accounts, operators, users, sessions, the audit."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from covergate.access.console_sessions import list_sessions
from covergate.console.page import page
from covergate.console.visitor import Auditor, idle_time

router = APIRouter()


@router.get("/access")
async def access(request: Request, visitor: Auditor) -> Response:
    sessions = await list_sessions(visitor.gateway, idle_time(visitor.gateway), visitor.session.tenant_id)
    return page(request, "access", visitor, sessions=sessions)
