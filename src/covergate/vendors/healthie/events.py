"""Healthie's webhooks: signed, without content, and only for the timeline, since no event tells of an eligibility check.

Source: "Signature Verification Process" of Healthie's guide. The signature covers the digest of the body, so the digest is
compared with the body too. The guide's sample drops the `=` at the digest's end before it signs; both readings are
accepted. Nothing signed has a time in it, so there is no replay window: a repeated event is recognized by its key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent

_POLICY_EVENTS = ("policy.created", "policy.updated", "policy.deleted")
_AUTHORIZATION_EVENTS = (
    "insurance_authorization.created",
    "insurance_authorization.updated",
    "insurance_authorization.deleted",
)


def verify_event(inbound: Inbound, connection: Any) -> None:
    if not connection.webhook_secret:
        raise ForgedEvent("no webhook secret is configured")
    name, _, digest = inbound.headers.get("content-digest", "").strip().partition("=")
    unpadded = digest.rstrip("=")
    expected = base64.b64encode(hashlib.sha256(inbound.body).digest()).decode().rstrip("=")
    if name.casefold() != "sha-256" or not hmac.compare_digest(unpadded.encode(), expected.encode()):
        raise ForgedEvent("the digest is not that of the body")
    given = inbound.headers.get("signature", "").strip().removeprefix("sig1=").casefold().encode()
    accepted = [
        hmac.compare_digest(given, _signature(inbound, read, connection.webhook_secret))
        for read in (unpadded, f"{unpadded}=")
    ]
    if not any(accepted):
        raise ForgedEvent("the signature does not match")


def _signature(inbound: Inbound, digest: str, secret: str) -> bytes:
    """An empty query leaves two spaces in a row. The secret is used whole, `whsec_` included."""
    parts = [inbound.method.lower(), inbound.path, inbound.query, digest, "application/json", str(len(inbound.body))]
    return hmac.digest(secret.encode(), " ".join(parts).encode(), "sha256").hex().encode()


def read_event(inbound: Inbound) -> Sequence[VendorEvent]:
    """At most one. A policy's id is the reference of a submission; an authorization's is not."""
    try:
        body = orjson.loads(inbound.body)
    except orjson.JSONDecodeError:
        return ()
    match body:
        case {"event_type": str(kind), "resource_id": int() | str() as resource} if kind in (
            *_POLICY_EVENTS,
            *_AUTHORIZATION_EVENTS,
        ):
            digest = hashlib.sha256(inbound.body).hexdigest()
            ref = str(resource) if kind in _POLICY_EVENTS else None
            return [VendorEvent(dedupe_key=f"{kind}:{resource}:{digest}", kind=kind, ref=ref, wakes=False)]
    return ()
