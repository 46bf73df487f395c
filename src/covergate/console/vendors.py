"""Vendors: how each one stands and did, whose the trouble is; hold, resume, and a harmless call to test the account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from covergate.access.credentials import expiry_of
from covergate.access.operators import names_of
from covergate.access.vendor_accounts import REFUSED, TAKEN, owner_names, try_shared_account, vendor_named
from covergate.console.now import STANDS
from covergate.console.page import render
from covergate.console.visitor import MOUNTED_AT, OperatorAt, Visitor
from covergate.eligibility.inquiry import CONTROL
from covergate.errors import ConfigurationError
from covergate.overview import VendorNow, vendors_now
from covergate.payers.directory import Directory, DirectoryCache
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import Standing
from covergate.vendor_health.history import (
    HistoryPoint,
    payer_over_time,
    payers_together,
    vendors_over_time,
    vendors_together,
)
from covergate.vendor_health.statistics import HOUR, Judgement, Statistics, Trouble, Window, judge, judge_payer
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED
from covergate.vendors.vendor import AnswersBy, Recovery, ServiceDates, Vendor
from covergate.verifications import operator

router = APIRouter()

DAY, WEEK = timedelta(hours=24), timedelta(days=7)
MOST_LISTED_PAYERS = 100
LONGEST_REASON = 200

_NAME = Annotated[str, Path(max_length=100)]
_PAYER = Annotated[str | None, Query(max_length=200)]

_TROUBLES: Mapping[Trouble, tuple[str, str]] = {
    Trouble.NONE: ("good", "no trouble"),
    Trouble.OURS: ("warn", "ours"),
    Trouble.VENDOR: ("bad", "the vendor's"),
    Trouble.PAYER: ("warn", "a payer's"),
}
"""Whose the trouble is → the kind of its mark, and words."""

_DONE = {
    "held": "It is held: nothing more is sent to it.",
    "changed": "The hold was changed.",
    "resumed": "It goes on. What waited is sent now.",
    "gone": "Nothing was done: somebody else was faster, or the hold ended by itself. Below is how it stands now.",
}

_ANSWERS_BY: Mapping[AnswersBy, str] = {
    AnswersBy.AT_ONCE: "at once, in the reply",
    AnswersBy.POLL: "when it is looked at again",
    AnswersBy.EVENT: "by an event that it sends",
    AnswersBy.PHONE_CALL: "after a phone call to the payer",
}
_SERVICE_DATES: Mapping[ServiceDates, str] = {ServiceDates.ANY: "any date", ServiceDates.TODAY: "today only"}
_RECOVERY: Mapping[Recovery, str] = {
    Recovery.LOOKUP: "is looked up at the vendor",
    Recovery.EVENT: "is found by the vendor's event",
    Recovery.OPERATOR: "waits for an operator, who looks at the vendor",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What all of a vendor's numbers and words come from."""

    stands: VendorNow
    numbers: HistoryPoint | None
    hour: Window
    holders: Mapping[str, str]
    directory: Directory

    @property
    def judgement(self) -> Judgement:
        resting = self.stands.resting.get(SHARED)
        return judge(
            "closed" if resting is None else resting.circuit,
            self.hour,
            credentials_refused=SHARED in self.stands.refused,
        )


@router.get("/vendors")
async def vendors(request: Request, visitor: OperatorAt) -> Response:
    rows = [_row(seen) for seen in await _look(request, visitor)]
    return render(request, "vendors", visitor, live=True, vendors=rows)


@router.get("/vendors/{vendor}")
async def vendor(
    request: Request, visitor: OperatorAt, vendor: _NAME, payer: _PAYER = None, done: str = ""
) -> Response:
    return await _page(request, visitor, vendor_named(vendor), payer or None, said=_DONE.get(done))


@router.post("/vendors/{vendor}/hold")
async def hold_vendor(request: Request, visitor: OperatorAt, vendor: _NAME) -> Response:
    known, form = vendor_named(vendor), visitor.form
    wrong: dict[str, str] = {}
    reason = form.one("reason")
    if not reason:
        wrong["reason"] = "Say why: others read it."
    elif len(reason) > LONGEST_REASON or CONTROL.search(reason):
        wrong["reason"] = f"A reason has at most {LONGEST_REASON} characters, on one line."
    ends, wrong_end = _end_of(form.one("until"))
    if wrong_end is not None:
        wrong["until"] = wrong_end
    if wrong:
        typed = {"reason": reason[:LONGEST_REASON], "until": form.one("until")[:100], "seen": form.one("seen")}
        return await _page(request, visitor, known, None, wrong=wrong, typed=typed, live=False)
    mode, seen = visitor.session.mode, form.one("seen")
    held = await operator.hold(visitor.gateway, visitor.caller, vendor, mode, reason=reason, until=ends, seen=seen)
    return _back(vendor, "gone" if not held else "changed" if seen else "held")


@router.post("/vendors/{vendor}/resume")
async def resume_vendor(visitor: OperatorAt, vendor: _NAME) -> Response:
    vendor_named(vendor)
    resumed = await operator.resume(
        visitor.gateway, vendor, visitor.session.mode, visitor.caller, seen=visitor.form.one("seen")
    )
    return _back(vendor, "resumed" if resumed else "gone")


@router.post("/vendors/{vendor}/test")
async def test_vendor(request: Request, visitor: OperatorAt, vendor: _NAME) -> Response:
    """Makes one harmless call with the gateway's own account; what came back stands on the page."""
    known, mode = vendor_named(vendor), visitor.session.mode
    async with visitor.gateway.connection() as db:
        [stands] = [one for one in await vendors_now(db, mode) if one.vendor == vendor]
    _, message = await try_shared_account(
        visitor.gateway,
        cast(Transport, request.app.state.transport),
        mode,
        vendor,
        visitor.caller,
        held=stands.held,
    )
    if message == TAKEN:
        await operator.trust_credentials(visitor.gateway, vendor, mode, SHARED)
    said = f"The account was tested: {message}."
    return await _page(
        request,
        visitor,
        known,
        None,
        said=said,
        said_kind={TAKEN: "done", REFUSED: "wrong"}.get(message, ""),
        live=False,
    )


# --- reading ----------------------------------------------------------------------------------------------------------


async def _look(request: Request, visitor: Visitor, vendor: str | None = None) -> list[_Seen]:
    mode, at = visitor.session.mode, datetime.now(UTC)
    statistics = cast(Statistics, request.app.state.statistics)
    directory = await cast(DirectoryCache, request.app.state.payers).directory(mode)
    hours = await statistics.windows(mode, HOUR)
    async with visitor.gateway.connection() as db:
        stands = [one for one in await vendors_now(db, mode) if vendor in (None, one.vendor)]
        points = {one.vendor: one for one in await vendors_together(db, mode, "hour", at - DAY, vendor)}
        ids = {one.standing.held_by for one in stands if one.standing is not None and one.standing.held_by}
        holders = await names_of(db, ids) if ids else {}
    return [_Seen(one, points.get(one.vendor), hours.get(one.vendor, Window()), holders, directory) for one in stands]


def _row(seen: _Seen) -> dict[str, Any]:
    """How a vendor stands and did, for both pages."""
    stands, numbers = seen.stands, seen.numbers
    state, since, _ = stands.state_of(SHARED)
    kind, words = STANDS[state]
    refusal, resting = stands.refused.get(SHARED), stands.resting.get(SHARED)
    return {
        "name": stands.vendor,
        "title": VENDORS[stands.vendor].title,
        "state": state,
        "kind": kind,
        "words": words,
        "since": since,
        "hold": _hold_view(stands.standing, seen.holders) if stands.standing is not None and stands.held else None,
        "refused": refusal,
        "resting": resting,
        "numbers": numbers,
        "verdict": _verdict(seen),
        "others": len([account for account in stands.accounts_in_trouble if account != SHARED]),
    }


def _hold_view(standing: Standing, holders: Mapping[str, str]) -> dict[str, Any]:
    by = standing.held_by
    return {
        "since": standing.held_at,
        "by": "the command line" if by is None else holders.get(by, by),
        "reason": standing.held_reason,
        "until": standing.held_until,
    }


def _verdict(seen: _Seen) -> dict[str, Any]:
    judgement = seen.judgement
    kind, words = _TROUBLES[judgement.trouble]
    payer_id = judgement.payer_id
    return {
        "kind": kind,
        "words": words,
        "reason": judgement.reason,
        "payer_id": payer_id,
        "payer": None if payer_id is None else seen.directory.name_of(payer_id) or payer_id,
    }


async def _page(
    request: Request,
    visitor: Visitor,
    vendor: Vendor,
    payer_id: str | None,
    *,
    said: str | None = None,
    said_kind: str = "done",
    wrong: Mapping[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
    live: bool = True,
) -> Response:
    """`wrong`: field of the form → what is wrong with it; `typed` is shown again with it.

    `live` only at an address that can be asked for again.
    """
    gateway, mode, at = visitor.gateway, visitor.session.mode, datetime.now(UTC)
    [seen] = await _look(request, visitor, vendor.name)
    first_day = (at - WEEK + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    async with gateway.connection() as db:
        day = await vendors_over_time(db, mode, "hour", at - DAY, vendor.name)
        week = await vendors_over_time(db, mode, "day", first_day, vendor.name)
        payers = await payers_together(db, mode, "hour", at - DAY, vendor.name, MOST_LISTED_PAYERS)
        of_payer = None
        if payer_id is not None:
            of_payer = {
                "id": payer_id,
                "name": seen.directory.name_of(payer_id),
                **_charts(
                    await payer_over_time(db, mode, "hour", at - DAY, vendor.name, payer_id),
                    await payer_over_time(db, mode, "day", first_day, vendor.name, payer_id),
                ),
            }
        accounts = [account for account in seen.stands.accounts_in_trouble if account != SHARED]
        owners = await owner_names(db, accounts) if accounts else {}
    standing = seen.stands.standing
    return render(
        request,
        "vendor",
        visitor,
        status=422 if wrong else 200,
        live=live,
        vendor=vendor,
        mode=mode,
        row=_row(seen),
        mark="" if standing is None else standing.hold_mark,
        charts=_charts(day, week),
        payers=[_payer_row(one, seen) for one in payers],
        most_payers=MOST_LISTED_PAYERS,
        of_payer=of_payer,
        accounts=[_account_row(seen.stands, account, owners) for account in accounts],
        has_account=gateway.shared_account(mode, vendor.name) is not None,
        longest_hold_days=operator.LONGEST_HOLD.days,
        answers_by=[_ANSWERS_BY[way] for way in vendor.capabilities.answers_by],
        service_dates=_SERVICE_DATES[vendor.capabilities.service_dates],
        recovery=_RECOVERY[vendor.recovery],
        said=said,
        said_kind=said_kind,
        wrong=wrong or {},
        typed=typed,
    )


def _payer_row(point: HistoryPoint, seen: _Seen) -> dict[str, Any]:
    payer_id = point.payer_id or ""
    trouble = judge_payer(payer_id, seen.hour)
    kind, words = _TROUBLES[trouble]
    return {
        "id": payer_id,
        "name": seen.directory.name_of(payer_id),
        "numbers": point,
        "kind": kind,
        "words": "the payer's" if trouble is Trouble.PAYER else words,
    }


def _account_row(stands: VendorNow, account: str, owners: Mapping[str, str]) -> dict[str, Any]:
    """Of a tenant's own account in trouble, as it stands but for the vendor's hold."""
    refusal, resting = stands.refused.get(account), stands.resting.get(account)
    state, since, again = (
        ("credentials", refusal.since, refusal.trial_at)
        if refusal is not None
        else (
            "open" if resting is None else resting.circuit,
            resting and resting.since,
            resting and resting.rests_until,
        )
    )
    kind, words = STANDS[state]
    tenant = owners.get(account, account)
    return {"tenant": tenant, "kind": kind, "words": words, "since": since, "again": again}


def _charts(day: list[HistoryPoint], week: list[HistoryPoint]) -> dict[str, Any]:
    """As `chart_table` takes them."""
    return {
        "day_waits": [[one.at, _rounded(one.p50), _rounded(one.p95)] for one in day],
        "day_success": [[one.at, _percent(one.success_rate)] for one in day],
        "week_waits": [[one.at, _rounded(one.p50), _rounded(one.p95)] for one in week],
        "week_success": [[one.at, _percent(one.success_rate)] for one in week],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _percent(rate: float | None) -> float | None:
    return None if rate is None else round(100 * rate, 1)


def _end_of(given: str) -> tuple[datetime | None, str | None]:
    """When a hold is to end by itself, None if nobody said; and what is wrong with it."""
    try:
        ends = expiry_of(given or None)
    except ConfigurationError:
        return (
            None,
            "It ends after a span (4h, 2d, 1w) or at an instant to come (2026-12-01T14:00Z); else leave it empty.",
        )
    if ends is not None and ends - datetime.now(UTC) > operator.LONGEST_HOLD:
        return (
            None,
            f"A hold ends within {operator.LONGEST_HOLD.days} days, or when it is resumed: then leave it empty.",
        )
    return ends, None


def _back(vendor: str, done: str) -> Response:
    return RedirectResponse(f"{MOUNTED_AT}/vendors/{vendor}?done={done}", 303)
