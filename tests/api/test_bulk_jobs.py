"""One action on many verifications: counted, ordered, done by a worker, stopped, reported."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Protocol

import httpx
import pytest

from covergate import ids
from covergate.access.api_keys import create_key
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.states import BulkAction
from covergate.verifications import bulk_work, store
from covergate.verifications.bulk_queue import BulkQueue
from covergate.verifications.bulk_work import BulkWork
from tests.support.clients import End, Headers, Keys, Post, Rows, Stuck, bearer, make_operator
from tests.support.counters import counted
from tests.support.waiting import eventually

FAILED = {"status": ["failed"]}


class Slices(Protocol):
    """Takes a slice of each job that is due, as a worker does; how many there were."""

    async def __call__(self, *, seconds: float = 60.0) -> int: ...


@pytest.fixture
def slices(gateway: Gateway) -> Slices:
    queue = BulkQueue(gateway)
    works: dict[float, BulkWork] = {}

    async def take(*, seconds: float = 60.0) -> int:
        work = works.setdefault(seconds, BulkWork(gateway, lambda: False, seconds))
        jobs = await queue.claim(())
        for job in jobs:
            await work.do(job)
        return len(jobs)

    return take


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_work, "TOGETHER", dict.fromkeys(BulkAction, 1))


async def order(client: httpx.AsyncClient, headers: Headers, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/verifications/bulk", json={"dry_run": False, **body}, headers=headers)
    assert answer.status_code == (202 if body.get("dry_run") is not True else 200), answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def report(client: httpx.AsyncClient, headers: Headers, job: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/bulk-jobs/{job['id']}", headers=headers)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def numbers(shown: dict[str, Any]) -> tuple[Any, ...]:
    skipped = {one["reason"]: one["count"] for one in shown["skipped"]["reasons"]}
    failed = {one["reason"]: one["count"] for one in shown["failed"]["reasons"]}
    assert shown["skipped"]["count"] == sum(skipped.values()) and shown["failed"]["count"] == sum(failed.values())
    return shown["status"], shown["done"], skipped, failed, shown["left"]


@pytest.fixture
async def three(post: Post, end: End) -> list[str]:
    """Failed ones, and one that completed."""
    made = [(await post(external_id=f"intake-{number}"))["id"] for number in range(3)]
    for id_ in made:
        await end(id_, FailureCode.VENDOR_UNAVAILABLE)
    await end((await post())["id"])
    return made


async def retries(rows: Rows) -> list[str]:
    return [
        row.retry_of for row in await rows("SELECT retry_of FROM verifications WHERE retry_of IS NOT NULL ORDER BY 1")
    ]


async def test_it_is_counted_first_and_nothing_is_done(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    answer = await client.post(
        "/v1/verifications/bulk", json={"action": "resubmit", "filter": FAILED}, headers=keys.full
    )
    shown = answer.json()
    assert (answer.status_code, shown["dry_run"], shown["status"], shown["matched"]) == (200, True, "counted", 3)
    assert [one["id"] for one in shown["sample"]] == three[::-1]
    assert {(one["status"], one["failure_code"], one["vendor"]) for one in shown["sample"]} == {
        ("failed", "vendor_unavailable", "sohar")
    }
    assert {one["external_id"] for one in shown["sample"]} == {"intake-0", "intake-1", "intake-2"}
    assert await slices() == 0 and await retries(rows) == []
    assert await rows("SELECT 1 FROM bulk_items") == []
    assert (await report(client, keys.full, shown)) == shown


async def test_a_worker_asks_each_again_with_the_corrections_and_reports(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    job = await order(
        client, keys.full, action="resubmit", filter=FAILED, corrections={"/patient/member_id": "ELIGIBLE-0009"}
    )
    assert (job["status"], job["matched"], job["left"]) == ("queued", 3, 3)
    assert await slices() == 1
    shown = await report(client, keys.full, job)
    assert numbers(shown) == ("completed", 3, {}, {}, 0)
    assert shown["started_at"] and shown["ended_at"]
    assert await retries(rows) == sorted(three)
    for id_ in three:
        [_, retry] = (await client.get("/v1/verifications", params={"family": id_}, headers=keys.full)).json()["data"][
            ::-1
        ]
        read = (await client.get(f"/v1/verifications/{retry['id']}", headers=keys.full)).json()
        assert read["inquiry"]["patient"]["member_id"] == "ELIGIBLE-0009"
    [row] = await rows("SELECT corrections_sealed FROM bulk_jobs WHERE status = 'completed'")
    assert row.corrections_sealed is None
    log = await rows("SELECT action, subject_id, actor_kind, request_id FROM audit_events ORDER BY position")
    told = [(one.action, one.subject_id) for one in log if one.action.startswith(("bulk", "verification.retry"))]
    assert sorted(told) == [("bulk_job.resubmit", job["id"]), *(("verification.retry", id_) for id_ in sorted(three))]
    [request] = {one.request_id for one in log if one.action == "bulk_job.resubmit"}
    assert {(one.actor_kind, one.request_id) for one in log if one.action == "verification.retry"} == {("key", request)}


async def test_two_jobs_ask_once_unless_told_to_ask_again(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    both = [await order(client, keys.full, action="resubmit", filter=FAILED) for _ in range(2)]
    assert [job["matched"] for job in both] == [3, 3]
    assert await slices() == 2
    assert [numbers(await report(client, keys.full, job)) for job in both] == [
        ("completed", 3, {}, {}, 0),
        ("completed", 0, {"already_retried": 3}, {}, 0),
    ]
    # What was asked again is not even counted any more.
    assert (await order(client, keys.full, action="resubmit", filter=FAILED))["matched"] == 0
    again = await order(client, keys.full, action="resubmit", filter=FAILED, again=True)
    assert again["matched"] == 3
    while await slices():
        continue
    assert numbers(await report(client, keys.full, again)) == ("completed", 3, {}, {}, 0)
    assert await retries(rows) == sorted(three * 2)


async def test_resubmissions_are_written_together_and_two_jobs_at_once_ask_once(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, three: list[str], rows: Rows
) -> None:
    both = [await order(client, keys.full, action="resubmit", filter=FAILED) for _ in range(2)]
    jobs = await BulkQueue(gateway).claim(())
    work = BulkWork(gateway, lambda: False)
    await asyncio.gather(*(work.do(job) for job in jobs))
    ends = [numbers(await report(client, keys.full, job)) for job in both]
    assert sum(end[1] for end in ends) == 3 and sum(end[2].get("already_retried", 0) for end in ends) == 3
    assert await retries(rows) == sorted(three)
    written = await rows("SELECT DISTINCT xmin::text FROM verifications WHERE retry_of IS NOT NULL")
    assert len(written) < 3


async def test_the_same_question_in_a_job_is_asked_once_if_it_may_be_reused(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, slices: Slices, rows: Rows
) -> None:
    for _ in range(2):
        await end((await post(max_age=3600))["id"], FailureCode.VENDOR_UNAVAILABLE)
    job = await order(client, keys.full, action="resubmit", filter=FAILED)
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 2, {}, {}, 0)
    made = await rows(
        "SELECT w.verification_id AS id, w.follows FROM work w JOIN verifications v ON v.id = w.verification_id"
    )
    assert len(made) == 2 and len([row for row in made if row.follows in {one.id for one in made}]) == 1


async def test_the_same_key_makes_one_job(client: httpx.AsyncClient, keys: Keys, three: list[str], rows: Rows) -> None:
    body = {"action": "resubmit", "filter": FAILED, "corrections": {"/patient/member_id": "M-1"}, "dry_run": False}
    named = {"idempotency-key": "monday"}

    async def ask(headers: Headers, **changes: Any) -> httpx.Response:
        return await client.post("/v1/verifications/bulk", json={**body, **changes}, headers={**headers, **named})

    # A refused one uses no key up.
    assert (await ask(keys.full, filter={})).status_code == 422
    both = await asyncio.gather(ask(keys.full), ask(keys.full))
    replayed = await ask(keys.full)
    [job] = {answer.json()["id"] for answer in (*both, replayed)}
    assert {answer.status_code for answer in (*both, replayed)} == {202}
    assert [answer.headers.get("idempotent-replayed") for answer in both].count("true") == 1
    assert replayed.headers["idempotent-replayed"] == "true"
    assert replayed.headers["location"] == f"/v1/bulk-jobs/{job}"
    for changes in (
        {"dry_run": True},
        {"corrections": {"/patient/member_id": "M-2"}},
        {"filter": {"vendor": "sohar"}},
    ):
        reused = await ask(keys.full, **changes)
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert "M-2" not in reused.text
    # Another tenant's is another, and so is an operator's.
    assert (await ask(keys.other)).json()["id"] != job
    operators = await ask(keys.operator, corrections={})
    assert (operators.status_code, operators.json()["matched"]) == (202, 3)
    assert (await ask(keys.operator, corrections={})).json()["id"] == operators.json()["id"]
    # After a day it is a new one.
    await rows("UPDATE bulk_job_keys SET created_at = created_at - interval '25 hours' RETURNING 1")
    later = await ask(keys.full)
    assert (later.status_code, later.headers.get("idempotent-replayed")) == (202, None) and later.json()["id"] != job


async def test_what_changed_meanwhile_is_skipped_with_the_reason(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, stuck: Stuck, slices: Slices, rows: Rows
) -> None:
    """Between the dry run and the job, and between the job and its turn."""
    first, second, third, fourth = [(await post())["id"] for _ in range(4)]
    open_ones = {"status": ["queued", "in_progress"]}
    counted = await order(client, keys.full, action="cancel", filter=open_ones, dry_run=True)
    assert counted["matched"] == 4
    await end(first)
    job = await order(client, keys.full, action="cancel", filter={"status": ["queued"]})
    assert job["matched"] == 3
    await end(second)
    await stuck(third)  # open, but not queued any more
    await slices()
    shown = await report(client, keys.full, job)
    assert numbers(shown) == ("completed", 1, {"already_ended": 1, "no_longer_matches": 1}, {}, 0)
    assert {one["reason"]: one["sample"] for one in shown["skipped"]["reasons"]} == {
        "already_ended": [second],
        "no_longer_matches": [third],
    }
    canceled = await rows("SELECT id FROM verifications WHERE status = 'canceled'")
    assert [row.id for row in canceled] == [fourth]


async def test_what_cannot_be_asked_again_is_failed_with_the_reason_and_stops_no_other(
    client: httpx.AsyncClient, keys: Keys, three: list[str], post: Post, end: End, slices: Slices, rows: Rows
) -> None:
    other = await post(vendor="integrex")
    await end(other["id"], FailureCode.VENDOR_UNAVAILABLE)
    job = await order(client, keys.full, action="resubmit", filter=FAILED, corrections={"/service/date": "2020-01-01"})
    moved = "UPDATE verifications SET erased_at = now(), inquiry_sealed = NULL WHERE id = :id RETURNING 1"
    await rows(moved, id=three[0])
    await slices()
    assert numbers(await report(client, keys.full, job)) == (
        *("completed", 1),
        {"inquiry_erased": 1},
        {"unsupported_by_vendor": 2},
        0,
    )
    assert await retries(rows) == [other["id"]]


async def test_a_filter_that_matches_nothing_is_a_job_that_is_over_at_once(
    client: httpx.AsyncClient, keys: Keys, slices: Slices
) -> None:
    job = await order(client, keys.full, action="cancel", filter={"external_id": "nobody"})
    assert (job["matched"], job["sample"]) == (0, [])
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 0, {}, {}, 0)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/action", "/filter"]),
        ({"action": "resubmit", "filter": {}}, ["/filter"]),
        ({"action": "delete", "filter": FAILED}, ["/action"]),
        (
            {"action": "cancel", "filter": {"state": "failed", "status": ["lost"]}},
            ["/filter/state", "/filter/status/0"],
        ),
        ({"action": "cancel", "filter": {"member_id": "A"}}, ["/filter/member_id"]),
        ({"action": "cancel", "filter": {"created_after": "yesterday"}}, ["/filter/created_after"]),
        ({"action": "cancel", "filter": FAILED, "corrections": {"/vendor": "vsee"}}, ["/corrections"]),
        ({"action": "cancel", "filter": FAILED, "again": True}, ["/again"]),
        ({"action": "cancel", "filter": FAILED, "resolution": "give_up"}, ["/resolution"]),
        ({"action": "resubmit", "filter": FAILED, "corrections": {"vendor": "vsee"}}, ["/corrections/vendor"]),
    ],
)
async def test_what_is_wrong_with_an_order_is_named(
    client: httpx.AsyncClient, keys: Keys, rows: Rows, body: Any, pointers: list[str]
) -> None:
    answer = await client.post("/v1/verifications/bulk", json=body, headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == sorted(pointers)
    assert await rows("SELECT 1 FROM bulk_jobs") == []


async def test_to_resolve_takes_an_operator_and_a_decision(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, post: Post, stuck: Stuck, slices: Slices
) -> None:
    """Across tenants, unless one is named."""
    waiting = [(await post(key))["id"] for key in (keys.full, keys.full, keys.other)]
    for id_ in waiting:
        await stuck(id_)
    filter_ = {"waiting_for": "operator"}
    body = {"action": "resolve", "filter": filter_, "resolution": "give_up"}
    refused = await client.post("/v1/verifications/bulk", json=body, headers=keys.full)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    anywhere = await make_operator(gateway)
    for resolution in (None, "found"):
        wrong = await client.post("/v1/verifications/bulk", json={**body, "resolution": resolution}, headers=anywhere)
        assert [error["pointer"] for error in wrong.json()["errors"]] == ["/resolution"]
    assert (await order(client, keys.operator, **body, dry_run=True))["matched"] == 2
    job = await order(client, anywhere, **body)
    assert (job["matched"], job["tenant_id"], job["mode"]) == (3, None, None)
    assert len({one["tenant_id"] for one in job["sample"]}) == 2
    await client.post(f"/v1/verifications/{waiting[0]}/resolve", json={"action": "give_up"}, headers=anywhere)
    await slices()
    assert numbers(await report(client, anywhere, job)) == ("completed", 2, {"not_waiting_for_operator": 1}, {}, 0)
    read = await client.get(f"/v1/verifications/{waiting[2]}", headers=keys.other)
    assert read.json()["failure"]["code"] == "submission_unknown"
    # What operators ordered is theirs.
    assert (await client.get(f"/v1/bulk-jobs/{job['id']}", headers=keys.full)).status_code == 404


async def test_events_are_delivered_once_more(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, post: Post, end: End, slices: Slices, rows: Rows
) -> None:
    await end((await post())["id"])  # before there was an endpoint
    endpoint = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    told, other = (await post())["id"], (await post(keys.other))["id"]
    for id_ in (told, other):
        await end(id_)
    await rows(
        "UPDATE deliveries SET status = 'exhausted', tries = 11, ended_at = now(), due_at = NULL, next_attempt_at = NULL"
        " RETURNING 1"
    )
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["verifications:write"]))
    body = {"action": "redeliver", "filter": {"status": ["completed"]}}
    assert (await client.post("/v1/verifications/bulk", json=body, headers=writer)).status_code == 403
    job = await order(client, keys.full, **body)
    assert [one["id"] for one in job["sample"]] == [told]
    before = counted("covergate_webhook_redeliveries_total", kind="bulk")
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 1, {}, {}, 0)
    assert counted("covergate_webhook_redeliveries_total", kind="bulk") == before + 1
    [delivery] = await rows("SELECT id, status, tries, due_at FROM deliveries")
    assert (delivery.status, delivery.tries) == ("pending", 0) and delivery.due_at is not None
    log = await rows("SELECT subject_id FROM audit_events WHERE action = 'delivery.redeliver'")
    assert [row.subject_id for row in log] == [delivery.id]
    await client.patch(f"/v1/webhook-endpoints/{endpoint.json()['id']}", json={"status": "disabled"}, headers=keys.full)
    job = await order(client, keys.full, **body)
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 0, {"nothing_to_deliver": 1}, {}, 0)


async def test_it_stops_on_request_and_what_was_done_stays_done(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    job = await order(client, keys.full, action="resubmit", filter=FAILED)
    stopped = await client.post(f"/v1/bulk-jobs/{job['id']}/cancel", headers=keys.full)
    assert (stopped.status_code, numbers(stopped.json())) == (200, ("canceled", 0, {}, {}, 3))
    again = await client.post(f"/v1/bulk-jobs/{job['id']}/cancel", headers=keys.full)
    assert again.json() == stopped.json()
    assert await slices() == 0 and await retries(rows) == []
    log = await rows("SELECT 1 FROM audit_events WHERE action = 'bulk_job.stop' AND outcome = 'allowed'")
    assert len(log) == 1


async def test_a_job_is_stopped_between_two_verifications(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, three: list[str], rows: Rows, one_by_one: None
) -> None:
    job = await order(client, keys.full, action="resubmit", filter=FAILED)
    [claimed] = await BulkQueue(gateway).claim(())
    await BulkWork(gateway, lambda: False).do(replace(claimed, step=claimed.step - 1))  # somebody else's by now
    assert await retries(rows) == []
    asked = iter([False, True])
    await BulkWork(gateway, lambda: next(asked)).do(claimed)  # the worker ends after the first
    assert numbers(await report(client, keys.full, job)) == ("running", 1, {}, {}, 2)
    await client.post(f"/v1/bulk-jobs/{job['id']}/cancel", headers=keys.full)
    await BulkWork(gateway, lambda: False).do(claimed)
    assert numbers(await report(client, keys.full, job)) == ("canceled", 1, {}, {}, 2)
    assert len(await retries(rows)) == 1


async def test_a_stop_amid_a_slice_is_heard_before_the_next_verification(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, post: Post, rows: Rows, one_by_one: None
) -> None:
    first, *_ = [(await post())["id"] for _ in range(3)]
    job = await order(client, keys.full, action="cancel", filter={"status": ["queued"]})
    [claimed] = await BulkQueue(gateway).claim(())
    async with gateway.transaction() as db:
        await store.lock(db, gateway.sealer, [first])
        slice_ = asyncio.create_task(BulkWork(gateway, lambda: False).do(claimed))

        async def waits() -> bool:
            return bool(await rows("SELECT 1 FROM pg_locks WHERE NOT granted"))

        await eventually(waits)
        await client.post(f"/v1/bulk-jobs/{job['id']}/cancel", headers=keys.full)
    await slice_
    assert numbers(await report(client, keys.full, job)) == ("canceled", 1, {}, {}, 2)
    assert [row.id for row in await rows("SELECT id FROM verifications WHERE status = 'canceled'")] == [first]


async def test_it_goes_as_slowly_as_the_tenants_quota_says_and_leaves_half_of_it(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, post: Post, end: End, rows: Rows
) -> None:
    for _ in range(7):
        await end((await post())["id"], FailureCode.VENDOR_UNAVAILABLE)
    slow = replace(gateway, settings=gateway.settings.model_copy(update={"creates_per_second": 1}))  # ten at once
    queue, work = BulkQueue(slow), BulkWork(slow, lambda: False, 60.0)
    job = await order(client, keys.full, action="resubmit", filter=FAILED)
    [claimed] = await queue.claim(())
    await work.do(claimed)
    assert numbers(await report(client, keys.full, job)) == ("running", 5, {}, {}, 2)
    assert await queue.claim(()) == []  # it waits for its turn
    [row] = await rows("SELECT due_at - clock_timestamp() AS left FROM bulk_jobs")
    assert 0 < row.left.total_seconds() <= 2
    await rows("UPDATE bulk_jobs SET due_at = now() RETURNING 1")
    [claimed] = await queue.claim(())
    await BulkWork(slow, lambda: False, 60.0).do(claimed)  # another process, whose bucket is full
    assert numbers(await report(client, keys.full, job)) == ("completed", 7, {}, {}, 0)


async def test_only_the_tenants_own(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    for stranger in (keys.other, keys.live):
        assert (await order(client, stranger, action="resubmit", filter=FAILED, dry_run=True))["matched"] == 0
        named = {"family": three[0]}
        job = await order(client, stranger, action="resubmit", filter=named)
        assert job["matched"] == 0
        assert (await client.get(f"/v1/bulk-jobs/{job['id']}", headers=keys.full)).status_code == 404
    listed = await client.get("/v1/bulk-jobs", headers=keys.other)
    assert [row["action"] for row in listed.json()["data"]] == ["resubmit"] * 2
    assert (await client.get("/v1/bulk-jobs", headers=keys.full)).json()["data"] == []
    for unknown in ("nothing", ids.new(ids.BULK_JOB)):
        assert (await client.get(f"/v1/bulk-jobs/{unknown}", headers=keys.full)).status_code == 404
    while await slices():
        continue
    assert await retries(rows) == []


async def test_a_writer_sees_no_phi_and_may_not_probe_with_dates(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, three: list[str], slices: Slices
) -> None:
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["verifications:write"]))
    for headers in (writer, keys.operator):
        probing = {"action": "resubmit", "filter": FAILED, "corrections": {"/service/date": "1990-09-19"}}
        refused = await client.post("/v1/verifications/bulk", json=probing, headers=headers)
        assert [error["code"] for error in refused.json()["errors"]] == ["not_allowed"]
        job = await order(client, headers, action="resubmit", filter=FAILED, again=True)
        await slices()
        shown = await client.get(f"/v1/bulk-jobs/{job['id']}", headers=headers)
        assert numbers(shown.json())[:2] == ("completed", 3)
        for phi in ("Jane", "Sample", "1990", "ELIGIBLE", "60054", "Aetna"):
            assert phi not in shown.text + refused.text


async def test_what_is_wrong_inside_with_one_does_not_stop_the_others(
    client: httpx.AsyncClient, keys: Keys, three: list[str], slices: Slices, rows: Rows
) -> None:
    """And corrections that do not open ask nothing."""
    await rows("UPDATE verifications SET metadata = '[]' WHERE id = :id RETURNING 1", id=three[1])
    job = await order(client, keys.full, action="resubmit", filter=FAILED)
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 2, {}, {"invalid_request": 1}, 0)
    job = await order(client, keys.full, action="resubmit", filter=FAILED, again=True, corrections={"/vendor": "vsee"})
    await rows("UPDATE bulk_jobs SET corrections_sealed = '\\x00' WHERE id = :id RETURNING 1", id=job["id"])
    await slices()
    assert numbers(await report(client, keys.full, job)) == ("completed", 0, {"inquiry_erased": 3}, {}, 0)
