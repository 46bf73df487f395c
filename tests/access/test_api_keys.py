from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from covergate.access.api_keys import DEFAULT_SCOPES, create_key, list_keys, revoke_key
from covergate.access.credential_cache import CredentialCache
from covergate.access.credentials import expiry_of
from covergate.access.operators import create_operator, list_operators, revoke_operator
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
async def known(gateway: Gateway) -> AsyncIterator[CredentialCache]:
    """As an API process has it: told of changes by NOTIFY."""
    keys = CredentialCache(gateway)
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


async def test_a_key_names_tenant_mode_and_scopes(gateway: Gateway, known: CredentialCache) -> None:
    first = await create_key(gateway, tenant="Clinic North", mode="test")
    second = await create_key(gateway, tenant=" Clinic North ", mode="live", scopes=["verifications:read"])
    other = await create_key(gateway, tenant="Clinic South", mode="test")
    callers = [await known.authenticate(key) for key in (first, second, other)]
    assert all(callers)
    tenants = [caller.tenant_id for caller in callers if caller]
    assert tenants[0] == tenants[1] != tenants[2]
    assert callers[0] and callers[0].scopes == DEFAULT_SCOPES and callers[0].mode == "test"
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


async def test_a_revoked_key_is_known_no_longer(gateway: Gateway, known: CredentialCache) -> None:
    key = await create_key(gateway, tenant="Clinic North", mode="test")
    caller = await known.authenticate(key)
    assert caller is not None
    assert await revoke_key(gateway, caller.id)

    async def unknown() -> bool:
        return await known.authenticate(key) is None

    await eventually(unknown)
    assert not await revoke_key(gateway, caller.id)
    assert not await revoke_key(gateway, "key_00000000000000000000000000")
    assert (await list_keys(gateway))[0].revoked_at is not None


async def test_a_known_key_costs_no_query(gateway: Gateway) -> None:
    known = CredentialCache(gateway)
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
    assert await CredentialCache(gateway).authenticate(key) is None


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


async def test_a_key_has_what_is_named_and_by_default_no_raw_replies(gateway: Gateway, known: CredentialCache) -> None:
    assert {"verifications:write", "verifications:read", "webhooks:manage"} == DEFAULT_SCOPES
    named = await known.authenticate(
        await create_key(gateway, tenant="Clinic North", mode="test", name=" Intake ", scopes=["verifications:raw"])
    )
    assert named is not None and (named.scopes, named.name) == (frozenset({"verifications:raw"}), "Intake")
    [listed] = await list_keys(gateway)
    assert (listed.name, listed.state, listed.expires_at, listed.last_used_at) == ("Intake", "valid", None, None)


async def test_a_key_ends_at_its_instant_in_a_process_that_knows_it(gateway: Gateway, known: CredentialCache) -> None:
    """Nothing tells the process: it knows by the database's clock when."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    key = await create_key(gateway, tenant="Clinic North", mode="test", expires_at=soon)
    caller = await known.authenticate(key)
    assert caller is not None and caller.valid_until <= time.monotonic() + 1.2

    async def unknown() -> bool:
        return await known.authenticate(key) is None

    await eventually(unknown)
    assert datetime.now(UTC) >= soon
    assert not await known.is_still_valid(caller)
    assert (await list_keys(gateway))[0].state == "expired"


async def test_an_operator_ends_too(gateway: Gateway, known: CredentialCache) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=500)
    credential = await create_operator(gateway, name="Night shift", expires_at=soon)
    other = await create_operator(gateway, name="Tool", roles=["phi"])
    assert await known.authenticate(credential) is not None

    async def unknown() -> bool:
        return await known.authenticate(credential) is None

    await eventually(unknown)
    caller = await known.authenticate(other)
    assert caller is not None and caller.sees_phi and caller.within_tenant is None
    assert await revoke_operator(gateway, caller.id) and not await revoke_operator(gateway, caller.id)
    assert [row.state for row in await list_operators(gateway)] == ["expired", "revoked"]


@pytest.mark.parametrize(
    ("given", "hours"), [("12h", 12), ("90d", 90 * 24), ("4w", 4 * 168), ("2099-01-01", None), (None, None)]
)
def test_expiries(given: str | None, hours: int | None) -> None:
    expiry = expiry_of(given)
    if hours is not None:
        assert expiry is not None and abs(expiry - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(minutes=1)
    else:
        assert (expiry is None) == (given is None) or (expiry is not None and expiry.isoformat()[:10] == given)


@pytest.mark.parametrize(
    "given", ["", "x", "0d", "d", "-1d", "90", "90x", "2020-01-01", "9999-12-31", "1000000d", "9999w", "１d"]
)
def test_what_is_no_expiry(given: str) -> None:
    with pytest.raises(ConfigurationError):
        expiry_of(given)


@pytest.mark.parametrize(
    ("networks", "address", "may"),
    [
        ([], "203.0.113.9", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.200", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.200", True),  # as a dual-stack socket has it
        (["192.0.2.0/24"], "::ffff:198.51.100.1", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["0.0.0.0/0"], None, False),
        (["0.0.0.0/0"], "unix:", False),
    ],
)
async def test_an_address_list(
    gateway: Gateway, known: CredentialCache, networks: list[str], address: str | None, may: bool
) -> None:
    caller = await known.authenticate(await create_key(gateway, tenant="Clinic", mode="test", networks=networks))
    assert caller is not None and caller.may_come_from(address) is may


@pytest.mark.parametrize("networks", [["x"], ["192.0.2.1/24"], [""], ["192.0.2.0/33"], ["192.0.2.7"] * 51])
async def test_what_is_no_address_list(gateway: Gateway, networks: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        await create_key(gateway, tenant="Clinic", mode="test", networks=networks)


async def test_the_last_use_is_written_behind_the_requests_back(gateway: Gateway, known: CredentialCache) -> None:
    key = await known.authenticate(await create_key(gateway, tenant="Clinic North", mode="test"))
    operator = await known.authenticate(await create_operator(gateway, name="Night shift"))
    await create_key(gateway, tenant="Clinic South", mode="test")
    assert key is not None and operator is not None
    for caller in (key, key, operator):
        known.note_use(caller)
    await known.write_uses()
    [used, unused] = await list_keys(gateway)
    assert used.last_used_at is not None and abs(datetime.now(UTC) - used.last_used_at) < timedelta(seconds=10)
    assert unused.last_used_at is None
    assert (await list_operators(gateway))[0].last_used_at is not None
    async with gateway.connection() as db:
        before = (await db.execute(text("SELECT xmin FROM api_keys WHERE id = :id"), {"id": key.id})).scalar_one()
    await known.write_uses()  # nothing new: nothing is written
    async with gateway.connection() as db:
        after = (await db.execute(text("SELECT xmin FROM api_keys WHERE id = :id"), {"id": key.id})).scalar_one()
    assert before == after


async def test_a_use_that_another_process_is_writing_waits_for_nobody(gateway: Gateway, known: CredentialCache) -> None:
    caller = await known.authenticate(await create_key(gateway, tenant="Clinic North", mode="test"))
    assert caller is not None
    known.note_use(caller)
    async with gateway.transaction() as db:
        await db.execute(text("SELECT 1 FROM api_keys FOR NO KEY UPDATE"))
        await asyncio.wait_for(known.write_uses(), 2)
    assert (await list_keys(gateway))[0].last_used_at is None
