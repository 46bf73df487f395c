"""A worker posts the webhooks of what it ends from memory: after the commit, and nothing is lost if it dies right then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from covergate.db.listen import listen
from covergate.db.notify import tell
from covergate.db.queue import LEASE_SECONDS
from covergate.gateway import Gateway
from covergate.webhooks.events import DELIVERIES, ClaimedDelivery, publish
from covergate.webhooks.places import PLACES, QUICK_PLACES, TENANT_PLACES, Places, Room, WorkersDesk
from covergate.webhooks.sender import Deliverer
from tests.support.deliverers import delivering
from tests.support.hooks import THIN, Hooks, news_of
from tests.support.partner import Partner
from tests.support.waiting import eventually


class Basket:
    """Takes deliveries and leaves them lying, as a worker that dies does."""

    def __init__(self, gateway: Gateway, *slow: str) -> None:
        self.places = Places(gateway, 100)
        self.taken: list[ClaimedDelivery] = []
        for endpoint in slow:
            self.places.note(endpoint, slow=True)

    def room(self) -> Room:
        return self.places.room(self.taken)

    def take_up(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        self.taken += deliveries


async def test_from_memory_only_after_the_commit(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    _, secret = await hooks.endpoint(partner.url())
    async with delivering(gateway) as desk:
        async with gateway.transaction() as db:
            await publish(db, [news_of()], desk)
            assert not desk.dispatcher.under_way
        assert len(desk.dispatcher.under_way) == 1

        async def delivered() -> bool:
            return bool((await hooks.delivery()).status == "delivered")

        await eventually(delivered)
    [got] = partner.received
    [event] = await hooks.rows("SELECT id FROM events")
    assert got.verified_with(secret)["data"] == THIN
    assert got.headers["webhook-id"] == event.id
    delivery = await hooks.delivery()
    assert (delivery.step, delivery.tries, delivery.due_at) == (2, 1, None)  # never claimed


async def test_a_later_try_tells_the_same_as_the_one_from_memory(
    hooks: Hooks, gateway: Gateway, deliverer: Deliverer, partner: Partner
) -> None:
    await hooks.endpoint(partner.url())
    basket = Basket(gateway)
    async with gateway.transaction() as db:
        await publish(db, [news_of(data={**THIN, "metadata": {"b": [1, {"z": None}], "a": "x"}})], basket)
    [from_memory] = basket.taken
    await deliverer.deliver(from_memory)
    await hooks.run_sql("UPDATE deliveries SET status = 'pending', next_attempt_at = now(), due_at = now()")
    await hooks.deliver_next(deliverer)
    first, second = partner.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


async def test_nothing_is_posted_of_what_is_rolled_back(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    await hooks.endpoint(partner.url())
    async with delivering(gateway) as desk:
        with suppress(LookupError):
            async with gateway.transaction() as db:
                await publish(db, [news_of()], desk)
                raise LookupError
        async with gateway.transaction() as db:
            await publish(db, [news_of(data={"id": "second"})], desk)
        await eventually(lambda: partner.received)
    assert [got.json["data"] for got in partner.received] == [{"id": "second"}]
    assert len(await hooks.rows("SELECT 1 FROM deliveries")) == 1


async def test_a_worker_that_dies_after_the_commit_loses_nothing(
    hooks: Hooks, gateway: Gateway, deliverer: Deliverer, partner: Partner
) -> None:
    await hooks.endpoint(partner.url())
    basket = Basket(gateway)
    async with gateway.transaction() as db:
        await publish(db, [news_of()], basket)
    [lost] = basket.taken
    others = Places(gateway, 10)
    assert await others.claim(()) == []
    assert LEASE_SECONDS - 5 < await hooks.work.seconds_to(lost.id) <= LEASE_SECONDS
    await hooks.work.end_leases()
    [found] = await others.claim(())
    assert (found.id, found.step) == (lost.id, lost.step + 1)
    await deliverer.deliver(found)
    await deliverer.deliver(lost)
    assert [(row.status, row.tries) for row in await hooks.rows("SELECT status, tries FROM deliveries")] == [
        ("delivered", 1)
    ]


@pytest.mark.parametrize("why", ["full", "slow", "no desk"])
async def test_others_are_due_at_once(hooks: Hooks, gateway: Gateway, why: str) -> None:
    endpoint, _ = await hooks.endpoint("https://partner.example/", payload="full" if why == "full" else "thin")
    basket = Basket(gateway, *([endpoint] if why == "slow" else []))
    async with gateway.transaction() as db:
        await publish(db, [news_of()], None if why == "no desk" else basket)
    assert basket.taken == []
    [claimed] = await Places(gateway, 10).claim(())
    assert claimed.step == 1


async def test_of_one_endpoint_no_more_than_it_has_places(hooks: Hooks, gateway: Gateway) -> None:
    await hooks.endpoint("https://partner.example/")
    basket = Basket(gateway)
    for _ in range(2):
        async with gateway.transaction() as db:
            await publish(db, [news_of()] * (PLACES - 3), basket)
    assert len(basket.taken) == PLACES
    assert len(await hooks.due()) == PLACES - 6
    assert len({one.id for one in basket.taken}) == PLACES


async def test_one_that_answers_quickly_has_more_places_but_not_all_of_its_tenant(
    hooks: Hooks, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint("https://partner.example/")
    basket = Basket(gateway)
    basket.places.note(endpoint, slow=False)
    for _ in range(2):
        async with gateway.transaction() as db:
            await publish(db, [news_of()] * (QUICK_PLACES // 2), basket)
    assert len(basket.taken) == QUICK_PLACES
    async with gateway.transaction() as db:
        await publish(db, [news_of()], basket)
    assert len(basket.taken) == QUICK_PLACES < TENANT_PLACES
    # One that is silent may be about to hang.
    object.__setattr__(basket.taken[0], "begun", basket.taken[0].begun - 60)
    assert basket.room().of_endpoint == {endpoint: 0}
    assert basket.places.room(basket.taken[:PLACES]).of_endpoint == {endpoint: 0}
    assert basket.places.room(basket.taken[1 : PLACES + 1]).of_endpoint == {endpoint: QUICK_PLACES - PLACES}


async def test_one_that_is_silent_just_now_gets_no_more_from_memory(hooks: Hooks, gateway: Gateway) -> None:
    await hooks.endpoint("https://partner.example/")
    basket = Basket(gateway)
    async with gateway.transaction() as db:
        await publish(db, [news_of()], basket)
    [one] = basket.taken
    object.__setattr__(one, "begun", one.begun - 60)
    async with gateway.transaction() as db:
        await publish(db, [news_of()], basket)
    assert basket.taken == [one]
    assert len(await hooks.due()) == 1


async def test_a_worker_that_stops_leaves_them_to_others(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    await hooks.endpoint(partner.url())
    async with delivering(gateway) as desk:
        stopping = WorkersDesk(desk.places, desk.dispatcher, lambda: True)
        async with gateway.transaction() as db:
            await publish(db, [news_of()], stopping)
        assert not desk.dispatcher.under_way
        await eventually(lambda: partner.received)  # claimed as anybody would


async def test_only_what_is_due_is_announced(hooks: Hooks, gateway: Gateway) -> None:
    await hooks.endpoint("https://partner.example/")
    told: list[str] = []
    ready = asyncio.Event()
    listening = asyncio.create_task(listen(gateway.database.url, "tests", {DELIVERIES: told.append}, ready.set))
    await ready.wait()
    async with gateway.transaction() as db:
        await publish(db, [news_of()], Basket(gateway))
    async with gateway.transaction() as db:
        await publish(db, [news_of()])
        tell(db, DELIVERIES, "the end")
    await eventually(lambda: "the end" in told)
    assert told == ["0", "the end"]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
