"""Retiring data keys beside everything else: all is sealed anew, found and read meanwhile, and the old keys are gone after it."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import pytest
from sqlalchemy import LargeBinary
from sqlalchemy.dialects.postgresql import ARRAY

from covergate import reseal as resealing
from covergate.access.caller import Caller
from covergate.db import data_keys
from covergate.db.data_keys import GATEWAY
from covergate.db.sealing import Sealer
from covergate.db.tables import metadata
from covergate.erasure import erase_tenant
from covergate.gateway import Gateway
from covergate.reseal import SEALED_COLUMNS, counts, reseal
from covergate.verifications.create import Acceptance
from covergate.verifications.queries import Filters, list_verifications, read_raw
from covergate.verifications.request import CreateVerification
from covergate.webhooks.endpoints import rotate_secret
from tests.support.engine import Engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT
from tests.support.hooks import Hooks
from tests.support.requests import PATIENT, REQUEST
from tests.support.sealers import NEW, ring
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire

at_once = partial(resealing.reseal, known_to_all=0.0, linger=0.0)
OWNERS = (GATEWAY, TENANT, OTHER_TENANT)


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (200, {"id": "9"})).on(POLL, (200, ACTIVE))


class Killed(BaseException):
    """As if the process had ended here."""


async def completed(engine: Engine, **changes: Any) -> str:
    id_ = await engine.create(**changes)
    await engine.step(id_)
    await engine.step(id_)
    return id_


async def key_ids(gateway: Gateway, owner: str = TENANT) -> list[str]:
    async with gateway.connection() as db:
        return [row.id for row in await data_keys.alive(db, owner)]


async def found(gateway: Gateway, member_id: str) -> list[str]:
    page = await list_verifications(gateway, CALLER, Filters(member_id=member_id), None, 20, "search")
    return [row["id"] for row in page.data]


def test_every_sealed_column_is_among_those_that_are_resealed() -> None:
    sealed = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.split("_")[-1] == "sealed" and isinstance(column.type, LargeBinary | ARRAY)
    }
    assert {(column.table, column.column) for column in SEALED_COLUMNS} == sealed
    for column in SEALED_COLUMNS:
        key = [primary.name for primary in metadata.tables[column.table].primary_key]
        assert list(column.key) == key


async def test_everything_is_sealed_anew_and_the_old_key_destroyed(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    endpoint, _ = await Hooks(gateway).endpoint(
        "https://partner.example/", previous_secret="whsec_" + base64.b64encode(bytes(32)).decode()
    )
    await rotate_secret(gateway, CALLER, endpoint)
    waiting = await engine.create()
    shown, raw = await engine.view(id_), await read_raw(gateway, CALLER, id_)
    [before] = await key_ids(gateway)
    progress = await at_once(gateway, OWNERS)
    assert (progress.unreadable, progress.destroyed) == ({}, 3)
    [after] = await key_ids(gateway)
    assert after != before
    stands = await counts(gateway)
    assert {key_id for _, key_id in stands} == {after}
    assert stands["history.contents_sealed", after] == 2
    assert stands["webhook_endpoints.previous_secret_sealed", after] == 1
    assert stands["webhook_endpoints.older_secrets_sealed", after] == 1
    assert await engine.view(id_) == shown
    assert str(await read_raw(gateway, CALLER, id_)) is not None and raw["exchanges"]
    assert await found(gateway, "W123456789") == [waiting, id_]
    await engine.step(waiting)
    await engine.step(waiting)
    assert (await engine.view(waiting))["outcome"] == "eligible"
    [row] = await engine.rows("SELECT wrapped, destroyed_at FROM data_keys WHERE id = :id", id=before)
    assert row.wrapped is None and row.destroyed_at is not None


async def test_a_process_that_starts_after_it_reads_everything(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    shown = await engine.view(id_)
    await at_once(gateway, OWNERS)
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    assert await engine.view(id_) == shown
    assert await found(gateway, "W123456789") == [id_]


async def test_only_one_tenant(engine: Engine) -> None:
    gateway, _ = engine.gateway, await completed(engine)
    others = await key_ids(gateway, OTHER_TENANT)
    await at_once(gateway, [TENANT])
    assert await key_ids(gateway, OTHER_TENANT) == others


async def test_the_same_question_is_found_again(engine: Engine) -> None:
    first = await completed(engine)
    await at_once(engine.gateway, OWNERS)
    follower = await engine.create(max_age=3600)
    await engine.step(follower)
    assert (await engine.view(follower))["reused_from"] == first


async def test_a_question_whose_ssn_has_left_is_not_found_again(engine: Engine) -> None:
    first = await completed(engine, patient={**PATIENT, "ssn": "123456789"})
    await at_once(engine.gateway, OWNERS)
    assert await found(engine.gateway, "W123456789") == [first]
    follower = await engine.create(max_age=3600)
    await engine.step(follower)
    assert (await engine.view(follower))["reused_from"] is None


async def test_a_repeated_create_is_still_one(engine: Engine) -> None:
    accept, request = Acceptance(engine.gateway), CreateVerification.model_validate(REQUEST)
    first = await accept.create(CALLER, request, "key-1")
    await at_once(engine.gateway, OWNERS)
    again = await accept.create(CALLER, request, "key-1")
    assert (again.id, again.replayed) == (first.id, True)


async def test_a_patient_keeps_its_name_at_the_vendors(engine: Engine) -> None:
    name = engine.gateway.sealer
    await engine.create()
    before = name.name(TENANT, "Jane")
    await at_once(engine.gateway, OWNERS)
    assert engine.gateway.sealer.name(TENANT, "Jane") == before


async def test_a_run_that_was_killed_is_gone_on_with(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = engine.gateway
    ids = [await completed(engine) for _ in range(3)]
    shown = [await engine.view(id_) for id_ in ids]
    real, passed = resealing._pass, []

    async def killed(gateway: Gateway, column: resealing.SealedColumn, *rest: Any) -> int:
        passed.append(column.table)
        if column.table == "history":
            raise Killed
        return await real(gateway, column, *rest)

    monkeypatch.setattr(resealing, "_pass", killed)
    with pytest.raises(Killed):
        await at_once(gateway, OWNERS)
    monkeypatch.undo()
    newest, old = await key_ids(gateway)
    stands = await counts(gateway)
    assert stands["results.sealed", newest] == 3
    assert stands["history.contents_sealed", old] == 6
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    assert [await engine.view(id_) for id_ in ids] == shown
    assert set(await found(gateway, "W123456789")) == set(ids)
    progress = await at_once(gateway, OWNERS)
    assert await key_ids(gateway) == [newest]  # none was made anew
    assert progress.resealed == 6
    assert [await engine.view(id_) for id_ in ids] == shown


async def test_work_goes_on_beside_it(engine: Engine) -> None:
    """Every verification that is made meanwhile ends, and is found and read after it."""
    gateway = engine.gateway
    done, over = asyncio.Event(), []

    async def work() -> None:
        while not done.is_set():
            over.append(await completed(engine))

    working = asyncio.create_task(work())
    await reseal(gateway, OWNERS, known_to_all=0.0, linger=2.0)
    done.set()
    await working
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    for id_ in over:
        shown = await engine.view(id_)
        assert (shown["outcome"], shown["unreadable"]) == ("eligible", [])
    [only] = await key_ids(gateway)
    assert {key_id for _, key_id in await counts(gateway)} == {only}


async def test_a_row_that_somebody_has_locked_is_waited_for_without_being_blocked(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    async with gateway.transaction() as db:
        await db.exec_driver_sql(f"SELECT id FROM verifications WHERE id = '{id_}' FOR UPDATE")
        resealed = asyncio.create_task(at_once(gateway, OWNERS))
        progress = None
        async with asyncio.timeout(60):
            while len(await key_ids(gateway)) < 2 or not [
                key
                for key in await counts(gateway)
                if key[0] == "results.sealed" and key[1] == (await key_ids(gateway))[0]
            ]:
                await asyncio.sleep(0.05)
        assert not resealed.done()
    progress = await resealed
    assert progress.passes > 1
    assert len(await key_ids(gateway)) == 1


async def test_a_value_that_does_not_open_is_told_and_keeps_the_old_key(engine: Engine) -> None:
    gateway = engine.gateway
    first, second = await completed(engine), await completed(engine)
    await engine.run_sql("UPDATE results SET sealed = set_byte(sealed, 40, 1 - get_byte(sealed, 40) % 2)")
    progress = await at_once(gateway, OWNERS)
    assert progress.unreadable == {TENANT: {f"results.sealed of {first}", f"results.sealed of {second}"}}
    assert len(await key_ids(gateway)) == 2
    assert len(await key_ids(gateway, GATEWAY)) == 1


async def test_a_row_of_another_tenant_is_not_taken_over_by_resealing_it(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    await engine.run_sql("UPDATE verifications SET tenant_id = :other", other=OTHER_TENANT)
    progress = await at_once(gateway, OWNERS)
    assert OTHER_TENANT in progress.unreadable
    other = Caller(OTHER_TENANT, "test", "key_other", frozenset({"verifications:read"}))
    page = await list_verifications(gateway, other, Filters(), None, 20, "list")
    assert [row["unreadable"] for row in page.data] == [["result"]] and page.data[0]["id"] == id_


async def test_nothing_older_than_data_keys_opens_after_it(engine: Engine) -> None:
    gateway = engine.gateway
    await engine.run_sql("UPDATE encryption_keys SET seals_values = true")
    await engine.run_sql("DELETE FROM data_keys")
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    await gateway.meet(*OWNERS)
    assert gateway.sealer._owners[TENANT].old_values
    await at_once(gateway, OWNERS)
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    await gateway.meet(*OWNERS)
    assert not gateway.sealer._owners[TENANT].old_values
    # Nor by an entry in the table: what counts is wrapped.
    await engine.run_sql("UPDATE data_keys SET old_values = true WHERE destroyed_at IS NULL")
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    await gateway.meet(*OWNERS)
    assert not gateway.sealer._owners[TENANT].old_values
    [row] = await engine.rows("SELECT seals_values FROM encryption_keys")
    assert row.seals_values is False


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_an_erased_tenant_is_passed_over(engine: Engine, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    if when == "before":
        await erase_tenant(gateway, "Test clinic", dry_run=False)
    else:
        whole = resealing._pass

        async def erased(*args: Any) -> int:
            monkeypatch.setattr(resealing, "_pass", whole)
            await erase_tenant(gateway, "Test clinic", dry_run=False)
            return await whole(*args)

        monkeypatch.setattr(resealing, "_pass", erased)
    progress = await at_once(gateway, OWNERS)
    assert (progress.unreadable, progress.destroyed) == ({}, 2)
    assert await key_ids(gateway) == []
    assert len(await key_ids(gateway, OTHER_TENANT)) == 1
    assert (await engine.view(id_))["erased_at"] is not None


async def test_a_new_first_key_of_the_ring_wraps_the_data_keys_only(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    shown, stands = await engine.view(id_), await counts(gateway)
    both = ring(k2=NEW, **dict(gateway.sealer.ring.keys))
    await engine.run_sql("INSERT INTO encryption_keys (id, fingerprint) VALUES ('k2', :f)", f=both.fingerprint("k2"))
    async with gateway.connection() as db:
        assert await data_keys.rewrap_all(db, both) == 2
        assert await data_keys.rewrap_all(db, both) == 0
    gateway.database.sealer = Sealer(ring(k2=NEW))
    assert await engine.view(id_) == shown
    assert await counts(gateway) == stands


async def test_a_lost_key_of_the_ring_takes_its_data_keys_with_it(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    async with gateway.connection() as db:
        assert await data_keys.lose(db, gateway.sealer.ring.current_key_id) == 2
    gateway.database.sealer = Sealer(gateway.sealer.ring)
    shown = await engine.view(id_)
    assert shown["unreadable"] == ["inquiry", "result"]
    after = await completed(engine)
    assert (await engine.view(after))["outcome"] == "eligible"
