"""Clients of the API: their keys, a body to post, and what a test does to their verifications behind the API's back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import httpx
import orjson
from sqlalchemy.engine import Row

from covergate.access.api_keys import SCOPES, create_key
from covergate.access.operators import create_operator
from covergate.api import examples
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.failure import failure as failure_of
from covergate.gateway import Gateway
from covergate.states import AttemptState
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
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


def poster(client: httpx.AsyncClient, keys: Keys, body: Body) -> Post:
    async def create(key: Headers | None = None, **changes: Any) -> dict[str, Any]:
        answer = await client.post("/v1/verifications", json=body(**changes), headers=key or keys.full)
        assert answer.status_code == 202, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    return create


def ender(gateway: Gateway) -> End:
    async def close(
        verification_id: str, failure: FailureCode | None = None, exchanges: list[Exchange] | None = None
    ) -> None:
        async with gateway.transaction() as db:
            v = (await store.lock(db, gateway.sealer, [verification_id]))[verification_id]
            if failure is not None:
                change = lifecycle.failed(v, failure_of(failure), "for a test")
            else:
                change = lifecycle.completed(v, "eligible", None, orjson.dumps(examples.RESULT))
            await apply(db, gateway.sealer, [replace(change, exchanges=tuple(exchanges or ()))])

    return close


def bringer_to_a_stop(gateway: Gateway) -> Stuck:
    async def wait_for_operator(verification_id: str) -> None:
        async with gateway.transaction() as db:
            v = (await store.lock(db, gateway.sealer, [verification_id]))[verification_id]
            v = replace(v, attempt=replace(v.attempt, state=AttemptState.SUBMITTING))
            await apply(db, gateway.sealer, [lifecycle.wait_for_operator(v)])

    return wait_for_operator
