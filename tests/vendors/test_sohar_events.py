"""Whose word an event of Sohar's is taken for: Svix's signature over the raw bytes, fresh, and nothing else."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping

import pytest

from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.sohar.connection import SoharConnection
from covergate.vendors.sohar.events import read_event, verify_event

KEY = b"0123456789abcdef0123456789abcdef"
BODY = b'{"verificationId": "990cdad8-1438-4bbd-8b55-120b56e87540", "id": "123456", "status": "complete.eligible"}'


def connection(webhook_secret: str = "whsec_" + base64.b64encode(KEY).decode()) -> SoharConnection:
    return SoharConnection(webhook_secret=webhook_secret)


def signature(message_id: str, timestamp: str, body: bytes, key: bytes = KEY) -> str:
    """docs.svix.com, "Verify manually"."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def inbound(body: bytes = BODY, prefix: str = "svix", headers: Mapping[str, str] | None = None) -> Inbound:
    said = {"id": "msg_1", "timestamp": str(int(time.time())), **(headers or {})}
    said.setdefault("signature", signature(said["id"], said["timestamp"], body))
    named = {f"{prefix}-{name}": value for name, value in said.items()}
    return Inbound("POST", "/v1/vendor-events/sohar", "", named, body)


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_signed_event_verifies(prefix: str) -> None:
    verify_event(inbound(prefix=prefix), connection())


def test_one_good_signature_of_several_is_enough() -> None:
    now = str(int(time.time()))
    several = f"v1a,c2FtcGxl v1,c2FtcGxl {signature('msg_1', now, BODY)}"
    verify_event(inbound(headers={"timestamp": now, "signature": several}), connection())


@pytest.mark.parametrize(
    "headers",
    [
        {"signature": signature("msg_1", "1", BODY, b"another key")},
        {"signature": "v1,c2FtcGxl"},
        {"signature": "v2," + base64.b64encode(KEY).decode()},
        {"signature": "v1"},
        {"signature": "v1,a,b"},
        {"signature": "v1,%%%"},
        {"signature": "v1,a"},
        {"signature": "v1,\u00e9"},
        {"signature": ""},
        {"id": ""},
        {"timestamp": ""},
        {"timestamp": "yesterday"},
        {"timestamp": "nan"},
        {"timestamp": "1e400"},
    ],
    ids=lambda headers: " ".join(f"{name}={value[:12]!r}" for name, value in headers.items()),
)
def test_forged_or_stale_event_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ForgedEvent):
        verify_event(inbound(headers=headers), connection())


@pytest.mark.parametrize("seconds", [-360, 360])
def test_event_of_another_time_is_refused(seconds: int) -> None:
    with pytest.raises(ForgedEvent):
        verify_event(inbound(headers={"timestamp": str(int(time.time()) + seconds)}), connection())


def test_changed_body_is_refused() -> None:
    signed = inbound()
    with pytest.raises(ForgedEvent):
        verify_event(
            Inbound("POST", signed.path, "", signed.headers, BODY.replace(b"eligible", b"ineligible")), connection()
        )


def test_body_that_is_no_text_is_refused() -> None:
    with pytest.raises(ForgedEvent):
        verify_event(inbound(b"\xff\xfe"), connection())


def test_signed_body_that_is_no_json_is_theirs_and_tells_nothing() -> None:
    signed = inbound(b"updated")
    verify_event(signed, connection())
    assert read_event(signed) == ()


def test_event_without_headers_is_refused() -> None:
    with pytest.raises(ForgedEvent):
        verify_event(Inbound("POST", "/v1/vendor-events/sohar", "", {}, BODY), connection())


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%", "whsec_\u00e9"])
def test_nothing_verifies_without_a_usable_secret(secret: str) -> None:
    now = str(int(time.time()))
    with pytest.raises(ForgedEvent):
        verify_event(inbound(headers={"signature": signature("msg_1", now, BODY, b"\0")}), connection(secret))
