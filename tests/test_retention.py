"""What is older than its owner keeps it is deleted, the rest stays."""

from __future__ import annotations

import pytest

from covergate import retention
from covergate.db.database import Database
from covergate.db.partitions import Partitions
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.retention import KEPT, prune
from covergate.settings import Settings

OLD = {
    "vendor_calls": "INSERT INTO vendor_calls VALUES ('sohar', 'test', {at}, 1, 1)",
    "idempotency_keys": (
        "INSERT INTO idempotency_keys (tenant_id, mode, key, fingerprint, fingerprint_key_id, verification_id, created_at)"
        " VALUES ('ten_1', 'test', ({at})::text, '', 'k', 'v', {at})"
    ),
    "vendor_events": (
        "INSERT INTO vendor_events (id, vendor, mode, dedupe_key, kind, wakes, body_sealed, received_at)"
        " VALUES (({at})::text, 'sohar', 'test', ({at})::text, 'x', false, '', {at})"
    ),
    "vendor_messages": ("INSERT INTO vendor_messages (id, body_sealed, received_at) VALUES (({at})::text, '', {at})"),
    "events": (
        "INSERT INTO events (id, tenant_id, mode, type, data, created_at)"
        " VALUES (({at})::text, 'ten_1', 'test', 'x', '{{}}', {at})"
    ),
}


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    async with database.connection() as db:
        await Query("INSERT INTO tenants (id, name) VALUES ('ten_1', 'North')").run(db)
    return Gateway(Settings(_env_file=None), database)


@pytest.mark.parametrize("table", OLD)
async def test_what_is_older_goes_and_the_rest_stays(
    gateway: Gateway, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PRUNE_BATCH", 2)
    kept = KEPT[table]
    async with gateway.connection() as db:
        for age in (f"'{kept.span}'::interval + interval '{n} minutes'" for n in range(1, 6)):
            await Query(OLD[table].format(at=f"now() - ({age})")).run(db)
        await Query(OLD[table].format(at=f"now() - '{kept.span}'::interval + interval '1 minute'")).run(db)
        await prune(gateway, Partitions(gateway.transaction))
        assert await Query(f"SELECT count(*) FROM {table}").scalar(db) == 1
        assert await Query(f"SELECT {kept.since} > now() - interval '{kept.span}' FROM {table}").scalar(db)


async def test_an_event_stays_for_as_long_as_a_delivery_is_pending(gateway: Gateway) -> None:
    async with gateway.connection() as db:
        await Query(OLD["events"].format(at="now() - interval '31 days'")).run(db)
        await Query(
            "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)"
            " VALUES ('whe_1', 'ten_1', 'test', 'https://example.com', '{*}', 'thin', 'enabled', '')"
        ).run(db)
        await Query(
            "INSERT INTO deliveries (id, event_id, endpoint_id, status, next_attempt_at, due_at)"
            " SELECT 'del_1', id, 'whe_1', 'pending', now(), now() FROM events"
        ).run(db)
        await prune(gateway, Partitions(gateway.transaction))
        assert await Query("SELECT count(*) FROM events").scalar(db) == 1
        await Query(
            "UPDATE deliveries SET status = 'delivered', next_attempt_at = NULL, due_at = NULL, ended_at = now()"
        ).run(db)
        await prune(gateway, Partitions(gateway.transaction))
        assert await Query("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM deliveries)").scalar(db) == 0
