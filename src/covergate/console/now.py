"""Now: what is open and what it waits for, what ended and who has to mend it, how the vendors fare, what comes due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from covergate import overview
from covergate.console.page import render
from covergate.console.sign_in import home
from covergate.console.visitor import Anybody, Visitor
from covergate.overview import EndedHour, OpenSample, VendorNow
from covergate.vendor_health.history import HistoryPoint, vendors_together
from covergate.vendors import VENDORS

router = APIRouter()

OPEN_FOR = timedelta(hours=3)
ENDED_FOR = timedelta(hours=24)
STRIP_FOR = timedelta(hours=1)
"""The vendors' numbers are of the hour under way and the one before."""
MOST_LISTED = 10

STANDS: Mapping[str, tuple[str, str]] = {
    "ok": ("good", "well"),
    "held": ("warn", "held"),
    "credentials": ("bad", "credentials refused"),
    "open": ("bad", "circuit open"),
    "half_open": ("warn", "circuit on trial"),
}
"""How a vendor stands → the kind of its mark, and words."""


@router.get("/")
async def now(request: Request, visitor: Anybody) -> Response:
    elsewhere = home(visitor)
    if elsewhere is not None:
        return elsewhere
    seen = await (_fleet(visitor) if visitor.is_operator else _tenants(visitor))
    return render(request, "now", visitor, live=True, **seen)


async def _fleet(visitor: Visitor) -> dict[str, Any]:
    mode, at = visitor.session.mode, datetime.now(UTC)
    async with visitor.gateway.connection() as db:
        samples = await overview.open_over_time(db, at - OPEN_FOR, mode)
        ended = await overview.ended_by_hour(db, at - ENDED_FOR, None, mode)
        seen = await overview.overview_of(db, mode)
        strip = await vendors_together(db, mode, "hour", at - STRIP_FOR)
    numbers = {one.vendor: one for one in strip}
    return {
        "open_chart": _stacked(samples),
        "open_now": seen.open,
        **_ended_charts(ended),
        "vendors": [_strip(one, numbers.get(one.vendor)) for one in seen.vendors],
        "oldest": seen.oldest,
        "deadlines": seen.deadlines,
        "failing": seen.failing,
        "workers": seen.workers,
        "oldest_due": seen.oldest_due_seconds,
    }


async def _tenants(visitor: Visitor) -> dict[str, Any]:
    """Of what is counted by tenant; the rest is the fleet's."""
    session, at = visitor.session, datetime.now(UTC)
    assert session.tenant_id is not None
    async with visitor.gateway.connection() as db:
        samples = await overview.tenant_open_over_time(db, at - OPEN_FOR, session.tenant_id, session.mode)
        ended = await overview.ended_by_hour(db, at - ENDED_FOR, session.tenant_id, session.mode)
        failing = await overview.failing_endpoints(db, MOST_LISTED, session.tenant_id, session.mode)
    return {
        "open_chart": _stacked(samples),
        "open_now": samples[-1] if samples else None,
        **_ended_charts(ended),
        "vendors": [],
        "oldest": [],
        "deadlines": None,
        "failing": failing,
        "workers": None,
        "oldest_due": {},
    }


def _strip(stands: VendorNow, numbers: HistoryPoint | None) -> dict[str, Any]:
    state, since, said = stands.state_of("")
    kind, words = STANDS[state]
    others = [account for account in stands.accounts_in_trouble if account]
    return {
        "name": stands.vendor,
        "title": VENDORS[stands.vendor].title,
        "kind": kind,
        "words": words,
        "since": since,
        "said": said,
        "others": len(others),
        "numbers": numbers,
    }


def _stacked(samples: Iterable[OpenSample]) -> dict[str, Any]:
    """As `chart_table` takes it."""
    rows = [(sample.at, sample.waiting_for) for sample in samples]
    return _table(rows)


_SERIES = {"start": "first step"}
"""Series → its words, if they are others than its name."""


def _table(rows: list[tuple[datetime, Mapping[str, int]]]) -> dict[str, Any]:
    """Series that are nowhere but 0 are left out."""
    names = sorted({name for _, numbers in rows for name, number in numbers.items() if number})
    return {
        "columns": ["At", *(_SERIES.get(name, name.replace("_", " ")) for name in names)],
        "rows": [[at, *(numbers.get(name, 0) for name in names)] for at, numbers in rows],
    }


def _ended_charts(ended: list[EndedHour]) -> dict[str, Any]:
    by_outcome: dict[datetime, dict[str, int]] = {}
    by_mender: dict[datetime, dict[str, int]] = {}
    for one in ended:
        outcomes = by_outcome.setdefault(one.at, {})
        outcomes[one.outcome] = outcomes.get(one.outcome, 0) + one.number
        menders = by_mender.setdefault(one.at, {})
        if one.fix_by is not None:
            menders[one.fix_by] = menders.get(one.fix_by, 0) + one.number
    return {
        "ended_chart": _table(list(by_outcome.items())),
        "mender_chart": _table(list(by_mender.items())),
        "ended_number": sum(one.number for one in ended),
        "failed_number": sum(one.number for one in ended if one.fix_by is not None),
    }
