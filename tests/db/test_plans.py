"""What a statement reads does not depend on who else has rows in the table, nor on how large it was when the plan was made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from covergate.gateway import Gateway
from covergate.verifications.queries import Filters, list_verifications
from tests.support.engine import accept
from tests.support.gateways import CALLER, OTHER_TENANT
from tests.support.sql import run_sql

OTHERS = 20_000


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


async def _rows_read(gateway: Gateway, *counters: str) -> int:
    """Of verifications and its indexes so far, by the only connection."""
    await run_sql(gateway, "SELECT pg_stat_force_next_flush()")
    [row] = await run_sql(
        gateway,
        f"SELECT {' + '.join(counters)} AS read FROM pg_stat_user_tables JOIN ("
        " SELECT relid, sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes GROUP BY relid"
        ") AS indexes USING (relid) WHERE relname = 'verifications'",
    )
    return int(row.read)
