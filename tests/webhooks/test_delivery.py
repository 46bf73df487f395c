"""Deliveries over real HTTP: what a partner gets, what is recorded of its answer, and what follows from it."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from covergate import ids
from covergate.db.database import Database
from covergate.db.queue import LEASE_SECONDS
from covergate.gateway import Gateway
from covergate.verifications.sweep import close_late
from covergate.verifications.view import find_row, opened_view
from covergate.webhooks.deliveries import DeliveryFilters, list_deliveries, redeliver
from covergate.webhooks.endpoints import rotate_secret
from covergate.webhooks.events import place_of_full
from covergate.webhooks.places import PLACES, QUICK_PLACES, TENANT_PLACES, Places
from covergate.webhooks.sender import Deliverer, place_of_answer
from tests.support.deliverers import delivering
from tests.support.engine import accept, running_engine
from tests.support.gateways import CALLER, make_gateway
from tests.support.hooks import SCHEDULE, THIN, Hooks, new_secret
from tests.support.partner import Partner, answer, hang, partner_server
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, SUBMITTED, Wire


async def completed(gateway: Gateway) -> str:
    """A verification that Integrex answered."""
    async with running_engine(gateway, Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))) as engine:
        id_ = await engine.create()
        for _ in range(2):
            await engine.step()
    return id_


async def test_a_partner_gets_a_signed_event(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    _, secret = await hooks.endpoint(partner.url())
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [got] = partner.received
    [event] = await hooks.rows("SELECT id FROM events")
    assert got.verified_with(secret) == got.json
    assert got.headers["webhook-id"] == event.id
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("CoverGate/")
    assert set(got.json) == {"type", "timestamp", "data"}
    assert (got.json["type"], got.json["data"]) == ("verification.completed", THIN)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(got.body, got.headers)


async def test_success_is_recorded_with_status_duration_and_the_sealed_start_of_the_answer(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(201, b"Jane Sample" + b"x" * 3000)))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    delivery = await hooks.delivery()
    [attempt] = await hooks.attempts()
    assert (delivery.status, delivery.tries, delivery.next_attempt_at) == ("delivered", 1, None)
    assert delivery.ended_at is not None
    assert (attempt.status, attempt.error) == (201, None)
    assert 0 <= attempt.duration_ms < 5000
    assert b"Jane" not in attempt.answer_sealed
    opened = gateway.sealer.open(place_of_answer("ten_test", "test", delivery.id), attempt.answer_sealed)
    assert opened == (b"Jane Sample" + b"x" * 3000)[:2048]
    assert await hooks.due() == []


async def test_thin_holds_no_phi(hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway) -> None:
    await hooks.endpoint(partner.url())
    id_ = await completed(gateway)
    await hooks.deliver_next(deliverer)
    [got] = partner.received
    assert got.json["data"] == {**THIN, "id": id_}
    assert not any(word in got.body for word in (b"Jane", b"Sample", b"1990-02-03", b"W123456789", b"copay"))
    assert await hooks.rows("SELECT 1 FROM audit_events WHERE action = 'webhook.full'") == []


async def test_full_is_the_verification_as_get_gives_it_and_is_audited(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.url(), payload="full")
    id_ = await completed(gateway)
    await hooks.deliver_next(deliverer)
    [got] = partner.received
    async with gateway.connection() as db:
        row = await find_row(db, "ten_test", "test", id_)
        assert row is not None
        shown = await opened_view(db, gateway.sealer, row)
    assert got.json["data"] == orjson.loads(orjson.dumps(shown))
    assert got.json["data"]["inquiry"]["patient"]["first_name"] == "Jane"
    [read] = await hooks.rows("SELECT * FROM audit_events WHERE actor_kind = 'worker'")
    assert (read.tenant_id, read.action, read.subject_id) == ("ten_test", "webhook.full", id_)
    assert read.request_id == got.headers["webhook-id"]


async def test_every_try_sends_the_same_full_payload_whatever_becomes_of_the_verification(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(500)), payload="full")
    await completed(gateway)
    await hooks.deliver_next(deliverer)
    await hooks.run_sql("""UPDATE verifications SET metadata = '{"changed": "since"}', vendor = 'sohar'""")
    await hooks.deliver_next(deliverer)
    first, second = partner.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [row.action for row in await hooks.rows("SELECT action FROM audit_events WHERE actor_kind = 'worker'")] == [
        "webhook.full"
    ] * 2
    [event] = await hooks.rows("SELECT full_sealed FROM events")
    assert b"Jane" not in event.full_sealed


async def test_an_endpoint_that_was_set_to_thin_gets_no_phi_any_more(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.url(), payload="full")
    id_ = await completed(gateway)
    await hooks.run_sql("UPDATE webhook_endpoints SET payload = 'thin'")
    await hooks.deliver_next(deliverer)
    assert partner.received[0].json["data"] == {**THIN, "id": id_}
    assert await hooks.rows("SELECT 1 FROM audit_events WHERE action = 'webhook.full'") == []


async def test_what_nobody_wants_as_a_whole_is_not_kept_so(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    await hooks.endpoint(partner.url())
    await hooks.endpoint(partner.url(), payload="full", event_types=["verification.failed"])
    await hooks.endpoint(partner.url(), payload="full", tenant="ten_other")
    await completed(gateway)
    assert [row.full_sealed for row in await hooks.rows("SELECT full_sealed FROM events")] == [None]


async def test_full_payloads_of_ends_that_are_written_together(
    hooks: Hooks, gateway: Gateway, partner: Partner
) -> None:
    await hooks.endpoint(partner.url(), payload="full")
    made = [await accept(gateway, external_id=f"visit-{number}") for number in range(3)]
    await hooks.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await close_late(gateway)
    rows = await hooks.rows("SELECT id, verification_id, full_sealed FROM events")
    kept = {
        row.verification_id: orjson.loads(
            gateway.sealer.open(place_of_full("ten_test", "test", row.id, row.verification_id), row.full_sealed)
        )
        for row in rows
    }
    assert sorted(kept) == sorted(made)
    assert {kept[id_]["external_id"] for id_ in made} == {"visit-0", "visit-1", "visit-2"}
    assert all(shown["id"] == id_ and shown["status"] == "failed" for id_, shown in kept.items())


async def test_full_without_a_verification_is_the_event(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.url(), payload="full")
    await hooks.publish("endpoint.test", data={"id": "whe_1"})
    await hooks.deliver_next(deliverer)
    assert partner.received[0].json["data"] == {"id": "whe_1"}


@pytest.mark.parametrize("status", [300, 302, 400, 401, 404, 429, 500, 503])
async def test_every_other_status_is_a_failed_try(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, status: int
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(status, b"no", f"location: {partner.url('/elsewhere')}")))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (status, f"http_{status}")
    delivery = await hooks.delivery()
    assert (delivery.status, delivery.tries) == ("pending", 1)
    assert [got.path for got in partner.received] == ["/hooks"]


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_cut_connection_is_a_failed_try(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", cut))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "connection_lost")
    assert len(partner.received) == 1


async def test_a_refused_connection_is_a_failed_try(hooks: Hooks, deliverer: Deliverer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await hooks.endpoint(f"http://127.0.0.1:{port}/")
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "connection_failed")
    assert (await hooks.delivery()).status == "pending"


async def test_a_silent_partner_is_a_failed_try(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", hang))
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100), timeout_seconds=0.2) as deliverer:
        await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "timeout")
    assert 190 <= attempt.duration_ms < 2000
    await eventually(lambda: partner.open == 0)


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nok")
    await hang(reader, writer)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def test_a_status_that_came_decides_even_if_the_rest_never_does(
    hooks: Hooks, gateway: Gateway, partner: Partner
) -> None:
    await hooks.endpoint(partner.on("/hooks", trickle))
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100), timeout_seconds=0.2) as deliverer:
        await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (200, None)
    assert (await hooks.delivery()).status == "delivered"
    await eventually(lambda: partner.open == 0)


async def test_an_endless_answer_holds_neither_memory_nor_time(
    hooks: Hooks, deliverer: Deliverer, partner: Partner
) -> None:
    await hooks.endpoint(partner.on("/hooks", endless))
    await hooks.publish()
    tracemalloc.start()
    try:
        await hooks.deliver_next(deliverer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.duration_ms < 5000) == (200, True)
    assert peak < 8 * 1024 * 1024
    await eventually(lambda: partner.open == 0)


async def test_a_compressed_answer_is_not_unpacked(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(200, b"\x1f\x8b broken", "content-encoding: gzip")))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    opened = gateway.sealer.open(place_of_answer("ten_test", "test", attempt.delivery_id), attempt.answer_sealed)
    assert (attempt.status, opened) == (200, b"\x1f\x8b broken")
    assert partner.received[0].headers["accept-encoding"] == "identity"


async def test_one_connection_serves_many_deliveries(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.url())
    await hooks.publish(times=5)
    for _ in range(5):
        await hooks.deliver_next(deliverer)
    assert (len(partner.received), partner.connections) == (5, 1)


async def test_the_whole_schedule_to_exhaustion(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish()
    pauses = []
    for seconds in SCHEDULE:
        await hooks.deliver_next(deliverer)
        delivery = await hooks.delivery()
        assert delivery.status == "pending"
        assert seconds - 2 <= delivery.due_in <= seconds * 1.1
        [id_] = await hooks.due()
        assert abs(await hooks.work.seconds_to(id_) - float(delivery.due_in)) < 2
        pauses.append(delivery.due_in)
        await hooks.move_clock()
    await hooks.deliver_next(deliverer)
    delivery = await hooks.delivery()
    assert (delivery.status, delivery.tries, delivery.next_attempt_at) == ("exhausted", 12, None)
    assert sum(pauses) > 72 * 3600
    assert [attempt.status for attempt in await hooks.attempts()] == [500] * 12
    assert await hooks.due() == []
    assert len({got.headers["webhook-id"] for got in partner.received}) == 1


async def test_a_retry_tells_the_same_and_is_signed_anew(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    _, secret = await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    partner.on("/hooks", answer())
    await hooks.deliver_next(deliverer)
    first, second = partner.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    second.verified_with(secret)
    assert [(attempt.status, attempt.error) for attempt in await hooks.attempts()] == [(500, "http_500"), (200, None)]
    assert (await hooks.delivery()).status == "delivered"


async def test_retry_after_is_honoured(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(503, b"", "retry-after: 3000")))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    assert 2990 <= (await hooks.delivery()).due_in <= 3300


async def test_410_disables_the_endpoint_at_once(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(410)))
    await hooks.publish(times=2)
    await hooks.deliver_next(deliverer)
    [endpoint] = await hooks.rows("SELECT status, disabled_reason FROM webhook_endpoints")
    assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "it answered 410 Gone")
    await hooks.deliver_next(deliverer)
    rows = await hooks.rows("SELECT status, tries FROM deliveries ORDER BY id")
    assert [(row.status, row.tries) for row in rows] == [("exhausted", 1), ("exhausted", 0)]
    assert [(a.status, a.error) for a in await hooks.attempts()] == [(410, "http_410"), (None, "endpoint_disabled")]
    assert len(partner.received) == 1
    assert await hooks.due() == []


async def test_410_from_an_address_that_was_replaced_meanwhile_disables_nothing(
    hooks: Hooks, deliverer: Deliverer, partner: Partner
) -> None:
    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hooks.run_sql("UPDATE webhook_endpoints SET url = :url", url=partner.url("/new"))
        writer.write(answer(410))

    await hooks.endpoint(partner.on("/old", gone))
    await hooks.publish()
    await hooks.deliver_next(deliverer)
    [endpoint] = await hooks.rows("SELECT status FROM webhook_endpoints")
    assert endpoint.status == "enabled"


@pytest.mark.parametrize(
    ("change", "error"),
    [("status = 'disabled'", "endpoint_disabled"), ("deleted_at = clock_timestamp()", "endpoint_deleted")],
)
async def test_an_endpoint_that_is_gone_ends_what_waits_for_it(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, change: str, error: str
) -> None:
    await hooks.endpoint(partner.url())
    await hooks.publish()
    await hooks.run_sql(f"UPDATE webhook_endpoints SET {change}")
    await hooks.deliver_next(deliverer)
    delivery = await hooks.delivery()
    assert (delivery.status, delivery.tries, delivery.ended_at is not None) == ("exhausted", 0, True)
    assert [(a.status, a.error) for a in await hooks.attempts()] == [(None, error)]
    assert partner.received == []


async def test_for_a_day_after_a_rotation_both_secrets_sign(
    hooks: Hooks, deliverer: Deliverer, partner: Partner
) -> None:
    before = new_secret()
    _, secret = await hooks.endpoint(partner.url(), previous_secret=before)
    await hooks.publish(times=2)
    await hooks.deliver_next(deliverer)
    assert len(partner.received[0].headers["webhook-signature"].split(" ")) == 2
    for one in (secret, before):
        partner.received[0].verified_with(one)
    await hooks.run_sql("UPDATE webhook_endpoints SET previous_secret_until = clock_timestamp()")
    await hooks.deliver_next(deliverer)
    partner.received[1].verified_with(secret)
    with pytest.raises(WebhookVerificationError):
        partner.received[1].verified_with(before)


async def test_a_stale_step_does_nothing(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish()
    stale = await hooks.deliver_next(deliverer)
    before = (await hooks.delivery()).next_attempt_at
    await deliverer.deliver(stale)
    await deliverer.failed_inside(stale)
    await deliverer.deliver(replace(stale, id=ids.new(ids.DELIVERY)))
    assert len(await hooks.attempts()) == 1
    assert (await hooks.delivery()).next_attempt_at == before


async def test_a_delivery_that_is_made_twice_at_once_is_recorded_once(
    hooks: Hooks, deliverer: Deliverer, partner: Partner
) -> None:
    both = asyncio.Event()

    async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(partner.received) == 2:
            both.set()
        await both.wait()
        writer.write(answer(500))

    await hooks.endpoint(partner.on("/hooks", together))
    await hooks.publish()
    key = await hooks.take()
    await asyncio.wait_for(asyncio.gather(deliverer.deliver(key), deliverer.deliver(key)), 10)
    assert len({got.headers["webhook-id"] for got in partner.received}) == 1
    assert len(await hooks.attempts()) == 1
    assert len(await hooks.due()) == 1
    assert (await hooks.delivery()).tries == 1


async def test_a_failure_of_our_own_counts_as_a_try(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    """An endpoint whose secret cannot be opened."""
    await hooks.endpoint(partner.url())
    await hooks.run_sql("UPDATE webhook_endpoints SET secret_sealed = '\\x00'")
    await hooks.publish()
    async with delivering(gateway):
        await eventually(hooks.attempts)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "internal_error")
    delivery = await hooks.delivery()
    assert (delivery.status, delivery.tries) == ("pending", 1)
    assert 0 < delivery.due_in <= 5.5


async def test_a_delivery_whose_worker_died_is_made_by_another(
    hooks: Hooks, gateway: Gateway, deliverer: Deliverer, partner: Partner
) -> None:
    """Not before its lease ends."""
    await hooks.endpoint(partner.url())
    await hooks.publish()
    lost = await hooks.take()
    queue = Places(gateway, 10)
    assert await queue.claim(()) == []
    assert LEASE_SECONDS - 5 < await hooks.work.seconds_to(lost.id) <= LEASE_SECONDS
    await hooks.work.end_leases()
    [found] = await queue.claim(())
    assert (found.id, found.step) == (lost.id, lost.step + 1)
    await deliverer.deliver(found)
    assert (await hooks.delivery()).status == "delivered"
    await deliverer.deliver(lost)  # it was only slow
    assert (await hooks.delivery()).tries == 1


async def test_the_lease_of_a_long_try_is_renewed(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    await hooks.endpoint(partner.url())
    await hooks.publish(times=2)
    queue = Places(gateway, 10)
    held, over = await queue.claim(())
    await hooks.run_sql("UPDATE deliveries SET due_at = clock_timestamp() + interval '1 s'")
    await hooks.run_sql("UPDATE deliveries SET step = step + 1 WHERE id = :id", id=over.id)
    await queue.renew([held, over])
    assert LEASE_SECONDS - 5 < await hooks.work.seconds_to(held.id) <= LEASE_SECONDS
    assert await hooks.work.seconds_to(over.id) <= 1


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://10.0.0.1/", "http://partner.example/"])
async def test_private_addresses_and_plain_http_are_refused(database: Database, url: str) -> None:
    gateway = await make_gateway(database, allow_private_network=False)
    hooks = Hooks(gateway)
    await hooks.endpoint(url)
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100)) as deliverer:
        await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "forbidden_address")
    assert (await hooks.delivery()).status == "pending"


async def test_a_name_that_has_come_to_mean_a_private_address_is_refused(
    database: Database, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(_: Any, host: str, port: int, family: int) -> list[dict[str, Any]]:
        assert host == "partner.example"
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    url = partner.url().replace("http://127.0.0.1", "https://partner.example")
    gateway = await make_gateway(database, allow_private_network=False, webhook_ports=(httpx.URL(url).port,))
    hooks = Hooks(gateway)
    await hooks.endpoint(url)
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100)) as deliverer:
        key = await hooks.take()
        await hooks.rows("SELECT 1")
        monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve)
        await deliverer.deliver(key)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "no_public_address")
    assert partner.connections == 0


async def test_an_error_does_not_tell_which_inside_names_exist(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(_: Any, host: str, port: int, family: int) -> list[dict[str, Any]]:
        if host == "nowhere.example":
            raise OSError("no such name")
        return [{"hostname": host, "host": "10.0.0.7", "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    gateway = await make_gateway(database, allow_private_network=False)
    hooks = Hooks(gateway)
    for name in ("nowhere.example", "vault.example"):
        await hooks.endpoint(f"https://{name}/")
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100)) as deliverer:
        keys = [await hooks.take(), await hooks.take()]
        monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve)
        for key in keys:
            await deliverer.deliver(key)
    errors = [(attempt.status, attempt.error) for attempt in await hooks.attempts()]
    assert errors == [(None, "no_public_address")] * 2


async def test_a_port_that_is_not_allowed_any_more_is_not_connected_to(database: Database) -> None:
    gateway = await make_gateway(database, allow_private_network=False)
    hooks = Hooks(gateway)
    await hooks.endpoint("https://partner.example:6379/")
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100)) as deliverer:
        await hooks.deliver_next(deliverer)
    [attempt] = await hooks.attempts()
    assert (attempt.status, attempt.error) == (None, "forbidden_address")


async def test_an_endpoint_that_hangs_does_not_delay_another(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    """It hangs for longer than the test may take: what waited for it would never arrive."""

    def came(count: int) -> bool:
        return len(partner.at("/quick")) == count

    await hooks.endpoint(partner.on("/hangs", hang), event_types=["verification.failed"])
    await hooks.endpoint(partner.url("/quick"), event_types=["verification.completed"])
    await hooks.publish("verification.failed", times=200)
    async with delivering(gateway, timeout_seconds=600, drain_seconds=0.1):
        await eventually(lambda: len(partner.at("/hangs")) == 8)
        for number in range(1, 21):
            await hooks.publish("verification.completed")
            await eventually(partial(came, number))
        assert len(partner.at("/hangs")) == 8
        [waiting] = await hooks.rows("SELECT count(*) AS n, max(step) AS step FROM deliveries WHERE status = 'pending'")
        assert (waiting.n, waiting.step) == (200, 1)
        assert len(await hooks.due()) == 200 - PLACES


async def test_many_hanging_endpoints_of_one_tenant_do_not_delay_another(
    hooks: Hooks, gateway: Gateway, partner: Partner
) -> None:
    """Fourteen with eight places each would be more than the whole group."""
    await hooks.endpoint(partner.url("/quick"), tenant="ten_other")
    for number in range(14):
        await hooks.endpoint(partner.on(f"/hangs{number}", hang))
    await hooks.publish(times=20)
    async with delivering(gateway, timeout_seconds=600, drain_seconds=0.1):
        await eventually(lambda: len(partner.received) == TENANT_PLACES)
        await hooks.publish(tenant_id="ten_other")
        await eventually(lambda: partner.at("/quick"))
        assert len(partner.received) == TENANT_PLACES + 1


async def test_attempts_are_listed_in_their_order_after_a_redelivery_too(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    """Those that delivered are kept in another place than those that failed, until there is a redelivery."""
    endpoint, _ = await hooks.endpoint(partner.url())
    await hooks.publish()
    answers = (500, 200, 503, 204)
    for number, status in enumerate(answers):
        partner.on("/hooks", answer(status, b""))
        if number == 2:
            again = await redeliver(gateway, CALLER, (await hooks.delivery()).id)
            assert [attempt["status"] for attempt in again["attempts"]] == [500, 200]
        await hooks.deliver_next(deliverer)
        [shown] = (await list_deliveries(gateway, CALLER, endpoint, DeliveryFilters(), None, 10)).data
        assert [attempt["status"] for attempt in shown["attempts"]] == list(answers[: number + 1])
    assert (shown["status"], shown["next_attempt_at"]) == ("delivered", None)
    last = shown["attempts"][-1]
    assert set(last) == {"at", "status", "duration_ms", "error"}
    assert last["error"] is None and last["at"].endswith("Z")
    assert [row.status for row in await hooks.rows("SELECT status FROM delivery_attempts ORDER BY id")] == [
        500,
        200,
        503,
    ]


async def test_a_redelivery_waits_for_a_place_and_no_longer(hooks: Hooks, gateway: Gateway, partner: Partner) -> None:
    """Whatever it has behind it. It is the first to be due when a place becomes free."""
    await hooks.endpoint(partner.on("/hooks", answer(500)))
    await hooks.publish()
    async with Deliverer(gateway, Places(gateway, 100)) as deliverer:
        for _ in SCHEDULE:
            await hooks.deliver_next(deliverer)
            await hooks.move_clock()
        await hooks.deliver_next(deliverer)
    again = await hooks.delivery()
    assert again.status == "exhausted"
    free = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await free.wait()
        writer.write(answer())

    partner.on("/hooks", hold)
    await hooks.publish(times=PLACES)
    async with delivering(gateway):
        await eventually(lambda: partner.open == PLACES)
        await redeliver(gateway, CALLER, again.id)
        free.set()

        async def delivered() -> bool:
            [row] = await hooks.rows("SELECT status FROM deliveries WHERE id = :id", id=again.id)
            return bool(row.status == "delivered")

        await eventually(delivered, 3)


async def test_when_a_hanging_endpoint_comes_back_it_gets_everything_once(
    hooks: Hooks, gateway: Gateway, partner: Partner
) -> None:
    await hooks.endpoint(partner.on("/hangs", hang))
    await hooks.publish(times=60)
    async with delivering(gateway, timeout_seconds=1.0):
        await eventually(lambda: len(partner.at("/hangs")) == 8)
        partner.on("/hangs", answer())
        partner.received.clear()

        async def all_in() -> bool:
            await hooks.move_clock()
            return not await hooks.rows("SELECT 1 FROM deliveries WHERE status = 'pending'")

        await eventually(all_in, 20)
    assert len({got.headers["webhook-id"] for got in partner.received}) == len(partner.received) == 60


async def test_a_burst_for_one_quick_endpoint_goes_through_its_places(
    hooks: Hooks, gateway: Gateway, partner: Partner
) -> None:
    most = 0

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, partner.open)
        await asyncio.sleep(0.01)  # the partner's own work
        writer.write(answer())

    await hooks.endpoint(partner.on("/hooks", busy))
    await hooks.publish(times=150)
    async with delivering(gateway):
        await eventually(lambda: len(partner.received) == 150)
    rows = await hooks.rows("SELECT status, step, count(*) AS n FROM deliveries GROUP BY 1, 2")
    assert [tuple(row) for row in rows] == [("delivered", 2, 150)]  # each was claimed and recorded once
    assert most <= QUICK_PLACES  # it answers quickly; on a busy machine all of them are at the partner at once


async def test_partners_share_nothing(hooks: Hooks, deliverer: Deliverer, partner: Partner) -> None:
    """Neither cookies nor connections to another partner."""
    async with partner_server() as other:
        await hooks.endpoint(partner.on("/hooks", answer(200, b"", "set-cookie: patient=jane")))
        await hooks.endpoint(other.url())
        await hooks.publish(times=2)
        while await hooks.due():
            await hooks.deliver_next(deliverer)
        assert (len(partner.received), len(other.received)) == (2, 2)
        assert not any("cookie" in got.headers for got in partner.received + other.received)


async def test_each_replaced_secret_signs_until_its_own_day_is_over(
    hooks: Hooks, deliverer: Deliverer, partner: Partner, gateway: Gateway
) -> None:
    endpoint, first = await hooks.endpoint(partner.url())
    secrets = [first, *[(await rotate_secret(gateway, CALLER, endpoint))["secret"] for _ in range(6)]]

    async def signing() -> list[int]:
        await hooks.publish()
        await hooks.deliver_next(deliverer)
        got = partner.received[-1]

        def signs(secret: str) -> bool:
            try:
                return bool(got.verified_with(secret))
            except WebhookVerificationError:
                return False

        assert len(got.headers["webhook-signature"].split()) == sum(map(signs, secrets))
        return [number for number, secret in enumerate(secrets) if signs(secret)]

    assert await signing() == [2, 3, 4, 5, 6]
    await hooks.run_sql("UPDATE webhook_endpoints SET older_secrets_until[3] = clock_timestamp()")
    assert await signing() == [3, 4, 5, 6]
    await hooks.run_sql("UPDATE webhook_endpoints SET previous_secret_until = clock_timestamp()")
    assert await signing() == [3, 4, 6]
    await hooks.run_sql("UPDATE webhook_endpoints SET older_secrets_until = '{}', older_secrets_sealed = '{}'")
    assert await signing() == [6]
