"""Somebody who may write to the database moves sealed values, or changes the plain columns beside them. Nobody is deceived."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from covergate.access.caller import Caller
from covergate.gateway import Gateway
from covergate.verifications.queries import Filters, list_verifications, read_one, read_raw
from tests.support.engine import Engine
from tests.support.gateways import CALLER, OTHER_TENANT
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire

OTHER_CALLER = Caller(OTHER_TENANT, "test", "key_other", frozenset({"verifications:read"}))
OTHER_PATIENT = {"first_name": "Ada", "last_name": "Other", "date_of_birth": "1980-01-01", "member_id": "OTHER1"}


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (200, {"id": "9"})).on(POLL, (200, ACTIVE))


async def completed(engine: Engine, **changes: Any) -> str:
    id_ = await engine.create(**changes)
    await engine.step(id_)
    await engine.step(id_)
    return id_


async def read(gateway: Gateway, caller: Caller, id_: str) -> dict[str, Any]:
    return await read_one(gateway, caller, id_)


async def listed(gateway: Gateway, caller: Caller = CALLER) -> list[dict[str, Any]]:
    page = await list_verifications(gateway, caller, Filters(), None, 20, "verification.list")
    return list(page.data)


async def test_a_row_that_was_moved_to_another_tenant_does_not_open(engine: Engine) -> None:
    gateway, id_ = engine.gateway, await completed(engine)
    await engine.run_sql("UPDATE verifications SET tenant_id = :other", other=OTHER_TENANT)
    with capture_logs() as logs:
        shown = await read(gateway, OTHER_CALLER, id_)
    assert (shown["inquiry"], shown["result"]) == (None, None)
    assert shown["unreadable"] == ["inquiry", "result"]
    assert {entry["event"] for entry in logs} == {"value_not_opened"}
    raw = await read_raw(gateway, OTHER_CALLER, id_)
    assert [(one["body"], one["text"], one["unreadable"]) for one in raw["exchanges"]] == [(None, None, True)] * 2
    assert "Sample" not in str(shown) + str(raw) + str(logs)


async def test_nor_does_the_key_move_with_it(engine: Engine) -> None:
    """Not even into a process that never met either tenant."""
    gateway, id_ = engine.gateway, await completed(engine)
    await engine.run_sql("UPDATE verifications SET tenant_id = :other", other=OTHER_TENANT)
    await engine.run_sql("DELETE FROM data_keys WHERE tenant_id = :other", other=OTHER_TENANT)
    await engine.run_sql("UPDATE data_keys SET tenant_id = :other WHERE tenant_id IS NOT NULL", other=OTHER_TENANT)
    gateway.sealer.__init__(gateway.sealer.ring)  # type: ignore[misc]  # as after a restart
    with capture_logs() as logs:
        shown = await read(gateway, OTHER_CALLER, id_)
    assert shown["unreadable"] == ["inquiry", "result"]
    assert "data_key_not_unwrapped" in {entry["event"] for entry in logs}


async def test_an_exchange_that_was_moved_to_another_verification_does_not_open(engine: Engine) -> None:
    first, second = await completed(engine), await completed(engine, patient=OTHER_PATIENT)
    await engine.run_sql("DELETE FROM history WHERE verification_id = :first", first=first)
    await engine.run_sql(
        "UPDATE history SET verification_id = :first WHERE verification_id = :second", first=first, second=second
    )
    raw = await read_raw(engine.gateway, CALLER, first)
    assert [one["unreadable"] for one in raw["exchanges"]] == [True, True]


async def test_a_result_that_was_moved_to_another_verification_does_not_open(engine: Engine) -> None:
    first, second = await completed(engine), await completed(engine, patient=OTHER_PATIENT)
    await engine.run_sql("DELETE FROM results WHERE verification_id = :first", first=first)
    await engine.run_sql(
        "UPDATE results SET verification_id = :first WHERE verification_id = :second", first=first, second=second
    )
    assert (await engine.view(first))["unreadable"] == ["result"]


@pytest.mark.parametrize(
    "change",
    [
        "outcome = 'ineligible'",
        "outcome = 'ineligible', outcome_reason = 'not_covered'",
        "outcome_reason = 'inactive'",
        "reused_from = 'ver_00000000000000000000000000'",
        "status = 'failed', outcome = NULL, failure_code = 'member_not_found'",
        "status = 'canceled', outcome = NULL",
    ],
)
async def test_a_changed_end_is_noticed(engine: Engine, change: str) -> None:
    id_ = await completed(engine)
    before = await engine.view(id_)
    assert (before["outcome"], before["unreadable"]) == ("eligible", [])
    await engine.run_sql(f"UPDATE verifications SET {change}")
    with capture_logs() as logs:
        shown = await engine.view(id_)
        [row] = await listed(engine.gateway)
    assert [entry["event"] for entry in logs] == ["seal_mismatch", "seal_mismatch"]
    for one in (shown, row):
        assert (one["outcome"], one["outcome_reason"], one["unreadable"]) == (None, None, ["outcome"])
    assert shown["result"] == before["result"]  # as it was sealed


async def test_a_changed_failure_is_noticed(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create()
    await engine.run_sql("UPDATE verifications SET deadline = now()")
    await engine.run_sql("UPDATE work SET deadline = now(), next_check_at = now()")
    await engine.step(id_)
    assert (await engine.view(id_))["failure"]["code"] == "deadline_exceeded"
    await engine.run_sql("UPDATE verifications SET failure_code = 'member_not_found'")
    assert (await engine.view(id_))["unreadable"] == ["outcome"]


async def test_the_replies_of_another_verification_are_not_shown_as_if_they_were_reused(engine: Engine) -> None:
    first = await completed(engine)
    follower = await engine.create(max_age=3600)
    await engine.step(follower)
    other = await completed(engine, patient=OTHER_PATIENT)
    shown = await read_raw(engine.gateway, CALLER, follower)
    assert [one["unreadable"] for one in shown["exchanges"]] == [False, False]
    assert first != other
    await engine.run_sql("UPDATE verifications SET reused_from = :other WHERE id = :id", other=other, id=follower)
    shown = await read_raw(engine.gateway, CALLER, follower)
    assert [(one["unreadable"], one["body"], one["text"]) for one in shown["exchanges"]] == [(True, None, None)] * 2


async def test_an_answer_with_a_changed_end_is_not_taken_over(engine: Engine) -> None:
    await completed(engine)
    await engine.run_sql("UPDATE verifications SET outcome = 'ineligible', outcome_reason = 'inactive'")
    follower = await engine.create(max_age=3600)
    await engine.step(follower)
    shown = await engine.view(follower)
    assert (shown["status"], shown["failure"]["code"]) == ("failed", "internal_error")


@pytest.mark.parametrize(("column", "table"), [("failure_sealed", "verifications"), ("sealed", "results")])
async def test_a_broken_value_makes_its_own_row_say_so(engine: Engine, column: str, table: str) -> None:
    ids = [await completed(engine) for _ in range(3)]
    key = "id" if table == "verifications" else "verification_id"
    await engine.run_sql(f"UPDATE {table} SET {column} = '\\x00' WHERE {key} = :id", id=ids[1])
    rows = {row["id"]: row for row in await listed(engine.gateway)}
    name = "failure" if table == "verifications" else "result"
    assert [rows[id_]["unreadable"] for id_ in ids] == [[], [name], []]
    shown = await read(engine.gateway, CALLER, ids[1])
    assert (shown[name], shown["unreadable"]) == (None, [name])
    assert shown["outcome"] == "eligible"
    orjson.dumps(shown)


async def test_a_broken_inquiry_fails_its_verification_and_the_worker_goes_on(engine: Engine, wire: Wire) -> None:
    broken, whole = await engine.create(), await engine.create()
    await engine.run_sql("UPDATE verifications SET inquiry_sealed = '\\x0301' WHERE id = :id", id=broken)
    await engine.step(broken)
    shown = await engine.view(broken)
    assert (shown["status"], shown["failure"]["code"]) == ("failed", "internal_error")
    assert (shown["inquiry"], shown["unreadable"]) == (None, ["inquiry"])
    assert wire.calls == []
    await engine.step(whole)
    await engine.step(whole)
    assert (await engine.view(whole))["outcome"] == "eligible"


async def test_a_value_from_before_cannot_be_brought_back(engine: Engine) -> None:
    """This database never had one."""
    id_ = await completed(engine)
    nonce_and_more = "\\x0104" + b"test".hex() + "00" * 60
    await engine.run_sql(f"UPDATE results SET sealed = '{nonce_and_more}'")
    assert (await engine.view(id_))["unreadable"] == ["result"]
