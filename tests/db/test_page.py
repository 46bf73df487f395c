"""A page of a list reads a page, whoever else has rows in the table."""

from __future__ import annotations

from dataclasses import replace

from covergate.gateway import Gateway
from covergate.verifications.queries import Filters, list_verifications
from tests.support.engine import accept
from tests.support.gateways import CALLER, OTHER_TENANT
from tests.support.sql import run_sql

OTHERS = 20_000


async def test_a_small_tenants_list_does_not_walk_a_large_tenants_rows(gateway: Gateway) -> None:
    async with gateway.database.apart(pool_size=1, application_name="list") as database:
        one = replace(gateway, database=database)
        own = await accept(one)
        digests = "member_digest, birth_digest, inquiry_digest, digest_key_id"
        columns = f"mode, deadline, metadata, not_asked, inquiry_sealed, {digests}"
        await run_sql(
            one,
            f"INSERT INTO verifications (id, tenant_id, vendor, {columns})"
            f" SELECT 'ver_2' || lpad(n::text, 25, '0'), '{OTHER_TENANT}', vendor, {columns}"
            f" FROM verifications, generate_series(1, {OTHERS}) AS n",
        )
        await run_sql(one, "ANALYZE verifications")
        before = await _rows_read(one)
        found = await list_verifications(one, CALLER, Filters(), None, 20, "verification.list")
        assert [row["id"] for row in found.data] == [own]
        assert await _rows_read(one) - before < 100


async def _rows_read(gateway: Gateway) -> int:
    """Of the table and its indexes so far, by the only connection."""
    await run_sql(gateway, "SELECT pg_stat_force_next_flush()")
    [row] = await run_sql(
        gateway,
        "SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'verifications') AS read"
        " FROM pg_stat_user_tables WHERE relname = 'verifications'",
    )
    return int(row.read)
