"""Clients of the API: their keys, a body to post, and what a test does to their verifications behind the API's back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import httpx
from sqlalchemy.engine import Row

from covergate.access.api_keys import SCOPES, create_key
from covergate.access.operators import create_operator
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.verifications.model import Exchange

Headers: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Keys:
    """Headers with a credential of each kind.

    `full`, `other` and `live` are keys with every scope; `other` is another tenant's, `live` the same tenant's in the other mode.
    `operator` is one for the tenant of `full` and in its mode, who sees no PHI.
    """

    full: Headers
    other: Headers
    live: Headers
    operator: Headers


@dataclass(frozen=True)
class Lasting:
    """An API whose database several tests share."""

    gateway: Gateway
    client: httpx.AsyncClient
    keys: Keys


def bearer(key: str) -> Headers:
    return {"authorization": f"Bearer {key}"}


async def make_operator(gateway: Gateway, *roles: str, **named: str) -> Headers:
    """`named`: `x_tenant`, `x_mode`."""
    credential = await create_operator(gateway, name="Night shift", roles=roles or None)
    return bearer(credential) | {name.replace("_", "-"): value for name, value in named.items()}


async def make_keys(gateway: Gateway) -> Keys:
    return Keys(
        full=bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=SCOPES)),
        other=bearer(await create_key(gateway, tenant="Clinic South", mode="test", scopes=SCOPES)),
        live=bearer(await create_key(gateway, tenant="Clinic North", mode="live", scopes=SCOPES)),
        operator=await make_operator(gateway, x_tenant="Clinic North", x_mode="test"),
    )


class Body(Protocol):
    """A body that the named vendor can answer, with top-level changes."""

    def __call__(self, **changes: Any) -> dict[str, Any]: ...


class Post(Protocol):
    """Accepts a verification and returns it."""

    async def __call__(self, key: Headers | None = None, **changes: Any) -> dict[str, Any]: ...


class End(Protocol):
    """Ends a verification as a worker would: with the documented result, or with a failure."""

    async def __call__(
        self, verification_id: str, failure: FailureCode | None = None, exchanges: list[Exchange] | None = None
    ) -> None: ...


class Stuck(Protocol):
    """Has a verification wait for an operator."""

    async def __call__(self, verification_id: str) -> None: ...


class Rows(Protocol):
    """What the database holds: any SQL with parameters as in `:name`."""

    async def __call__(self, statement: str, **values: Any) -> Sequence[Row[Any]]: ...
