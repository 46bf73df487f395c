"""`/v1/vendors`: which vendors the key can ask, what each can do and how it fares; operators hold and resume them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from covergate.access.caller import Caller
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, Operator, Reader
from covergate.api.describe import Described, documented
from covergate.api.http import NoBody, json_answer
from covergate.api.pages import PageQuery, listed, position
from covergate.db.page import page
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import CircuitState
from covergate.timestamps import instant
from covergate.vendor_health.circuit_breaker import Standing, hold, read_standing
from covergate.vendor_health.statistics import DAY, HOUR, MOST_PAYERS, Numbers, Statistics, Window, judge
from covergate.vendors import VENDORS
from covergate.vendors.vendor import Vendor
from covergate.verifications.operator import resume

router = APIRouter(tags=["Vendors"])

NEVER_LEFT = Standing(CircuitState.CLOSED, None, None, None)


@router.get(
    "/v1/vendors",
    **documented(
        "list_vendors",
        "List vendors",
        "All of them; `enabled` says whether this key can ask it. A vendor in trouble stays enabled: `circuit`, `held`,"
        " `verdict` and the numbers of the last hour and day say how it fares. The numbers are the whole gateway's in the"
        " key's mode, and seconds to minutes old.",
        answers={200: Described("A page", schemas.VendorList, examples.VENDOR_PAGE)},
        problems=(400, 422),
    ),
)
async def get_vendors(
    request: Request, gateway: GatewayOf, caller: Reader, query: Annotated[PageQuery, Query()]
) -> Response:
    names = list(VENDORS)
    after = position(query.after, lambda name: name in VENDORS)
    rest = names[names.index(after) + 1 if after is not None else 0 :]
    shown = await _shown(request, gateway, caller)
    return json_answer(listed(page(rest, query.limit, lambda name: name, shown)))


@router.post(
    "/v1/vendors/{vendor}/hold",
    **documented(
        "hold_vendor",
        "Hold a vendor",
        "Nothing is sent to it in the key's mode until it is resumed; its work waits (`waiting_for.kind` is `hold`) and"
        " deadlines go on. Holding it again changes nothing.",
        answers={200: Described("The vendor", schemas.VendorShown, examples.HELD_VENDOR)},
        problems=(404, 413, 415, 422),
    ),
)
async def hold_vendor(
    request: Request, gateway: GatewayOf, caller: Operator, _: NoQuery, __: NoBody, vendor: str
) -> Response:
    return await _switched(request, gateway, caller, vendor, _hold)


@router.post(
    "/v1/vendors/{vendor}/resume",
    **documented(
        "resume_vendor",
        "Resume a vendor",
        "Its waiting work goes on. Resuming it again changes nothing.",
        answers={200: Described("The vendor", schemas.VendorShown, examples.RUNNING_VENDOR)},
        problems=(404, 413, 415, 422),
    ),
)
async def resume_vendor(
    request: Request, gateway: GatewayOf, caller: Operator, _: NoQuery, __: NoBody, vendor: str
) -> Response:
    return await _switched(request, gateway, caller, vendor, resume)


async def _hold(gateway: Gateway, vendor: str, mode: str) -> bool:
    async with gateway.transaction() as db:
        return await hold(db, vendor, mode)


async def _switched(
    request: Request,
    gateway: Gateway,
    caller: Caller,
    vendor: str,
    switch: Callable[[Gateway, str, str], Awaitable[bool]],
) -> Response:
    if vendor not in VENDORS:
        raise Problem("not_found", "there is no such vendor")
    await switch(gateway, vendor, caller.mode)
    return json_answer((await _shown(request, gateway, caller))(vendor))


async def _shown(request: Request, gateway: Gateway, caller: Caller) -> Callable[[str], dict[str, Any]]:
    """A function from a vendor's name to the vendor as the API shows it now."""
    statistics: Statistics = request.app.state.statistics
    async with gateway.connection() as db:
        standing = await read_standing(db)
    hours, days = await statistics.windows(caller.mode, HOUR), await statistics.windows(caller.mode, DAY)
    enabled = {vendor.name for vendor in gateway.enabled(caller.mode)}

    def show(name: str) -> dict[str, Any]:
        stands = standing.get((name, caller.mode), NEVER_LEFT)
        numbers = _numbers_view(stands.circuit, hours.get(name, Window()), days.get(name, Window()))
        return {**_view(VENDORS[name]), "enabled": name in enabled, **_standing_view(stands), **numbers}

    return show


def _view(vendor: Vendor) -> dict[str, Any]:
    can = vendor.capabilities
    median, slow = can.typical_wait_seconds
    return {
        "name": vendor.name,
        "title": vendor.title,
        "capabilities": {
            "answers_by": list(can.answers_by),
            "typical_wait_seconds": {"median": median, "slow": slow},
            "required_fields": list(vendor.required_fields),
            "service_dates": can.service_dates,
            "dependents": can.dependents,
            "secondary_coverage": can.secondary_coverage,
            "benefits_detail": can.benefits_detail,
            "batch": vendor.takes_batches,
            "recovery": vendor.recovery,
            "events": vendor.verify_event is not None,
            "not_asked": sorted(vendor.not_asked),
        },
        "docs_url": vendor.docs_url,
    }


def _standing_view(standing: Standing) -> dict[str, Any]:
    return {
        "circuit": {
            "state": standing.circuit,
            "since": instant(standing.since),
            "rests_until": instant(standing.rests_until),
        },
        "held": standing.held_at is not None,
        "held_since": instant(standing.held_at),
    }


def _numbers_view(circuit: str, hour: Window, day: Window) -> dict[str, Any]:
    judgement = judge(circuit, hour)
    return {
        "verdict": judgement.trouble,
        "verdict_reason": judgement.reason,
        "verdict_payer_id": judgement.payer_id,
        "last_hour": _numbers(hour.whole),
        "last_day": _numbers(day.whole),
        "payers": [
            {
                "payer_id": payer_id,
                "last_hour": _numbers(hour.payers[payer_id]) if payer_id in hour.payers else None,
                "last_day": _numbers(day.payers[payer_id]) if payer_id in day.payers else None,
            }
            for payer_id in list(dict.fromkeys([*day.payers, *hour.payers]))[:MOST_PAYERS]
        ],
    }


def _numbers(numbers: Numbers) -> dict[str, Any]:
    def rounded(value: float | None, digits: int) -> float | None:
        return None if value is None else round(value, digits)

    return {
        "attempts": numbers.ended,
        "success_rate": rounded(numbers.success_rate, 4),
        "wait_seconds": {"p50": rounded(numbers.p50, 3), "p95": rounded(numbers.p95, 3)},
    }
