"""Messages of a Health Harbor subscription: signed, several inquiries in each, sent when a call begins, goes on and ends.

Source: the page on webhooks. It names neither the hash field nor the encoding of the signature, so every likely form is
accepted: hex, with or without `sha256=`, and base64; always HMAC-SHA256 of the raw body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from covergate.vendors.document import status_word
from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent
from covergate.vendors.health_harbor.codes import CallState, call_state

_SIGNATURE = "x-healthharbor-signature"


def verify_event(inbound: Inbound, connection: Any) -> None:
    if not connection.webhook_secret:
        raise ForgedEvent("no webhook secret is configured")
    digest = hmac.digest(connection.webhook_secret.encode(), inbound.body, "sha256")
    given = inbound.headers.get(_SIGNATURE, "").strip().removeprefix("sha256=").encode()
    as_hex, as_base64 = digest.hex().encode(), base64.b64encode(digest)
    if not (hmac.compare_digest(given.lower(), as_hex) | hmac.compare_digest(given, as_base64)):
        raise ForgedEvent("the signature does not match")


def read_event(inbound: Inbound) -> Sequence[VendorEvent]:
    """One event per inquiry. Only an ended call wakes its verification: until then there is nothing to fetch."""
    try:
        body = orjson.loads(inbound.body)
    except orjson.JSONDecodeError:
        return ()
    rows = body.get("inquiries") if isinstance(body, dict) else body
    message = _message_hash(body) or hashlib.sha256(inbound.body).hexdigest()
    return [_event(row, message) for row in rows if _has_id(row)] if isinstance(rows, list) else ()


def _has_id(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str) and row["id"] != ""


def _event(row: dict[str, Any], message: str) -> VendorEvent:
    request = row.get("request")
    echo = request.get("external_id") if isinstance(request, dict) else None
    status = row.get("status")
    return VendorEvent(
        dedupe_key=f"{message}:{row['id']}",
        kind="inquiry",
        ref=row["id"],
        echo=echo if isinstance(echo, str) else None,
        wakes=call_state(status) is not CallState.WORKING,
        said=status_word(status),
    )


def _message_hash(body: Any) -> str | None:
    """The value of the one field whose name says that it is the message's hash."""
    if not isinstance(body, dict):
        return None
    hashes = [value for name, value in body.items() if "hash" in name.lower() and isinstance(value, str) and value]
    return hashes[0] if len(hashes) == 1 else None
