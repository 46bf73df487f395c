"""What is kept of a reply that its call does not tell to be about the asked patient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest

from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED, VendorAccount
from covergate.vendors.errors import VendorUnavailable
from covergate.vendors.flow import Call, Reply
from covergate.verifications.conversation import Conversation
from covergate.verifications.shape import DEEPEST, shape_of

REPLY = Reply(200, {"content-type": "application/json"}, b'{"name": "Quendolyn"}', "", datetime.now(UTC))


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (b'{"a": "x", "b": 1, "c": 1.5, "d": true, "e": null}',
         {"a": "string", "b": "number", "c": "number", "d": "boolean", "e": None}),
        (b'[{"a": []}, {"b": 1}]', [{"a": []}]),
        (b'"Quendolyn"', "string"),
        (b"<html>Quendolyn</html>", "not JSON"),
        (b"", None),
    ],
)  # fmt: skip
def test_the_shape_has_no_value(content: bytes, shape: Any) -> None:
    assert shape_of(content) == shape


def test_a_deep_reply_ends_in_a_type() -> None:
    shape = orjson.dumps(shape_of(b"[" * 900 + b'"Quendolyn"' + b"]" * 900))
    assert shape == b"[" * DEEPEST + b'"array"' + b"]" * DEEPEST


class Replying:
    """Stands in for the transport."""

    def __init__(self, error: VendorUnavailable | None = None) -> None:
        self.error = error

    async def send(self, *_: Any, **__: Any) -> Reply:
        if self.error is not None:
            raise self.error
        return REPLY


def raising(reply: Reply) -> bool:
    raise KeyError(reply.status)


async def kept(told: Callable[[Reply], bool] | None, transport: Replying) -> Any:
    async def intend(_: Call) -> bool:
        return True

    async def pace() -> None:
        return

    vendor = VENDORS["healthie"]
    account = VendorAccount(SHARED, None, vendor.name, "test", vendor.connection())
    conversation = Conversation(cast(Transport, transport), vendor, account, "ten_1", intend, pace)

    def flow() -> Any:
        yield Call("POST", "/graphql", is_about_patient=told)

    with suppress(VendorUnavailable):
        await conversation.drive(flow())
    [exchange] = conversation.exchanges
    return orjson.loads(exchange.content)


WHOLE = {"name": "Quendolyn"}
SHAPE = {"withheld": "not about the asked patient", "shape": {"name": "string"}}


@pytest.mark.parametrize("error", [None, VendorUnavailable("http_500", sent=True, reply=REPLY)], ids=["reply", "error"])
@pytest.mark.parametrize(
    ("told", "stored"),
    [(None, WHOLE), (lambda _: True, WHOLE), (lambda _: False, SHAPE), (raising, SHAPE)],
    ids=["no other can be", "the patient", "another", "cannot be told"],
)
async def test_a_reply_is_kept_as_its_call_tells(
    told: Callable[[Reply], bool] | None, stored: Any, error: VendorUnavailable | None
) -> None:
    assert await kept(told, Replying(error)) == stored
