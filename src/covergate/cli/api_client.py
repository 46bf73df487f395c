"""What commands that are clients of the public API have in common: a connection with a key, and answers told in plain words.

Invariant: they know only what docs/api.md promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
import orjson

from covergate.errors import ConfigurationError

Json: TypeAlias = Mapping[str, Any]


@asynccontextmanager
async def connected(url: str, key: str, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway at `url`. Raises ConfigurationError for what is wrong with either, and if nobody answers."""
    if not key:
        raise ConfigurationError("no API key: give --key or set COVERGATE_API_KEY")
    sent = {"Authorization": f"Bearer {key}", **headers}
    try:
        async with httpx.AsyncClient(base_url=url, headers=sent, timeout=30) as client:
            yield client
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise ConfigurationError("--url is not an http(s) URL") from None
    except httpx.TransportError as error:
        raise ConfigurationError(f"no connection to {url} ({type(error).__name__}): is the gateway running?") from None
    except UnicodeError:
        raise ConfigurationError("the API key has characters that no key has") from None


def accepted(response: httpx.Response) -> Json:
    """The answer's body. Raises ConfigurationError with the problem that the gateway told."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict) or (
        response.is_success and not any(name in body for name in ("id", "data", "object"))
    ):
        raise ConfigurationError(f"{response.url.host} answered {response.status_code}, but not as a CoverGate gateway")
    if response.is_success:
        return body
    told = [f"{body.get('title')} ({response.status_code} {body.get('code')}): {body.get('detail')}"]
    told += [
        f"  {error.get('pointer') or error.get('parameter') or ''}  {error.get('message')}"
        for error in body.get("errors") or ()
    ]
    raise ConfigurationError("\n".join(told))
