"""The SSN leaves the sealed inquiry as soon as the gateway itself can submit nothing more."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors import VENDORS
from covergate.vendors.flow import Question
from covergate.verifications.cancel import cancel
from covergate.verifications.operator import Resolution, resolve
from tests.support.engine import Engine
from tests.support.gateways import CALLER, TENANT
from tests.support.requests import PATIENT, REQUEST
from tests.support.sealed import columns_telling
from tests.support.sweeps import sweep
from tests.support.wire import ACTIVE, POLL, SUBMIT, SUBMITTED, Reply, Wire

SSN, SUBSCRIBERS_SSN = "987650001", "987650002"
WITH_SSN: dict[str, Any] = {
    "patient": {**PATIENT, "ssn": SSN},
    "subscriber": {
        "patient_relationship": "spouse",
        "first_name": "John",
        "last_name": "Sample",
        "date_of_birth": "1988-02-11",
        "ssn": SUBSCRIBERS_SSN,
    },
}
SOHAR_TOO = {"vendor": None, "routing": {"vendors": ["integrex", "sohar"], "allow_second_submission": True}}
DOWN: Reply = (200, {"requestStatusCode": "42"})


async def kept(engine: Engine) -> bool:
    return await columns_telling(engine.gateway, SSN, SUBSCRIBERS_SSN) != set()


async def test_it_leaves_with_the_step_in_which_the_submission_was_answered(engine: Engine, wire: Wire) -> None:
    bodies: list[dict[str, Any]] = []

    def submitted(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(*SUBMITTED[:1], json=SUBMITTED[1])

    wire.on(SUBMIT, submitted)
    id_ = await engine.create(**WITH_SSN)
    assert await kept(engine)
    await engine.step()
    assert (bodies[0]["patientSsn"], bodies[0]["subscriberSsn"]) == (SSN, SUBSCRIBERS_SSN)
    assert not await kept(engine)
    shown = (await engine.view(id_))["inquiry"]
    assert (shown["patient"]["member_id"], shown["subscriber"]["first_name"]) == (PATIENT["member_id"], "John")
    await engine.run_all()
    assert (await engine.view(id_))["outcome"] == "eligible"


async def test_without_one_nothing_is_sealed_anew(engine: Engine) -> None:
    await engine.create()
    [before] = await engine.rows(
        "SELECT inquiry_sealed, holds_ssn FROM verifications JOIN work ON verification_id = id"
    )
    assert not before.holds_ssn
    await engine.run_all()
    [after] = await engine.rows("SELECT inquiry_sealed FROM verifications")
    assert before.inquiry_sealed == after.inquiry_sealed


async def test_it_stays_while_the_submission_may_be_made_again(engine: Engine, wire: Wire) -> None:
    """The payer is down, and `payer_retries` are left; with the last one it leaves."""
    bodies: list[dict[str, Any]] = []

    def submitted(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=SUBMITTED[1])

    wire.on(SUBMIT, submitted).on(POLL, DOWN, (202, {}), (200, ACTIVE))
    await engine.create(**WITH_SSN, routing={"payer_retries": 1})
    await engine.step()
    assert await kept(engine)
    await engine.step()
    assert await kept(engine)
    await engine.step()
    assert [body["patientSsn"] for body in bodies] == [SSN, SSN]
    assert not await kept(engine)


async def test_it_stays_for_a_second_vendor_that_may_be_paid(engine: Engine) -> None:
    id_ = await engine.create(**{**WITH_SSN, **SOHAR_TOO, "subscriber": None})
    await engine.step()
    assert await kept(engine)
    await engine.run_all()
    assert (await engine.view(id_))["status"] == "completed"
    assert not await kept(engine)


@pytest.mark.parametrize("end", ["canceled", "deadline", "refused"])
async def test_it_leaves_at_every_end(engine: Engine, wire: Wire, end: str) -> None:
    wire.on(SUBMIT, (400, {"error": "no"}))
    id_ = await engine.create(**WITH_SSN)
    if end == "canceled":
        await cancel(engine.gateway, CALLER, id_)
    elif end == "deadline":
        await engine.run_sql("UPDATE work SET deadline = now(), next_check_at = now()")
        await sweep(engine.gateway)
    else:
        await engine.step()
    assert (await engine.view(id_))["status"] in ("canceled", "failed")
    assert not await kept(engine)


async def test_it_leaves_with_an_answer_that_is_taken_over(engine: Engine) -> None:
    await engine.create(**WITH_SSN)
    follower = await engine.create(**WITH_SSN, max_age=60)
    assert await kept(engine)
    await engine.run_all()
    assert (await engine.view(follower))["reused_from"] is not None
    assert not await kept(engine)


async def test_what_older_code_accepted_loses_it_too(engine: Engine) -> None:
    await engine.create(**WITH_SSN)
    await engine.run_sql("UPDATE work SET holds_ssn = DEFAULT")
    await engine.run_all()
    assert not await kept(engine)


async def test_what_an_operator_has_submitted_again_lacks_it_and_says_so(engine: Engine, wire: Wire) -> None:
    bodies: list[dict[str, Any]] = []

    def submitted(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=SUBMITTED[1])

    wire.on(SUBMIT, submitted)
    id_ = await engine.create(**WITH_SSN)
    await engine.step()
    await engine.run_sql("UPDATE work SET waiting_for = 'operator'")
    await resolve(engine.gateway, CALLER, id_, Resolution.RESUBMIT)
    assert (await engine.entries(id_))[-1]["message"] == (
        "an operator had it submitted again, without the SSN: it is not kept once it was submitted"
    )
    assert {"/patient/ssn", "/subscriber/ssn"} <= {*(await engine.view(id_))["not_asked"]}
    await engine.step()
    assert ["patientSsn" in body for body in bodies] == [True, False]


async def test_while_it_is_there_an_operator_has_all_of_it_submitted_again(engine: Engine, wire: Wire) -> None:
    wire.on(SUBMIT, httpx.RemoteProtocolError("cut"))
    id_ = await engine.create(**WITH_SSN)
    await engine.step()
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    await engine.step()
    assert (await engine.view(id_))["waiting_for"]["kind"] == "operator"
    await resolve(engine.gateway, CALLER, id_, Resolution.RESUBMIT)
    assert "SSN" not in (await engine.entries(id_))[-1]["message"]
    assert await kept(engine)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_no_vendor_needs_it_to_look_again(engine: Engine, vendor: str) -> None:
    """Or it could not leave when it was submitted."""
    spec = VENDORS[vendor]
    flows: list[Any] = []
    for with_ssn in (True, False):
        patient = {**PATIENT, "ssn": SSN if with_ssn else None}
        inquiry = Inquiry.model_validate(
            {name: REQUEST[name] for name in ("payer", "provider", "service")} | {"patient": patient}
        )
        account = engine.gateway.account(TENANT, "test", vendor)
        assert account is not None
        now = (await engine.rows("SELECT now() AS now"))[0].now
        question = Question(
            inquiry.resolved(now), spec.options(), account.connection, "att_1", "p", "p", now, submitted_at=now
        )
        looks: list[Any] = [spec.check(question, "1:2")] if spec.check else []
        looks += [spec.find(question)] if spec.find else []
        flows.append([repr(next(flow)) for flow in looks])
    assert flows[0] == flows[1]


@pytest.mark.parametrize("end", ["step", "deadline", "canceled"])
async def test_an_inquiry_that_does_not_open_ends_all_the_same(engine: Engine, end: str) -> None:
    broken, whole = await engine.create(**WITH_SSN), await engine.create(**WITH_SSN)
    await engine.run_sql("UPDATE verifications SET inquiry_sealed = '\\x0301' WHERE id = :id", id=broken)
    if end == "step":
        await engine.step(broken)
    elif end == "deadline":
        await engine.run_sql("UPDATE work SET deadline = now(), next_check_at = now()")
        await sweep(engine.gateway)
    else:
        await cancel(engine.gateway, CALLER, broken)
        await cancel(engine.gateway, CALLER, whole)
    shown = await engine.view(broken)
    assert (shown["status"], shown["unreadable"]) == ("canceled" if end == "canceled" else "failed", ["inquiry"])
    await engine.run_all()
    assert not await engine.rows("SELECT 1 FROM work")
