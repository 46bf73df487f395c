"""What a statement reads does not depend on who else has rows in the table, nor on how large it was when the plan was made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from covergate.gateway import Gateway
from covergate.verifications.queries import Filters, list_verifications
from covergate.webhooks.deliveries import DeliveryFilters, list_deliveries
from covergate.webhooks.events import EventFilters, list_events
from tests.support.engine import accept
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT
from tests.support.hooks import Hooks
from tests.support.sql import run_sql

OTHERS = 20_000
LONG_AGO = datetime.now(UTC) - timedelta(days=10)


@pytest.fixture
async def one(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway with a single connection, whose plans are kept and whose reads are counted."""
    async with gateway.database.apart(pool_size=1, application_name="plans") as database:
        yield replace(gateway, database=database)


async def test_a_small_tenants_list_does_not_walk_a_large_tenants_rows(one: Gateway) -> None:
    own = await accept(one)
    await _fill(one)
    await run_sql(one, "ANALYZE verifications")
    before = await _rows_read(one, "seq_tup_read", "idx_tup_read")
    found = await list_verifications(one, CALLER, Filters(), None, 20, "verification.list")
    assert [row["id"] for row in found.data] == [own]
    assert await _rows_read(one, "seq_tup_read", "idx_tup_read") - before < 100


async def test_plans_made_on_empty_tables_walk_no_full_one(one: Gateway) -> None:
    await run_sql(one, "ANALYZE verifications")
    await accept(one)
    await _fill(one)
    before = await _rows_read(one, "seq_tup_read")
    await accept(one)
    assert await _rows_read(one, "seq_tup_read") == before


@pytest.mark.parametrize(
    "filters",
    [
        DeliveryFilters(statuses=["exhausted"]),
        DeliveryFilters(event_types=["vendor.degraded"]),
        DeliveryFilters(statuses=["pending"], event_types=["vendor.degraded"]),
        DeliveryFilters(created_after=LONG_AGO, created_before=LONG_AGO + timedelta(seconds=5)),
        DeliveryFilters(),
    ],
    ids=lambda filters: "+".join(
        name for name in ("statuses", "event_types", "created_after") if getattr(filters, name)
    ),
)
async def test_the_few_deliveries_that_are_wanted_are_found_among_many(one: Gateway, filters: DeliveryFilters) -> None:
    endpoint = await _fill_deliveries(one)
    before = await _rows_read(one, "seq_tup_read", "idx_tup_read", table="deliveries")
    found = await list_deliveries(one, CALLER, endpoint, filters, None, 20)
    assert await _rows_read(one, "seq_tup_read", "idx_tup_read", table="deliveries") - before < 300
    assert len(found.data) == (20 if filters == DeliveryFilters() else 5)


@pytest.mark.parametrize(
    "filters",
    [
        EventFilters(types=["vendor.degraded"]),
        EventFilters(created_after=LONG_AGO, created_before=LONG_AGO + timedelta(seconds=5)),
        EventFilters(created_after=LONG_AGO + timedelta(seconds=1000)),
        EventFilters(),
    ],
    ids=["type", "time", "later", "none"],
)
async def test_the_few_events_that_are_wanted_are_found_among_many(one: Gateway, filters: EventFilters) -> None:
    await _fill_deliveries(one)
    before = await _rows_read(one, "seq_tup_read", "idx_tup_read", table="events")
    found = await list_events(one, CALLER, filters, None, 20)
    assert await _rows_read(one, "seq_tup_read", "idx_tup_read", table="events") - before < 600
    assert len(found.data) == (5 if filters.types or filters.created_before else 20)


async def _fill_deliveries(gateway: Gateway) -> str:
    """The endpoint: 20,000 deliveries were made, one a second; five rare ones, exhausted or pending, in the middle."""
    hooks = Hooks(gateway)
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    type_ = "CASE WHEN n BETWEEN 10001 AND 10005 THEN 'vendor.degraded' ELSE 'verification.completed' END"
    at = f"TIMESTAMPTZ '{(LONG_AGO - timedelta(seconds=10_000.5)).isoformat()}' + n * interval '1 s'"
    await hooks.run_sql(
        "INSERT INTO events (id, tenant_id, mode, type, data, created_at)"
        f" SELECT 'evt_' || lpad(n::text, 26, '0'), '{TENANT}', 'test', {type_}, '{{}}', {at}"
        f" FROM generate_series(1, {OTHERS}) AS n ORDER BY n"
    )
    rare = {"pending": 10_000, "exhausted": 10_005}
    for status, begin in {"delivered": 0, **rare}.items():
        due = "now()" if status == "pending" else "NULL"
        among = f"BETWEEN {begin + 1} AND {begin + 5}" if begin else "NOT BETWEEN 10001 AND 10010"
        await hooks.run_sql(
            "INSERT INTO deliveries"
            " (id, event_id, event_type, endpoint_id, status, next_attempt_at, due_at, created_at)"
            f" SELECT 'dlv_' || lpad(n::text, 26, '0'), 'evt_' || lpad(n::text, 26, '0'), {type_},"
            f" '{endpoint}', '{status}', {due}, {due}, {at} FROM generate_series(1, {OTHERS}) AS n WHERE n {among}"
        )
    await hooks.run_sql("ANALYZE events, deliveries")
    return endpoint


async def _fill(gateway: Gateway) -> None:
    """Copies of the only verification, as another tenant's newer ones."""
    digests = "member_digest, birth_digest, inquiry_digest, digest_key_id"
    columns = f"mode, deadline, metadata, not_asked, inquiry_sealed, {digests}"
    await run_sql(
        gateway,
        f"INSERT INTO verifications (id, tenant_id, vendor, {columns})"
        f" SELECT 'ver_2' || lpad(n::text, 25, '0'), '{OTHER_TENANT}', vendor, {columns}"
        f" FROM verifications, generate_series(1, {OTHERS}) AS n",
    )


async def _rows_read(gateway: Gateway, *counters: str, table: str = "verifications") -> int:
    """Of the table and its indexes so far, by the only connection."""
    await run_sql(gateway, "SELECT pg_stat_force_next_flush()")
    [row] = await run_sql(
        gateway,
        f"SELECT {' + '.join(counters)} AS read FROM pg_stat_user_tables JOIN ("
        " SELECT relid, sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes GROUP BY relid"
        ") AS indexes USING (relid) WHERE relname = :table",
        table=table,
    )
    return int(row.read)
