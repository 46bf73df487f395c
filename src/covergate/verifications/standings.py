"""Where verifications stand, for a page that must not take long: newest first, of the tenants that the caller may see, no PHI.

A list is looked for among all, and given up after `LISTED_WITHIN_MS`: no index finds each combination of filters beside a
million rows, and one for each would make every accept and every end dearer. Then the newest `MOST_LOOKED_AT` are looked at and no
more; what is found says so, and from where the next look goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from covergate import ids
from covergate.access.caller import Caller
from covergate.db.page import page, plan_for_values
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.verifications.queries import FACTS, Filters, is_of_open_ones, matching
from covergate.verifications.view import JOINED, WAITING_SINCE

COUNTED_UP_TO = 1000
COUNTED_WITHIN_MS = 50
"""A count that takes longer is given up: the list is worth more than its number."""
LISTED_WITHIN_MS = 30
MOST_LOOKED_AT = 5000
"""Verifications, or open ones if only these can match."""
CLOCKS_APART = timedelta(minutes=10)
"""An id has the time of the process that made it, `created_at` is the database's."""

_SHOWN = f"{FACTS}, v.payer_id, v.retry_of, v.completed_at, v.deadline, {WAITING_SINCE} AS waiting_since"
_BRIEFLY = "SET LOCAL statement_timeout = '{ms}ms'"
_COUNTED_BRIEFLY = Query(_BRIEFLY.format(ms=COUNTED_WITHIN_MS))
_LISTED_BRIEFLY = Query(_BRIEFLY.format(ms=LISTED_WITHIN_MS))
# OFFSET 0: one after the other as they stand, whatever PostgreSQL takes for likely.
_NEWEST = """
(SELECT * FROM verifications v WHERE {slice} OFFSET 0) v LEFT JOIN LATERAL (
  SELECT * FROM work w WHERE w.verification_id = v.id AND w.late_tries IS NULL AND v.completed_at IS NULL OFFSET 0) w ON true"""
_NEWEST_OPEN = """
(SELECT * FROM work w WHERE {slice} OFFSET 0) w JOIN LATERAL (
  SELECT * FROM verifications v WHERE v.id = w.verification_id OFFSET 0) v ON true"""


@dataclass(frozen=True, slots=True)
class Standings:
    """A page of them. `next_after` is None if there are no older ones to look at.

    `looked_at`: only so many were looked at, and `next_after` is the last of these; None: everything was.
    """

    data: list[dict[str, Any]]
    next_after: str | None
    looked_at: int | None = None


async def list_standings(
    gateway: Gateway, caller: Caller, filters: Filters, after: str | None, limit: int
) -> Standings:
    """Those older than the verification `after`."""
    conditions, values, types = _matching(gateway, caller, filters)
    if after is not None:
        conditions.append("v.id < :after")
        values["after"] = after
    try:
        async with gateway.transaction() as db:
            await plan_for_values(db)
            await _LISTED_BRIEFLY.run(db)
            rows = await _listing(JOINED, conditions, types).all(db, {**values, "limit": limit + 1})
    except asyncpg.QueryCanceledError:
        return await _among_the_newest(gateway, caller, filters, after, limit)
    found = page(rows, limit, lambda row: str(row.id), dict)
    return Standings(found.data, found.next_after)


async def _among_the_newest(
    gateway: Gateway, caller: Caller, filters: Filters, after: str | None, limit: int
) -> Standings:
    conditions, values, types = _matching(gateway, caller, filters)
    of_work = is_of_open_ones(filters) and caller.within_tenant is None
    table, row_id = ("work w", "w.verification_id") if of_work else ("verifications v", "v.id")
    alias = table[-1]
    slice_ = [f"{alias}.{name} = :{name}" for name in ("tenant_id", "mode") if name in values]
    slice_ += ["w.late_tries IS NULL"] if of_work else []
    slice_ += [condition.replace("v.id", row_id) for condition in conditions if condition in _BOUNDS.values()]
    if after is not None:
        slice_.append(f"{row_id} < :after")
        values["after"] = after
    sliced = " AND ".join(slice_) or "true"
    last = Query(f"SELECT {row_id} FROM {table} WHERE {sliced} ORDER BY {row_id} DESC OFFSET :passed LIMIT 1")
    async with gateway.transaction() as db:
        await plan_for_values(db)
        edge = await last.scalar(db, {**values, "passed": MOST_LOOKED_AT - 1})
        sliced += f" AND {row_id} >= :edge"
        tables = (_NEWEST_OPEN if of_work else _NEWEST).format(slice=sliced)
        rows = await _listing(tables, conditions, types).all(db, {**values, "edge": edge or "", "limit": limit + 1})
    found = page(rows, limit, lambda row: str(row.id), dict)
    if edge is None or found.next_after is not None:
        # All were looked at, or more were found than are shown.
        return Standings(found.data, found.next_after)
    return Standings(found.data, edge, MOST_LOOKED_AT)


def _listing(tables: str, conditions: list[str], types: dict[str, str]) -> Query:
    return Query(
        f"SELECT {_SHOWN} FROM {tables} JOIN tenants t ON t.id = v.tenant_id"
        f" WHERE {' AND '.join(conditions) or 'true'} ORDER BY v.id DESC LIMIT :limit",
        **types,
    )


async def count_matching(gateway: Gateway, caller: Caller, filters: Filters) -> int | None:
    """How many match; one more than `COUNTED_UP_TO` stands for more. None if it takes longer than a page may."""
    conditions, values, types = _matching(gateway, caller, filters)
    query = Query(
        f"SELECT count(*) FROM (SELECT FROM {JOINED} WHERE {' AND '.join(conditions) or 'true'}"
        f" LIMIT {COUNTED_UP_TO + 1}) AS found",
        **types,
    )
    try:
        async with gateway.transaction() as db:
            await plan_for_values(db)
            await _COUNTED_BRIEFLY.run(db)
            number: int = await query.scalar(db, values)
    except asyncpg.QueryCanceledError:
        return None
    return number


_BOUNDS: dict[str, str] = {"created_after": "v.id >= :first_id", "created_before": "v.id < :end_id"}
"""Filter → the same of ids, which sort by creation: an index has them."""


def _matching(gateway: Gateway, caller: Caller, filters: Filters) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """As `queries.matching`, bounded by ids too."""
    conditions, values, types = matching(gateway, caller, filters)
    bounds: dict[str, tuple[str, datetime | None, timedelta]] = {
        "created_after": ("first_id", filters.created_after, -CLOCKS_APART),
        "created_before": ("end_id", filters.created_before, CLOCKS_APART),
    }
    for name, (parameter, moment, apart) in bounds.items():
        if moment is not None:
            conditions.append(_BOUNDS[name])
            values[parameter] = ids.first_at(ids.VERIFICATION, moment + apart)
    return conditions, values, types
