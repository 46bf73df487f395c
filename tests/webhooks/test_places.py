"""Who gets how many places of a worker, by claims on real rows; and what a claim reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from covergate.gateway import Gateway
from covergate.webhooks.events import ClaimedDelivery
from covergate.webhooks.places import PLACES, QUICK_PLACES, SLOW_PLACES, SLOW_SECONDS, TENANT_PLACES, Places
from tests.support.hooks import Hooks, new_secret

URL = "https://partner.example/hooks"


async def endpoints(hooks: Hooks, number: int, **columns: Any) -> list[str]:
    return [(await hooks.endpoint(URL, **columns))[0] for _ in range(number)]


async def tenants(hooks: Hooks, number: int) -> list[str]:
    names = [f"ten_{n}" for n in range(number)]
    await hooks.run_sql(
        "INSERT INTO tenants (id, name) SELECT id, id FROM unnest(CAST(:ids AS text[])) AS t(id)", ids=names
    )
    return names


def of_endpoint(claimed: list[ClaimedDelivery]) -> Counter[str]:
    return Counter(one.endpoint_id for one in claimed)


def seconds_ago(claimed: list[ClaimedDelivery], seconds: float) -> list[ClaimedDelivery]:
    return [replace(one, begun=one.begun - seconds) for one in claimed]


async def test_an_endpoint_has_its_places_and_the_longest_due_come_first(hooks: Hooks, gateway: Gateway) -> None:
    one, other = await endpoints(hooks, 2)
    await hooks.publish(times=PLACES + 5)
    due = await hooks.rows("SELECT id FROM deliveries WHERE endpoint_id = :id ORDER BY due_at, id", id=one)
    await hooks.run_sql(
        "UPDATE deliveries SET due_at = due_at - interval '1 min' WHERE id = ANY(:ids)",
        ids=[row.id for row in due[-PLACES:]],
    )
    places = Places(gateway, 100)
    claimed = list(await places.claim(()))
    assert of_endpoint(claimed) == {one: PLACES, other: PLACES}
    assert {c.id for c in claimed if c.endpoint_id == one} == {row.id for row in due[-PLACES:]}
    assert {c.step for c in claimed} == {1}
    assert await places.claim(claimed) == []
    left = [c for c in claimed if c.endpoint_id == other] + [c for c in claimed if c.endpoint_id == one][3:]
    assert of_endpoint(list(await places.claim(left))) == {one: 3}


async def test_a_tenant_has_few_places_more_with_however_many_endpoints(hooks: Hooks, gateway: Gateway) -> None:
    many = await endpoints(hooks, TENANT_PLACES + 10)
    await hooks.publish()
    [theirs] = await endpoints(hooks, 1, tenant="ten_other")
    await hooks.publish(tenant_id="ten_other")
    claimed = list(await Places(gateway, 100).claim(()))
    counts = of_endpoint(claimed)
    assert counts.pop(theirs) == 1
    # One of each: a share that nobody uses is not counted.
    assert len(counts) == TENANT_PLACES and set(counts) <= set(many)


async def test_all_places_are_given_to_those_who_wait_longest(hooks: Hooks, gateway: Gateway) -> None:
    await endpoints(hooks, 1)
    await endpoints(hooks, 1, tenant="ten_other")
    await hooks.publish(times=3)
    await hooks.publish(times=3, tenant_id="ten_other")
    await hooks.run_sql(
        "UPDATE deliveries SET due_at = due_at - interval '1 min' WHERE id IN (SELECT max(id) FROM deliveries)"
    )
    places = Places(gateway, 1)
    [first] = await places.claim(())
    assert first.tenant_id == "ten_other"
    assert await places.claim([first]) == []
    assert len(await Places(gateway, 5).claim(())) == 5


async def test_a_slow_endpoint_has_fewer_until_it_answers_quickly(hooks: Hooks, gateway: Gateway) -> None:
    [endpoint] = await endpoints(hooks, 1)
    await hooks.publish(times=QUICK_PLACES + 5)
    places = Places(gateway, 100)
    places.note(endpoint, slow=True)
    slow = list(await places.claim(()))
    assert len(slow) == SLOW_PLACES
    assert await places.claim(slow) == []
    places.note(endpoint, slow=False)
    assert len(await places.claim(slow)) == QUICK_PLACES - SLOW_PLACES


async def test_a_new_worker_knows_the_slow_ones_by_their_rows(hooks: Hooks, gateway: Gateway) -> None:
    await endpoints(hooks, 1)
    await hooks.publish(times=2 * PLACES)
    await hooks.run_sql("UPDATE deliveries SET slow = true")
    places = Places(gateway, 100)
    claimed = list(await places.claim(()))
    assert await places.claim(claimed[:SLOW_PLACES]) == []
    assert len(await places.claim(())) == SLOW_PLACES


async def test_slow_endpoints_of_many_tenants_take_half_and_leave_the_rest(hooks: Hooks, gateway: Gateway) -> None:
    places = Places(gateway, 20)
    for tenant in await tenants(hooks, 15):
        [endpoint] = await endpoints(hooks, 1, tenant=tenant)
        places.note(endpoint, slow=True)
        await hooks.publish(times=5, tenant_id=tenant)
    slow = list(await places.claim(()))
    assert len(slow) == 10
    assert await places.claim(slow) == []
    quick = await endpoints(hooks, 2)
    await hooks.publish(times=15)
    others = of_endpoint(list(await places.claim(slow)))
    assert set(others) <= set(quick) and others.total() == 10


async def test_endpoints_that_hang_from_the_first_try_on_leave_room_after_a_moment(
    hooks: Hooks, gateway: Gateway
) -> None:
    """Nobody knew that they are slow. But there is an end to it, too."""
    places = Places(gateway, 20)
    for tenant in await tenants(hooks, 25):
        await endpoints(hooks, 1, tenant=tenant)
        await hooks.publish(times=2, tenant_id=tenant)
    hanging = list(await places.claim(()))
    assert len(hanging) == 20
    assert await places.claim(hanging) == []
    hanging = seconds_ago(hanging, SLOW_SECONDS)
    more = list(await places.claim(hanging))
    assert len(more) == 10
    hanging += seconds_ago(more, SLOW_SECONDS)
    hanging += seconds_ago(list(await places.claim(hanging)), SLOW_SECONDS)
    assert len(hanging) == 40
    assert await places.claim(hanging) == []


async def test_a_tenants_slow_endpoints_do_not_take_the_places_of_its_others(hooks: Hooks, gateway: Gateway) -> None:
    places = Places(gateway, 4 * TENANT_PLACES)
    for endpoint in await endpoints(hooks, TENANT_PLACES):
        places.note(endpoint, slow=True)
    await hooks.publish(times=2)
    slow = list(await places.claim(()))
    assert len(slow) == TENANT_PLACES
    [quick] = await endpoints(hooks, 1, event_types=["verification.failed"])
    await hooks.publish("verification.failed", times=3)
    assert of_endpoint(list(await places.claim(slow)))[quick] == 3


async def test_more_is_due_than_there_is_room_for(hooks: Hooks, gateway: Gateway) -> None:
    await endpoints(hooks, 1)
    places = Places(gateway, 100)
    await hooks.publish(times=2)
    await places.claim(())
    assert not places.more  # all had a place
    await hooks.publish(times=PLACES + 1)
    await places.claim(())
    assert places.more


async def test_what_nobody_can_be_given_is_passed_over(hooks: Hooks, gateway: Gateway) -> None:
    """Locked by somebody, leased, due later, ended."""
    await endpoints(hooks, 1)
    await hooks.publish(times=5)
    locked, leased, later, ended, free = await hooks.due()
    await hooks.run_sql("UPDATE deliveries SET due_at = now() + interval '9 s' WHERE id = :id", id=leased)
    await hooks.run_sql(
        "UPDATE deliveries SET due_at = now() + interval '1 h', next_attempt_at = now() + interval '1 h' WHERE id = :id",
        id=later,
    )
    await hooks.run_sql(
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL WHERE id = :id", id=ended
    )
    places = Places(gateway, 100)
    async with gateway.transaction() as db:
        await db.exec_driver_sql(f"SELECT 1 FROM deliveries WHERE id = '{locked}' FOR UPDATE")
        assert [one.id for one in await places.claim(())] == [free]
    # That of `leased`, or of `free`, which was claimed: whichever ends first.
    seconds = await places.next_in()
    assert seconds is None or seconds <= 9
    assert [one.id for one in await places.claim(())] == [locked]


async def test_the_next_look_is_when_a_delivery_is_due(hooks: Hooks, gateway: Gateway) -> None:
    places = Places(gateway, 100)
    assert await places.next_in() is None
    await endpoints(hooks, 2)
    await hooks.publish()
    assert await places.next_in() is None
    await hooks.run_sql("UPDATE deliveries SET due_at = now() + interval '20 s', next_attempt_at = now()")
    await hooks.run_sql(
        "UPDATE deliveries SET due_at = now() + interval '9 s' WHERE id = (SELECT max(id) FROM deliveries)"
    )
    seconds = await places.next_in()
    assert seconds is not None and 5 < seconds <= 9


async def test_a_claim_brings_what_the_post_needs(hooks: Hooks, gateway: Gateway) -> None:
    endpoint, _ = await hooks.endpoint(URL, previous_secret=new_secret())
    await hooks.publish()
    [row] = await Places(gateway, 1).claim(())
    [event] = await hooks.rows("SELECT * FROM events")
    assert (row.event_id, row.type, row.data, row.created_at) == (event.id, event.type, event.data, event.created_at)
    assert (row.endpoint_id, row.url, row.tenant_id, row.unwanted) == (endpoint, URL, "ten_test", None)
    assert row.previous_secret_holds and row.previous_secret_sealed is not None
    assert (row.tries, row.full_sealed) == (0, None)


@pytest.mark.parametrize("payload", ["thin", "full"])
async def test_a_full_payload_is_read_for_who_gets_it(hooks: Hooks, gateway: Gateway, payload: str) -> None:
    await endpoints(hooks, 1, payload=payload)
    await hooks.publish()
    await hooks.run_sql("UPDATE events SET full_sealed = 'x'")
    [row] = await Places(gateway, 1).claim(())
    assert (row.full_sealed is not None) == (payload == "full")
