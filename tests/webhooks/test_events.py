"""Who gets an event: one delivery per subscribed endpoint, made with what it tells, or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.endpoints import send_test
from covergate.webhooks.events import News, publish
from tests.support.gateways import CALLER
from tests.support.hooks import THIN, Hooks

URL = "https://partner.example/hooks"


async def subscribed(hooks: Hooks) -> list[str]:
    return [row.endpoint_id for row in await hooks.rows("SELECT endpoint_id FROM deliveries ORDER BY id")]


async def test_every_subscribed_endpoint_gets_a_delivery_that_is_due(hooks: Hooks) -> None:
    every, _ = await hooks.endpoint(URL)
    one, _ = await hooks.endpoint(URL, event_types=["verification.failed", "verification.completed"])
    await hooks.endpoint(URL, event_types=["verification.failed"])
    await hooks.publish()
    assert sorted(await subscribed(hooks)) == sorted([every, one])
    rows = await hooks.rows("SELECT id, status, next_attempt_at FROM deliveries")
    assert {row.status for row in rows} == {"pending"}
    assert all(row.next_attempt_at is not None for row in rows)
    assert sorted(await hooks.due()) == sorted(row.id for row in rows)


@pytest.mark.parametrize("columns", [{"tenant": "ten_other"}, {"mode": "live"}, {"status": "disabled"}])
async def test_nobody_else_gets_one(hooks: Hooks, columns: dict[str, Any]) -> None:
    await hooks.endpoint(URL, **columns)
    await hooks.publish()
    assert await subscribed(hooks) == []


async def test_a_deleted_endpoint_gets_none(hooks: Hooks) -> None:
    await hooks.endpoint(URL)
    await hooks.run_sql("UPDATE webhook_endpoints SET deleted_at = clock_timestamp()")
    await hooks.publish()
    assert await subscribed(hooks) == []


async def test_the_event_is_kept_when_nobody_subscribes(hooks: Hooks) -> None:
    await hooks.publish("verification.canceled")
    [event] = await hooks.rows("SELECT * FROM events")
    assert (event.tenant_id, event.mode, event.type, event.data) == ("ten_test", "test", "verification.canceled", THIN)
    assert await hooks.due() == []


async def test_many_events_at_once_go_where_each_would_go_alone(hooks: Hooks, gateway: Gateway) -> None:
    every, _ = await hooks.endpoint(URL)
    failed, _ = await hooks.endpoint(URL, event_types=["verification.failed", "verification.canceled"])
    other, _ = await hooks.endpoint(URL, tenant="ten_other")
    await hooks.endpoint(URL, mode="live")
    await hooks.endpoint(URL, status="disabled")
    kinds = [
        ("ten_test", "verification.failed"),
        ("ten_test", "verification.completed"),
        ("ten_test", "verification.failed"),
        ("ten_other", "verification.failed"),
    ]
    news = [
        News(tenant, "test", EventType(type_), None, {**THIN, "id": str(n)}) for n, (tenant, type_) in enumerate(kinds)
    ]
    async with gateway.transaction() as db:
        assert await publish(db, []) == {}
        assert await publish(db, news) == {}
    events = await hooks.rows("SELECT * FROM events ORDER BY id")
    assert [(event.tenant_id, event.type, event.data["id"]) for event in events] == [
        (one.tenant_id, one.type, one.data["id"]) for one in news
    ]
    rows = await hooks.rows(
        "SELECT d.id, e.data->>'id' AS told, d.endpoint_id, d.status FROM deliveries d JOIN events e ON e.id = d.event_id"
    )
    assert sorted((row.told, row.endpoint_id) for row in rows) == sorted(
        [("0", every), ("0", failed), ("1", every), ("2", every), ("2", failed), ("3", other)]
    )
    assert {row.status for row in rows} == {"pending"}
    assert sorted(await hooks.due()) == sorted(row.id for row in rows)


async def test_an_announcement_is_undone_with_what_it_tells(hooks: Hooks, gateway: Gateway) -> None:
    await hooks.endpoint(URL)
    with suppress(LookupError):
        async with gateway.transaction() as db:
            news = News("ten_test", "test", EventType.VERIFICATION_COMPLETED, None, THIN)
            await publish(db, [news])
            raise LookupError
    assert await hooks.rows("SELECT 1 FROM events") == []
    assert await subscribed(hooks) == []
    assert await hooks.due() == []


async def test_a_test_event_goes_to_one_endpoint_whatever_it_subscribes_to(hooks: Hooks, gateway: Gateway) -> None:
    await hooks.endpoint(URL)
    wanted, _ = await hooks.endpoint(URL, event_types=["verification.failed"])
    delivery = await send_test(gateway, CALLER, wanted)
    [row] = await hooks.rows("SELECT d.id, d.endpoint_id, e.type FROM deliveries d JOIN events e ON e.id = d.event_id")
    assert (row.id, row.endpoint_id, row.type) == (delivery, wanted, "endpoint.test")
