"""What the operator's pages and `covergate top` show of the installation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from covergate import overview
from covergate.eligibility.failure import FixBy
from covergate.gateway import Gateway
from covergate.overview import (
    deadlines_within,
    ended_by_hour,
    ended_lately,
    failing_endpoints,
    oldest_open,
    open_lately,
    open_over_time,
    overview_of,
    tenant_open_over_time,
    vendors_now,
)
from covergate.vendor_health import history
from covergate.vendor_health.circuit_breaker import begin_hold
from covergate.vendor_health.history import count_ended
from tests.support.engine import Engine
from tests.support.wire import SUBMIT, Wire

AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


async def test_what_is_open_over_time(engine: Engine, gateway: Gateway) -> None:
    async with gateway.connection() as db:
        assert await open_lately(db) is None
    await engine.step(await engine.create())
    await engine.create()
    await count_ended(gateway)
    await engine.run_sql("UPDATE open_samples SET at = at - interval '1 minute'")
    await engine.create()
    await count_ended(gateway)
    async with gateway.connection() as db:
        samples = await open_over_time(db, AN_HOUR_AGO, "test")
        latest = await open_lately(db)
        assert (await open_over_time(db, AN_HOUR_AGO, "live"))[0].waiting_for == {"start": 0}
    assert [sample.waiting_for for sample in samples] == [{"start": 1, "vendor": 1}, {"start": 2, "vendor": 1}]
    assert latest is not None and latest.waiting_for == samples[1].waiting_for


async def test_what_a_tenant_has_open_over_time(
    engine: Engine, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.step(await engine.create())
    for module in (history, overview):
        monkeypatch.setattr(module, "TENANT_SAMPLE_MINUTES", 61)
    await count_ended(gateway)
    async with gateway.connection() as db:
        # Minute 0 is one of any such minutes.
        assert len(await tenant_open_over_time(db, AN_HOUR_AGO, "ten_test", "test")) <= 1
    for table in ("open_samples", "open_tenant_samples"):
        await engine.run_sql(f"DELETE FROM {table}")
    for module in (history, overview):
        monkeypatch.setattr(module, "TENANT_SAMPLE_MINUTES", 1)
    await engine.run_sql("INSERT INTO open_samples VALUES (now() - interval '50 minutes', 'test', 'vendor', 7)")
    await count_ended(gateway)
    for table in ("open_samples", "open_tenant_samples"):
        await engine.run_sql(f"UPDATE {table} SET at = at - interval '1 minute'")
    await engine.create()
    await count_ended(gateway)
    async with gateway.connection() as db:
        own = await tenant_open_over_time(db, AN_HOUR_AGO, "ten_test", "test")
        other = await tenant_open_over_time(db, AN_HOUR_AGO, "ten_other", "test")
        live = await tenant_open_over_time(db, AN_HOUR_AGO, "ten_test", "live")
    # From before there were any of tenants nothing is told; where there is none, nothing was open.
    assert [sample.waiting_for for sample in own] == [{"vendor": 1}, {"vendor": 1, "start": 1}]
    assert [sample.waiting_for for sample in other] == [{}, {}] == [sample.waiting_for for sample in live]
    assert [sample.at for sample in other] == [sample.at for sample in own]


async def test_what_ended_by_who_can_mend_it(engine: Engine, gateway: Gateway) -> None:
    await engine.run_sql("""
INSERT INTO ended_hours (at, tenant_id, mode, vendor, outcome, failure_code, number) VALUES
  (date_trunc('hour', now()), 'ten_test', 'test', 'sohar', 'eligible', '', 3),
  (date_trunc('hour', now()), 'ten_test', 'test', 'integrex', 'eligible', '', 2),
  (date_trunc('hour', now()), 'ten_test', 'test', 'sohar', 'failed', 'member_id_invalid', 4),
  (date_trunc('hour', now()), 'ten_other', 'test', 'sohar', 'failed', 'vendor_unavailable', 5),
  (date_trunc('hour', now()), 'ten_other', 'live', 'sohar', 'canceled', '', 6),
  (date_trunc('hour', now()) - interval '2 days', 'ten_test', 'test', 'sohar', 'eligible', '', 7)""")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with gateway.connection() as db:
        fleet = await ended_by_hour(db, yesterday)
        mine = await ended_by_hour(db, yesterday, "ten_test", "test")
    assert [(one.outcome, one.failure_code, one.fix_by, one.number) for one in fleet] == [
        ("canceled", None, None, 6),
        ("eligible", None, None, 5),
        ("failed", "member_id_invalid", FixBy.PATIENT, 4),
        ("failed", "vendor_unavailable", FixBy.VENDOR, 5),
    ]
    assert [(one.outcome, one.number) for one in mine] == [("eligible", 5), ("failed", 4)]


async def test_the_oldest_and_the_next_deadlines(engine: Engine, gateway: Gateway) -> None:
    ids = [await engine.create() for _ in range(3)]
    await engine.run_sql(
        "UPDATE work SET deadline = now() + interval '10 minutes' WHERE verification_id = :id", id=ids[1]
    )
    async with gateway.connection() as db:
        oldest = await oldest_open(db, 2)
        soon = await deadlines_within(db, 3600)
        assert (await deadlines_within(db, 60)).number == 0
        assert await oldest_open(db, 2, "live") == []
    assert [one.verification_id for one in oldest] == ids[:2]
    assert ([one.verification_id for one in soon.first], soon.number) == ([ids[1]], 1)
    assert (oldest[0].vendor, oldest[0].waiting_for) == ("integrex", None)


async def test_vendors_in_trouble(engine: Engine, gateway: Gateway, wire: Wire) -> None:
    wire.on(SUBMIT, (401, {}))
    await engine.step(await engine.create())
    async with gateway.transaction() as db:
        await begin_hold(db, "sohar", "test", reason="their window")
    async with gateway.connection() as db:
        vendors = {one.vendor: one for one in await vendors_now(db, "test")}
    assert [name for name, one in vendors.items() if one.held] == ["sohar"]
    assert [list(one.refused) for name, one in vendors.items() if one.refused] == [[""]]
    assert list(vendors["integrex"].refused) == [""]
    standing = vendors["sohar"].standing
    assert standing is not None and standing.held_reason == "their window"


async def test_endpoints_that_fail(engine: Engine, gateway: Gateway) -> None:
    await engine.run_sql("""
INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)
SELECT 'whe_' || id, id, 'test', 'https://a.example', '{*}', 'thin', 'enabled', '' FROM tenants""")
    await engine.run_sql("""
WITH e AS (INSERT INTO events (id, tenant_id, mode, type, data) VALUES ('evt_1', 'ten_test', 'test', 'endpoint.test', '{}')
           RETURNING id)
INSERT INTO deliveries (id, event_id, endpoint_id, status, tries, next_attempt_at, due_at, last_at, last_status)
SELECT 'dlv_' || n, 'evt_1', CASE WHEN n < 3 THEN 'whe_ten_test' ELSE 'whe_ten_other' END, 'pending',
       CASE WHEN n < 3 THEN n ELSE 0 END, now(), now(), now() + make_interval(secs => n), 500 + n
FROM generate_series(1, 3) AS n""")
    async with gateway.connection() as db:
        [failing] = await failing_endpoints(db)
        assert await failing_endpoints(db, tenant_id="ten_other") == []
    assert (failing.endpoint_id, failing.pending, failing.tries, failing.last_status) == ("whe_ten_test", 2, 2, 502)


async def test_the_whole_picture(engine: Engine, gateway: Gateway) -> None:
    ids = [await engine.create() for _ in range(2)]
    while (await engine.view(ids[0]))["status"] != "completed":
        await engine.step(ids[0])
    await count_ended(gateway)
    async with gateway.connection() as db:
        shown = await overview_of(db, "test")
        assert await ended_lately(db, 60, "live") == {}
    assert shown.ended == {"integrex": {"answered": 1}}
    assert [one.verification_id for one in shown.oldest] == [ids[1]]
    assert (shown.workers, shown.failing) == (0, [])
    assert set(shown.oldest_due_seconds) == {"verification", "delivery"}
