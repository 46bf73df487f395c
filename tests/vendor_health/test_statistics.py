"""How a vendor did, and whose its trouble is."""

from __future__ import annotations

import asyncio

import pytest

from covergate.gateway import Gateway
from covergate.vendor_health.statistics import (
    DAY,
    HOUR,
    OURS,
    THE_PAYERS,
    THE_VENDORS,
    Judgement,
    Numbers,
    Statistics,
    Trouble,
    Window,
    judge,
    judge_payer,
    read_windows,
)
from tests.support.engine import Engine
from tests.support.requests import PATIENT
from tests.support.wire import POLL, Wire


def window(*payers: tuple[int, int, int], ours: int = 0, ended: int | None = None) -> Window:
    """Payers P0, P1, … as (ended, failed by the vendor, failed by the payer)."""
    shown = {f"P{index}": Numbers(*(row[0], 0, row[1], row[2])) for index, row in enumerate(payers)}
    whole = Numbers(
        ended if ended is not None else sum(row[0] for row in payers) + ours,
        ours,
        sum(row[1] for row in payers),
        sum(row[2] for row in payers),
    )
    return Window(whole, shown)


@pytest.mark.parametrize(
    ("circuit", "hour", "trouble", "payer_id"),
    [
        ("closed", Window(), Trouble.NONE, None),
        ("open", Window(), Trouble.VENDOR, None),
        ("half_open", window((100, 0, 0)), Trouble.VENDOR, None),
        ("closed", window((19, 19, 0), ended=19), Trouble.NONE, None),  # too few to tell
        ("closed", window((100, 5, 5)), Trouble.NONE, None),  # 10 % is no trouble
        ("closed", window((50, 0, 0), (50, 0, 0), ours=25), Trouble.OURS, None),  # 25 of 125 is 20 %
        ("closed", window((50, 0, 0), (50, 0, 0), ours=24), Trouble.NONE, None),
        ("open", window((20, 5, 0), ours=60), Trouble.OURS, None),  # whatever the circuit says
        ("closed", window((60, 40, 0), ours=30), Trouble.VENDOR, None),  # more by the vendor's doing than by ours
        ("closed", window((50, 40, 0), (50, 40, 0), (50, 30, 0)), Trouble.VENDOR, None),
        ("closed", window((100, 20, 0)), Trouble.VENDOR, None),
        ("closed", window((50, 0, 45), (50, 0, 45), (50, 1, 44)), Trouble.VENDOR, None),  # all payers "are down"
        ("closed", window((100, 0, 0), (40, 0, 30), (100, 2, 0)), Trouble.PAYER, "P1"),
        ("closed", window((100, 0, 0), (40, 30, 0), (100, 2, 0)), Trouble.PAYER, "P1"),  # only this one times out
        ("closed", window((200, 0, 0), (40, 0, 25), (40, 0, 35)), Trouble.PAYER, "P2"),  # the worse of two
        ("closed", window((100, 60, 0), (40, 0, 30)), Trouble.VENDOR, None),
        ("closed", window((100, 15, 0), (40, 0, 30)), Trouble.VENDOR, None),  # the others do not do well either
        ("closed", window((100, 0, 90)), Trouble.PAYER, "P0"),  # nobody else was asked for, but the vendor says so
        ("closed", window((100, 90, 0)), Trouble.VENDOR, None),
        ("closed", window((6, 0, 0), (14, 14, 0)), Trouble.PAYER, "P1"),  # all that failed is one payer's
        ("closed", window((60, 0, 0), (50, 24, 0)), Trouble.PAYER, "P1"),  # and less than half of that
        ("closed", window((6, 1, 0), (14, 13, 0)), Trouble.VENDOR, None),
        ("closed", window((20, 14, 0)), Trouble.VENDOR, None),  # nothing else was asked
    ],
)
def test_whose_trouble_it_is(circuit: str, hour: Window, trouble: Trouble, payer_id: str | None) -> None:
    judgement = judge(circuit, hour)
    assert (judgement.trouble, judgement.payer_id) == (trouble, payer_id), judgement
    assert isinstance(judgement, Judgement) and judgement.reason


def test_refused_credentials_are_ours() -> None:
    assert judge("closed", window((100, 0, 0)), credentials_refused=True).trouble is Trouble.OURS


def test_each_payer_has_a_verdict() -> None:
    hour = window((100, 2, 0), (40, 30, 0), (40, 0, 20), (10, 10, 0))
    assert [judge_payer(f"P{n}", hour) for n in range(5)] == [
        Trouble.NONE,
        Trouble.VENDOR,  # the others fail, too
        Trouble.PAYER,  # the vendor says so
        Trouble.NONE,  # too few to tell
        Trouble.NONE,
    ]
    assert judge_payer("P1", window((100, 2, 0), (40, 30, 0))) is Trouble.PAYER


async def test_a_payer_with_few_is_told_from_the_others_if_all_that_fails_is_its(
    engine: Engine, gateway: Gateway
) -> None:
    await ended(engine, 14, payer_id="62308", code="vendor_unavailable")
    await ended(engine, 6, payer_id="60054")
    judgement = judge("closed", (await read(gateway))["sohar"])
    assert (judgement.trouble, judgement.payer_id) == (Trouble.PAYER, "62308")


def test_every_trouble_is_somebodys() -> None:
    assert not (OURS & THE_VENDORS or OURS & THE_PAYERS or THE_VENDORS & THE_PAYERS)


async def ended(
    engine: Engine,
    count: int,
    *,
    payer_id: str | None = "60054",
    code: str | None = None,
    state: str | None = None,
    seconds: str = "10",
    ago: str = "1 minute",
    vendor: str = "sohar",
    mode: str = "test",
) -> None:
    """So many attempts that ended, each after as many `seconds` as the SQL expression over i = 1, 2, … says."""
    tenant = "ten_test"
    await engine.run_sql(
        f"""
WITH v AS (
  INSERT INTO verifications (id, tenant_id, mode, status, failure_code, vendor, payer_id, attempt_id, deadline,
                             completed_at, not_asked, metadata, member_digest, birth_digest, inquiry_digest,
                             digest_key_id, inquiry_sealed)
  SELECT gen_random_uuid()::text, '{tenant}', :mode, 'failed', 'x', :vendor, :payer_id, '', now(), now(),
         '{{}}', '{{}}', '', '', '', '', '' FROM generate_series(1, :count) RETURNING id, payer_id
), n AS (SELECT id, payer_id, row_number() OVER () AS i FROM v)
INSERT INTO attempts (id, verification_id, vendor, mode, payer_id, state, created_at, intent_at, ended_at, failure_code)
SELECT gen_random_uuid()::text, id, :vendor, :mode, payer_id, :state, now(),
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


async def read(gateway: Gateway, seconds: int = 3600) -> dict[str, Window]:
    async with gateway.connection() as db:
        return await read_windows(db, "test", seconds)


async def test_waits_and_success_of_what_ended(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 100, seconds="i")  # 1 to 100 seconds
    await ended(engine, 20, code="member_id_invalid", state="refused", seconds="50.5")  # an answer too
    await ended(engine, 15, code="deadline_exceeded", state="abandoned", seconds="9999")
    await ended(engine, 10, code="payer_unavailable", payer_id="62308")
    await ended(engine, 5, code="vendor_auth_failed", payer_id=None)
    numbers = (await read(gateway))["sohar"].whole
    assert (numbers.ended, numbers.ours, numbers.vendors, numbers.payers) == (150, 5, 15, 10)
    assert numbers.success_rate == pytest.approx(120 / 150)
    assert numbers.p50 == pytest.approx(50.5, abs=0.01)
    assert numbers.p95 == pytest.approx(94.05, abs=0.01)  # 120 waits: the 113th is 93 s, the 114th 94 s, and a bit


async def test_payers_with_enough_of_them(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 25, payer_id="60054")
    await ended(engine, 20, payer_id="62308", code="payer_unavailable")
    await ended(engine, 19, payer_id="00001")
    await ended(engine, 30, payer_id=None)
    found = (await read(gateway))["sohar"]
    assert found.whole.ended == 94
    assert {payer_id: numbers.ended for payer_id, numbers in found.payers.items()} == {"60054": 25, "62308": 20}
    assert found.payers["62308"].success_rate == 0
    judgement = judge("closed", found)
    assert (judgement.trouble, judgement.payer_id) == (Trouble.PAYER, "62308")


async def test_what_does_not_count(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 3)
    await ended(engine, 5, state="abandoned")  # canceled, or taken over
    await ended(engine, 7, ago="61 minutes")
    await ended(engine, 9, mode="live")
    await ended(engine, 11, vendor="integrex")
    hour, day = await read(gateway), await read(gateway, 86_400)
    assert (hour["sohar"].whole.ended, day["sohar"].whole.ended) == (3, 10)
    assert hour["integrex"].whole.ended == 11
    assert set(hour) == {"sohar", "integrex"}


async def test_the_attempts_of_the_engine_count(engine: Engine, gateway: Gateway, wire: Wire) -> None:
    """What the engine writes is what is read: an answer, and a refusal that a follower took over without asking."""
    await engine.create()
    for _ in range(3):
        await engine.step()
    assert (await read(gateway))["integrex"].whole.success_rate == 1
    wire.on(POLL, (200, {"requestStatusCode": "42"}))
    for _ in range(2):
        await engine.create(max_age=60, patient={**PATIENT, "member_id": "W000000002"})
    for _ in range(4):
        await engine.step()
    numbers = (await read(gateway))["integrex"].whole
    assert (numbers.ended, numbers.payers) == (2, 1)
    assert numbers.p50 is not None and 0 <= numbers.p50 < 5


async def test_polling_reads_once_in_a_while(engine: Engine, gateway: Gateway) -> None:
    await ended(engine, 5)
    statistics = Statistics(gateway)
    first = await asyncio.gather(*(statistics.windows("test", HOUR) for _ in range(20)))
    await ended(engine, 5)
    later = await statistics.windows("test", HOUR)
    assert {found["sohar"].whole.ended for found in [*first, later]} == {5}
    assert (await statistics.windows("test", DAY))["sohar"].whole.ended == 10
    assert await statistics.windows("live", HOUR) == {}


async def test_it_is_read_by_the_index(engine: Engine, gateway: Gateway) -> None:
    """Of 20,000 attempts that ended in a week, the last hour's are found without reading the others."""
    await ended(engine, 20_000, ago="3 days")
    await ended(engine, 20, ago="1 minute")
    await engine.run_sql("VACUUM ANALYZE attempts")
    before = await _tuples_read(engine)
    assert (await read(gateway))["sohar"].whole.ended == 20
    await engine.run_sql("SELECT pg_stat_force_next_flush()")
    assert await _tuples_read(engine) - before < 1000


async def _tuples_read(engine: Engine) -> int:
    """Rows of attempts that were read in this database, by scans of any kind; a session reports when it is idle."""
    await asyncio.sleep(0)
    rows = await engine.rows(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_user_tables WHERE relname = 'attempts'"
    )
    return int(rows[0].n)
