"""A process whose clock is minutes apart from the database's accepts and refuses as if it were not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import httpx
import pytest

from tests.support.clients import Body, Keys
from tests.support.requests import FOR_HARBOR, REQUEST


def set_clock(monkeypatch: pytest.MonkeyPatch, off: timedelta) -> None:
    class Off(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Off:
            return cls.fromtimestamp((datetime.now(UTC) + off).timestamp(), tz)

    monkeypatch.setattr("covergate.verifications.create.datetime", Off)


@pytest.mark.parametrize("minutes", [-5, 0, 5])
@pytest.mark.parametrize(("deadline_seconds", "status"), [(-60, 422), (3, 422), (60, 202)])
async def test_a_deadline_is_judged_by_the_databases_clock(
    client: httpx.AsyncClient,
    keys: Keys,
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
    minutes: int,
    deadline_seconds: int,
    status: int,
) -> None:
    set_clock(monkeypatch, timedelta(minutes=minutes))
    deadline = (datetime.now(UTC) + timedelta(seconds=deadline_seconds)).isoformat()
    answer = await client.post("/v1/verifications", json=body(deadline=deadline), headers=keys.full)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert [(error["code"], error["pointer"]) for error in answer.json()["errors"]] == [
            ("out_of_range", "/deadline")
        ]


async def test_a_vendors_own_deadline_that_is_over_by_the_databases_clock_is_accepted_and_ends_at_once(
    client: httpx.AsyncClient, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, timedelta(days=-60))
    answer = await client.post("/v1/verifications", json={**REQUEST, **FOR_HARBOR}, headers=keys.full)
    assert answer.status_code == 202, answer.text
    assert answer.json()["deadline"] == answer.json()["created_at"]
