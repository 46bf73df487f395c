"""CircuitBreakers and holds: opened by failures, closed by one trial, shared by all processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from covergate.gateway import Gateway
from covergate.vendor_health.circuit_breaker import CircuitBreakers, Verdict, begin_hold
from covergate.vendors.errors import VendorRateLimited, VendorUnavailable
from covergate.verifications.operator import resume
from covergate.verifications.sweep import WAKE_SPREAD_SECONDS
from tests.support.engine import Engine, running_engine
from tests.support.requests import FOR_HARBOR, FOR_VSEE, VSEE_STORED, WHOLE_PATIENT
from tests.support.sweeps import sweep
from tests.support.wire import POLL, SUBMIT, Wire

DOWN = VendorUnavailable("down", sent=True)
SOHAR = ("sohar", "test")


async def failing(gateway: Gateway, failures: int, successes: int = 0) -> CircuitBreakers:
    circuits = CircuitBreakers(gateway)
    for _ in range(failures):
        circuits.count(*SOHAR, DOWN)
    for _ in range(successes):
        circuits.count(*SOHAR, None)
    await circuits.flush()
    return circuits


async def verdict(circuits: CircuitBreakers, later: int = 0) -> Verdict:
    return (await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=later))).verdict


async def rest_is_over(engine: Engine) -> None:
    await engine.run_sql("UPDATE vendor_standing SET rests_until = clock_timestamp()")


async def test_opens_on_the_failure_rate_of_the_window(gateway: Gateway) -> None:
    assert await verdict(await failing(gateway, failures=9)) is Verdict.GO  # 10 calls are the least
    circuits = await failing(gateway, failures=1, successes=11)  # 10 of 21
    assert await verdict(circuits) is Verdict.GO
    circuits = await failing(gateway, failures=1)  # 11 of 22
    assert await verdict(circuits) is Verdict.CIRCUIT
    other = CircuitBreakers(gateway)
    await other.flush()
    assert await verdict(other) is Verdict.CIRCUIT  # shared
    assert (await other.admit("integrex", "test", datetime.now(UTC))).verdict is Verdict.GO
    assert (await other.admit("sohar", "live", datetime.now(UTC))).verdict is Verdict.GO


async def test_counts_that_could_not_be_written_are_written_with_the_next(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    circuits = CircuitBreakers(gateway)
    for _ in range(9):
        circuits.count(*SOHAR, DOWN)
    with monkeypatch.context() as down:
        down.setattr(circuits, "_refresh", gone)
        with pytest.raises(asyncpg.InterfaceError):
            await circuits.flush()
    circuits.count(*SOHAR, DOWN)
    await circuits.flush()
    assert await verdict(circuits) is Verdict.CIRCUIT  # 10 calls are the least


async def gone(*_: object) -> None:
    raise asyncpg.InterfaceError("the connection is closed")


async def test_rate_limits_and_credentials_are_not_failures(gateway: Gateway) -> None:
    circuits = CircuitBreakers(gateway)
    for _ in range(30):
        circuits.count(*SOHAR, VendorRateLimited("slow down"))
    await circuits.flush()
    assert await verdict(circuits) is Verdict.GO


async def test_a_later_failure_never_shortens_a_rest(gateway: Gateway, engine: Engine) -> None:
    await failing(gateway, failures=10)
    await engine.run_sql("UPDATE vendor_standing SET rests_until = rests_until + interval '1 hour'")
    before = await engine.rows("SELECT rests_until, since FROM vendor_standing")
    await failing(gateway, failures=20)
    assert await engine.rows("SELECT rests_until, since FROM vendor_standing") == before


async def test_one_trial_in_the_whole_fleet(gateway: Gateway, engine: Engine) -> None:
    await failing(gateway, failures=10)
    await rest_is_over(engine)
    fleet = [CircuitBreakers(gateway) for _ in range(6)]
    for circuits in fleet:
        await circuits.flush()
    verdicts = await asyncio.gather(*(verdict(circuits, later=1) for circuits in fleet))
    assert sorted(verdicts) == [Verdict.CIRCUIT] * 5 + [Verdict.TRIAL]


async def test_a_good_trial_closes_and_a_bad_one_rests_longer(gateway: Gateway, engine: Engine) -> None:
    circuits = await failing(gateway, failures=10)
    rests = []
    for _ in range(3):
        await rest_is_over(engine)
        await circuits.flush()
        admission = await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=1))
        await circuits.conclude(*SOHAR, admission, DOWN)
        row = (
            await engine.rows("SELECT extract(epoch FROM rests_until - clock_timestamp()) AS rest FROM vendor_standing")
        )[0]
        rests.append(round(float(row.rest)))
    assert rests == [30, 60, 120]  # 15 s, doubled each time
    await rest_is_over(engine)
    await circuits.flush()
    admission = await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=1))
    await circuits.conclude(*SOHAR, admission, None)
    assert await verdict(circuits) is Verdict.GO
    await circuits.flush()
    assert await verdict(circuits) is Verdict.GO  # what failed before the trial does not count again


async def test_a_slow_success_from_before_does_not_close(gateway: Gateway, engine: Engine) -> None:
    circuits = await failing(gateway, failures=10)
    await rest_is_over(engine)
    await circuits.flush()
    lost = await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=1))
    assert lost.verdict is Verdict.TRIAL
    await rest_is_over(engine)  # the trial's process said nothing for too long
    await circuits.flush()
    second = await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=1))
    assert second.verdict is Verdict.TRIAL
    await circuits.conclude(*SOHAR, lost, None)
    assert await verdict(circuits) is Verdict.CIRCUIT
    await circuits.conclude(*SOHAR, second, None)
    assert await verdict(circuits) is Verdict.GO


async def test_work_waits_for_the_circuit_and_goes_on(engine: Engine, wire: Wire) -> None:
    await failing_integrex(engine)
    id_ = await engine.create()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "circuit")
    assert wire.calls == []
    await rest_is_over(engine)
    await engine.breakers.flush()
    for _ in range(3):
        await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    rows = await engine.rows("SELECT circuit FROM vendor_standing")
    assert rows[0].circuit == "closed"


async def failing_integrex(engine: Engine) -> None:
    for _ in range(10):
        engine.breakers.count("integrex", "test", DOWN)
    await engine.breakers.flush()


async def test_an_open_circuit_sends_new_work_to_the_next_vendor(engine: Engine, wire: Wire) -> None:
    await failing_integrex(engine)
    id_ = await engine.create(vendor=None, routing={"vendors": ["integrex", "sohar"]})
    await engine.step()
    view = await engine.view(id_)
    assert (view["vendor"], view["attempts"][0]["failure_code"]) == ("sohar", "vendor_unavailable")
    assert wire.calls == []


async def test_real_failures_open_it(gateway: Gateway) -> None:
    def down(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    async with running_engine(gateway, down) as engine:
        for _ in range(10):
            await engine.step(await engine.create())
        await engine.breakers.flush()
        admission = await engine.breakers.admit("integrex", "test", datetime.now(UTC))
    assert admission.verdict is Verdict.CIRCUIT


async def test_a_call_counts_once_however_many_submissions_it_carried(engine: Engine, wire: Wire) -> None:
    """A circuit opens on ten failed calls at least: twelve in one batch are one."""
    wire.on("POST /health_harbor/api/v0/mental_health/batch_inquiries", (503, {}))
    for _ in range(12):
        await engine.create(**FOR_HARBOR)
    claims = [await engine.take() for _ in range(12)]
    await asyncio.gather(*(engine.advance(claimed) for claimed in claims))
    await engine.breakers.flush()
    assert 0 < len(wire.calls) < 10
    rows = await engine.rows("SELECT vendor, sum(failed) AS failed FROM vendor_calls GROUP BY vendor")
    assert [(row.vendor, row.failed) for row in rows] == [("health_harbor", len(wire.calls))]
    admission = await engine.breakers.admit("health_harbor", "test", datetime.now(UTC))
    assert admission.verdict is Verdict.GO


async def test_our_own_rate_limit_is_no_call(engine: Engine, wire: Wire) -> None:
    """And a call that was answered is one."""
    await engine.run_sql(
        "INSERT INTO vendor_rates (vendor, mode, tokens, at) VALUES ('healthie', 'test', -1000000, clock_timestamp())"
    )
    limited = await engine.create(vendor="healthie", patient=WHOLE_PATIENT)
    await engine.step()
    assert (await engine.view(limited))["waiting_for"]["kind"] == "rate_limit"
    await engine.step(await engine.create())
    await engine.breakers.flush()
    rows = await engine.rows("SELECT vendor, answered, failed FROM vendor_calls")
    assert [tuple(row) for row in rows] == [("integrex", 1, 0)]


async def test_a_look_up_that_cannot_tell_yet_is_a_good_trial(engine: Engine, wire: Wire) -> None:
    users = "/vsee/api_v3/users"
    wire.on(f"POST {users}/sso", (200, {"data": {"id": "7", "token": {"token": "t"}}}))
    wire.on("POST /vsee/api_v3/me", (200, VSEE_STORED))
    wire.on(f"POST {users}/7/car7551/eligibility", httpx.RemoteProtocolError("cut"))
    wire.on(f"GET {users}/7", (200, {"data": {"id": "7", "insurance": {}}}))
    await engine.create(**FOR_VSEE)
    await engine.step()
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    for _ in range(10):
        engine.breakers.count("vsee", "test", DOWN)
    await engine.breakers.flush()
    await rest_is_over(engine)
    await engine.breakers.flush()
    await engine.step()
    assert [row.circuit for row in await engine.rows("SELECT circuit FROM vendor_standing")] == ["closed"]


async def subscribe(engine: Engine) -> None:
    await engine.run_sql(
        "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)"
        " VALUES ('whe_1', 'ten_test', 'test', 'https://example.com', '{vendor.degraded,vendor.recovered}', 'thin',"
        " 'enabled', '')"
    )


async def test_held_work_waits_and_goes_on_after(engine: Engine, wire: Wire) -> None:
    await subscribe(engine)

    async def switch(action: Callable[[Gateway, str, str], Awaitable[bool]]) -> bool:
        done = await action(engine.gateway, "integrex", "test")
        await engine.breakers.flush()
        return done

    async def held(gateway: Gateway, vendor: str, mode: str) -> bool:
        async with gateway.transaction() as db:
            return await begin_hold(db, vendor, mode)

    assert [await switch(held), await switch(held)] == [True, False]
    ids = [await engine.create() for _ in range(3)]
    for _ in range(3):
        await engine.step()
    for id_ in ids:
        view = await engine.view(id_)
        assert (view["waiting_for"]["kind"], view["next_check_at"]) == ("hold", view["deadline"])
        assert (await engine.timeline(id_))[-1] == "held_back"
    assert wire.calls == []
    assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == []
    assert [await switch(resume), await switch(resume)] == [True, False]
    assert len(await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS)) == 3
    for id_ in ids:
        await engine.step(id_)
    assert wire.calls == [SUBMIT] * 3
    assert await engine.events() == ["vendor.degraded", "vendor.recovered"]


async def test_a_hold_binds_also_a_worker_that_has_not_heard_of_it(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create()
    async with engine.gateway.transaction() as db:
        await begin_hold(db, "integrex", "test")
    await engine.step()  # without a look at the standing
    assert wire.calls == []
    view = await engine.view(id_)
    assert (view["waiting_for"]["kind"], view["next_check_at"]) == ("hold", view["deadline"])
    assert "submitted" not in await engine.timeline(id_)
    await resume(engine.gateway, "integrex", "test")
    assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == [id_]
    await engine.step()
    assert wire.calls == [SUBMIT]


async def test_degraded_and_recovered_are_told_to_who_subscribed(engine: Engine) -> None:
    await subscribe(engine)
    await failing_integrex(engine)
    await rest_is_over(engine)
    await engine.breakers.flush()
    await engine.create()
    await engine.step()
    assert await engine.events() == ["vendor.degraded", "vendor.recovered"]
    rows = await engine.rows("SELECT data FROM events ORDER BY id")
    told = {"vendor": "integrex", "mode": "test", "account": "shared", "reason": "circuit"}
    assert [row.data for row in rows] == [told | {"state": "open"}, told | {"state": "closed"}]


async def test_polling_is_held_back_too(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create()
    await engine.step()
    await failing_integrex(engine)
    await engine.step()
    assert (await engine.view(id_))["waiting_for"]["kind"] == "circuit"
    assert POLL not in wire.calls


async def test_work_put_aside_by_a_worker_that_had_not_heard_of_the_end_goes_on(engine: Engine, wire: Wire) -> None:
    """The hold ends between a worker's look and its record: the sweep finds what would wait to its deadline."""
    async with engine.gateway.transaction() as db:
        await begin_hold(db, "integrex", "test")
    await engine.breakers.flush()
    await resume(engine.gateway, "integrex", "test")
    id_ = await engine.create()
    await engine.step()  # still knows only of the hold
    assert (await engine.view(id_))["waiting_for"]["kind"] == "hold"
    assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == []
    assert [await sweep(engine.gateway), await sweep(engine.gateway)] == [1, 0]
    assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == [id_]
    await engine.breakers.flush()
    await engine.step()
    assert wire.calls == [SUBMIT]


async def test_many_that_were_held_are_woken_in_several_transactions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty thousand at once would be locked for as long as all of them take."""
    async with engine.gateway.transaction() as db:
        await begin_hold(db, "integrex", "test")
    await engine.breakers.flush()
    for _ in range(5):
        await engine.step(await engine.create())
    assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == []
    monkeypatch.setattr("covergate.verifications.sweep.WAKE_BATCH", 2)
    await resume(engine.gateway, "integrex", "test")
    assert len(await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS)) == 5
    rows = await engine.rows("SELECT count(*) AS together FROM work GROUP BY xmin::text ORDER BY 1")
    assert [row.together for row in rows] == [1, 2, 2]


async def test_who_waited_for_a_trial_goes_on_when_it_went_well(engine: Engine, wire: Wire) -> None:
    """Not only when the trial's own time would have been over, 90 seconds later."""
    await failing_integrex(engine)
    await rest_is_over(engine)
    await engine.breakers.flush()
    trial = await engine.breakers.admit("integrex", "test", datetime.now(UTC) + timedelta(seconds=1))
    waiting = await engine.create()
    await engine.step()
    assert (await engine.view(waiting))["waiting_for"]["kind"] == "circuit"
    assert await sweep(engine.gateway) == 0
    await engine.breakers.conclude("integrex", "test", trial, None)
    assert await sweep(engine.gateway) == 1
    soon = await engine.rows("SELECT due_at < clock_timestamp() + interval '3 s' AS soon FROM work")
    assert soon[0].soon


async def test_a_trial_that_was_not_made_is_free_again(gateway: Gateway, engine: Engine) -> None:
    circuits = await failing(gateway, failures=10)
    await rest_is_over(engine)
    await circuits.flush()
    trial = await circuits.admit(*SOHAR, datetime.now(UTC) + timedelta(seconds=1))
    await circuits.release(*SOHAR, trial)
    await circuits.flush()
    assert await verdict(circuits, later=1) is Verdict.TRIAL
    assert trial.verdict is Verdict.TRIAL


async def test_a_deadline_that_comes_while_a_circuit_rests_is_the_vendors_failure(engine: Engine) -> None:
    await failing_integrex(engine)
    id_ = await engine.create()
    await engine.step()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    assert await sweep(engine.gateway) == 1
    assert (await engine.view(id_))["failure"]["code"] == "vendor_unavailable"


async def test_a_trial_that_cannot_be_concluded_costs_no_reply(
    engine: Engine, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is recorded before the circuit is told, and whatever the circuit then meets is its own trouble."""
    await failing(engine.gateway, failures=20)
    await engine.run_sql("UPDATE vendor_standing SET vendor = 'integrex'")
    await rest_is_over(engine)
    await engine.breakers.flush()
    recorded: list[str] = []

    async def deadlocked(*_: object) -> None:
        [attempt] = (await engine.view(id_))["attempts"]
        recorded.append(attempt["state"])
        raise asyncpg.DeadlockDetectedError

    monkeypatch.setattr(engine.breakers, "conclude", deadlocked)
    wire.on(SUBMIT, (200, {"id": "7"}))
    id_ = await engine.create()
    await engine.step()
    assert recorded == ["waiting"]
    assert (await engine.view(id_))["attempts"][0]["vendor_ref"] == "7"
    assert wire.calls == [SUBMIT]


async def test_trials_and_counts_take_their_locks_in_one_order(gateway: Gateway, engine: Engine) -> None:
    """Concluded and flushed at the same time, again and again: neither waits for the other without end."""
    circuits = await failing(gateway, failures=20)
    for _ in range(30):
        await engine.run_sql("UPDATE vendor_standing SET circuit = 'open', rests_until = clock_timestamp()")
        await circuits.flush()
        admission = await circuits.admit(*SOHAR, datetime.now(UTC))
        for _ in range(12):
            circuits.count(*SOHAR, DOWN)
        await asyncio.gather(
            circuits.conclude(*SOHAR, admission, None), circuits.flush(), CircuitBreakers(gateway).flush()
        )


async def test_a_hold_ends_by_itself(engine: Engine, wire: Wire) -> None:
    await subscribe(engine)
    async with engine.gateway.transaction() as db:
        until = datetime.now(UTC) + timedelta(hours=1)
        assert await begin_hold(db, "integrex", "test", reason="their window", until=until)
        assert not await begin_hold(db, "integrex", "test", reason="longer than they said")
    await engine.breakers.flush()
    await engine.breakers.flush()
    await engine.step(await engine.create())
    [row] = await engine.rows("SELECT held_reason, held_until FROM vendor_standing")
    assert (row.held_reason, row.held_until) == ("longer than they said", until)
    assert await sweep(engine.gateway) == 0
    await engine.run_sql("UPDATE vendor_standing SET held_until = clock_timestamp()")
    await engine.breakers.flush()
    await engine.breakers.flush()
    assert await sweep(engine.gateway) == 1
    await engine.step()
    assert wire.calls == [SUBMIT]
    assert await engine.events() == ["vendor.degraded", "vendor.recovered"]
    [row] = await engine.rows("SELECT held_at, held_by, held_reason, held_until FROM vendor_standing")
    assert tuple(row) == (None, None, None, None)
