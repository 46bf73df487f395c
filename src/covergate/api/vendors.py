"""`/v1/vendors`: which vendors the key can ask, what each can do and how it fares; operators hold and resume them.

A tenant sees its own numbers and, of the fleet, only the verdict; an operator sees the fleet's numbers, or those of the tenant
that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from covergate.access.api_keys import MODES
from covergate.access.caller import Caller, CallerKind
from covergate.access.operators import names_of
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, Operator, Watcher
from covergate.api.describe import Described, documented
from covergate.api.http import NoBody, json_answer, json_body
from covergate.api.pages import PageQuery, listed, position
from covergate.db.page import page
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import CircuitState
from covergate.timestamps import instant
from covergate.vendor_health.circuit_breaker import Standing, read_standing
from covergate.vendor_health.refused_credentials import read_refusals
from covergate.vendor_health.statistics import (
    DAY,
    HOUR,
    MOST_PAYERS,
    Judgement,
    Numbers,
    Statistics,
    Window,
    judge,
    judge_for,
    judge_payer,
)
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED, VendorAccount
from covergate.vendors.vendor import Vendor
from covergate.verifications.operator import LONGEST_HOLD, hold, resume
from covergate.verifications.request import Instant

router = APIRouter(tags=["Vendors"])

NEVER_LEFT = Standing(CircuitState.CLOSED, None, None, None)


class HoldVendor(BaseModel):
    """Both may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    reason: str | None = Field(
        default=None, min_length=1, max_length=200, description="Shown to operators; no PHI, no secrets"
    )
    until: Instant | None = Field(
        default=None, description="When the hold ends by itself; in the future, at most 90 days ahead"
    )

    @field_validator("until")
    @classmethod
    def _is_ahead(cls, until: datetime | None) -> datetime | None:
        if until is not None and not timedelta() < until - datetime.now(UTC) <= LONGEST_HOLD:
            raise ValueError("must be in the future, at most 90 days ahead")
        return until


@router.get(
    "/v1/vendors",
    **documented(
        "list_vendors",
        "List vendors",
        "All of them; `enabled` says whether this key can ask it. A vendor in trouble stays enabled: `circuit`, `held`,"
        " `verdict` and the numbers of the last hour and day say how it fares. The verdict is the whole gateway's in the key's"
        " mode; the numbers are those of the tenant's own attempts, seconds to minutes old. An operator sees the fleet's numbers,"
        " or those of the tenant in `X-Tenant`; without `X-Mode` of live vendors if there are any.",
        answers={200: Described("A page", schemas.VendorList, examples.VENDOR_PAGE)},
        problems=(400, 422),
    ),
)
async def get_vendors(
    request: Request, gateway: GatewayOf, caller: Watcher, query: Annotated[PageQuery, Query()]
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
        "Nothing is sent to it for any tenant, in the mode of `X-Mode` or, without that, in both, until it is resumed or `until`"
        " has come; its work waits (`waiting_for.kind` is `hold`) and deadlines go on. The body may be left out. Holding it"
        " again changes only what is given of `reason` and `until`.",
        body=(HoldVendor, examples.HOLD_VENDOR),
        answers={200: Described("The vendor", schemas.VendorShown, examples.HELD_VENDOR)},
        problems=(404, 413, 415, 422),
    ),
)
async def hold_vendor(
    request: Request,
    gateway: GatewayOf,
    caller: Operator,
    _: NoQuery,
    body: Annotated[HoldVendor, Depends(json_body(HoldVendor, may_be_empty=True))],
    vendor: str,
) -> Response:
    for mode in _modes(vendor, caller):
        await hold(gateway, caller, vendor, mode, reason=body.reason, until=body.until)
    return json_answer((await _shown(request, gateway, caller))(vendor))


@router.post(
    "/v1/vendors/{vendor}/resume",
    **documented(
        "resume_vendor",
        "Resume a vendor",
        "Its waiting work goes on, in the mode of `X-Mode` or in both; what waits because it refused credentials, on any account,"
        " is tried again, too. Resuming it again changes nothing.",
        answers={200: Described("The vendor", schemas.VendorShown, examples.RUNNING_VENDOR)},
        problems=(404, 413, 415, 422),
    ),
)
async def resume_vendor(
    request: Request, gateway: GatewayOf, caller: Operator, _: NoQuery, __: NoBody, vendor: str
) -> Response:
    for mode in _modes(vendor, caller):
        await resume(gateway, vendor, mode, caller)
    return json_answer((await _shown(request, gateway, caller))(vendor))


def _modes(vendor: str, caller: Caller) -> tuple[str, ...]:
    """Raises Problem `not_found`."""
    if vendor not in VENDORS:
        raise Problem("not_found", "there is no such vendor")
    return MODES if caller.within_mode is None else (caller.within_mode,)


def _account(gateway: Gateway, caller: Caller, mode: str, vendor: str) -> VendorAccount | None:
    """The tenant's; for an operator who names none, the gateway's own."""
    if caller.within_tenant is None:
        return gateway.shared_account(mode, vendor)
    return gateway.account(caller.within_tenant, mode, vendor)


async def _shown(request: Request, gateway: Gateway, caller: Caller) -> Callable[[str], dict[str, Any]]:
    """A function from a vendor's name to the vendor as the API shows it now."""
    statistics: Statistics = request.app.state.statistics
    mode = caller.within_mode or ("live" if gateway.enabled("live") else "test")
    operates = caller.kind is CallerKind.OPERATOR
    async with gateway.connection() as db:
        standing = await read_standing(db)
        holders = {stands.held_by for stands in standing.values() if stands.held_by} if operates else set()
        names = await names_of(db, holders) if holders else {}
        refusals = await read_refusals(db)
    fleet = await statistics.windows(mode, HOUR)
    hours = await statistics.windows(mode, HOUR, caller.within_tenant)
    days = await statistics.windows(mode, DAY, caller.within_tenant)
    await gateway.know_tenants()

    def show(name: str) -> dict[str, Any]:
        account, day = _account(gateway, caller, mode, name), days.get(name, Window())
        shared = standing.get((name, mode, SHARED), NEVER_LEFT)
        stands = shared
        if account is not None and account.id != SHARED:
            own = standing.get((name, mode, account.id), NEVER_LEFT)
            stands = replace(own, held_at=shared.held_at, held_by=shared.held_by)  # a hold is of all accounts
            stands = replace(stands, held_reason=shared.held_reason, held_until=shared.held_until)
        refusal = refusals.get((name, mode, SHARED if account is None else account.id))
        refused_since = None if refusal is None else refusal.since
        hour = fleet.get(name, Window())
        judgement = judge(stands.circuit, hour, credentials_refused=refused_since is not None)
        if not operates:
            judgement = judge_for(judgement, day.payers)
        return {
            **_view(VENDORS[name]),
            "enabled": account is not None,
            "account": None if account is None else "shared" if account.id == SHARED else "own",
            **_standing_view(stands, names, operates=operates),
            "credentials_refused_since": instant(refused_since),
            **_judgement_view(judgement),
            **_numbers_view(hours.get(name, Window()), day, hour),
        }

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


def _standing_view(standing: Standing, names: Mapping[str, str], *, operates: bool) -> dict[str, Any]:
    """`names` of operators: empty for callers that are not shown who holds a vendor, nor why."""
    held_by = standing.held_by
    return {
        "circuit": {
            "state": standing.circuit,
            "since": instant(standing.since),
            "rests_until": instant(standing.rests_until),
        },
        "held": standing.held_at is not None,
        "held_since": instant(standing.held_at),
        "held_by": {"id": held_by, "name": names[held_by]} if held_by is not None and held_by in names else None,
        "held_reason": standing.held_reason if operates else None,
        "held_until": instant(standing.held_until),
    }


def _judgement_view(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.trouble,
        "verdict_reason": judgement.reason,
        "verdict_payer_id": judgement.payer_id,
    }


def _numbers_view(hour: Window, day: Window, fleet: Window) -> dict[str, Any]:
    """The verdicts are by the `fleet`'s last hour."""
    hours, days = hour.busy_payers, day.busy_payers
    return {
        "last_hour": _numbers(hour.whole),
        "last_day": _numbers(day.whole),
        "payers": [
            {
                "payer_id": payer_id,
                "last_hour": _numbers(hours[payer_id]) if payer_id in hours else None,
                "last_day": _numbers(days[payer_id]) if payer_id in days else None,
                "verdict": judge_payer(payer_id, fleet),
            }
            for payer_id in list(dict.fromkeys([*days, *hours]))[:MOST_PAYERS]
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
