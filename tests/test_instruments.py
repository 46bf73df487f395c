"""A process counts its own work, read here as Prometheus reads it: how much it grew, for the counters are the process's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from covergate import instruments
from covergate.db.database import Database
from covergate.errors import Problem
from covergate.verifications.cancel import cancel
from covergate.webhooks.deliveries import redeliver
from covergate.webhooks.endpoints import send_test
from covergate.webhooks.places import Places
from covergate.webhooks.recovery import recover
from covergate.webhooks.sender import Deliverer
from tests.support.counters import counted
from tests.support.engine import Engine
from tests.support.gateways import CALLER, make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import answer, partner_server
from tests.support.wire import ACTIVE, POLL, SUBMIT, SUBMITTED, Wire

SAMPLE = {"mode": "test", "vendor": "integrex"}


@pytest.fixture
def added() -> Callable[..., float]:
    """How much a sample grew since the test began."""
    before: dict[str, float] = {}
    for family in text_string_to_metric_families(instruments.exposition((0, 1)).decode()):
        for sample in family.samples:
            before[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value

    def since(name: str, **labels: str) -> float:
        return counted(name, **labels) - before.get(f"{name}{sorted(labels.items())}", 0.0)

    return since


async def test_ends_calls_and_tokens(engine: Engine, wire: Wire, added: Callable[..., float]) -> None:
    wire.on(SUBMIT, SUBMITTED).on(POLL, (503, {}), (200, ACTIVE))
    await engine.create()
    for _ in range(3):
        await engine.step()
    assert added("covergate_verifications_ended_total", outcome="eligible", failure_code="", **SAMPLE) == 1
    assert added("covergate_verification_seconds_count", **SAMPLE) == 1
    assert 0 <= added("covergate_verification_seconds_sum", **SAMPLE) < 60
    assert added("covergate_vendor_calls_total", result="ok", **SAMPLE) == 2
    assert added("covergate_vendor_calls_total", result="unavailable", **SAMPLE) == 1
    assert added("covergate_vendor_call_seconds_count", **SAMPLE) == 3
    assert added("covergate_vendor_token_refreshes_total", **SAMPLE) == 1


async def test_an_end_without_an_answer_says_why(engine: Engine, added: Callable[..., float]) -> None:
    id_, other = await engine.create(), await engine.create()
    await cancel(engine.gateway, CALLER, id_)
    await cancel(engine.gateway, CALLER, id_)
    assert added("covergate_verifications_ended_total", outcome="canceled", failure_code="", **SAMPLE) == 1
    await engine.run_sql(
        "UPDATE work SET deadline = now(), next_check_at = now() WHERE verification_id = :id", id=other
    )
    await engine.step(other)
    shown = await engine.view(other)
    failure = shown["failure"]["code"]
    assert added("covergate_verifications_ended_total", outcome="failed", failure_code=failure, **SAMPLE) == 1


async def test_an_end_that_is_not_committed_is_not_counted(engine: Engine, added: Callable[..., float]) -> None:
    id_ = await engine.create()
    await engine.run_sql("ALTER TABLE verifications ADD CONSTRAINT none CHECK (status <> 'canceled')")
    with pytest.raises(Exception, match="none"):
        await cancel(engine.gateway, CALLER, id_)
    await engine.run_sql("ALTER TABLE verifications DROP CONSTRAINT none")
    assert added("covergate_verifications_ended_total", outcome="canceled", failure_code="", **SAMPLE) == 0
    await cancel(engine.gateway, CALLER, id_)
    assert added("covergate_verifications_ended_total", outcome="canceled", failure_code="", **SAMPLE) == 1


async def test_tries_of_deliveries(database: Database, added: Callable[..., float]) -> None:
    gateway = await make_gateway(database, allow_private_network=True)
    hooks = Hooks(gateway)
    async with partner_server() as partner, Deliverer(gateway, Places(gateway, 100)) as deliverer:
        for status in (200, 503, 410):
            await hooks.endpoint(partner.on(f"/{status}", answer(status)))
        await hooks.publish()
        for _ in range(3):
            await hooks.deliver_next(deliverer)
    for result in ("delivered", "pending", "exhausted"):
        assert added("covergate_webhook_attempts_total", result=result) == 1
    assert added("covergate_webhook_attempt_seconds_count") == 3


async def test_what_is_delivered_again_by_hand(database: Database, added: Callable[..., float]) -> None:
    gateway = await make_gateway(database)
    hooks = Hooks(gateway)
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    await hooks.publish(times=3)
    await redeliver(gateway, CALLER, (await hooks.due())[0])
    await hooks.run_sql(
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL, ended_at = now(), tries = 12"
    )
    await recover(gateway, CALLER, endpoint, datetime.now(UTC) - timedelta(days=1), "exhausted")
    await send_test(gateway, CALLER, endpoint)
    await hooks.run_sql("UPDATE webhook_endpoints SET status = 'disabled'")
    with pytest.raises(Problem):
        await redeliver(gateway, CALLER, (await hooks.due())[0])
    kinds = ("redelivery", "recovery", "test")
    assert [added("covergate_webhook_redeliveries_total", kind=kind) for kind in kinds] == [1, 3, 1]


def test_the_process_and_its_build() -> None:
    text = instruments.exposition((3, 10)).decode()
    assert 'covergate_build_info{python="3.' in text
    assert "process_resident_memory_bytes" in text and "process_open_fds" in text and "python_gc_" in text
    assert counted("covergate_database_connections", kind="limit") == 1
