"""Health Harbor's signature: HMAC-SHA256 over the raw bytes, in each of the forms that it may come in."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.health_harbor import VENDOR
from covergate.vendors.health_harbor.connection import HealthHarborConnection

BODY = b'{"subscription_id": "s1", "message_hash": "h1", "inquiries": [{"id": "a", "status": "SUCCESS"}]}'
CONNECTION = HealthHarborConnection.sandbox("http://sandbox", "s3cret")


def digest(secret: str = CONNECTION.webhook_secret, body: bytes = BODY) -> bytes:
    return hmac.digest(secret.encode(), body, "sha256")


def verify(signature: str | None, body: bytes = BODY, connection: HealthHarborConnection = CONNECTION) -> None:
    headers = {} if signature is None else {"x-healthharbor-signature": signature}
    assert VENDOR.verify_event is not None
    VENDOR.verify_event(Inbound("POST", "/v1/vendor-events/health_harbor", "", headers, body), connection)


def test_the_sandbox_secret_is_the_hash_of_secret_and_name() -> None:
    assert CONNECTION.webhook_secret == hashlib.sha256(b"s3cret:health_harbor").hexdigest()


@pytest.mark.parametrize(
    "signature",
    [
        digest().hex(),
        digest().hex().upper(),
        "sha256=" + digest().hex(),
        base64.b64encode(digest()).decode(),
        f" {digest().hex()} ",
    ],
)
def test_accepted_forms(signature: str) -> None:
    verify(signature)


@pytest.mark.parametrize(
    "signature", [None, "", "sha256=", "é", digest("other").hex(), digest().hex()[:-1], base64.b64encode(b"x").decode()]
)
def test_refused_forms(signature: str | None) -> None:
    with pytest.raises(ForgedEvent):
        verify(signature)


def test_the_body_is_signed_as_it_came() -> None:
    with pytest.raises(ForgedEvent):
        verify(digest().hex(), BODY.replace(b": ", b":"))


def test_without_a_secret_nothing_verifies() -> None:
    connection = CONNECTION.model_copy(update={"webhook_secret": ""})
    with pytest.raises(ForgedEvent):
        verify(digest("").hex(), connection=connection)


def test_a_resend_and_a_split_message_are_told_apart() -> None:
    """The same message twice has the same keys; two parts of one batch have different ones."""
    assert VENDOR.read_event is not None
    first, again, other = (
        VENDOR.read_event(Inbound("POST", "/", "", {}, body))
        for body in (BODY, BODY, BODY.replace(b'"id": "a"', b'"id": "b"'))
    )
    assert [event.dedupe_key for event in first] == [event.dedupe_key for event in again]
    assert first[0].dedupe_key != other[0].dedupe_key
