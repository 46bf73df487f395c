"""Joining inquiries into one call and telling whose row is whose in the reply."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from covergate.vendors.flow import Call, Reply
from covergate.vendors.health_harbor import VENDOR

assert VENDOR.batching is not None
BATCHING = VENDOR.batching
NOW = datetime(2026, 11, 21, 17, tzinfo=UTC)


def calls(count: int) -> list[Call]:
    rows = [{"external_id": f"att_{number}"} for number in range(count)]
    return [Call("POST", BATCHING.path, json=[row], commits=True, timeout=60) for row in rows]


def reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, orjson.dumps(body), "/exchanges/0", NOW)


def bodies(replies: Sequence[Reply | None]) -> list[Any]:
    return [None if part is None else (part.status, part.body) for part in replies]


def error(*loc: str | int, msg: str = "wrong") -> dict[str, Any]:
    return {"loc": list(loc), "msg": msg, "type": "value_error"}


def test_join() -> None:
    joined = BATCHING.join(calls(3))
    assert joined.json == [{"external_id": "att_0"}, {"external_id": "att_1"}, {"external_id": "att_2"}]
    assert (joined.method, joined.path, joined.commits, joined.timeout) == ("POST", BATCHING.path, True, 60)


def test_rows_by_position() -> None:
    rows = [{"success": True, "inquiry_id": "a"}, {"success": False, "inquiry_id": ""}]
    assert bodies(BATCHING.split(reply(rows), 2)) == [(200, [rows[0]]), (200, [rows[1]])]


def test_a_bad_row_is_refused_alone_and_the_others_are_sent_again() -> None:
    refused = reply({"detail": [error("body", 1, "dob"), error("body", 1, "tax_id"), error("body", 3, "dob")]}, 422)
    assert bodies(BATCHING.split(refused, 4)) == [
        None,
        (422, {"detail": [error("body", 0, "dob"), error("body", 0, "tax_id")]}),
        None,
        (422, {"detail": [error("body", 0, "dob")]}),
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"detail": [error("body")]}),
        (422, {"detail": "Unprocessable"}),
        (422, {"detail": [error("body", 7, "dob")]}),
        (422, {"detail": [error("body", True, "dob")]}),
        (422, ["odd"]),
        (400, {"detail": [error("body", 0, "dob")]}),
        (413, {"detail": "Too large"}),
    ],
)
def test_what_names_no_row_goes_to_all(status: int, body: Any) -> None:
    assert bodies(BATCHING.split(reply(body, status), 2)) == [(status, body)] * 2


@pytest.mark.parametrize("body", [[{"success": True, "inquiry_id": "a"}], [], {"success": True, "inquiry_id": "a"}])
def test_rows_that_cannot_be_told_apart_are_nobodys(body: Any) -> None:
    """Above all: the one row of a short reply is not taken by both."""
    assert bodies(BATCHING.split(reply(body), 2)) == [(200, [body])] * 2


def test_one_call_alone() -> None:
    rows = [{"success": True, "inquiry_id": "a"}]
    assert bodies(BATCHING.split(reply(rows), 1)) == [(200, rows)]
    refused = {"detail": [error("body", 0, "dob")]}
    assert bodies(BATCHING.split(reply(refused, 422), 1)) == [(422, refused)]
