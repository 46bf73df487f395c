"""Submissions that are ready together go out as one call; each row gets its own end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from covergate.outbound.send_by import SendBy
from covergate.transport.transport import Transport
from covergate.vendors.auth import HeaderAuth
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited, VendorUnavailable
from covergate.vendors.flow import Call, Flow, Reply
from covergate.vendors.vendor import AnswersBy, Batching, Capabilities, Connection, ServiceDates, Vendor

PATH = "/batch"


def join(calls: Sequence[Call]) -> Call:
    return Call("POST", PATH, json=[call.json for call in calls], commits=True)


def split(reply: Reply, count: int) -> Sequence[Reply | None]:
    """200: one element each. 422 names the bad row; the others were not to blame."""
    if reply.status == 422:
        return [reply if index == reply.body["bad"] else None for index in range(count)]
    return [replace(reply, content=json.dumps(row).encode()) for row in reply.body]


def no_flow(*_: Any) -> Flow:
    raise NotImplementedError


def vendor(limit: int, wait: float) -> Vendor:
    return Vendor(
        name="sample",
        title="Sample",
        docs_url="https://vendor.example/docs",
        capabilities=Capabilities((AnswersBy.PHONE_CALL,), (1, 2), ServiceDates.ANY, True, False, "none"),
        connection=Connection,
        authenticate=lambda connection: HeaderAuth({}),
        submit=no_flow,
        batching=Batching(PATH, limit, timedelta(seconds=wait), join, split),
    )


class Side:
    """The vendor's side: notes the bodies of the calls it got and answers each with `answer`."""

    def __init__(self, answer: Callable[[list[Any]], httpx.Response], *, limit: int = 100, wait: float = 0.02) -> None:
        self.answer = answer
        self.bodies: list[list[Any]] = []
        self.vendor = vendor(limit, wait)
        self.transport = Transport(allow_private_network=False, wire=httpx.MockTransport(self))
        self.connection = Connection(base_url="https://vendor.example")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        return self.answer(self.bodies[-1])

    async def send(self, name: Any, not_after: SendBy | None = None, mode: str = "live", tenant: str = "") -> Reply:
        call = Call("POST", PATH, json=name, commits=True)
        return await self.transport.send(
            self.vendor,
            mode,
            self.connection,
            call,
            f"/exchanges/{name}",
            tenant=tenant,
            not_after=not_after,
        )

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.aclose()


def echo(rows: list[Any]) -> httpx.Response:
    return httpx.Response(200, json=[{"id": row} for row in rows])


async def test_rows_that_are_ready_together_share_one_call_and_are_split() -> None:
    async with Side(echo) as side:
        replies = await asyncio.gather(*(side.send(name) for name in "abc"))
    assert side.bodies == [["a", "b", "c"]]
    assert [reply.body for reply in replies] == [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert [reply.pointer for reply in replies] == ["/exchanges/a", "/exchanges/b", "/exchanges/c"]


async def test_a_full_batch_does_not_wait_and_the_rest_goes_in_the_next() -> None:
    async with Side(echo, limit=2, wait=0.05) as side:
        await asyncio.gather(*(side.send(name) for name in "abcde"))
    assert side.bodies == [["a", "b"], ["c", "d"], ["e"]]
    async with Side(echo, limit=2, wait=3600) as side, asyncio.timeout(5):
        await asyncio.gather(*(side.send(name) for name in "ab"))


async def test_a_call_ends_once_however_many_rows_it_carried() -> None:
    """That is what circuits count; a row that was never sent is none."""
    ends: list[tuple[str, str, type[VendorError] | None]] = []
    for answer, error in ((echo, None), (lambda rows: httpx.Response(500), VendorUnavailable)):
        async with Side(answer) as side:
            side.transport.ended = lambda name, mode, error, _account: ends.append(
                (name, mode, type(error) if error else None)
            )
            rows = [side.send(name) for name in "abc"]
            await asyncio.gather(*rows, side.send("late", not_after=SendBy.within(-1)), return_exceptions=True)
        assert ends.pop() == ("sample", "live", error)
        assert ends == []


async def test_a_call_leaves_by_the_earliest_time_of_its_rows() -> None:
    """It is not built before the wait is over: the time is looked at again when it leaves."""
    wall = 1000.0

    def pausing() -> float:
        nonlocal wall
        wall += 1
        return wall

    async with Side(echo) as side:
        ends = await asyncio.gather(
            side.send("a", not_after=SendBy.within(60)),
            side.send("b", not_after=SendBy(asyncio.get_running_loop().time() + 60, wall + 2, pausing)),
            return_exceptions=True,
        )
    assert [isinstance(end, VendorUnavailable) and end.reason for end in ends] == ["too_late_to_send"] * 2
    assert side.bodies == []


async def test_modes_are_never_joined() -> None:
    async with Side(echo) as side:
        await asyncio.gather(side.send("a", mode="live"), side.send("b", mode="test"))
    assert sorted(side.bodies) == [["a"], ["b"]]


async def test_tenants_are_never_joined() -> None:
    async with Side(echo) as side:
        replies = await asyncio.gather(side.send("a", tenant="ten_1"), side.send("b", tenant="ten_2"))
    assert sorted(side.bodies) == [["a"], ["b"]]
    assert [reply.body for reply in replies] == [{"id": "a"}, {"id": "b"}]


async def test_accounts_are_never_joined() -> None:
    async with Side(echo) as side:

        async def send(name: str, account: str) -> Reply:
            call = Call("POST", PATH, json=name, commits=True)
            return await side.transport.send(side.vendor, "live", side.connection, call, "", account=account)

        await asyncio.gather(send("a", ""), send("b", "acc_1"), send("c", "acc_2"), send("d", "acc_1"))
    assert sorted(side.bodies) == [["a"], ["b", "d"], ["c"]]


async def test_other_calls_are_not_joined() -> None:
    async with Side(lambda rows: httpx.Response(200, json=rows)) as side:
        for call in (Call("POST", PATH, json=[1]), Call("POST", "/other", json=[2], commits=True)):
            await side.transport.send(side.vendor, "live", side.connection, call, "")
    assert side.bodies == [[1], [2]]


async def test_one_bad_row_does_not_fail_the_others() -> None:
    def refuse_b(rows: list[Any]) -> httpx.Response:
        return httpx.Response(422, json={"bad": rows.index("b")}) if "b" in rows else echo(rows)

    async with Side(refuse_b) as side:
        a, b, c = await asyncio.gather(*(side.send(name) for name in "abc"))
    assert side.bodies == [["a", "b", "c"], ["a", "c"]]
    assert (a.body, c.body) == ({"id": "a"}, {"id": "c"})
    assert (b.status, b.pointer) == (422, "/exchanges/b")


async def test_a_row_that_is_never_to_blame_is_given_up_unsent() -> None:
    async with Side(lambda rows: httpx.Response(422, json={"bad": -1}), wait=0) as side:
        with pytest.raises(VendorUnavailable) as caught:
            await side.send("a")
    assert len(side.bodies) == 3
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("answer", "expected", "sent"),
    [
        (httpx.Response(500, text="why"), VendorUnavailable, True),
        (httpx.Response(401), VendorAuthFailed, False),
        (httpx.Response(429, headers={"retry-after": "9"}), VendorRateLimited, False),
        (httpx.Response(200, text="<html>"), VendorBroken, True),
        (httpx.Response(200, json=[{"id": "a"}]), VendorBroken, True),
        (httpx.Response(200, json=7), VendorBroken, True),
        (httpx.Response(422, json={}), VendorBroken, True),
    ],
)
async def test_an_error_of_the_whole_goes_to_every_row(
    answer: httpx.Response, expected: type[VendorError], sent: bool
) -> None:
    async with Side(lambda rows: answer) as side:
        ends = await asyncio.gather(side.send("a"), side.send("b"), return_exceptions=True)
    assert len(side.bodies) == 1
    for end, name in zip(ends, "ab", strict=True):
        assert isinstance(end, expected)
        assert end.sent is sent
        assert end.reply is not None
        assert end.reply.pointer == f"/exchanges/{name}"
        if isinstance(end, VendorRateLimited):
            assert end.retry_after == 9
    assert ends[0] is not ends[1]


async def test_a_row_whose_time_has_passed_is_left_out() -> None:
    wall = 1000.0
    moved = SendBy.within(5, wall_clock=lambda: wall)
    wall += 6
    async with Side(echo) as side:
        late, paused, punctual = await asyncio.gather(
            side.send("late", not_after=SendBy.within(-1)),
            side.send("paused", not_after=moved),
            side.send("b", not_after=SendBy.within(60)),
            return_exceptions=True,
        )
    for end in (late, paused):
        assert isinstance(end, VendorUnavailable)
        assert (end.reason, end.sent, end.ours) == ("too_late_to_send", False, True)
    assert isinstance(punctual, Reply)
    assert side.bodies == [["b"]]


async def test_a_caller_that_stopped_waiting_is_left_out_and_stops_nobody() -> None:
    async with Side(echo) as side:
        leaving = asyncio.create_task(side.send("a"))
        staying = asyncio.create_task(side.send("b"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).body == {"id": "b"}
        with pytest.raises(asyncio.CancelledError):
            await leaving
    assert side.bodies == [["b"]]


async def test_closing_leaves_waiting_rows_unsent_and_says_so_of_the_others() -> None:
    under_way = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        under_way.set()
        await asyncio.Event().wait()
        raise AssertionError

    transport = Transport(allow_private_network=False, wire=httpx.MockTransport(hang))
    sample = vendor(limit=2, wait=3600)
    connection = Connection(base_url="https://vendor.example")
    rows = [
        asyncio.create_task(transport.send(sample, "live", connection, Call("POST", PATH, json=n, commits=True), ""))
        for n in range(3)
    ]
    await asyncio.wait_for(under_way.wait(), 5)
    await transport.aclose()
    ends = await asyncio.gather(*rows, return_exceptions=True)
    assert [end.sent for end in ends if isinstance(end, VendorUnavailable)] == [True, True, False]
    assert all(isinstance(end, VendorUnavailable) and end.ours for end in ends)
