"""Sohar's side: one verification, how it is asked for, and signed events about it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

from covergate.vendors.event import Inbound

REF = "990cdad8-1438-4bbd-8b55-120b56e87540"
SUBMIT = "POST /v2/verifications"
READ = f"GET /v2/verifications/{REF}"
SECRET = hashlib.sha256(b"sandbox:sohar").digest()


def event(echo: str | None = None, message_id: str = "msg_1", *, key: bytes = SECRET, age: int = 0) -> Inbound:
    """Tells that it was answered; `echo` is the id that the submission carried, `age` in seconds."""
    body = json.dumps({"verificationId": REF, "id": echo, "status": "complete.eligible"}).encode()
    at = str(int(time.time()) - age)
    digest = hmac.digest(key, f"{message_id}.{at}.".encode() + body, "sha256")
    headers = {
        "svix-id": message_id,
        "svix-timestamp": at,
        "svix-signature": "v1," + base64.b64encode(digest).decode(),
    }
    return Inbound("POST", "/v1/vendor-events/sohar", "", headers, body)
