"""`GET /v1/payers`: the payer directory, with each vendor's own codes in the key's mode."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from covergate.api import examples, schemas
from covergate.api.deps import Watcher
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer
from covergate.api.pages import PageQuery, listed, position
from covergate.api.validation import OneOf
from covergate.db.page import page
from covergate.eligibility.inquiry import Text
from covergate.payers.directory import DirectoryCache
from covergate.payers.store import DirectoryPayer
from covergate.vendors import VENDORS

router = APIRouter(tags=["Payers"])


class PayerQuery(PageQuery):
    q: (
        Annotated[str, Text(120), Field(description="Searched for in names, aliases and ids; the best match first")]
        | None
    ) = None
    vendor: (
        Annotated[str, OneOf(tuple(VENDORS)), Field(description="Only payers whose code at this vendor is known")]
        | None
    ) = None


@router.get(
    "/v1/payers",
    **documented(
        "list_payers",
        "List payers",
        "The payers that a verification names by `payer.directory_id`, `payer.id` (the electronic id) or `payer.name`.",
        answers={200: Described("A page", schemas.PayerList, examples.PAYER_PAGE)},
        problems=(400, 422),
    ),
)
async def get_payers(request: Request, caller: Watcher, query: Annotated[PayerQuery, Query()]) -> Response:
    known: DirectoryCache = request.app.state.payers
    payers = (await known.directory(caller.mode)).search(query.q, query.vendor)
    ids = [payer.id for payer in payers]
    after = position(query.after, lambda id_: id_ in ids)
    rest = payers[ids.index(after) + 1 if after is not None else 0 :]
    return json_answer(listed(page(rest, query.limit, lambda payer: payer.id, _view)))


def _view(payer: DirectoryPayer) -> dict[str, Any]:
    return {
        "id": payer.id,
        "object": "payer",
        "name": payer.name,
        "electronic_id": payer.electronic_id,
        "aliases": list(payer.aliases),
        "vendors": {vendor: dict(codes) for vendor, codes in sorted(payer.vendors.items())},
    }
