"""Routes, second submissions, operators' decisions: who is asked after a failure, and who is not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from covergate.eligibility.failure import FailureCode
from covergate.errors import Problem
from covergate.verifications import engine as steps
from covergate.verifications.operator import Resolution, resolve
from covergate.verifications.policy import REMEDIES, Remedy
from covergate.verifications.vendor_events import receive
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.postgres import make_sealer
from tests.support.sohar import READ as READ_SOHAR
from tests.support.sohar import REF, event
from tests.support.sohar import SUBMIT as SOHAR
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, Answer, Gate, Wire

ROUTE: dict[str, Any] = {"vendor": None, "routing": {"vendors": ["sohar", "integrex"]}}
PAID: dict[str, Any] = {
    "vendor": None,
    "routing": {"vendors": ["sohar", "integrex"], "allow_second_submission": True},
}


@pytest.fixture
def wire() -> Wire:
    return (
        Wire()
        .on(SOHAR, (201, {"verificationId": REF}))
        .on(READ_SOHAR, (200, {"verificationId": REF, "status": "pending"}))
        .on(SUBMIT, (200, {"id": "1"}))
        .on(POLL, (200, ACTIVE))
    )


def test_every_failure_code_has_its_ways_out() -> None:
    assert set(REMEDIES) == set(FailureCode)
    for code, cells in REMEDIES.items():
        for ways in cells:
            assert ways[-1] in (Remedy.STOP, Remedy.RETRY, Remedy.OPERATOR), code  # the last is always possible


@pytest.mark.parametrize(
    "answer", [(429, {}), (403, {}), (400, {"error": "invalid_request_error", "param": "payerId"})]
)
async def test_trouble_before_the_submission_goes_to_the_next_vendor_at_once(
    engine: Engine, wire: Wire, answer: Answer
) -> None:
    wire.on(SOHAR, answer)
    id_ = await engine.create(**ROUTE)
    await engine.step()
    view = await engine.view(id_)
    assert (view["vendor"], [row["state"] for row in view["attempts"]]) == ("integrex", ["failed", "preparing"])
    assert "/service/place_of_service_code" in view["not_asked"]  # Integrex has no place for it
    assert (await engine.rows("SELECT next_check_at <= clock_timestamp() AS due FROM work"))[0].due
    await engine.step()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["outcome"]) == ("completed", "eligible")
    assert wire.calls[-2:] == [SUBMIT, POLL]


@pytest.mark.parametrize("status", ["error.member.id", "error.payer", "error.payer.npi"])
async def test_a_payers_refusal_ends_it(engine: Engine, wire: Wire, status: str) -> None:
    wire.on(READ_SOHAR, (200, {"verificationId": REF, "status": status}))
    id_ = await engine.create(**PAID)
    await engine.step()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], len(view["attempts"])) == ("failed", 1)


async def test_payer_retries_resubmit_under_another_name(engine: Engine, wire: Wire) -> None:
    wire.on(READ_SOHAR, (200, {"verificationId": REF, "status": "error.payer"}))
    id_ = await engine.create(vendor="sohar", routing={"payer_retries": 1})
    for _ in range(4):
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "payer_unavailable")
    assert [row["failure_code"] for row in view["attempts"]] == ["payer_unavailable", "payer_unavailable"]
    assert wire.calls.count(SOHAR) == 2


async def lost(engine: Engine, wire: Wire, **changes: Any) -> str:
    """A verification whose submission to Sohar lost its reply, past the time to look it up."""
    wire.on(SOHAR, httpx.RemoteProtocolError("cut"))
    id_ = await engine.create(**changes)
    await engine.step(id_)
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    await engine.step(id_)
    return id_


async def test_a_second_vendor_is_paid_only_if_allowed(engine: Engine, wire: Wire) -> None:
    view = await engine.view(await lost(engine, wire, **ROUTE))
    assert (view["vendor"], view["waiting_for"]["kind"]) == ("sohar", "operator")
    view = await engine.view(await lost(engine, wire, **PAID))
    assert (view["vendor"], view["attempts"][0]["failure_code"]) == ("integrex", "submission_unknown")


async def test_an_operator_has_it_submitted_again(engine: Engine, wire: Wire) -> None:
    id_ = await lost(engine, wire, vendor="sohar")
    echoes: list[str] = []

    def again(request: httpx.Request) -> httpx.Response:
        echoes.append(json.loads(request.content)["id"])
        return httpx.Response(201, json={"verificationId": REF})

    wire.on(SOHAR, again)
    await resolve(engine.gateway, CALLER, id_, Resolution.RESUBMIT)
    assert await engine.work.steps(within_seconds=0) == [id_]
    await engine.step()
    view = await engine.view(id_)
    assert [row["state"] for row in view["attempts"]] == ["failed", "waiting"]
    assert echoes == [view["attempts"][1]["id"]]  # the vendor can tell it from the first
    assert view["waiting_for"]["kind"] == "vendor"


async def test_an_operator_gives_up(engine: Engine, wire: Wire) -> None:
    id_ = await lost(engine, wire, vendor="sohar")
    await resolve(engine.gateway, CALLER, id_, Resolution.GIVE_UP)
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "submission_unknown")
    assert await engine.events() == ["verification.needs_attention", "verification.failed"]


@pytest.mark.parametrize(("allowed", "vendor"), [(True, "integrex"), (False, "health_harbor")])
async def test_a_look_up_that_keeps_failing_pays_a_second_vendor_only_if_allowed(
    engine: Engine, wire: Wire, allowed: bool, vendor: str
) -> None:
    api = "/health_harbor/api/v0"
    wire.on(f"POST {api}/mental_health/batch_inquiries", httpx.RemoteProtocolError("cut"))
    wire.on(f"GET {api}/mental_health/inquiries", (503, {}))
    id_ = await engine.create(
        vendor=None,
        provider={"npi": "1234567893", "tax_id": "123456789"},
        routing={"vendors": ["health_harbor", "integrex"], "allow_second_submission": allowed},
    )
    await engine.step()
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    for _ in range(6):
        await engine.step()
    view = await engine.view(id_)
    assert (view["vendor"], view["status"]) == (vendor, "in_progress")
    assert wire.calls.count(f"POST {api}/mental_health/batch_inquiries") == 1
    assert wire.calls.count(f"GET {api}/mental_health/inquiries") == 6


async def test_an_operator_resolves_in_a_process_that_knows_nothing_of_the_tenant(engine: Engine, wire: Wire) -> None:
    """No caller of the tenant's has ever asked there, so its keys have to be fetched."""
    id_ = await lost(engine, wire, vendor="sohar")
    database = replace(engine.gateway.database, sealer=make_sealer())
    await resolve(replace(engine.gateway, database=database), CALLER, id_, Resolution.RESUBMIT)
    assert await engine.work.steps(within_seconds=0) == [id_]


async def test_nothing_to_resolve(engine: Engine) -> None:
    id_ = await engine.create()
    with pytest.raises(Problem) as refused:
        await resolve(engine.gateway, CALLER, id_, Resolution.RESUBMIT)
    assert (refused.value.status, refused.value.code) == (409, "not_waiting_for_operator")
    assert "queued" in refused.value.detail


async def test_news_of_an_attempt_that_was_given_up_is_only_noted(engine: Engine, wire: Wire) -> None:
    id_ = await lost(engine, wire, **PAID)
    first = (await engine.view(id_))["attempts"][0]["id"]
    assert await receive(engine.gateway, "sohar", event(first)) == 1
    view = await engine.view(id_)
    assert (view["vendor"], view["status"]) == ("integrex", "in_progress")
    assert "vendor_event" in await engine.timeline(id_)


async def test_the_reply_to_an_attempt_that_was_given_up_is_not_the_next_ones(engine: Engine, wire: Wire) -> None:
    """Its worker was paused, and an operator had it submitted again meanwhile."""
    gate = Gate(200, {"id": "9"})
    wire.on(SUBMIT, gate, (200, {"id": "10"}))
    id_ = await engine.create()
    paused = asyncio.create_task(engine.advance(await engine.take()))
    await eventually(lambda: wire.calls == [SUBMIT])
    await engine.end_leases()
    await engine.run_sql("UPDATE work SET lookup_after = now()")
    await engine.step()
    await resolve(engine.gateway, CALLER, id_, Resolution.RESUBMIT)
    gate.opened.set()
    await paused
    attempts = [(row["vendor_ref"], row["state"]) for row in (await engine.view(id_))["attempts"]]
    assert attempts == [("9", "failed"), (None, "preparing")]
    assert (await engine.timeline(id_))[-1] == "stray_reply"
    await engine.step()
    assert (await engine.view(id_))["attempts"][1]["vendor_ref"] == "10"


@pytest.mark.parametrize(
    ("routing", "code", "pointer"),
    [
        ({"vendors": ["nobody"]}, "invalid_request", "/routing/vendors/0"),
        ({"vendors": ["sohar", "sohar"]}, "invalid_request", "/routing/vendors/1"),
        (
            {"vendors": ["sohar"], "allow_second_submission": True},
            "invalid_request",
            "/routing/allow_second_submission",
        ),
    ],
)
async def test_routes_that_cannot_be(engine: Engine, routing: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(Problem) as refused:
        await engine.create(vendor=None, routing=routing)
    assert refused.value.code == code
    assert pointer in [error.pointer for error in refused.value.errors]


async def test_a_route_skips_who_cannot_answer_and_says_why(engine: Engine) -> None:
    """Sohar needs state, place of service and specialty."""
    id_ = await engine.create(
        vendor=None,
        routing={"vendors": ["sohar", "integrex"]},
        service={"place_of_service_code": "10"},
    )
    assert (await engine.view(id_))["vendor"] == "integrex"
    entries = await engine.entries(id_)
    assert entries[0]["message"] == "accepted; asking integrex; not sohar: /service/specialty required"
    with pytest.raises(Problem) as refused:
        await engine.create(vendor=None, routing={"vendors": ["sohar"]}, service={"place_of_service_code": "10"})
    assert refused.value.code == "no_vendor_available"
    assert refused.value.errors[0].vendor == "sohar"


def without(engine: Engine, vendor: str) -> Engine:
    """The same after a restart without the vendor's credentials."""
    left = {key: value for key, value in engine.gateway.connections.items() if key != ("test", vendor)}
    gateway = replace(engine.gateway, connections=left)
    return Engine(gateway, steps.Engine(gateway, engine.steps.transport, engine.breakers))


async def test_a_vendor_that_was_disabled_hands_over_to_the_next_one(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create(**ROUTE)
    await without(engine, "sohar").run_all()
    view = await engine.view(id_)
    assert (view["status"], view["vendor"]) == ("completed", "integrex")
    assert "/service/place_of_service_code" in view["not_asked"]
    assert SOHAR not in wire.calls


async def test_what_a_disabled_vendor_has_stays_with_it(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create(**ROUTE)
    await engine.step()
    await without(engine, "sohar").step()
    view = await engine.view(id_)
    assert (view["vendor"], view["waiting_for"]["kind"]) == ("sohar", "vendor_retry")
    assert SUBMIT not in wire.calls


@pytest.mark.parametrize(("route", "vendor"), [(["gone", "integrex"], "integrex"), (["gone"], "sohar")])
async def test_a_vendor_that_was_taken_out_of_the_registry_is_skipped(
    engine: Engine, wire: Wire, route: list[str], vendor: str
) -> None:
    wire.on(SOHAR, (429, {}))
    id_ = await engine.create(**ROUTE)
    await engine.run_sql("UPDATE work SET route = :route", route=route)
    await engine.step()
    view = await engine.view(id_)
    assert (view["vendor"], view["status"]) == (vendor, "in_progress")
