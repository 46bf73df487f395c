"""Sohar's webhooks: Svix-signed messages that name a verification by its id and by our echo.

Sources: Sohar's "Webhooks" pages and docs.svix.com, "Verify manually". The message's own id stays the same over resends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from standardwebhooks import Webhook

from covergate.vendors.document import Node, status_word, token
from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent
from covergate.vendors.sohar import codes

_UPDATED = "verification.updated"


def verify_event(inbound: Inbound, connection: Any) -> None:
    """Checks the signature over the raw bytes and that the time stamp is within five minutes of now.

    Svix's scheme is that of Standard Webhooks; only the headers have other names.
    """
    headers = {f"webhook-{name}": _header(inbound, name) for name in ("id", "timestamp", "signature")}
    try:
        Webhook(connection.webhook_secret).verify(inbound.body, headers, json_parse=False)
    # Broad on purpose: depending on what is forged, the library raises its own error (for an empty secret too), ValueError,
    # binascii.Error or UnicodeDecodeError; each means that the event is not proven to be Sohar's.
    except Exception as error:
        raise ForgedEvent("the signature does not verify") from error


def read_event(inbound: Inbound) -> Sequence[VendorEvent]:
    """The older payload has no `event` and is `verification.updated`. Other kinds are not about a verification."""
    try:
        body = Node(orjson.loads(inbound.body), "")
    except orjson.JSONDecodeError:
        return ()
    kind = body.read("event", token).value or _UPDATED
    ref, echo = body.read("verificationId", token).value, body.read("id", token).value
    wakes = codes.EVENT_WAKES.get(kind.removeprefix(codes.SANDBOX_PREFIX))
    if wakes is None or (ref is None and echo is None):
        return ()
    said = body.read("status", status_word).value
    return [VendorEvent(dedupe_key=_header(inbound, "id"), kind=kind, ref=ref, echo=echo, wakes=wakes, said=said)]


def _header(inbound: Inbound, name: str) -> str:
    """Sohar's pages name the `svix-` headers; Svix can also send the unbranded ones."""
    return inbound.headers.get(f"svix-{name}") or inbound.headers.get(f"webhook-{name}", "")
