"""Short-lived bearer tokens of the simulated vendors: shaped like a JWT, signed with the sandbox's secret.

Invariant: a token is good for one vendor and until its own expiry; it needs no stored state, so it outlives a restart of
the sandbox as a real vendor's token would.
"""

from __future__ import annotations

import hmac
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode

import orjson
from starlette.requests import Request

from covergate.sandbox.world import World

_HEADER = b'{"alg":"HS256","typ":"JWT"}'


def issue(world: World, vendor: str, seconds: int) -> str:
    """A new token for `vendor` that is good for `seconds`."""
    now = int(world.now())
    claims = {"iss": vendor, "iat": now, "exp": now + seconds, "jti": str(uuid.uuid4())}
    signed = f"{_encode(_HEADER)}.{_encode(orjson.dumps(claims))}"
    return f"{signed}.{_signature(world, signed)}"


def is_valid(world: World, vendor: str, token: str) -> bool:
    """Whether the token is ours, `vendor`'s and not expired."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(world, signed).encode()):
        return False
    claims = orjson.loads(_decode(signed.partition(".")[2]))
    return bool(claims["iss"] == vendor and world.now() < claims["exp"])


def bearer_of(request: Request) -> str | None:
    """The bearer token of a request; None if there is none or another scheme is used."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _signature(world: World, signed: str) -> str:
    return _encode(hmac.digest(world.settings.secret.encode(), b"token:" + signed.encode(), "sha256"))


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
