"""Whose record a caller may name at a vendor: nobody else's is read, kept or written to, whatever the options say.

The vendor is the simulated Healthie over real HTTP, and it holds another clinic's patient.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson
import pytest

from covergate.access.api_keys import create_key
from covergate.access.caller import Caller
from covergate.db.database import Database
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.vendors.account import VendorAccount
from covergate.vendors.healthie.documents import CREATE_PATIENT, FIND_PATIENTS, READ_PATIENT, WRITE_POLICY
from covergate.vendors.healthie.graphql import operation
from covergate.verifications import engine as engines
from covergate.verifications.create import Acceptance
from covergate.verifications.operator import Resolution, resolve
from covergate.verifications.queries import read_raw, read_timeline
from covergate.verifications.request import CreateVerification
from tests.support.engine import Engine, running_engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT, make_gateway
from tests.support.requests import PATIENT, REQUEST
from tests.support.sandboxes import Sandbox, sandboxes

VICTIM = {"first_name": "Quendolyn", "last_name": "Unmistakable", "dob": "1971-02-03"}
VICTIMS_MEMBER_ID = "ELIGIBLEVICTIM"
OF_THE_VICTIM = ("Quendolyn", "Unmistakable", "1971", "VICTIM", "QUENDOLYN", "UNMISTAKABLE")
ASKED: dict[str, Any] = {"vendor": "healthie", "patient": {**PATIENT, "member_id": "ELIGIBLE0001"}}


@dataclass
class Clinic:
    """The sandbox's account, and the engine whose tenants share it."""

    engine: Engine
    sandbox: Sandbox
    victim: str
    """The id of the other clinic's patient."""
    policy: str

    async def ask(self, document: str, **variables: Any) -> Any:
        body = operation(document, variables).json
        headers = {"authorization": f"Basic {self.sandbox.world.settings.secret}", "authorizationsource": "API"}
        answer = await self.sandbox.http.post("/healthie/graphql", json=body, headers=headers)
        return answer.json()["data"]

    async def record(self, id_: str | None = None) -> Any:
        return await self.ask(READ_PATIENT, id=id_ or self.victim)

    async def own_record(self) -> str:
        """The id of a record that the clinic itself has of the asked patient."""
        person = {"first_name": "Jane", "last_name": "Sample", "dob": "1990-02-03"}
        made = await self.ask(CREATE_PATIENT, **person, record_identifier="chart-9")
        return str(made["createClient"]["user"]["id"])

    async def exchanges(self, verification_id: str) -> list[Any]:
        raw = await read_raw(self.engine.gateway, CALLER, verification_id)
        return list(orjson.loads(orjson.dumps(raw))["exchanges"])

    async def create(self, **options: Any) -> str:
        return await self.engine.create(**ASKED, vendor_options={"healthie": options})

    async def leave_only_one_tenant(self) -> None:
        await self.engine.run_sql("DELETE FROM tenants WHERE id = :id", id=OTHER_TENANT)
        self.engine.gateway.tenancy.forget()

    async def add_tenant(self) -> None:
        """As the command does, and as a process hears of it."""
        await create_key(self.engine.gateway, tenant="A third clinic", mode="test")
        self.engine.gateway.tenancy.forget()

    async def run(self, verification_id: str) -> dict[str, Any]:
        """The verification once its next steps are made."""
        await self.engine.run_all()
        return await self.engine.view(verification_id)

    async def everything_kept(self, verification_id: str) -> str:
        """What a caller can read of it, in one text."""
        gateway = self.engine.gateway
        raw = await read_raw(gateway, CALLER, verification_id)
        timeline = await read_timeline(gateway, CALLER, verification_id, 0, 100)
        view = await self.engine.view(verification_id)
        view.pop("inquiry")
        return orjson.dumps([raw, timeline.data, view], default=str).decode()


@pytest.fixture
async def clinic(database: Database) -> AsyncIterator[Clinic]:
    async with sandboxes() as start:
        sandbox = await start(delay_seconds=0.0)
        gateway = await make_gateway(
            database, sandbox_url=str(sandbox.http.base_url), sandbox_secret=sandbox.world.settings.secret
        )
        breakers = CircuitBreakers(gateway)
        async with Transport(allow_private_network=True, ended=breakers.count) as transport:
            engine = Engine(gateway, engines.Engine(gateway, transport, breakers))
            clinic = Clinic(engine, sandbox, "", "")
            made = await clinic.ask(CREATE_PATIENT, **VICTIM, record_identifier="their own")
            clinic.victim = made["createClient"]["user"]["id"]
            policy = {"num": VICTIMS_MEMBER_ID, "insurance_plan_id": "102", "priority_type": "Primary"}
            written = await clinic.ask(WRITE_POLICY, id=clinic.victim, policies=[policy])
            clinic.policy = written["updateClient"]["user"]["policies"][0]["id"]
            yield clinic


async def test_no_record_may_be_named_in_a_shared_account(clinic: Clinic) -> None:
    before = await clinic.record()
    options = {"user_id": clinic.victim, "policy_id": clinic.policy, "dietitian_id": "1001"}
    with pytest.raises(Problem) as refused:
        await clinic.create(**options)
    assert refused.value.code == "invalid_request"
    assert [(error.pointer, error.code, error.vendor) for error in refused.value.errors] == [
        (f"/vendor_options/healthie/{name}", "not_allowed", "healthie") for name in options
    ]
    assert await clinic.engine.due() == []
    assert await clinic.record() == before


async def test_nor_for_a_vendor_that_is_not_asked(clinic: Clinic) -> None:
    with pytest.raises(Problem) as refused:
        await clinic.engine.create(vendor_options={"healthie": {"user_id": clinic.victim}})
    assert [error.pointer for error in refused.value.errors] == ["/vendor_options/healthie/user_id"]


async def test_what_names_no_record_may_be_said_in_a_shared_account(clinic: Clinic) -> None:
    id_ = await clinic.create(insurance_plan_id="102")
    assert (await clinic.run(id_))["outcome"] == "eligible"


async def test_knowing_the_patient_does_not_help_in_a_shared_account(clinic: Clinic) -> None:
    """Name and birth date of another clinic's patient, to have an insurance of one's own written into the record."""
    await clinic.leave_only_one_tenant()
    known = {"first_name": "Quendolyn", "last_name": "Unmistakable", "date_of_birth": "1971-02-03"}
    asked = {
        **ASKED,
        "patient": {**ASKED["patient"], **known},
        "vendor_options": {"healthie": {"user_id": clinic.victim}},
    }
    accepted_before = await clinic.engine.create(**asked)
    before = await clinic.record()
    await clinic.add_tenant()
    with pytest.raises(Problem):
        await clinic.engine.create(**asked)
    assert (await clinic.run(accepted_before))["failure"]["vendor_code"] == "user_id"
    assert await clinic.record() == before
    assert await clinic.exchanges(accepted_before) == []


@pytest.mark.parametrize("option", ["user_id", "policy_id"])
async def test_an_account_that_became_shared_since_is_not_read(clinic: Clinic, option: str) -> None:
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(**{option: clinic.victim if option == "user_id" else clinic.policy})
    before = await clinic.record()
    await clinic.add_tenant()
    view = await clinic.run(id_)
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", option)
    assert await clinic.exchanges(id_) == []
    assert await clinic.record() == before


async def test_an_account_of_its_own_since_then_does_not_open_the_shared_one(clinic: Clinic) -> None:
    """The attempt goes on with the account that it began with, which others use by now."""
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(user_id=clinic.victim)
    await clinic.add_tenant()
    gateway = clinic.engine.gateway
    own = VendorAccount("vac_own", TENANT, "healthie", "test", gateway.connections["test", "healthie"])
    gateway.accounts.replace([own])
    assert not await gateway.account_is_shared(TENANT, "test", "healthie")
    view = await clinic.run(id_)
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", "user_id")
    assert await clinic.exchanges(id_) == []


async def test_a_resubmission_in_an_account_that_became_shared_is_not_made(clinic: Clinic) -> None:
    """The first one's reply was lost, and a person has it made again."""
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(user_id=clinic.victim)
    await clinic.engine.run_sql("UPDATE work SET waiting_for = 'operator', waiting_since = now()")
    await clinic.add_tenant()
    operator = replace(CALLER, scopes=frozenset({"operations"}))
    await resolve(clinic.engine.gateway, operator, id_, Resolution.RESUBMIT)
    view = await clinic.run(id_)
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", "user_id")
    assert await clinic.exchanges(id_) == []


@pytest.mark.parametrize("by", ["look-up", "check"])
async def test_a_lost_reply_is_not_looked_for_in_an_account_that_became_shared(clinic: Clinic, by: str) -> None:
    await clinic.leave_only_one_tenant()
    patient = {**ASKED["patient"], "member_id": "NEVER1"}
    named = {"user_id": await clinic.own_record()}
    id_ = await clinic.engine.create(**{**ASKED, "patient": patient}, vendor_options={"healthie": named})
    await clinic.engine.step(id_)
    assert (await clinic.engine.view(id_))["attempts"][0]["state"] == "waiting"
    if by == "look-up":
        await clinic.engine.run_sql(
            "UPDATE work SET vendor_ref = NULL, state = 'submitting', submitted_at = NULL, lookup_after = now()"
        )
    await clinic.add_tenant()
    exchanges = await clinic.exchanges(id_)
    await clinic.engine.step(id_)
    view = await clinic.engine.view(id_)
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", "user_id")
    assert await clinic.exchanges(id_) == exchanges


async def test_an_answer_is_not_taken_over_by_a_request_that_may_not_name_the_record(clinic: Clinic) -> None:
    await clinic.leave_only_one_tenant()
    options = {"healthie": {"user_id": await clinic.own_record()}}
    id_ = await clinic.engine.create(**ASKED, vendor_options=options)
    assert (await clinic.run(id_))["outcome"] == "eligible"
    await clinic.add_tenant()
    with pytest.raises(Problem) as refused:
        await clinic.engine.create(**ASKED, vendor_options=options, max_age=3600)
    assert [error.code for error in refused.value.errors] == ["not_allowed"]


@pytest.mark.parametrize("by", ["user_id", "policy_id", "both"])
async def test_a_record_of_somebody_else_is_neither_kept_nor_written_to(
    clinic: Clinic, capfd: pytest.CaptureFixture[str], by: str
) -> None:
    """In an account of one tenant's own: a wrong id."""
    await clinic.leave_only_one_tenant()
    before = await clinic.record()
    named = {"user_id": {"user_id": clinic.victim}, "policy_id": {"policy_id": clinic.policy}}
    options = named["user_id"] | named["policy_id"] if by == "both" else named[by]
    id_ = await clinic.create(**options)
    view = await clinic.run(id_)
    expected = "policy_id" if by == "policy_id" else "user_id"
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", expected)
    kept = await clinic.everything_kept(id_)
    assert not [word for word in OF_THE_VICTIM if word in kept]
    written = "".join(capfd.readouterr())
    assert not [word for word in OF_THE_VICTIM if word in written]
    assert await clinic.record() == before
    assert [one.vendor for one in clinic.sandbox.world.submissions] == []


async def test_of_a_record_of_somebody_else_the_shape_is_kept(clinic: Clinic) -> None:
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(user_id=clinic.victim, insurance_plan_id="102")
    await clinic.run(id_)
    [exchange] = await clinic.exchanges(id_)
    assert exchange["status"] == 200
    person = {"id": "string", "first_name": "string", "last_name": "string", "dob": "string"}
    assert exchange["body"] == {
        "withheld": "not about the asked patient",
        "shape": {"data": {"user": {**person, "policies": [{"num": "string"}]}}},
    }


async def test_a_policy_of_the_patients_own_record_with_another_member_id(clinic: Clinic) -> None:
    """Such as the spouse's, which a clinic may have put into the same record."""
    await clinic.leave_only_one_tenant()
    user = await clinic.own_record()
    policy = {"num": "ELIGIBLESPOUSE", "insurance_plan_id": "102", "priority_type": "Primary"}
    written = await clinic.ask(WRITE_POLICY, id=user, policies=[policy])
    before = await clinic.record(user)
    id_ = await clinic.create(user_id=user, policy_id=written["updateClient"]["user"]["policies"][0]["id"])
    view = await clinic.run(id_)
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("request_rejected", "policy_id")
    assert await clinic.record(user) == before


async def test_a_policy_without_a_record_makes_none(clinic: Clinic) -> None:
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(policy_id=clinic.policy)
    assert (await clinic.run(id_))["failure"]["vendor_code"] == "policy_id"
    assert (await clinic.ask(FIND_PATIENTS, keywords="Jane Sample"))["users"] == []


async def test_the_patients_own_record_is_used(clinic: Clinic) -> None:
    await clinic.leave_only_one_tenant()
    id_ = await clinic.create(user_id=await clinic.own_record())
    assert (await clinic.run(id_))["outcome"] == "eligible"


async def test_each_tenant_has_a_record_of_its_own(clinic: Clinic) -> None:
    """The same patient of two tenants is two records: what one changes the other does not see."""
    gateway = clinic.engine.gateway
    other = Caller(OTHER_TENANT, "test", "key_other", frozenset())
    request = CreateVerification.model_validate({**REQUEST, **ASKED})
    for caller in (CALLER, other):
        await Acceptance(gateway).create(caller, request, None)
    await clinic.engine.run_all()
    users = (await clinic.ask(FIND_PATIENTS, keywords="Jane Sample"))["users"]
    assert len({user["record_identifier"] for user in users}) == 2
    assert [len(user["policies"]) for user in users] == [1, 1]


class Strangers:
    """Healthie, if its search were looser than its guide says: it finds another patient beside the asked one, or only that."""

    def __init__(self, *, own_too: bool) -> None:
        self.own_too = own_too
        self.key = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = orjson.loads(request.content)
        if asked["operationName"] == "findPatients":
            self.key = asked["variables"]["keywords"].split()[-1]
            stranger = {**VICTIM, "id": "666", "record_identifier": "x", "policies": []}
            own = [self.own()] if self.own_too else []
            return httpx.Response(200, json={"data": {"users": [stranger, *own]}})
        return httpx.Response(200, json={"data": None, "errors": [{"message": "no"}]})

    def own(self) -> dict[str, Any]:
        return {"id": "201", "record_identifier": self.key, "policies": []}


@pytest.mark.parametrize("own_too", [True, False])
async def test_a_search_that_finds_others_keeps_nothing_of_them(gateway: Gateway, own_too: bool) -> None:
    wire = Strangers(own_too=own_too)
    async with running_engine(gateway, wire) as engine:
        id_ = await engine.create(**ASKED, vendor_options={"healthie": {"insurance_plan_id": "102"}})
        await engine.step(id_)
        kept = orjson.dumps(await read_raw(gateway, CALLER, id_)).decode()
    assert not [word for word in OF_THE_VICTIM if word in kept]
    assert "withheld" in kept


async def test_one_person_is_one_patient_whichever_member_id_is_given(clinic: Clinic) -> None:
    """A mistyped one, its correction, and a second coverage: three policies of one record."""
    second = {"coverage_order": "secondary"}
    for member_id, changes in (("ELIGIBLE001", {}), ("ELIGIBLE0001", {}), ("ELIGIBLE77", second)):
        patient = {**ASKED["patient"], "member_id": member_id}
        id_ = await clinic.engine.create(**{**ASKED, **changes, "patient": patient})
        assert (await clinic.run(id_))["outcome"] == "eligible"
    [patient] = (await clinic.ask(FIND_PATIENTS, keywords="Jane Sample"))["users"]
    assert {policy["num"] for policy in patient["policies"]} == {"ELIGIBLE001", "ELIGIBLE0001", "ELIGIBLE77"}


async def test_in_its_own_account_the_clinics_record_is_used(clinic: Clinic) -> None:
    gateway = clinic.engine.gateway
    gateway.accounts.replace(
        [VendorAccount("vac_own", TENANT, "healthie", "test", gateway.connections["test", "healthie"])]
    )
    clinics = await clinic.own_record()
    assert (await clinic.run(await clinic.create()))["outcome"] == "eligible"
    [patient] = (await clinic.ask(FIND_PATIENTS, keywords="Jane Sample"))["users"]
    assert (patient["id"], [policy["num"] for policy in patient["policies"]]) == (clinics, ["ELIGIBLE0001"])
    await clinic.own_record()
    other = {**ASKED["patient"], "member_id": "ELIGIBLE2"}
    view = await clinic.run(await clinic.engine.create(**{**ASKED, "patient": other}))
    assert (view["failure"]["code"], view["failure"]["vendor_code"]) == ("member_ambiguous", "users")
