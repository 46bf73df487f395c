"""After an erasure nothing of the person opens anywhere; everything else is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import copy
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import erasure, ids, retention
from covergate.access.api_keys import create_key
from covergate.access.caller import Caller
from covergate.access.credential_cache import CredentialCache
from covergate.access.vendor_accounts import Owner, put_account, remove_account
from covergate.api import examples
from covergate.db import data_keys
from covergate.db.data_keys import GATEWAY
from covergate.db.database import Database
from covergate.db.partitions import Partitions
from covergate.db.sealing import Place, Sealer, SealError
from covergate.db.sql import Query
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.failure import failure as failure_of
from covergate.erasure import ERASED_KINDS, erase_old, erase_patient, erase_tenant
from covergate.errors import ConfigurationError, Problem
from covergate.gateway import Gateway
from covergate.retention import prune
from covergate.settings import Settings
from covergate.timestamps import instant
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.create import Acceptance
from covergate.verifications.model import Exchange
from covergate.verifications.queries import Filters, list_verifications, read_one, read_raw
from covergate.verifications.request import CreateVerification
from covergate.verifications.seals import place_in_verification, seal_end
from covergate.verifications.vendor_events import receive
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.engine import Engine, running_engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT, make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import Partner, answer, partner_server
from tests.support.requests import PATIENT, REQUEST
from tests.support.sealed import columns_telling, told
from tests.support.sohar import READ, REF, SUBMIT, event
from tests.support.wire import Gate, Wire

NAME, MEMBER, BORN = "Quibblethorn", "ZZQ-77-0815-QT", date(1931, 7, 19)
PERSON = {**PATIENT, "last_name": NAME, "member_id": MEMBER, "date_of_birth": BORN.isoformat()}
WORDS = (NAME, MEMBER, "1931-07-19", "19310719")
OTHER_NAME = "Vexelbourne"
OTHER_PERSON = {**PERSON, "last_name": OTHER_NAME, "member_id": "VVX-1"}
OTHER_CALLER = Caller(OTHER_TENANT, "test", "key_other", frozenset())
NOBODY = dict.fromkeys(ERASED_KINDS, 0)

HOLD_KEY = Query("""
INSERT INTO idempotency_keys (tenant_id, mode, key, fingerprint, fingerprint_key_id, verification_id)
VALUES (:tenant, 'test', 'held', '', '', '')""")
FREE_KEY = Query("DELETE FROM idempotency_keys WHERE tenant_id = :tenant")
LOCK_DELIVERIES = Query("SELECT id FROM deliveries ORDER BY id FOR UPDATE")
RECORD_AGAIN = Query("""
INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
SELECT delivery_id, at, status, duration_ms, error, answer_sealed FROM delivery_attempts""")
COMMITS = Query("SELECT current_setting('synchronous_commit') AS waits, pg_current_wal_insert_lsn()::text AS lsn")
WRITE_NOTHING = Query("UPDATE verifications SET external_id = NULL WHERE false")


def replied(name: str) -> dict[str, Any]:
    benefits: dict[str, Any] = {
        "verificationId": REF,
        "status": "complete.eligible",
        "statusReason": None,
        "benefits": [],
    }
    return {**benefits, "memberName": name, "memberId": MEMBER}


def request_of(**changes: Any) -> CreateVerification:
    return CreateVerification.model_validate({**REQUEST, "vendor": "sohar", **changes})


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    """That may call the partner on loopback."""
    return await make_gateway(database, allow_private_network=True)


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (201, {"verificationId": REF, "id": None})).on(READ, (200, replied(NAME)))


@pytest.fixture
async def engine(gateway: Gateway, wire: Wire) -> AsyncIterator[Engine]:
    async with running_engine(gateway, wire) as engine:
        yield engine


@dataclass
class World:
    """Verifications that tell of a person in every way there is, and others that do not."""

    engine: Engine
    hooks: Hooks

    @property
    def gateway(self) -> Gateway:
        return self.engine.gateway

    async def accept(self, caller: Caller = CALLER, key: str | None = None, **changes: Any) -> str:
        return (await Acceptance(self.gateway).create(caller, request_of(**changes), key)).id

    async def settle(self) -> None:
        """Every step that is due, and every delivery twice."""
        await self.engine.run_all()
        async with Deliverer(self.gateway, Places(self.gateway, 100)) as deliverer:
            for _ in range(2):
                for id_ in await self.hooks.due():
                    await deliverer.deliver(await self.hooks.take(id_))

    async def end(self, id_: str, late: bool = False) -> None:
        """It fails, with the vendor's own words about the person; then an answer comes if it is `late`, else another refusal."""
        async with self.gateway.transaction() as db:
            v = (await store.lock(db, self.gateway.sealer, [id_]))[id_]
            why = failure_of(FailureCode.MEMBER_NOT_FOUND, vendor_message=f"no {NAME} here")
            exchange = Exchange(
                ids.new(ids.EXCHANGE), v.now, "GET /x", 200, "application/json", orjson.dumps(replied(NAME))
            )
            change = lifecycle.failed(v, why, "for a test")
            await apply(db, self.gateway.sealer, [replace(change, exchanges=(exchange,))])
        if late:
            async with self.gateway.transaction() as db:
                v = (await store.lock(db, self.gateway.sealer, [id_]))[id_]
                result = {**examples.RESULT, "patient": {**examples.RESULT["patient"], "last_name": NAME}}
                await apply(db, self.gateway.sealer, [lifecycle.answered_late(v, orjson.dumps(result))])
            return
        async with self.gateway.transaction() as db:
            v = (await store.lock(db, self.gateway.sealer, [id_]))[id_]
            why = failure_of(FailureCode.MEMBER_ID_INVALID, vendor_message=f"this is not {NAME}'s")
            await apply(db, self.gateway.sealer, [lifecycle.refused_late(v, why)])

    async def build(self, caller: Caller = CALLER, person: dict[str, Any] | None = None) -> list[str]:
        """Completed, completed by reuse, failed, answered late and open: five of one patient."""
        person = person or PERSON
        name = str(person["last_name"])
        first = await self.accept(caller, key=f"create-{name}-{caller.tenant_id}", patient=person)
        reused = await self.accept(caller, patient=person, max_age=3600)
        failed = await self.accept(caller, patient=person, external_id=name, metadata={"who": name})
        late = await self.accept(caller, patient=person)
        for id_, is_late in ((failed, False), (late, True)):
            await self.end(id_, late=is_late)
        await self.settle()
        assert (await self.engine.rows("SELECT status FROM verifications WHERE id = :id", id=reused))[
            0
        ].status == "completed"
        for id_ in (first, reused):
            result = {**examples.RESULT, "patient": {**examples.RESULT["patient"], "last_name": name}}
            place = place_in_verification(caller.tenant_id, "test", id_, "result")
            [row] = await self.engine.rows("SELECT * FROM verifications WHERE id = :id", id=id_)
            sealed = seal_end(self.gateway.sealer, place, dict(row._mapping), orjson.dumps(result))
            await self.engine.run_sql("UPDATE results SET sealed = :s WHERE verification_id = :id", s=sealed, id=id_)
        message = ids.new(ids.VENDOR_EVENT)
        await self.gateway.meet(GATEWAY)
        await self.engine.run_sql(
            "INSERT INTO vendor_messages (id, body_sealed) VALUES (:id, :body)",
            id=message,
            body=self.gateway.sealer.seal(
                Place(GATEWAY, "", "vendor_messages", "body", message), orjson.dumps(replied(name))
            ),
        )
        await self.engine.run_sql(
            "INSERT INTO vendor_events (id, vendor, mode, dedupe_key, kind, wakes, verification_id, message_id)"
            " VALUES (:id, 'sohar', 'test', :id, 'x', false, :v, :message)",
            id=ids.new(ids.VENDOR_EVENT),
            v=first,
            message=message,
        )
        return [first, reused, failed, late, await self.accept(caller, patient=person)]


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with partner_server() as running:
        yield running


@pytest.fixture
async def world(engine: Engine, partner: Partner) -> World:
    """Each tenant with two endpoints that get full payloads: one takes them and repeats the name, one refuses and does so too."""
    hooks = Hooks(engine.gateway)
    for tenant in ("ten_test", OTHER_TENANT):
        for status in (200, 500):
            url = partner.on(f"/{tenant}/{status}", answer(status, f"I know {NAME} and {OTHER_NAME}".encode()))
            await hooks.endpoint(url, payload="full", tenant=tenant)
    return World(engine, hooks)


async def everything_of(world: World, tenant: str) -> list[tuple[Any, ...]]:
    """The rows of a tenant's verifications with all that is sealed, to compare."""
    rows = await world.engine.rows(
        "SELECT v.*, r.sealed,"
        " (SELECT string_agg(CAST(h.contents_sealed AS text), ',' ORDER BY n) FROM history h WHERE h.verification_id = v.id),"
        " (SELECT array_agg((e.data, e.full_sealed) ORDER BY e.id) FROM events e WHERE e.verification_id = v.id)"
        " FROM verifications v LEFT JOIN results r ON r.verification_id = v.id WHERE tenant_id = :tenant ORDER BY v.id",
        tenant=tenant,
    )
    return [tuple(row) for row in rows]


async def test_nothing_of_the_person_opens_anywhere(world: World) -> None:
    others = await world.build(person=OTHER_PERSON)
    theirs = await world.build()
    before = await columns_telling(world.gateway, *WORDS)
    assert before >= {
        "verifications.inquiry_sealed",
        "verifications.late_result_sealed",
        "verifications.failure_sealed",
        "verifications.late_failure_sealed",
        "results.sealed",
        "history.contents_sealed",
        "vendor_messages.body_sealed",
        "events.full_sealed",
        "deliveries.last_answer_sealed",
        "delivery_attempts.answer_sealed",
    }
    erased = await erase_patient(world.gateway, CALLER, MEMBER.lower().replace("-", " "), BORN, dry_run=False)
    assert erased.complete
    # The other person's rows name this one only because the vendor and the partner of these tests always do.
    await erase_patient(world.gateway, CALLER, "VVX-1", BORN, dry_run=False)
    assert await columns_telling(world.gateway, *WORDS, OTHER_NAME) == set()
    assert erased.counts == {
        "verifications": 5,
        "canceled": 1,
        "inquiries": 5,
        "results": 2,
        "readings": 0,
        "late_results": 1,
        "failures": 3,
        "raw_replies": 4,
        "event_bodies": 1,
        "full_payloads": 6,
        "partner_answers": 24,
        "idempotency_keys": 1,
    }
    audited = await world.engine.rows("SELECT subject_id, request_id FROM audit_events WHERE action = 'patient.erase'")
    assert {row.subject_id for row in audited} == {*theirs, *others}
    assert len(await world.engine.rows("SELECT 1 FROM verifications")) == 10


async def test_what_was_erased_shows_its_end_and_is_not_found_by_search(world: World) -> None:
    first, reused, failed, late, still_open = await world.build()
    await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    for id_ in (first, reused, failed, late, still_open):
        shown = await read_one(world.gateway, CALLER, id_)
        assert [shown[name] for name in ("inquiry", "result", "late_result", "late_failure", "external_id")] == [
            None
        ] * 5
        assert shown["erased_at"] is not None and shown["metadata"] == {} and shown["attempts"]
    assert (await read_one(world.gateway, CALLER, first))["outcome"] == "eligible"
    shown = await read_one(world.gateway, CALLER, failed)
    assert (shown["failure"]["code"], shown["failure"]["vendor_message"]) == ("member_not_found", None)
    assert (await read_one(world.gateway, CALLER, still_open))["status"] == "canceled"
    raw = await read_raw(world.gateway, CALLER, reused)
    assert raw["erased_at"] is not None
    assert {(one["body"], one["text"]) for one in raw["exchanges"]} == {(None, None)}
    for filters in (Filters(member_id=MEMBER), Filters(date_of_birth=BORN)):
        page = await list_verifications(world.gateway, CALLER, filters, None, 20, "verification.search")
        assert page.data == []
    again = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    assert again.counts == NOBODY


async def test_a_dry_run_changes_nothing_and_says_what_would_go(world: World) -> None:
    await world.build()
    before = await told(world.gateway)
    dry = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=True)
    after = await told(world.gateway)
    assert dry.dry_run
    assert [row for row in after.pop("audit_events") if "patient.erase_preview" in row]
    before.pop("audit_events")
    assert after == before
    assert dry.counts == (await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)).counts


async def test_others_are_untouched(world: World) -> None:
    """Another patient, the same person at another tenant, and one who shares only the member id or the birth date."""
    await world.build()
    await world.build(OTHER_CALLER)
    for changed in ({"date_of_birth": "1931-07-20"}, {"member_id": "ZZQ-77-0815-QX"}):
        await world.accept(patient={**PERSON, **changed})
    live = await world.accept(patient=PERSON)
    await world.engine.run_sql("UPDATE verifications SET mode = 'live' WHERE id = :id", id=live)
    others = await everything_of(world, OTHER_TENANT)
    await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    assert await everything_of(world, OTHER_TENANT) == others
    rows = await world.engine.rows("SELECT mode, erased_at FROM verifications WHERE tenant_id = 'ten_test' ORDER BY id")
    assert [row.erased_at is None for row in rows] == [False] * 5 + [True] * 3


async def test_digests_under_an_older_key_are_found(world: World) -> None:
    await world.accept(patient=PERSON)
    async with world.gateway.transaction() as db:
        key = data_keys.new_key(CALLER.tenant_id)
        await data_keys.introduce_key(db, world.gateway.sealer.ring, key, 2)
    rotated = replace(world.gateway, database=replace(world.gateway.database, sealer=Sealer(world.gateway.sealer.ring)))
    await rotated.meet(CALLER.tenant_id)
    assert rotated.sealer.current_key(CALLER.tenant_id).id == key.id
    assert (await erase_patient(rotated, CALLER, MEMBER, BORN, dry_run=False)).counts["inquiries"] == 1


@pytest.mark.parametrize("comes", ["reply", "event before its reply", "answer", "event"])
async def test_what_comes_later_writes_nothing(world: World, wire: Wire, comes: str) -> None:
    """Whatever is on the line while it is erased: the submission's reply, the answer, an event.

    Only the vendor's reference is noted, by which an event is known for what it is.
    """
    id_ = await world.accept(patient=PERSON)
    submitting = "reply" in comes
    if not submitting:
        await world.engine.step(id_)
    gate = Gate(201 if submitting else 200, {**replied(NAME), "id": None})
    wire.on(SUBMIT, gate).on(READ, gate)
    claimed = await world.engine.take(id_)
    stepping = asyncio.create_task(world.engine.advance(claimed))
    while (SUBMIT if submitting else READ) not in wire.calls:
        await asyncio.sleep(0)
    if comes == "event before its reply":
        assert await receive(world.gateway, "sohar", event()) == 1
        assert len(await world.engine.rows("SELECT 1 FROM vendor_messages")) == 1
    await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    before = await told(world.gateway)
    gate.opened.set()
    await stepping
    after = await told(world.gateway)
    changed = {column for column in after if after[column] != before[column]}
    if submitting:
        assert changed - {"vendor_events", "vendor_messages", "vendor_messages.body_sealed"} == {"attempts"}
        assert (await world.engine.view(id_))["attempts"][0]["vendor_ref"] == REF
    else:
        assert changed == set()
    if comes in ("reply", "event"):
        assert await receive(world.gateway, "sohar", event()) == 1
        assert await receive(world.gateway, "sohar", event()) == 0
    assert await world.engine.rows("SELECT 1 FROM vendor_messages") == []
    assert (await told(world.gateway))["history"] == before["history"]
    assert await columns_telling(world.gateway, *WORDS) == set()
    assert await world.engine.due() == []


async def test_a_look_at_a_late_answer_is_called_off(world: World, wire: Wire) -> None:
    id_ = await world.accept(patient=PERSON)
    await world.engine.step(id_)
    await world.end(id_)
    assert await receive(world.gateway, "sohar", event()) == 1
    assert await world.engine.due() == [id_]
    await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    assert await world.engine.due() == []


async def test_a_delivery_on_the_line_does_not_bring_the_partners_words_back(world: World) -> None:
    id_ = await world.accept(patient=PERSON)
    await world.end(id_)
    async with Deliverer(world.gateway, Places(world.gateway, 100)) as deliverer:
        claimed = [await world.hooks.take(delivery) for delivery in await world.hooks.due()]
        await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
        for delivery in claimed:
            await deliverer.deliver(delivery)
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_a_try_that_is_being_recorded_is_waited_for(world: World) -> None:
    """The partner's words of that try are committed while the erasure waits for its delivery."""
    id_ = await world.accept(patient=PERSON)
    await world.end(id_)
    await world.settle()
    async with world.gateway.transaction() as db:
        await LOCK_DELIVERIES.run(db)
        erasing = asyncio.create_task(erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False))
        await world.engine.waiting_for_locks(1)
        await RECORD_AGAIN.run(db)
    await erasing
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_an_answer_that_was_erased_is_not_taken_over(world: World, wire: Wire) -> None:
    leader = await world.accept(patient=PERSON)
    await world.engine.run_all()
    follower = await world.accept(patient=PERSON, max_age=3600)
    await world.engine.run_sql(
        "UPDATE verifications SET created_at = now() + interval '1 hour' WHERE id = :id", id=follower
    )
    await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    assert (await world.engine.view(leader))["erased_at"] is not None
    await world.engine.run_all()
    shown = await world.engine.view(follower)
    assert (shown["status"], shown["reused_from"], wire.calls.count(SUBMIT)) == ("completed", None, 2)
    later = await world.accept(patient=PERSON, max_age=3600)
    await world.engine.run_all()
    assert (await world.engine.view(later))["reused_from"] == follower


async def test_killed_in_the_middle_and_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.build()
    monkeypatch.setattr(erasure, "BATCH", 1)
    monkeypatch.setattr(erasure, "LEAST_PAUSE_SECONDS", 3600)
    running = asyncio.create_task(erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False))
    while not await world.engine.rows("SELECT 1 FROM verifications WHERE erased_at IS NOT NULL"):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(await world.engine.rows("SELECT 1 FROM verifications WHERE erased_at IS NULL")) == 4
    monkeypatch.setattr(erasure, "LEAST_PAUSE_SECONDS", 0)
    again = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    assert again.counts["verifications"] == 4
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_several_at_once_erase_each_thing_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.build()
    monkeypatch.setattr(erasure, "BATCH", 2)
    done = await asyncio.gather(*(erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False) for _ in range(4)))
    assert sum(one.counts["inquiries"] for one in done) == 5
    assert sum(one.counts["canceled"] for one in done) == 1
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_a_request_says_when_there_is_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.build()
    monkeypatch.setattr(erasure, "BATCH", 2)
    part = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False, within_seconds=0)
    assert (part.complete, part.counts["verifications"]) == (False, 2)


@pytest.mark.parametrize("whose", ["patient", "tenant"])
async def test_a_create_that_is_not_committed_yet_is_waited_for(
    world: World, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has its time of acceptance before the erasure began is erased, though it is committed afterwards."""
    looked = asyncio.Event()
    writers = erasure._writers

    async def looking(db: AsyncConnection) -> set[str]:
        found = await writers(db)
        if found:
            looked.set()
        return found

    monkeypatch.setattr(erasure, "_writers", looking)
    async with world.gateway.transaction() as db:
        # The create finds its idempotency key in another's hand, in the middle of its statement, and waits.
        await HOLD_KEY.run(db, {"tenant": TENANT})
        creating = asyncio.create_task(world.accept(key="held", patient=PERSON))
        await world.engine.waiting_for_locks(1)
        if whose == "patient":
            erasing = asyncio.create_task(erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False))
        else:
            erasing = asyncio.create_task(erase_tenant(world.gateway, "Test clinic", dry_run=False))
        waiting = asyncio.create_task(looked.wait())
        await asyncio.wait({erasing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await FREE_KEY.run(db, {"tenant": TENANT})
    id_, erased = await creating, await erasing
    assert (erased.complete, erased.counts["inquiries"], erased.counts["canceled"]) == (True, 1, 1)
    assert (await world.engine.view(id_))["inquiry"] is None
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_what_is_accepted_after_the_erasure_began_is_told_by_its_time(world: World) -> None:
    before = await world.accept(patient=PERSON)
    erased = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False)
    after = await world.accept(patient=PERSON)
    shown = {id_: await world.engine.view(id_) for id_ in (before, after)}
    until = instant(erased.until)
    assert until is not None and shown[before]["created_at"] <= until <= shown[after]["created_at"]
    assert [one["inquiry"] is None for one in shown.values()] == [True, False]


async def test_a_writer_that_does_not_end_is_waited_for_no_longer_than_a_request_may_take(world: World) -> None:
    await world.accept(patient=PERSON)
    async with world.gateway.transaction() as db:
        await FREE_KEY.run(db, {"tenant": TENANT})
        await WRITE_NOTHING.run(db)
        erased = await erase_patient(world.gateway, CALLER, MEMBER, BORN, dry_run=False, within_seconds=0)
    assert (erased.complete, erased.counts["inquiries"]) == (False, 1)


async def test_no_lock_is_held_while_the_disk_is_waited_for_and_what_is_reported_stands_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.build()
    await world.engine.run_sql(f"ALTER DATABASE {await named(world)} SET synchronous_commit = on")
    waits, reached = [], []
    erase = erasure._erase

    async def looking(db: AsyncConnection, *args: Any) -> None:
        await erase(db, *args)
        row = await COMMITS.one(db)
        assert row is not None
        waits.append(row.waits)
        reached.append(row.lsn)

    monkeypatch.setattr(erasure, "_erase", looking)
    monkeypatch.setattr(erasure, "BATCH", 1)
    async with world.gateway.database.apart(pool_size=2, application_name="durable") as database:
        gateway = replace(world.gateway, database=database)
        await erase_patient(gateway, CALLER, MEMBER, BORN, dry_run=False)
        [row] = await world.engine.rows(
            "SELECT pg_current_wal_flush_lsn() >= CAST(CAST(:lsn AS text) AS pg_lsn) AS kept", lsn=reached[-1]
        )
    assert sorted(waits) == ["off", "off", "off", "off", "on"]  # one was open: its cancellation is told to partners
    assert row.kept


async def named(world: World) -> str:
    [row] = await world.engine.rows("SELECT current_database() AS name")
    return str(row.name)


# --- by age ----------------------------------------------------------------------------------------------------------


async def age(world: World, days: float, id_: str = "%") -> None:
    await world.engine.run_sql(
        "UPDATE verifications SET created_at = created_at - make_interval(secs => :s),"
        " completed_at = completed_at - make_interval(secs => :s) WHERE id LIKE :id",
        s=days * 86_400,
        id=id_,
    )
    await world.engine.run_sql(
        "UPDATE history SET at = at - make_interval(secs => :s) WHERE verification_id LIKE :id", s=days * 86_400, id=id_
    )


def keeping(world: World, **days: int) -> Gateway:
    return replace(world.gateway, settings=world.gateway.settings.model_copy(update=days))


async def test_raw_replies_go_after_their_days_and_the_rest_stays(world: World) -> None:
    theirs = await world.build()
    await age(world, 30)
    assert await erase_old(keeping(world, raw_days=31)) == 0
    assert await erase_old(keeping(world, raw_days=29)) == 4  # one is open
    telling = await columns_telling(world.gateway, *WORDS)
    assert not telling & {
        "history.contents_sealed",
        "vendor_messages.body_sealed",
        "deliveries.last_answer_sealed",
        "delivery_attempts.answer_sealed",
    }
    assert telling >= {"verifications.inquiry_sealed", "verifications.late_result_sealed", "events.full_sealed"}
    shown = await read_one(world.gateway, CALLER, theirs[0])
    assert (shown["erased_at"], shown["result"]["coverage"], shown["inquiry"]["patient"]["last_name"]) == (
        None,
        "active",
        NAME,
    )
    raw = await read_raw(world.gateway, CALLER, theirs[0])
    assert raw["erased_at"] is not None and raw["exchanges"][0]["body"] is None
    assert raw["exchanges"][0]["status"] == 201
    assert await erase_old(keeping(world, raw_days=29)) == 0


async def test_inquiry_and_result_go_after_theirs(world: World) -> None:
    *ended, still_open = await world.build()
    await age(world, 30)
    assert await erase_old(keeping(world, raw_days=0, content_days=29)) == 4
    assert (await read_one(world.gateway, CALLER, still_open))["inquiry"] is not None
    assert (await read_one(world.gateway, CALLER, ended[2]))["external_id"] == NAME  # by contract no PHI
    await world.engine.run_sql("UPDATE verifications SET external_id = NULL, metadata = '{}'")
    await world.engine.run_sql("UPDATE events SET data = '{}'")
    await world.engine.run_sql("DELETE FROM idempotency_keys")  # as after a day
    assert await columns_telling(world.gateway, *WORDS) == {"verifications.inquiry_sealed"}
    assert await erase_old(keeping(world, raw_days=0, content_days=29)) == 0


async def test_a_tenants_own_days_come_before_the_settings(world: World) -> None:
    await world.build(OTHER_CALLER)
    await world.build()
    await age(world, 30)
    await world.engine.run_sql("UPDATE tenants SET content_days = 0, raw_days = 0 WHERE id = :id", id=OTHER_TENANT)
    await world.engine.run_sql("UPDATE tenants SET content_days = 29 WHERE id = 'ten_test'")
    others = await everything_of(world, OTHER_TENANT)
    assert await erase_old(keeping(world, raw_days=10, content_days=10)) == 4
    assert await everything_of(world, OTHER_TENANT) == others


async def test_what_comes_after_its_days_is_not_kept_raw(world: World) -> None:
    """A late answer comes a week after the end, and raw replies are kept for three days: the answer is kept,
    its reply and the event's body are not."""
    id_ = await world.accept(patient=PERSON)
    await world.engine.step(id_)
    await world.end(id_)
    await age(world, 7)
    await erase_old(keeping(world, raw_days=3))
    assert await receive(world.gateway, "sohar", event()) == 1
    await world.engine.step(id_)
    assert (await world.engine.view(id_))["late_result"]["coverage"] == "active"
    assert "history.contents_sealed" not in await columns_telling(world.gateway, *WORDS)
    assert await world.engine.rows("SELECT 1 FROM vendor_messages") == []


async def test_workers_share_what_is_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.build()
    await age(world, 30)
    monkeypatch.setattr(erasure, "BATCH", 1)
    erased = await asyncio.gather(*(erase_old(keeping(world, raw_days=0, content_days=1)) for _ in range(3)))
    assert sum(erased) >= 1
    await erase_old(keeping(world, raw_days=0, content_days=1))
    assert len(await world.engine.rows("SELECT 1 FROM verifications WHERE erased_at IS NULL")) == 1


async def test_one_that_is_being_written_is_left_for_the_next_time(world: World) -> None:
    id_ = await world.accept(patient=PERSON)
    await world.end(id_)
    await age(world, 30)
    async with world.gateway.transaction() as db:
        await store.lock(db, world.gateway.sealer, [id_])
        assert await erase_old(keeping(world, content_days=1)) == 0
    assert await erase_old(keeping(world, content_days=1)) == 1


async def stranger(gateway: Gateway) -> Gateway:
    """As another process has it: it has met nobody."""
    database = copy(gateway.database)
    database.sealer = Sealer(gateway.sealer.ring)
    return replace(gateway, database=database)


# --- a tenant --------------------------------------------------------------------------------------------------------


async def test_a_tenant_is_erased_with_its_keys_and_endpoints(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    await world.build()
    await world.build(OTHER_CALLER)
    key = await create_key(world.gateway, tenant="Test clinic", mode="test")
    others = await everything_of(world, OTHER_TENANT)
    dry = await erase_tenant(world.gateway, "Test clinic", dry_run=True)
    assert (dry.counts["verifications"], dry.counts["api_keys"], dry.counts["webhook_endpoints"]) == (5, 1, 2)
    assert await CredentialCache(world.gateway).authenticate(key) is not None
    erased = await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    assert erased.counts == dry.counts
    assert await CredentialCache(world.gateway).authenticate(key) is None
    assert await everything_of(world, OTHER_TENANT) == others
    for table in ("events", "idempotency_keys"):
        assert await world.engine.rows(f"SELECT 1 FROM {table} WHERE tenant_id = 'ten_test'") == []
    assert {
        row.url for row in await world.engine.rows("SELECT url FROM webhook_endpoints WHERE tenant_id = 'ten_test'")
    } == {""}
    keys = await world.engine.rows("SELECT destroyed_at, wrapped FROM data_keys WHERE tenant_id = 'ten_test'")
    assert [(row.destroyed_at is None, row.wrapped) for row in keys] == [(False, None)]
    again = await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    assert not any(again.counts.values())
    await erase_patient(world.gateway, OTHER_CALLER, MEMBER, BORN, dry_run=False)
    assert await columns_telling(world.gateway, *WORDS) == set()


async def test_an_erased_tenant_gets_no_data_key_again(world: World) -> None:
    id_ = await world.accept()
    await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    # Another process, which has never met it, and one that sealed for it a moment ago.
    for gateway in (await stranger(world.gateway), world.gateway):
        await gateway.meet(TENANT)
        gateway.sealer.expire([TENANT])
        await gateway.meet(TENANT)
        with pytest.raises(SealError):
            gateway.sealer.current_key(TENANT)
        await read_one(gateway, CALLER, id_)
    rows = await world.engine.rows("SELECT 1 FROM data_keys WHERE tenant_id = 'ten_test' AND destroyed_at IS NULL")
    assert rows == []


async def test_views_that_a_tenants_people_saved_go_with_it(world: World) -> None:
    save = "INSERT INTO saved_views (id, actor_id, tenant_id, name, query) VALUES (:id, 'usr_anna', :tenant, 'Mine', 'a=b')"
    for id_, tenant in (("svw_1", TENANT), ("svw_2", None)):
        await world.engine.rows(save, id=id_, tenant=tenant)
    await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    assert [row.id for row in await world.engine.rows("SELECT id FROM saved_views")] == ["svw_2"]


async def test_an_erased_tenant_gets_no_key_again(world: World) -> None:
    await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    with pytest.raises(ConfigurationError, match="was erased"):
        await create_key(world.gateway, tenant="Test clinic", mode="test")
    assert await world.engine.rows("SELECT 1 FROM api_keys") == []


async def test_nothing_is_accepted_for_an_erased_tenant_by_a_process_that_has_not_heard_of_it(world: World) -> None:
    await world.gateway.meet(TENANT)
    await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    for key in (None, "again"):
        with pytest.raises(Problem) as refused:
            await world.accept(key=key)
        assert refused.value.code == "unavailable"
        world.gateway.sealer.expire([TENANT])  # the second time it finds that the key is gone
    with pytest.raises(Problem) as refused:
        await put_account(world.gateway, Owner(TENANT, "test", "healthie"), None, {"api_key": "one"})
    assert refused.value.detail == "the tenant was erased"
    for table in ("verifications", "work", "idempotency_keys"):
        assert await world.engine.rows(f"SELECT 1 FROM {table}") == []


async def test_what_was_put_in_while_a_tenant_was_erased_goes_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, owner, given = world.gateway, Owner(TENANT, "test", "healthie"), {"api_key": "unmistakable-5511"}
    await put_account(gateway, owner, None, given)
    await remove_account(gateway, owner)
    whole = erasure._run

    async def meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(erasure, "_run", whole)
        await put_account(gateway, owner, None, given)
        await world.hooks.endpoint("https://clinic.example/hook")
        return await whole(*args, **kwargs)

    monkeypatch.setattr(erasure, "_run", meanwhile)
    await erase_tenant(gateway, "Test clinic", dry_run=False)
    accounts = await world.engine.rows("SELECT hint, fingerprint, credentials_sealed FROM vendor_accounts")
    assert [tuple(row) for row in accounts] == [("", "", None)] * 2
    endpoints = await world.engine.rows("SELECT url, secret_sealed FROM webhook_endpoints WHERE tenant_id = 'ten_test'")
    assert {tuple(row) for row in endpoints} == {("", None)}


async def test_an_erased_tenants_bare_rows_go_a_month_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "TOMBSTONES_BATCH", 2)
    await world.build()
    await world.build(OTHER_CALLER)
    await erase_tenant(world.gateway, "Test clinic", dry_run=False)
    await erase_patient(world.gateway, OTHER_CALLER, MEMBER, BORN, dry_run=False)
    for days, left in ((30, 10), (2, 5)):
        for table in ("tenants", "verifications"):
            await world.engine.run_sql(f"UPDATE {table} SET erased_at = erased_at - make_interval(days => :d)", d=days)
        await prune(world.gateway, Partitions(world.gateway.transaction))
        assert len(await world.engine.rows("SELECT 1 FROM verifications")) == left
    assert len(await world.engine.rows("SELECT 1 FROM tenants")) == 2


def test_raw_replies_are_kept_for_a_year_and_the_record_until_somebody_decides() -> None:
    settings = Settings(_env_file=None)
    assert (settings.raw_days, settings.content_days) == (365, 0)
