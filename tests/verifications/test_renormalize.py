"""Stored replies read again: the other reading stands beside an end that stays as it is."""

from __future__ import annotations

from datetime import date
from typing import Any

import orjson
import pytest

from covergate.access.audit import command_line
from covergate.db.outage import DATABASE_ERRORS
from covergate.eligibility.derive import MAPPING_VERSION
from covergate.eligibility.stored import with_every_key
from covergate.erasure import erase_patient
from covergate.verifications.renormalize import ReadingScope, differences_between, renormalize
from covergate.verifications.seals import STAMPED, place_in_verification, seal_end
from tests.support.engine import Engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT
from tests.support.requests import PATIENT
from tests.support.wire import Wire

EVERYTHING = ReadingScope()
LATER = ("plans", "cost_shares", "bill_to", "sources")
"""Keys that an older result lacks. Here as far as nothing stands there: what is read now would be another difference."""


async def answered_by_older_rules(engine: Engine, **changes: Any) -> str:
    """A verification that was answered when the rules read another payer name, and results had fewer keys."""
    id_ = await engine.create(**changes)
    await engine.run_all()
    row = (await engine.rows("SELECT * FROM verifications WHERE id = :id", id=id_))[0]
    result = (await engine.view(id_))["result"]
    older = {name: value for name, value in result.items() if value or name not in LATER}
    del older["mapping_version"]
    older["payer"] = {**older["payer"], "name": "As it was read then"}
    place = place_in_verification(TENANT, "test", id_, "result")
    end = {name: row._mapping[name] for name in STAMPED}
    sealed = seal_end(engine.gateway.sealer, place, end, orjson.dumps(older))
    await engine.run_sql("UPDATE results SET sealed = :sealed WHERE verification_id = :id", sealed=sealed, id=id_)
    return id_


async def test_another_reading_stands_beside_the_end(engine: Engine, wire: Wire) -> None:
    id_ = await answered_by_older_rules(engine)
    before, calls = await engine.view(id_), len(wire.calls)
    done = await renormalize(engine.gateway, EVERYTHING, dry_run=False)
    assert (done.read, done.changed, dict(done.skipped)) == (1, 1, {})
    assert set(done.paths) == {"/result/payer/name"}
    shown = await engine.view(id_)
    beside = shown.pop("renormalized")
    assert before.pop("renormalized") is None
    assert shown == before, "nothing of the end changes"
    assert (beside["mapping_version"], beside["outcome"]) == (MAPPING_VERSION, shown["outcome"])
    assert beside["result"]["payer"]["name"] != "As it was read then" and beside["at"]
    assert len(wire.calls) == calls, "no vendor is asked"
    assert await engine.events() == ["verification.completed"]


async def test_what_is_read_alike_gets_no_reading_and_is_read_once(engine: Engine) -> None:
    id_ = await engine.create()
    await engine.run_all()
    first = await renormalize(engine.gateway, EVERYTHING, dry_run=False)
    assert (first.read, first.changed, first.paths) == (1, 0, {})
    assert (await engine.view(id_))["renormalized"] is None
    again = await renormalize(engine.gateway, EVERYTHING, dry_run=False)
    assert (again.read, again.changed) == (0, 0)


async def test_an_answer_that_came_twice_is_read_where_it_was_read(engine: Engine) -> None:
    """To a poll and to one for the vendor's event, say, that were under way together."""
    await engine.create()
    await engine.run_all()
    await engine.run_sql(
        """INSERT INTO history SELECT verification_id, n + 1, at, attempt_id, vendor, entries, exchanges, contents_sealed
           FROM history ORDER BY n DESC LIMIT 1"""
    )
    done = await renormalize(engine.gateway, EVERYTHING, dry_run=True)
    assert (done.read, dict(done.paths)) == (1, {})


async def test_a_dry_run_keeps_nothing_and_is_audited(engine: Engine) -> None:
    id_ = await answered_by_older_rules(engine)
    done = await renormalize(engine.gateway, EVERYTHING, dry_run=True, announces=True)
    assert (done.changed, done.announced) == (1, 0)
    (difference,) = done.differences[id_]
    assert (difference.path, difference.before) == ("/result/payer/name", "As it was read then")
    assert await engine.rows("SELECT 1 FROM readings") == []
    told = await engine.rows(
        "SELECT subject_id, actor_id FROM audit_events WHERE action = 'verification.renormalize_preview'"
    )
    assert [(row.subject_id, row.actor_id) for row in told] == [(id_, command_line().id)]


async def test_it_is_announced_on_request_once(engine: Engine) -> None:
    await answered_by_older_rules(engine)
    assert (await renormalize(engine.gateway, EVERYTHING, dry_run=False)).announced == 0
    assert (await renormalize(engine.gateway, EVERYTHING, dry_run=False, announces=True)).announced == 1
    assert (await renormalize(engine.gateway, EVERYTHING, dry_run=False, announces=True)).announced == 0
    assert await engine.events() == ["verification.completed", "verification.renormalized"]


@pytest.mark.parametrize("scope", [ReadingScope(tenant_id=OTHER_TENANT), ReadingScope(vendor="sohar")])
async def test_others_are_left_alone(engine: Engine, scope: ReadingScope) -> None:
    await answered_by_older_rules(engine)
    assert (await renormalize(engine.gateway, scope, dry_run=False)).read == 0


async def test_without_its_raw_replies_nothing_is_read(engine: Engine) -> None:
    await answered_by_older_rules(engine)
    await engine.run_sql("UPDATE history SET contents_sealed = NULL")
    await engine.run_sql("UPDATE verifications SET raw_erased_at = now()")
    done = await renormalize(engine.gateway, EVERYTHING, dry_run=False)
    assert (done.read, dict(done.skipped)) == (0, {"its raw replies were erased": 1})


async def test_trouble_with_the_database_ends_the_run(engine: Engine) -> None:
    """It says nothing about the replies: they are not passed over."""
    await answered_by_older_rules(engine)
    await engine.run_sql("ALTER TABLE history RENAME TO elsewhere")
    with pytest.raises(DATABASE_ERRORS):
        await renormalize(engine.gateway, ReadingScope(), dry_run=True)


async def test_a_reading_is_erased_with_its_verification(engine: Engine) -> None:
    id_ = await answered_by_older_rules(engine)
    await renormalize(engine.gateway, EVERYTHING, dry_run=False)
    born = date.fromisoformat(PATIENT["date_of_birth"])
    erased = await erase_patient(engine.gateway, CALLER, PATIENT["member_id"], born, dry_run=False)
    assert erased.counts["readings"] == 1
    assert await engine.rows("SELECT 1 FROM readings") == []
    assert (await engine.view(id_))["renormalized"] is None
    assert (await renormalize(engine.gateway, EVERYTHING, dry_run=False)).read == 0


def test_differences_are_told_by_path() -> None:
    result = {"coverage": "active", "answered_at": "2026-11-21T15:00:00+00:00", "notes": ["a"]}
    before = {"outcome": "eligible", "outcome_reason": None, "result": result}
    read = {**result, "answered_at": "2026-11-21T15:00:00Z", "notes": ["a", "b"]}
    after = {"outcome": "unknown", "outcome_reason": "carved_out", "result": {**read_alike(before), **read}}
    assert [one.path for one in differences_between(before, after)] == ["/outcome", "/outcome_reason", "/result/notes"]


def read_alike(before: dict[str, Any]) -> dict[str, Any]:
    return with_every_key(before["result"]) | {"mapping_version": MAPPING_VERSION}
