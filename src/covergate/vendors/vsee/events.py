"""VSee's webhook `eligibility.checked`: it names a check and holds no benefits, so it only says "look now".

Source: VSee's "Insurance API (Draft)" and webhook pages. Nothing is signed: the callback address carries a secret token.
`member_id` in it is the VSee user's id, in one sample a number.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson

from covergate.eligibility.x12.codes import aaa_code_of_text
from covergate.eligibility.x12.names import AAA03_NAMES
from covergate.vendors.document import Node, token
from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent
from covergate.vendors.vsee.codes import CHECKED


def verify_event(inbound: Inbound, connection: Any) -> None:
    """Takes exactly one `token` in the query, compared in constant time."""
    if not connection.callback_token:
        raise ForgedEvent("no callback token is configured")
    tokens = parse_qs(inbound.query).get("token", [])
    if len(tokens) != 1 or not hmac.compare_digest(tokens[0].encode(), connection.callback_token.encode()):
        raise ForgedEvent("the token does not match")


def read_event(inbound: Inbound) -> Sequence[VendorEvent]:
    try:
        body = Node(orjson.loads(inbound.body), "")
    except orjson.JSONDecodeError:
        return ()
    data = body.at("data")
    user_id, eligibility_id = data.read("member_id", token).value, data.read("eligibility_id", token).value
    kind = body.read("type", token).value
    if user_id is None or eligibility_id is None or kind is None:
        return ()
    message_id = body.read("id", token).value or hashlib.sha256(inbound.body).hexdigest()
    response = data.text("eligibility_response").value
    # The reject reason by its code's name: VSee's own text may be about the patient.
    reject = aaa_code_of_text(response) if response else None
    said = AAA03_NAMES.get(reject) if reject else None
    return [VendorEvent(message_id, kind, ref=f"{user_id}:{eligibility_id}", wakes=kind == CHECKED, said=said)]
