"""Any vendor's inbound webhook, whatever stands in it: it verifies or is forged, and is read as events or as none."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covergate.vendors import VENDORS
from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent
from covergate.vendors.vendor import Vendor
from tests.support.examples import examples

ANNOUNCING = [vendor for vendor in VENDORS.values() if vendor.read_event is not None]

FIELDS = st.sampled_from(
    [
        "id",
        "inquiries",
        "request",
        "external_id",
        "status",
        "verificationId",
        "resource_id",
        "event_type",
        "data",
        "hash",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "svix-id",
            "svix-timestamp",
            "svix-signature",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "x-healthharbor-signature",
            "content-digest",
            "signature",
            "signature-input",
            "content-type",
        ]
    ),
    # As they come over the wire, read as Latin-1.
    st.binary(max_size=60).map(lambda value: value.decode("latin-1")),
)
QUERIES = st.binary(max_size=60).map(lambda value: value.decode("latin-1"))


@pytest.mark.parametrize("vendor", ANNOUNCING, ids=lambda vendor: vendor.name)
@settings(max_examples=examples(200), deadline=None)
@given(headers=HEADERS, query=QUERIES, body=BODIES)
def test_whatever_comes_in_is_forged(vendor: Vendor, headers: dict[str, str], query: str, body: bytes) -> None:
    assert vendor.verify_event is not None
    connection = vendor.connection.sandbox("http://sandbox", "a secret of the test's own, long enough for all")
    with suppress(ForgedEvent):
        vendor.verify_event(Inbound("POST", f"/v1/vendor-events/{vendor.name}", query, headers, body), connection)
        pytest.fail("it was believed")


@pytest.mark.parametrize("vendor", ANNOUNCING, ids=lambda vendor: vendor.name)
@settings(max_examples=examples(200), deadline=None)
@given(headers=HEADERS, query=QUERIES, body=BODIES)
def test_whatever_was_signed_is_read(vendor: Vendor, headers: dict[str, str], query: str, body: bytes) -> None:
    assert vendor.read_event is not None
    for event in vendor.read_event(Inbound("POST", f"/v1/vendor-events/{vendor.name}", query, headers, body)):
        assert isinstance(event, VendorEvent)
        assert isinstance(event.dedupe_key, str) and isinstance(event.kind, str)
        assert event.ref is not None or event.echo is not None or not event.wakes
