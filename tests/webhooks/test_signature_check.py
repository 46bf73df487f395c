"""What the signature check says of a pasted request: each fault by its own name, and never a secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from covergate.webhooks.signature_check import Finding, KnownSecret, check_signature, headers_in

NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
ID = "evt_01jd7k46mne0r9m2zn4x8b6wqc"
HERE, ELSEWHERE = "whe_01jd7jzz4pe0r9m2zn4x8b6wqd", "whe_01jd7jzz4pe0r9m2zn4x8b6wqf"


def secret_of(letter: str) -> str:
    return "whsec_" + base64.b64encode(letter.encode() * 32).decode()


CURRENT = KnownSecret(HERE, secret_of("a"))
OLDER = KnownSecret(HERE, secret_of("b"), NOW + timedelta(hours=3))
ENDED = KnownSecret(HERE, secret_of("c"), NOW - timedelta(hours=2))
OTHER = KnownSecret(ELSEWHERE, secret_of("d"))
BODY = '{"type":"verification.completed","timestamp":"2026-11-28T09:59:59Z","data":{"id":"ver_1","status":"done","metadata":1}}'


def signed(by: KnownSecret = CURRENT, body: str = BODY, at: datetime = NOW, id_: str = ID) -> dict[str, str]:
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(by.secret).sign(id_, at, body),
    }


def found(headers: dict[str, str], body: str = BODY) -> list[Finding]:
    findings = check_signature(headers, body, [CURRENT, OLDER, ENDED], [OTHER], NOW)
    said = " ".join(finding.words for finding in findings)
    assert not any(secret.secret.removeprefix("whsec_") in said for secret in (CURRENT, OLDER, ENDED, OTHER))
    return findings


def codes(headers: dict[str, str], body: str = BODY) -> list[str]:
    return [finding.code for finding in found(headers, body)]


def test_a_genuine_request_fits() -> None:
    assert [(one.code, one.kind) for one in found(signed())] == [("fits", "good")]


def test_a_request_signed_during_a_rotation_fits_by_either_secret() -> None:
    both = signed() | {
        "webhook-signature": " ".join(
            signed(by)["webhook-signature"] for by in (KnownSecret(HERE, secret_of("z")), OLDER)
        )
    }
    [finding] = found(both)
    assert finding.code == "fits_older"
    assert "2026-11-28 13:00:00 UTC" in finding.words


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    [finding] = found({key: value for key, value in signed().items() if key != name})
    assert (finding.code, finding.kind) == ("header_missing", "bad")
    assert name in finding.words


@pytest.mark.parametrize(
    ("off", "words"), [(timedelta(minutes=-12), "12 min before now, 7 min more"), (timedelta(hours=1), "1 h after now")]
)
def test_a_timestamp_outside_the_tolerance_says_how_far(off: timedelta, words: str) -> None:
    outside, fits = found(signed(at=NOW + off))
    assert outside.code == "timestamp_outside"
    assert words in outside.words
    assert fits.code == "fits"


@pytest.mark.parametrize("off", [-300, 300])
def test_a_timestamp_at_the_edge_of_the_tolerance_is_taken(off: int) -> None:
    assert codes(signed(at=NOW + timedelta(seconds=off))) == ["fits"]


@pytest.mark.parametrize(
    ("given", "words"),
    [("1795860000000", "milliseconds"), ("2026-11-28T10:00:00Z", "no whole number"), ("9" * 200, "no whole number")],
)
def test_a_timestamp_that_is_none_is_told(given: str, words: str) -> None:
    findings = found(signed() | {"webhook-timestamp": given})
    assert any(one.code == "timestamp_invalid" and words in one.words for one in findings)


def test_an_ended_secret_says_when_it_ended() -> None:
    [finding] = found(signed(ENDED))
    assert finding.code == "secret_ended"
    assert "2 h ago (2026-11-28 08:00:00 UTC)" in finding.words


def test_another_endpoints_secret_is_named_by_its_endpoint() -> None:
    [finding] = found(signed(OTHER))
    assert finding.code == "other_endpoint"
    assert ELSEWHERE in finding.words


def test_a_foreign_secret_fits_nothing() -> None:
    assert codes(signed(KnownSecret(HERE, secret_of("z")))) == ["signature_unknown"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (json.dumps(json.loads(BODY)), "body_reprinted"),
        (json.dumps(json.loads(BODY), indent=2).replace("\n", "\r\n"), "body_reprinted"),
        (json.dumps(json.loads(BODY), sort_keys=True), "body_reordered"),
        (BODY + "\r\n", "body_padded"),
        (BODY.replace("completed", "failed"), "signature_unknown"),
        ("{", "signature_unknown"),
        ("", "body_missing"),
    ],
)
def test_what_was_done_to_the_body_is_told_if_it_can_be_shown(body: str, code: str) -> None:
    assert codes(signed(), body) == [code]


def test_text_beyond_ascii_that_was_escaped_is_seen() -> None:
    body = BODY.replace("ver_1", "Zoë")
    assert codes(signed(body=body), body) == ["fits"]
    assert codes(signed(body=body), json.dumps(json.loads(body))) == ["body_reprinted"]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("v1a,abc", "scheme_unknown", "(v1a)"),
        ("sha256=abc", "signature_malformed", "no scheme"),
        ("v1," + "ab" * 32, "signature_malformed", "hexadecimal"),
        ("v1,%%%", "signature_malformed", "not base64"),
        ("v1,YWJj", "signature_malformed", "3 bytes"),
    ],
)
def test_a_signature_that_cannot_be_read_says_why(given: str, code: str, words: str) -> None:
    [finding] = found(signed() | {"webhook-signature": given})
    assert (finding.code, finding.kind) == (code, "bad")
    assert words in finding.words


def test_a_foreign_scheme_beside_ours_does_no_harm() -> None:
    both = signed()
    both["webhook-signature"] = f"v1a,abc {both['webhook-signature']}"
    assert [(one.code, one.kind) for one in found(both)] == [("scheme_unknown", "warn"), ("fits", "good")]


def test_a_key_that_was_not_decoded_and_a_part_that_was_left_out_are_seen() -> None:
    as_text = base64.b64encode(CURRENT.secret.encode()).decode()
    assert codes(signed(KnownSecret(HERE, as_text))) == ["secret_not_decoded"]
    alone = base64.b64encode(_hmac(b"a" * 32, BODY)).decode()
    assert codes(signed() | {"webhook-signature": f"v1,{alone}"}) == ["signed_less"]


def test_an_id_that_is_not_ours_is_told() -> None:
    assert codes(signed(id_="msg_1")) == ["id_unknown", "fits"]


@pytest.mark.parametrize(
    "pasted",
    [
        "POST /hook HTTP/1.1\r\nWebhook-Id: {0}\r\nWebhook-Timestamp: {1}\r\nWebhook-Signature: {2}\r\n",
        "curl -H 'webhook-id: {0}' -H 'webhook-timestamp: {1}' -H 'webhook-signature: {2}'",
        '{{"webhook-id": "{0}", "webhook-timestamp": {1}, "webhook-signature": "{2}"}}',
        "HTTP_WEBHOOK_ID={0}\nHTTP_WEBHOOK_TIMESTAMP={1}\nHTTP_WEBHOOK_SIGNATURE={2}",
    ],
)
def test_headers_are_found_however_they_were_copied(pasted: str) -> None:
    headers = signed()
    assert headers_in(pasted.format(*headers.values())) == headers


def test_without_headers_there_are_none() -> None:
    assert headers_in("content-type: application/json\nwebhook-id:\n") == {}


def _hmac(key: bytes, content: str) -> bytes:
    return hmac.new(key, content.encode(), hashlib.sha256).digest()
