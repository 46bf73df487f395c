"""Now: what is open and what it waits for, what ended, how the vendors fare."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from covergate.console.page import render
from covergate.console.sign_in import home
from covergate.console.visitor import Anybody

router = APIRouter()


@router.get("/")
async def now(request: Request, visitor: Anybody) -> Response:
    return home(visitor) or render(request, "now", visitor, live=True)
