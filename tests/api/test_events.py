from __future__ import annotations

from typing import Any

import httpx

from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.events import News, publish
from tests.support.clients import End, Keys, Post, Rows


async def test_events_are_read_forward_from_a_cursor_or_an_event(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    made = [await post(external_id=f"intake-{number}") for number in range(3)]
    await end(made[0]["id"])
    await end(made[1]["id"], FailureCode.MEMBER_ID_INVALID)
    await client.post(f"/v1/verifications/{made[2]['id']}/cancel", headers=keys.full)

    async def events(**query: Any) -> Any:
        answer = await client.get("/v1/events", params=query, headers=keys.full)
        assert answer.status_code == 200, answer.text
        return answer.json()

    whole = (await events())["data"]
    assert [event["type"] for event in whole] == [f"verification.{end}" for end in ("completed", "failed", "canceled")]
    assert whole[1]["data"] == {
        "id": made[1]["id"],
        "external_id": "intake-1",
        "status": "failed",
        "outcome": None,
        "outcome_reason": None,
        "failure_code": "member_id_invalid",
        "metadata": {"clinic": "north"},
    }
    first = await events(limit=1)
    assert (await events(after=first["next_cursor"]))["data"] == whole[1:]
    assert (await events(after=whole[1]["id"]))["data"] == whole[2:]
    assert [event["id"] for event in (await events(type=["verification.failed"]))["data"]] == [whole[1]["id"]]
    last = await events(after=whole[2]["id"])
    assert (last["data"], last["has_more"], last["next_cursor"]) == ([], False, None)


async def test_an_unknown_type(client: httpx.AsyncClient, keys: Keys) -> None:
    answer = await client.get("/v1/events?type=verification.gone&x=1", headers=keys.full)
    assert {error["parameter"] for error in answer.json()["errors"]} == {"type", "x"}


async def test_events_older_than_30_days_are_not_shown(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    await end((await post())["id"])
    await rows("UPDATE events SET created_at = created_at - interval '31 days' RETURNING 1")
    assert (await client.get("/v1/events", headers=keys.full)).json()["data"] == []


async def listed(client: httpx.AsyncClient, keys: Keys, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/events", params=query, headers=keys.full)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


async def test_an_event_of_a_process_whose_clock_is_behind_comes_behind_what_was_read(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    made = [await post() for _ in range(2)]
    await end(made[0]["id"])
    await rows("UPDATE events SET id = 'evt_7' || substr(id, 6)")  # from a clock that is ages ahead
    [ahead] = await listed(client, keys)
    await end(made[1]["id"])
    [behind] = await listed(client, keys, after=ahead["id"])
    assert behind["data"]["id"] == made[1]["id"] and behind["id"] < ahead["id"]
    # Of both in one page too, or its last event would be a place before what was read.
    assert await listed(client, keys) == [ahead, behind]


async def test_what_is_committed_late_is_not_missed(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, rows: Rows
) -> None:
    [tenant] = await rows("SELECT tenant_id FROM api_keys ORDER BY created_at LIMIT 1")

    def news(number: int) -> list[News]:
        return [News(tenant.tenant_id, "test", EventType.VERIFICATION_COMPLETED, None, {"number": number})]

    async with gateway.transaction() as db:
        await publish(db, news(0))
    [first] = await listed(client, keys)
    async with gateway.transaction() as slow:
        await publish(slow, news(1))
        async with gateway.transaction() as quick:
            await publish(quick, news(2))
        assert await listed(client, keys, after=first["id"]) == []
    after = await listed(client, keys, after=first["id"])
    assert [event["data"]["number"] for event in after] == [1, 2]


async def test_after_an_event_that_is_not_kept_any_more_comes_the_oldest(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    made = [await post() for _ in range(3)]
    for one in made:
        await end(one["id"])
    whole = await listed(client, keys)
    cursor = (await client.get("/v1/events", params={"limit": 1}, headers=keys.full)).json()["next_cursor"]
    await rows("DELETE FROM events WHERE id = :id", id=whole[0]["id"])
    assert await listed(client, keys, after=cursor) == await listed(client, keys, after=whole[0]["id"]) == whole[1:]


async def test_events_by_type_and_time(client: httpx.AsyncClient, keys: Keys, gateway: Gateway, rows: Rows) -> None:
    [tenant] = await rows("SELECT id FROM tenants WHERE name = 'Clinic North'")
    types = [EventType.VERIFICATION_COMPLETED, EventType.VERIFICATION_FAILED, EventType.VENDOR_DEGRADED] * 2
    for type_ in types:
        async with gateway.transaction() as db:
            await publish(db, [News(tenant.id, "test", type_, None, {})])
    # An hour apart, so that what is left out is not only left out because everything is within a minute.
    await rows(
        "UPDATE events e SET created_at = created_at - make_interval(hours => 10 - CAST(n AS int)) FROM"
        " (SELECT id, row_number() OVER (ORDER BY position) AS n FROM events) AS o WHERE o.id = e.id RETURNING 1"
    )
    whole = await listed(client, keys)
    assert [event["type"] for event in whole] == types

    async def positions(**query: Any) -> list[int]:
        return [whole.index(event) for event in await listed(client, keys, **query)]

    assert await positions(type="vendor.degraded") == [2, 5]
    assert await positions(type=["vendor.degraded", "verification.failed"]) == [1, 2, 4, 5]
    assert await positions(created_after=whole[1]["timestamp"], created_before=whole[5]["timestamp"]) == [2, 3, 4]
    assert await positions(created_after=whole[1]["timestamp"], after=whole[3]["id"]) == [4, 5]
    assert await positions(created_before=whole[1]["timestamp"]) == [0]
    assert await positions(created_after=whole[2]["timestamp"], type="verification.completed") == [3]
    assert await positions(created_after=whole[5]["timestamp"]) == []
    first = (
        await client.get("/v1/events", params={"limit": 2, "type": "verification.failed"}, headers=keys.full)
    ).json()
    assert (len(first["data"]), first["has_more"]) == (2, False)
