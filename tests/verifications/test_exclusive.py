"""Vendors that keep one record of a patient: one open check at a time, also of two verifications at the same moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from covergate.verifications.cancel import cancel
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.requests import FOR_VSEE

CHECK = "POST /vsee/api_v3/users/132407/car7551/eligibility"
USER = {"id": "132407", "token": {"token": "t", "user_id": "132407", "expiry": 4102444800}}


class VSee:
    """The vendor's side, as little of it as a submission needs."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stored: dict[str, str] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        if request.url.path.endswith("/eligibility"):
            return httpx.Response(200, json={"data": {"eligibility_id": "2505465", "carrier_code": "car7551"}})
        sent = json.loads(request.content) if request.url.path.endswith("/me") else {}
        self.stored |= {name.removeprefix("primary_"): value for name, value in sent.get("insurance", {}).items()}
        return httpx.Response(200, json={"data": {**USER, "insurance": {"primary": self.stored}}})


@pytest.fixture
def wire() -> VSee:
    return VSee()


def asked(first_name: str = "Jane", **changes: str) -> dict[str, Any]:
    return {**FOR_VSEE, "patient": {**FOR_VSEE["patient"], "first_name": first_name, **changes}}


@pytest.mark.parametrize("changes", [{}, {"first_name": " JANE "}])
async def test_the_second_waits_for_its_turn(engine: Engine, wire: VSee, changes: dict[str, str]) -> None:
    first, second = await engine.create(**asked()), await engine.create(**asked(**changes))
    claims = [await engine.take(), await engine.take()]
    await asyncio.gather(*(engine.advance(claimed) for claimed in claims))
    assert wire.calls.count(CHECK) == 1
    states = [(await engine.view(id_))["attempts"][0]["state"] for id_ in (first, second)]
    assert sorted(states) == ["preparing", "waiting"]
    submitted, waiting = (first, second) if states[0] == "waiting" else (second, first)
    assert (await engine.timeline(waiting))[-1] == "waiting_for_turn"
    await cancel(engine.gateway, CALLER, submitted)
    while (await engine.view(waiting))["attempts"][0]["state"] == "preparing":
        await engine.step(waiting)
    assert wire.calls.count(CHECK) == 2


ROUTE: dict[str, Any] = {"vendor": None, "routing": {"vendors": ["vsee", "integrex"]}}


@pytest.mark.parametrize(
    ("waiting_for", "minutes", "vendor"),
    [("operator", 0, "integrex"), ("vendor", 4, "vsee"), ("vendor", 6, "integrex"), ("vendor_retry", 6, "integrex")],
)
async def test_a_check_that_is_stuck_does_not_keep_another_from_its_next_vendor(
    engine: Engine, waiting_for: str, minutes: int, vendor: str
) -> None:
    first = await engine.create(**asked())
    await engine.step()
    second = await engine.create(**{**asked(), **ROUTE})
    await engine.run_sql(
        "UPDATE work SET waiting_for = :w, waiting_since = clock_timestamp() - make_interval(mins => :m)"
        " WHERE verification_id = :id",
        w=waiting_for,
        m=minutes,
        id=first,
    )
    await engine.step(second)
    view = await engine.view(second)
    assert (view["vendor"], view["status"]) == (vendor, "in_progress")


async def test_without_another_vendor_it_goes_on_waiting(engine: Engine) -> None:
    first = await engine.create(**asked())
    await engine.step()
    second = await engine.create(**asked())
    await engine.run_sql("UPDATE work SET waiting_for = 'operator' WHERE verification_id = :id", id=first)
    await engine.step(second)
    assert (await engine.timeline(second))[-1] == "waiting_for_turn"


async def test_another_patient_need_not_wait(engine: Engine, wire: VSee) -> None:
    for name in ("Jane", "John"):
        await engine.step(await engine.create(**asked(name)))
    assert wire.calls.count(CHECK) == 2


class Healthie:
    """The vendor's side as far as the policy, which is refused. The first search is answered late: `release` it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.users: list[dict[str, Any]] = []
        self.searched, self.release = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)
        self.asked.append(sent["operationName"])
        match sent:
            case {"operationName": "findPatients"}:
                data: dict[str, Any] = {"users": list(self.users)}
                if not self.searched.is_set():
                    self.searched.set()
                    await self.release.wait()
            case {"operationName": "createPatient", "variables": made}:
                user = {"id": str(7 + len(self.users)), "policies": [], **made}
                self.users.append(user)
                data = {"createClient": {"user": user, "messages": None}}
            case _:
                data = {"updateClient": {"messages": [{"field": "policies", "message": "no"}]}}
        return httpx.Response(200, json={"data": data})


async def asked_of_healthie(engine: Engine, member_id: str) -> str:
    patient = {**FOR_VSEE["patient"], "member_id": member_id}
    options = {"healthie": {"insurance_plan_id": "102"}}
    return await engine.create(vendor="healthie", vendor_options=options, patient=patient)


@pytest.mark.parametrize("wire", [Healthie()])
async def test_the_record_of_a_person_is_made_once_whichever_numbers_are_asked_about(
    engine: Engine, wire: Healthie
) -> None:
    first, second = await asked_of_healthie(engine, "W1"), await asked_of_healthie(engine, "W2")
    searching = asyncio.create_task(engine.advance(await engine.take(first)))
    await wire.searched.wait()
    await engine.step(second)
    wire.release.set()
    await searching
    while (await engine.view(second))["attempts"][0]["state"] == "preparing":
        await engine.step(second)
    assert (len(wire.users), wire.asked.count("writePolicy")) == (1, 2)
