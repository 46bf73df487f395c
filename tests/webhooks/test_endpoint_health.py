"""An endpoint that fails, is disabled, or is well again: it shows so, and the tenant's other endpoints hear of it once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from covergate.gateway import Gateway
from covergate.webhooks.endpoint_health import list_failing, tell_of_health
from covergate.webhooks.endpoints import read_endpoint, update_endpoint
from covergate.webhooks.sender import Deliverer
from tests.support.gateways import CALLER
from tests.support.hooks import Hooks
from tests.support.partner import Partner, answer


async def heard(hooks: Hooks) -> list[tuple[str, str]]:
    """The events of endpoints so far: (type, the endpoint that is told)."""
    rows = await hooks.rows(
        "SELECT e.type, d.endpoint_id FROM events e LEFT JOIN deliveries d ON d.event_id = e.id"
        " WHERE e.type LIKE 'endpoint.%' ORDER BY e.position, d.endpoint_id"
    )
    return [(row.type, row.endpoint_id) for row in rows]


async def fail(hooks: Hooks, deliverer: Deliverer, endpoint: str, times: int = 3) -> None:
    """Publishes to this endpoint and has the tries made."""
    for _ in range(times):
        await hooks.publish()
        [row] = await hooks.rows(
            "SELECT id FROM deliveries WHERE endpoint_id = :id ORDER BY created_at DESC LIMIT 1", id=endpoint
        )
        await deliverer.deliver(await hooks.take(row.id))


async def minutes_pass(hooks: Hooks, minutes: int) -> None:
    await hooks.run_sql(
        "UPDATE webhook_endpoints SET failed_since = failed_since - make_interval(mins => :n),"
        " well_since = well_since - make_interval(mins => :n)",
        n=minutes,
    )


async def shown(gateway: Gateway, endpoint: str) -> dict[str, Any]:
    return await read_endpoint(gateway, CALLER, endpoint)


async def test_the_others_hear_once_that_an_endpoint_fails_and_that_it_recovered(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    failing, _ = await hooks.endpoint(partner.on("/hooks", answer(503)))
    watching, secret = await hooks.endpoint(
        partner.url("/watch"), event_types=["endpoint.failing", "endpoint.recovered"]
    )
    await hooks.endpoint(partner.url("/theirs"), tenant="ten_other")
    await hooks.endpoint(partner.url("/live"), mode="live")
    await fail(hooks, deliverer, failing)
    assert await tell_of_health(gateway) == 0  # not for two minutes yet
    assert ((await shown(gateway, failing))["failures_in_row"], (await shown(gateway, failing))["failing_since"]) == (
        3,
        None,
    )
    await minutes_pass(hooks, 3)
    assert sorted(await asyncio.gather(tell_of_health(gateway), tell_of_health(gateway))) == [0, 1]
    assert await heard(hooks) == [("endpoint.failing", watching)]
    [one] = await list_failing(gateway)
    assert (one["id"], one["tenant"], one["mode"], one["failures_in_row"]) == (failing, "Test clinic", "test", 3)
    view = await shown(gateway, failing)
    assert view["failing_since"] is not None and view["last_delivered_at"] is None and view["status"] == "enabled"

    partner.on("/hooks", answer(200))
    await fail(hooks, deliverer, failing, 1)
    assert await tell_of_health(gateway) == 0  # not for a minute yet
    await minutes_pass(hooks, 2)
    assert sorted(await asyncio.gather(tell_of_health(gateway), tell_of_health(gateway))) == [0, 1]
    assert await heard(hooks) == [("endpoint.failing", watching), ("endpoint.recovered", watching)]
    view = await shown(gateway, failing)
    assert (view["failing_since"], view["failures_in_row"], await list_failing(gateway)) == (None, 0, [])
    assert view["last_delivered_at"] is not None
    [told, _] = await hooks.rows("SELECT id FROM deliveries WHERE endpoint_id = :id ORDER BY created_at", id=watching)
    await deliverer.deliver(await hooks.take(told.id))
    [got] = partner.at("/watch")
    assert (
        got.verified_with(secret)["data"].items() >= {"id": failing, "state": "failing", "failures_in_row": 3}.items()
    )


async def test_a_blip_and_an_endpoint_that_takes_every_second_one_are_not_failing(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint(partner.url())
    for status in (500, 500, 200, 500, 200, 500):
        partner.on("/hooks", answer(status))
        await fail(hooks, deliverer, endpoint, 1)
        await minutes_pass(hooks, 3)
        assert await tell_of_health(gateway) == 0
    assert (await shown(gateway, endpoint))["failures_in_row"] == 1


async def test_a_flapping_endpoint_tells_nothing_until_it_is_well_for_a_minute(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint(partner.on("/hooks", answer(500)))
    await fail(hooks, deliverer, endpoint)
    await minutes_pass(hooks, 3)
    assert await tell_of_health(gateway) == 1
    for status in (200, 500, 200, 500):
        partner.on("/hooks", answer(status))
        await fail(hooks, deliverer, endpoint, 1)
        assert await tell_of_health(gateway) == 0
    await minutes_pass(hooks, 3)
    assert await tell_of_health(gateway) == 0
    assert [type_ for type_, _ in await heard(hooks)] == ["endpoint.failing"]


async def test_a_success_that_was_claimed_before_the_first_failure_counts(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish(times=1)
    early = await hooks.take()
    await fail(hooks, deliverer, endpoint)
    partner.on("/hooks", answer(200))
    await deliverer.deliver(early)
    assert (await shown(gateway, endpoint))["failures_in_row"] == 3
    await hooks.run_sql("UPDATE webhook_endpoints SET failed_since = failed_since - interval '3 minutes'")
    assert await tell_of_health(gateway) == 0
    assert (await shown(gateway, endpoint))["failures_in_row"] == 0


async def test_410_and_the_owner_disable_and_the_others_hear_of_both(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint(
        partner.on("/hooks", answer(410)), event_types=["verification.completed", "endpoint.disabled"]
    )
    watching, _ = await hooks.endpoint(partner.url("/watch"), event_types=["endpoint.disabled", "endpoint.recovered"])
    await hooks.publish(times=2)
    for claimed in [await hooks.take() for _ in range(2)]:
        await deliverer.deliver(claimed)
    assert await heard(hooks) == [("endpoint.disabled", watching)]
    assert (await shown(gateway, endpoint))["disabled_reason"] == "it answered 410 Gone"
    await update_endpoint(gateway, CALLER, endpoint, {"status": "enabled"})
    await update_endpoint(gateway, CALLER, endpoint, {"status": "enabled", "description": "again"})
    await update_endpoint(gateway, CALLER, endpoint, {"status": "disabled"})
    told = ["endpoint.disabled", "endpoint.recovered", "endpoint.disabled"]
    assert await heard(hooks) == [(type_, watching) for type_ in told]
    reasons = await hooks.rows(
        "SELECT data->>'reason' AS reason FROM events WHERE type = 'endpoint.disabled' ORDER BY position"
    )
    assert [row.reason for row in reasons] == ["it answered 410 Gone", None]


async def test_our_own_fault_is_not_the_endpoints(hooks: Hooks, deliverer: Deliverer, gateway: Gateway) -> None:
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    await hooks.publish()
    await deliverer.failed_inside(await hooks.take())
    assert (await shown(gateway, endpoint))["failures_in_row"] == 0


async def test_a_locked_endpoint_holds_no_record_up(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish()
    claimed = await hooks.take()
    async with gateway.transaction() as db:
        await db.execute(text("SELECT 1 FROM webhook_endpoints FOR UPDATE"))
        async with asyncio.timeout(2):
            await deliverer.deliver(claimed)
    assert (await hooks.delivery()).last_status == 500


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endpoint_that_is_well_is_not_written_for_a_success(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, status: int
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(status)))
    version = "SELECT xmin::text AS version FROM webhook_endpoints"
    [before] = await hooks.rows(version)
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [after] = await hooks.rows(version)
    assert (before.version == after.version) == (status == 200)
