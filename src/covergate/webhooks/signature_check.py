"""Why a webhook's signature does not fit: what is wrong with a request that somebody pasted, told in words.

Pure: nothing is kept or logged here. No finding holds a secret or a signature that would fit, so nobody can have anything signed
by asking.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import orjson

from covergate import ids
from covergate.timestamps import span

TOLERANCE_SECONDS = 300
"""How far a receiver lets the timestamp be from its own clock."""
SIGNED_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

_HEADER = re.compile(r"(?im)(?<![a-z])webhook[-_](id|timestamp|signature)[\"']?[ \t]*[:=][ \t]*[\"']?([^\"'\r\n]*)")
_SCHEME, _DIGEST_BYTES = "v1", 32
_TOP_KEYS = ("type", "timestamp", "data")

_Kind: TypeAlias = Literal["good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """One that signs for an endpoint, or did. `signs_until` None: the current one."""

    endpoint_id: str
    secret: str = field(repr=False)
    signs_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` names it for programs, `words` for people; `bad`: for this alone a receiver is right to refuse."""

    code: str
    kind: _Kind
    words: str


def headers_in(pasted: str) -> dict[str, str]:
    """The three headers, however they were copied: lines, a curl command, a dictionary. The last one of a name counts."""
    found = {f"webhook-{name.lower()}": value.strip().rstrip(",} \t") for name, value in _HEADER.findall(pasted)}
    return {name: value for name, value in found.items() if value}


def check_signature(
    headers: Mapping[str, str], body: str, own: Sequence[KnownSecret], others: Sequence[KnownSecret], now: datetime
) -> list[Finding]:
    """What there is to say, the worst first. `own`: of the endpoint that should have signed; `others`: of the same tenant's."""
    missing = [name for name in SIGNED_HEADERS if not headers.get(name)]
    findings = [
        Finding("header_missing", "bad", f"The header {name} is missing. A proxy may have dropped it.")
        for name in missing
    ]
    if not body.strip():
        findings.append(Finding("body_missing", "bad", "The body is empty. It is a part of what is signed."))
    if headers.get("webhook-id") and not ids.is_id(ids.EVENT, headers["webhook-id"]):
        words = "webhook-id is no id of an event of this gateway (evt_…): it was changed, or somebody else made it."
        findings.append(Finding("id_unknown", "warn", words))
    if headers.get("webhook-timestamp"):
        findings += _about_time(headers["webhook-timestamp"], now)
    if headers.get("webhook-signature"):
        given, wrong = _signatures_in(headers["webhook-signature"])
        findings += wrong
        if given and not missing and body.strip():
            findings.append(_about_fit(headers, body, given, own, others, now))
    order = {"bad": 0, "warn": 1, "good": 2}
    return sorted(findings, key=lambda finding: order[finding.kind])


def _about_time(given: str, now: datetime) -> list[Finding]:
    if not given.isascii() or not given.isdigit() or len(given) > 15:
        words = "webhook-timestamp is no whole number of seconds since 1970: it was changed on its way."
        return [Finding("timestamp_invalid", "bad", words)]
    seconds = int(given)
    if seconds > 100_000_000_000:
        words = "webhook-timestamp is in milliseconds. It is sent, and signed, in seconds: it was changed on its way."
        return [Finding("timestamp_invalid", "bad", words)]
    off = now.timestamp() - seconds
    if abs(off) <= TOLERANCE_SECONDS:
        return []
    beyond = span(abs(off) - TOLERANCE_SECONDS)
    far, direction = (span(abs(off)), "before" if off > 0 else "after")
    words = (
        f"The timestamp is {far} {direction} now, {beyond} more than the {TOLERANCE_SECONDS // 60} minutes that a receiver"
        " should allow. If the request came when it was sent and was only pasted later, that is no fault; if your server"
        " refuses requests at once for this, its clock is wrong."
    )
    return [Finding("timestamp_outside", "warn", words)]


def _signatures_in(header: str) -> tuple[list[bytes], list[Finding]]:
    """Those that can be compared, and what is wrong with the others."""
    given: list[bytes] = []
    schemes: list[str] = []
    malformed: list[str] = []
    for part in header.split():
        scheme, comma, value = part.partition(",")
        if not comma:
            malformed.append("It has no scheme: each signature is v1, a comma, and base64.")
        elif scheme != _SCHEME:
            schemes.append(scheme)
        elif re.fullmatch(r"[0-9a-fA-F]{64}", value):
            malformed.append("It is written in hexadecimal: it has to be base64.")
        else:
            digest = _decoded(value)
            if digest is None:
                malformed.append("It is not base64: it was cut off or changed.")
            elif len(digest) != _DIGEST_BYTES:
                malformed.append(f"It has {len(digest)} bytes instead of {_DIGEST_BYTES}: it was cut off or changed.")
            else:
                given.append(digest)
    wrong: list[Finding] = []
    kind: _Kind = "warn" if given else "bad"
    if schemes:
        named = ", ".join(dict.fromkeys(re.sub(r"[^A-Za-z0-9]", "", scheme)[:10] or "none" for scheme in schemes))
        words = f"webhook-signature has another scheme ({named}). This gateway signs with {_SCHEME} (HMAC-SHA256)."
        wrong.append(Finding("scheme_unknown", kind, words))
    wrong += [
        Finding("signature_malformed", kind, f"webhook-signature cannot be read. {said}")
        for said in dict.fromkeys(malformed)
    ]
    return given, wrong


def _about_fit(
    headers: Mapping[str, str],
    body: str,
    given: Sequence[bytes],
    own: Sequence[KnownSecret],
    others: Sequence[KnownSecret],
    now: datetime,
) -> Finding:
    """By which secret, over which bytes, the signature fits."""
    before = f"{headers['webhook-id']}.{headers['webhook-timestamp']}."
    bodies = _bodies(body)
    for altered, text in bodies:
        for secret in own:
            if _fits(_key(secret), before + text, given):
                return _own_fits(secret, altered, now)
    for altered, text in bodies:
        for secret in others:
            if _fits(_key(secret), before + text, given):
                return _other_fits(secret, altered)
    for _, text in bodies:
        for secret in own:
            raw = (secret.secret, secret.secret.removeprefix("whsec_"))
            if any(_fits(key.encode(), before + text, given) for key in raw):
                words = (
                    "The signature fits the secret as text. The key is the secret without whsec_, decoded from base64:"
                    " whoever made this request did not decode it."
                )
                return Finding("secret_not_decoded", "bad", words)
            if any(_fits(_key(secret), content, given) for content in (text, f"{headers['webhook-timestamp']}.{text}")):
                words = (
                    "The signature covers less than it should. Signed is webhook-id, a dot, webhook-timestamp, a dot, and"
                    " the body: whoever made this request left a part out."
                )
                return Finding("signed_less", "bad", words)
    words = (
        "The signature fits no secret of this endpoint, nor of the tenant's other endpoints in this mode, and not after"
        " undoing what is usually done to a body either. So the id, the timestamp or the body was changed, or somebody"
        " else made the request."
    )
    return Finding("signature_unknown", "bad", words)


def _own_fits(secret: KnownSecret, altered: str, now: datetime) -> Finding:
    until = secret.signs_until
    if until is not None and until <= now:
        words = (
            f"The signature is of an older secret of this endpoint, which ended {span((now - until).total_seconds())} ago"
            f" ({_utc(until)}). Take the secret that was shown at the last rotation."
        )
        return Finding("secret_ended", "bad", words)
    if altered:
        return Finding(_CODES[altered], "warn" if altered == _PADDED else "bad", altered)
    if until is not None:
        words = f"The signature fits an older secret of this endpoint, which signs beside the current one until {_utc(until)}."
        return Finding("fits_older", "good", words)
    return Finding("fits", "good", "The signature fits: the request is genuine, and nothing of it was changed.")


def _other_fits(secret: KnownSecret, altered: str) -> Finding:
    words = f"The signature is of another endpoint, {secret.endpoint_id}: your server checks with the secret of the wrong one."
    return Finding("other_endpoint", "bad", f"{words} {altered}".strip())


_PADDED = (
    "The signature fits without the blanks or line breaks around the body. If only the pasting added them all is well; if"
    " your server reads them too, it has not the bytes that were sent."
)
_REPRINTED = (
    "The body was altered: its JSON was read and printed again, with other blanks or escapes. The signature fits the body"
    " as it was sent. Check the raw bytes, before anything reads the JSON."
)
_REORDERED = (
    "The body was altered: its JSON was read and printed again, with its keys in another order. The signature fits the body"
    " as it was sent. Check the raw bytes, before anything reads the JSON."
)
_CODES = {_PADDED: "body_padded", _REPRINTED: "body_reprinted", _REORDERED: "body_reordered"}


def _bodies(body: str) -> list[tuple[str, str]]:
    """What was done to it, and what it was before. A form makes every line break CR LF: that is nobody's alteration."""
    bodies = [("", body), ("", body.replace("\r\n", "\n")), (_PADDED, body.strip("\ufeff \t\r\n"))]
    try:
        read: Any = orjson.loads(body.strip("\ufeff \t\r\n"))
    except orjson.JSONDecodeError:
        return bodies
    bodies.append((_REPRINTED, orjson.dumps(read).decode()))
    if isinstance(read, dict):
        ours = {name: _in_order(read[name]) for name in (*_TOP_KEYS, *read) if name in read}
        bodies.append((_REORDERED, orjson.dumps(ours).decode()))
    return bodies


def _in_order(value: Any) -> Any:
    """Keys as PostgreSQL keeps them in a thin payload: the shorter ones first."""
    if isinstance(value, dict):
        return {name: _in_order(value[name]) for name in sorted(value, key=lambda name: (len(name.encode()), name))}
    return [_in_order(one) for one in value] if isinstance(value, list) else value


def _fits(key: bytes, content: str, given: Iterable[bytes]) -> bool:
    expected = hmac.new(key, content.encode(errors="surrogatepass"), hashlib.sha256).digest()
    return any(hmac.compare_digest(expected, one) for one in given)


def _key(secret: KnownSecret) -> bytes:
    return base64.b64decode(secret.secret.removeprefix("whsec_"))


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
