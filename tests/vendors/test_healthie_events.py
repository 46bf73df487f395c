"""Healthie's signature, made here as the sample in their guide makes it, in both readings of the digest's padding."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace

import pytest

from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.healthie import VENDOR
from covergate.vendors.healthie.connection import HealthieConnection

CONNECTION = HealthieConnection.sandbox("http://sandbox", "s3cret")
BODY = b'{"resource_id":301,"resource_id_type":"Policy","event_type":"policy.updated","changed_fields":["num"]}'


def signed(
    body: bytes = BODY, query: str = "", *, padded: bool = False, secret: str = CONNECTION.webhook_secret
) -> Inbound:
    header = "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()
    digest = header.split("=", 1)[1] if padded else header.split("=")[1]
    data = f"post /v1/vendor-events/healthie {query} {digest} application/json {len(body)}"
    return Inbound(
        method="POST",
        path="/v1/vendor-events/healthie",
        query=query,
        headers={
            "content-type": "application/json",
            "content-digest": header,
            "signature": "sig1=" + hmac.new(secret.encode(), data.encode(), hashlib.sha256).hexdigest(),
        },
        body=body,
    )


def verify(inbound: Inbound, connection: HealthieConnection = CONNECTION) -> None:
    assert VENDOR.verify_event is not None
    VENDOR.verify_event(inbound, connection)


def test_the_sandbox_secret_keeps_its_prefix() -> None:
    assert CONNECTION.webhook_secret == "whsec_" + hashlib.sha256(b"s3cret:healthie").hexdigest()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("query", ["", "a=1&b=2"])
def test_both_paddings(padded: bool, query: str) -> None:
    verify(signed(query=query, padded=padded))


def test_the_data_string_is_the_guides() -> None:
    """Worked out apart from this code: `printf 'post /uri/path/here  <digest> application/json 2' | openssl dgst -hmac …`."""
    digest = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="
    inbound = Inbound(
        method="POST",
        path="/uri/path/here",
        query="",
        headers={
            "content-digest": f"SHA-256={digest}",
            "signature": "sig1=7a8d46f81bb47581d2d0b5a431b1231304659cf5f0bd5712d367b6689fd94b1d",
        },
        body=b"{}",
    )
    verify(inbound, CONNECTION.model_copy(update={"webhook_secret": "whsec_my-secret-key"}))


@pytest.mark.parametrize(
    "forged",
    [
        replace(signed(), body=BODY.replace(b"301", b"302")),
        replace(signed(), path="/v1/vendor-events/other"),
        replace(signed(), query="a=1"),
        replace(signed(), method="PUT"),
        replace(signed(), headers={**signed().headers, "signature": "sig1="}),
        replace(signed(), headers={**signed().headers, "signature": "sig1=é"}),
        replace(signed(), headers={**signed().headers, "content-digest": ""}),
        replace(signed(), headers={**signed().headers, "content-digest": "MD5=" + "a" * 43}),
        replace(signed(), headers={}),
        signed(secret="whsec_other"),
        signed(secret=CONNECTION.webhook_secret.removeprefix("whsec_")),
    ],
)
def test_forgeries(forged: Inbound) -> None:
    with pytest.raises(ForgedEvent):
        verify(forged)


def test_a_body_that_the_signature_covers_only_through_its_digest() -> None:
    """The digest and signature of one message on the body of another, equally long."""
    other = BODY.replace(b"301", b"999")
    with pytest.raises(ForgedEvent):
        verify(replace(signed(), body=other))


def test_without_a_secret_nothing_verifies() -> None:
    with pytest.raises(ForgedEvent):
        verify(signed(secret=""), CONNECTION.model_copy(update={"webhook_secret": ""}))


@pytest.mark.parametrize("url", ["https://api.example/graphql", "https://api.example/graphql/", "https://api.example"])
def test_the_base_url_may_end_in_graphql(url: str) -> None:
    assert HealthieConnection(base_url=url).base_url == "https://api.example"
