from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from covergate.access.api_keys import SCOPES, ApiKeyCache, create_key, list_keys, revoke_key
from covergate.api.waiters import Waiters
from covergate.db.database import Database
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.settings import Settings
from tests.support.postgres import pool_of
from tests.support.waiting import eventually


@pytest.fixture
def gateway(database: Database) -> Gateway:
    return Gateway(Settings(_env_file=None), database)


@pytest.fixture
async def known(gateway: Gateway) -> AsyncIterator[ApiKeyCache]:
    """As an API process has it: told of changes by NOTIFY."""
    keys = ApiKeyCache(gateway)
    told = asyncio.Event()

    def forget() -> None:
        keys.forget()
        told.set()

    waiters = Waiters(gateway.database.url, on_keys_changed=forget)
    task = asyncio.create_task(waiters.run())
    await asyncio.wait_for(told.wait(), 10)
    yield keys
    task.cancel()
    await asyncio.wait({task})


async def test_a_key_names_tenant_mode_and_scopes(gateway: Gateway, known: ApiKeyCache) -> None:
    first = await create_key(gateway, tenant="Clinic North", mode="test")
    second = await create_key(gateway, tenant=" Clinic North ", mode="live", scopes=["verifications:read"])
    other = await create_key(gateway, tenant="Clinic South", mode="test")
    callers = [await known.authenticate(key) for key in (first, second, other)]
    assert all(callers)
    tenants = [caller.tenant_id for caller in callers if caller]
    assert tenants[0] == tenants[1] != tenants[2]
    assert callers[0] and callers[0].scopes == frozenset(SCOPES) and callers[0].mode == "test"
    assert callers[1] and callers[1].scopes == {"verifications:read"} and callers[1].mode == "live"


async def test_keys_are_listed_without_themselves(gateway: Gateway) -> None:
    key = await create_key(gateway, tenant="Clinic North", mode="test", scopes=["webhooks:manage"])
    await create_key(gateway, tenant="Clinic South", mode="live")
    [listed] = await list_keys(gateway, tenant="Clinic North")
    assert (listed.tenant, listed.mode, listed.hint) == ("Clinic North", "test", key[-4:])
    assert listed.scopes == ("webhooks:manage",) and listed.revoked_at is None
    assert key not in repr(listed)
    assert len(await list_keys(gateway)) == 2
    async with gateway.connection() as db:
        stored = str((await db.execute(text("SELECT * FROM api_keys"))).all())
    assert key not in stored


async def test_a_revoked_key_is_known_no_longer(gateway: Gateway, known: ApiKeyCache) -> None:
    key = await create_key(gateway, tenant="Clinic North", mode="test")
    caller = await known.authenticate(key)
    assert caller is not None
    assert await revoke_key(gateway, caller.api_key_id)

    async def unknown() -> bool:
        return await known.authenticate(key) is None

    await eventually(unknown)
    assert not await revoke_key(gateway, caller.api_key_id)
    assert not await revoke_key(gateway, "key_00000000000000000000000000")
    assert (await list_keys(gateway))[0].revoked_at is not None


async def test_a_known_key_costs_no_query(gateway: Gateway) -> None:
    known = ApiKeyCache(gateway)
    key = await create_key(gateway, tenant="Clinic North", mode="test")
    first = await known.authenticate(key)
    engine = gateway.database.engine
    await engine.dispose()
    assert pool_of(engine).checkedin() == 0
    assert await known.authenticate(key) is first
    assert pool_of(engine).checkedin() == 0


@pytest.mark.parametrize(
    "key", ["", "x", "cg_test_", "cg_prod_" + "x" * 43, "cg_test_" + "\x00" * 43, "cg_test_" + "x" * 43]
)
async def test_what_is_no_key(gateway: Gateway, key: str) -> None:
    assert await ApiKeyCache(gateway).authenticate(key) is None


@pytest.mark.parametrize(
    ("tenant", "mode", "scopes"),
    [
        ("", "test", None),
        ("x" * 201, "test", None),
        ("a\x00b", "test", None),
        ("Clinic", "prod", None),
        ("Clinic", "test", []),
        ("Clinic", "test", ["verifications:all"]),
    ],
)
async def test_what_cannot_be_created(gateway: Gateway, tenant: str, mode: str, scopes: list[str] | None) -> None:
    with pytest.raises(ConfigurationError):
        await create_key(gateway, tenant=tenant, mode=mode, scopes=scopes)
    assert await list_keys(gateway) == []


async def test_tenants_of_one_name_made_at_once_are_one(gateway: Gateway) -> None:
    await asyncio.gather(*(create_key(gateway, tenant="Clinic North", mode="test") for _ in range(10)))
    assert {key.tenant for key in await list_keys(gateway)} == {"Clinic North"}
    assert len(await list_keys(gateway)) == 10
