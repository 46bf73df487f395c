"""`GET /v1/vendors`: who can be asked in the key's mode, and what each can do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from covergate.api import examples, schemas
from covergate.api.answer import json_answer
from covergate.api.deps import GatewayOf, Reader
from covergate.api.documented import Answer, documented
from covergate.api.pages import PageQuery, listed, position
from covergate.page import page
from covergate.vendors import VENDORS
from covergate.vendors.base import Vendor

router = APIRouter(tags=["Vendors"])


@router.get(
    "/v1/vendors",
    **documented(
        "List vendors",
        "Every vendor; `enabled` says whether it can be asked with this key.",
        answers={200: Answer("A page", schemas.VendorList, examples.VENDORS)},
        problems=(400, 422),
    ),
)
async def list_vendors(gateway: GatewayOf, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    names = list(VENDORS)
    after = position(query.after, lambda name: name in VENDORS)
    rest = names[names.index(after) + 1 if after is not None else 0 :]
    enabled = {vendor.name for vendor in gateway.enabled(caller.mode)}
    return json_answer(
        listed(page(rest, query.limit, lambda name: name, lambda name: _view(VENDORS[name], name in enabled)))
    )


def _view(vendor: Vendor, enabled: bool) -> dict[str, Any]:
    can = vendor.capabilities
    median, slow = can.typical_wait_seconds
    return {
        "name": vendor.name,
        "title": vendor.title,
        "enabled": enabled,
        "capabilities": {
            "answers_by": list(can.answers_by),
            "typical_wait_seconds": {"median": median, "slow": slow},
            "required_fields": list(can.required_fields),
            "service_dates": can.service_dates,
            "dependents": can.dependents,
            "secondary_coverage": can.secondary_coverage,
            "benefits_detail": can.benefits_detail,
            "batch": can.batch,
            "recovery": can.recovery,
            "events": vendor.verify_event is not None,
            "not_asked": sorted(vendor.not_asked),
        },
        "docs_url": vendor.docs_url,
    }
