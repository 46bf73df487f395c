"""`POST /v1/vendor-events/{vendor}`, and below it an address for each tenant's account: vendors' webhooks.

The signature is the key; a forged event leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response

from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer, read_body
from covergate.api.metrics import Metrics
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED
from covergate.vendors.event import ForgedEvent, Inbound
from covergate.verifications.event_rates import EventRates
from covergate.verifications.vendor_events import MOST_EVENTS, TooManyEvents, UnknownVendor, receive

router = APIRouter(tags=["Vendors"])

MOST_EVENT_BYTES = 2 * 1024 * 1024
"""Some vendors put many of their own rows into one message."""
SMALL_EVENT_BYTES = 64 * 1024
MOST_LARGE_BYTES = 64 * 1024 * 1024
"""What a process holds at once of messages beyond their first `SMALL_EVENT_BYTES`: until it has been read, anybody may have sent
it, over as many connections as there may be."""


class LargeEvents:
    """The room for large messages; small ones need none, so that nobody can keep them out."""

    def __init__(self) -> None:
        self.held = 0

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """A function to be told how much of the message is held. It raises Problem `unavailable`."""
        ours = 0

        def hold(size: int) -> None:
            nonlocal ours
            more = max(size - SMALL_EVENT_BYTES, 0) - ours
            if more > 0 and self.held + more > MOST_LARGE_BYTES:
                raise Problem("unavailable", "too many large messages are being read; send it again", retry_after=5)
            ours += more
            self.held += more

        try:
            yield hold
        finally:
            self.held -= ours


@router.post(
    "/v1/vendor-events/{vendor}",
    status_code=202,
    **documented(
        "receive_vendor_event",
        "Receive a vendor's event",
        "For vendors. An event is verified on its raw bytes, stored once and answered before it is looked at. A resend is"
        f" accepted too, a message of more than {MOST_EVENTS} events is not.",
        body=(None, examples.INBOUND_EVENT),
        answers={202: Described("Stored, now or before", schemas.Received, examples.RECEIVED)},
        problems=(401, 404, 413, 429),
    ),
)
async def receive_vendor_event(request: Request, gateway: GatewayOf, vendor: str) -> Response:
    return await _received(request, gateway, vendor, SHARED)


@router.post(
    "/v1/vendor-events/{vendor}/{account_id}",
    status_code=202,
    **documented(
        "receive_account_event",
        "Receive an event about a tenant's own account",
        "As above, at the `events_url` of a vendor account, and verified with that account's secret.",
        body=(None, examples.INBOUND_EVENT),
        answers={202: Described("Stored, now or before", schemas.Received, examples.RECEIVED)},
        problems=(401, 404, 413, 429),
    ),
)
async def receive_account_event(request: Request, gateway: GatewayOf, vendor: str, account_id: str) -> Response:
    return await _received(request, gateway, vendor, account_id)


async def _received(request: Request, gateway: Gateway, vendor: str, account_id: str) -> Response:
    large: LargeEvents = request.app.state.large_events
    with large.holding() as hold:
        return await _taken_in(request, gateway, vendor, account_id, hold)


async def _taken_in(
    request: Request, gateway: Gateway, vendor: str, account_id: str, hold: Callable[[int], None]
) -> Response:
    metrics: Metrics = request.app.state.metrics
    known = vendor if vendor in VENDORS else "unknown"
    if known == "unknown":
        metrics.vendor_events.labels(known, "unknown").inc()
        raise Problem("not_found", "there is no such vendor")
    inbound = Inbound(
        method=request.method,
        path=request.url.path,
        query=request.scope["query_string"].decode("latin-1"),
        headers=dict(request.headers),
        body=await read_body(request, MOST_EVENT_BYTES, hold),
    )
    rates: EventRates = request.app.state.event_rates
    try:
        stored = await receive(gateway, vendor, inbound, rates, account_id)
    except UnknownVendor:
        metrics.vendor_events.labels(known, "unknown").inc()
        raise Problem("not_found", "this vendor sends no events") from None
    except ForgedEvent:
        metrics.vendor_events.labels(known, "forged").inc()
        raise Problem("unauthorized", "the event does not verify") from None
    except Problem as problem:
        if problem.code == "rate_limited":
            metrics.vendor_events.labels(known, "too_fast").inc()
        raise
    except TooManyEvents:
        metrics.vendor_events.labels(known, "too_many").inc()
        raise Problem("body_too_large", f"a message has at most {MOST_EVENTS} events") from None
    metrics.vendor_events.labels(known, "stored" if stored else "duplicate").inc()
    return json_answer({"received": True}, 202)
