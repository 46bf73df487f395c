from __future__ import annotations

from typing import Any

import httpx

from covergate.eligibility.failure import FailureCode
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
