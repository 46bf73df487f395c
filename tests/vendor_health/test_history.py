"""What ended is counted once, by hour and day, and read back without a look at the verifications."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from covergate.gateway import Gateway
from covergate.vendor_health.history import (
    FIRST_COUNT_DAYS,
    HistoryPoint,
    count_ended,
    payer_over_time,
    payers_together,
    vendors_over_time,
    vendors_together,
)
from tests.support.engine import Engine

WEEK_AGO = datetime.now(UTC) - timedelta(days=FIRST_COUNT_DAYS)


async def ended(
    engine: Engine,
    count: int,
    *,
    payer_id: str | None = "60054",
    code: str | None = None,
    state: str | None = None,
    seconds: str = "10",
    ago: str = "2 hours",
    vendor: str = "sohar",
    mode: str = "test",
) -> None:
    """So many verifications that ended with their only attempt, after as many `seconds` as the SQL over i = 1, 2, … says."""
    await engine.run_sql(
        f"""
WITH v AS (
  INSERT INTO verifications (id, tenant_id, mode, status, outcome, failure_code, vendor, payer_id, attempt_id, deadline,
                             completed_at, not_asked, metadata, member_digest, birth_digest, inquiry_digest,
                             digest_key_id, inquiry_sealed)
  SELECT 'ver_' || g, 'ten_test', :mode, CASE WHEN CAST(:code AS text) IS NULL THEN 'completed' ELSE 'failed' END,
         CASE WHEN CAST(:code AS text) IS NULL THEN 'eligible' END, :code, :vendor, :payer_id, 'att_' || g, now(), now(),
         '{{}}', '{{}}', '', '', '', '', ''
  FROM (SELECT gen_random_uuid()::text AS g FROM generate_series(1, :count)) AS made RETURNING id, payer_id, attempt_id
), n AS (SELECT *, row_number() OVER () AS i FROM v)
INSERT INTO attempts (id, verification_id, vendor, mode, payer_id, state, created_at, intent_at, ended_at, failure_code)
SELECT attempt_id, id, :vendor, :mode, payer_id, :state, now(),
       clock_timestamp() - CAST(:ago AS text)::interval - make_interval(secs => {seconds}),
       clock_timestamp() - CAST(:ago AS text)::interval, :code FROM n""",
        count=count,
        mode=mode,
        vendor=vendor,
        payer_id=payer_id,
        code=code,
        state=state or ("answered" if code is None else "failed"),
        ago=ago,
    )


async def together(gateway: Gateway, span: str = "hour") -> dict[str, HistoryPoint]:
    async with gateway.connection() as db:
        return {point.vendor: point for point in await vendors_together(db, "test", span, WEEK_AGO)}


async def test_waits_and_success(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 100, seconds="i")  # 1 to 100 seconds
    await ended(engine, 20, code="member_id_invalid", state="refused", seconds="50.5")  # an answer too
    await ended(engine, 15, code="deadline_exceeded", seconds="9999")
    await ended(engine, 10, code="payer_unavailable", payer_id="62308")
    await ended(engine, 5, code="vendor_auth_failed", payer_id=None)
    await ended(engine, 3, state="abandoned")  # canceled, or taken over
    await count_ended(gateway)
    for span in ("hour", "day"):
        point = (await together(gateway, span))["sohar"]
        assert (point.ended, point.ours, point.vendors, point.payers) == (150, 5, 15, 10)
        assert point.success_rate == pytest.approx(120 / 150)
        assert point.p50 == pytest.approx(50.5, rel=0.125)
        assert point.p95 == pytest.approx(94, rel=0.125)
    async with gateway.connection() as db:
        payers = await payers_together(db, "test", "hour", WEEK_AGO, "sohar")
        assert [(one.payer_id, one.ended, one.success_rate) for one in payers] == [
            ("60054", 135, 120 / 135),
            ("62308", 10, 0),
        ]


async def test_it_is_counted_once_and_in_its_hour(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 2, ago="3 hours")
    await asyncio.gather(*(count_ended(gateway) for _ in range(3)))
    await ended(engine, 5, ago="0 seconds")  # may not be committed everywhere
    await count_ended(gateway)
    assert (await together(gateway))["sohar"].ended == 2
    late = "ended_at > now() - interval '1 hour'"
    await engine.run_sql(f"UPDATE attempts SET ended_at = ended_at - interval '2 minutes' WHERE {late}")
    await engine.run_sql("UPDATE counting_cursor SET counted_until = counted_until - interval '3 minutes'")
    await count_ended(gateway)
    await count_ended(gateway)
    async with gateway.connection() as db:
        points = await vendors_over_time(db, "test", "hour", WEEK_AGO, "sohar")
        assert [point.ended for point in points] == [2, 5]
        assert all(point.at is not None and point.at.minute == 0 for point in points)


async def test_modes_vendors_and_payers_stand_apart(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 1)
    await ended(engine, 2, mode="live")
    await ended(engine, 3, vendor="integrex", payer_id="62308")
    await count_ended(gateway)
    assert {name: point.ended for name, point in (await together(gateway)).items()} == {"sohar": 1, "integrex": 3}
    async with gateway.connection() as db:
        [live] = await vendors_together(db, "live", "day", WEEK_AGO)
        [point] = await payer_over_time(db, "test", "hour", WEEK_AGO, "integrex", "62308")
    assert (live.ended, point.ended) == (2, 3)


async def test_ended_hours_are_by_what_became_of_it(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 3)
    await ended(engine, 2, code="member_id_invalid", state="refused")
    await engine.run_sql(
        """
INSERT INTO attempts (id, verification_id, vendor, mode, payer_id, state, created_at, ended_at, failure_code)
SELECT 'att_first_' || id, id, 'integrex', mode, payer_id, 'failed', now(), clock_timestamp() - interval '2 hours',
       'vendor_unavailable' FROM verifications"""
    )
    await count_ended(gateway)
    rows = await engine.rows(
        "SELECT tenant_id, vendor, outcome, failure_code, number FROM ended_hours ORDER BY outcome"
    )
    assert [tuple(row) for row in rows] == [
        ("ten_test", "sohar", "eligible", "", 3),
        ("ten_test", "sohar", "failed", "member_id_invalid", 2),
    ]


async def test_what_is_open_is_sampled_once_a_minute(engine: Engine, gateway: Gateway) -> None:
    await engine.create()
    id_ = await engine.create()
    await engine.step(id_)
    for _ in range(2):
        await count_ended(gateway)
    rows = await engine.rows(
        "SELECT mode, waiting_for, number FROM open_samples WHERE at = (SELECT min(at) FROM open_samples)"
    )
    assert sorted(tuple(row) for row in rows) == [("live", "start", 0), ("test", "start", 1), ("test", "vendor", 1)]


def test_the_longest_wait_is_the_last_step() -> None:
    point = HistoryPoint(None, "sohar", None, 1, 0, 0, 0, [0] * 79 + [1])
    assert point.p50 is not None and point.p50 > 14 * 86_400
    assert HistoryPoint(None, "sohar", None, 0, 0, 0, 0, []).p95 is None
