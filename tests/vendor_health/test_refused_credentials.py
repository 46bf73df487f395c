"""Refused credentials hold their account, and nothing is burnt: told once, tried seldom, ended by other credentials."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from covergate.access.vendor_accounts import Owner, put_account, remove_account, try_account
from covergate.gateway import Gateway
from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.verifications import engine as engines
from covergate.verifications.create import Acceptance
from covergate.verifications.operator import resume, trust_credentials
from covergate.verifications.request import CreateVerification
from covergate.verifications.sweep import WAKE_SPREAD_SECONDS, wake_for_trials
from tests.support.engine import Engine, running_engine
from tests.support.gateways import CALLER, OTHER_TENANT, SANDBOX_SECRET, TENANT
from tests.support.requests import FOR_HARBOR, FOR_VSEE, REQUEST, WHOLE_PATIENT
from tests.support.sweeps import sweep
from tests.support.wire import ACTIVE

PATH = "/api/v2/enhanced-eligibility"
SOON = WAKE_SPREAD_SECONDS


@dataclass
class Integrex:
    """It knows clients by id and secret, and refuses whom it is told to refuse, with or without a token."""

    calls: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)
    refused_tickets: set[str] = field(default_factory=set)
    meanwhile: Callable[[], Any] | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/integrex")
        if path == "/api/v2/auth":
            client = base64.b64decode(request.headers["authorization"].split()[1]).decode()
            self.logins.append(client)
            if self.meanwhile is not None:
                await self.meanwhile()
            if self._refuses(client):
                return httpx.Response(401, json={"error": "invalid_client"})
            return httpx.Response(
                200, json={"access_token": client.replace(":", "."), "token_type": "Bearer", "expires_in": 3600}
            )
        assert path == PATH
        client = request.headers["authorization"].removeprefix("Bearer ")
        ticket = request.url.params.get("id", "")
        self.calls.append(f"{request.method} {ticket}".strip())
        if self._refuses(client.replace(".", ":")) or ticket in self.refused_tickets:
            return httpx.Response(402, json={})
        return httpx.Response(200, json={"id": "7"} if request.method == "POST" else ACTIVE)

    def _refuses(self, client: str) -> bool:
        return client.partition(":")[0] in self.refusing


@pytest.fixture
def vendor() -> Integrex:
    return Integrex()


@pytest.fixture
async def engine(gateway: Gateway, vendor: Integrex) -> AsyncIterator[Engine]:
    async with running_engine(gateway, vendor) as engine:
        await engine.run_sql(
            "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)"
            " SELECT 'whe_' || id, id, 'test', 'https://a.example', ARRAY['vendor.degraded', 'vendor.recovered'], 'thin',"
            " 'enabled', '' FROM tenants"
        )
        yield engine


async def own(gateway: Gateway, client: str, tenant_id: str = TENANT) -> str:
    given = {"client_id": client, "client_secret": f"secret-of-{client}"}
    shown, _ = await put_account(gateway, Owner(tenant_id, "test", "integrex"), None, given)
    return str(shown["id"])


async def told(engine: Engine) -> list[tuple[str, str, str, str]]:
    rows = await engine.rows("SELECT tenant_id, type, data FROM events WHERE type LIKE 'vendor.%' ORDER BY position")
    return [(row.tenant_id, row.type, row.data["state"], row.data["account"]) for row in rows]


async def kinds(engine: Engine) -> list[str | None]:
    return [row.waiting_for for row in await engine.rows("SELECT waiting_for FROM work ORDER BY verification_id")]


async def trial_is_due(engine: Engine) -> None:
    await engine.run_sql("UPDATE refused_credentials SET trial_at = clock_timestamp() WHERE versions <> '{}'")
    await engine.breakers.flush()


def restarted(engine: Engine, **credentials: str) -> Engine:
    """The worker of another process, with other credentials of the shared account."""
    connection = engine.gateway.connections["test", "integrex"].model_copy(update=credentials)
    gateway = replace(engine.gateway, connections={**engine.gateway.connections, ("test", "integrex"): connection})
    breakers = type(engine.breakers)(gateway)
    return Engine(gateway, engines.Engine(gateway, engine.steps.transport, breakers))


async def test_one_refusal_holds_all_that_comes(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    ids = [await engine.create() for _ in range(4)]
    with capture_logs() as logs:
        for _ in ids:
            await engine.step()
    assert len(vendor.logins) == 1 and vendor.calls == []
    assert await kinds(engine) == ["credentials"] * 4
    told_once = [(tenant, "vendor.degraded", "refused", "shared") for tenant in (OTHER_TENANT, TENANT)]
    assert sorted(await told(engine)) == sorted(told_once)
    assert [line["event"] for line in logs].count("credentials_refused") == 1
    for id_ in ids:
        view = await engine.view(id_)
        assert view["next_check_at"] == view["deadline"]
        assert (await engine.timeline(id_))[-1] == "held_back"
    assert [await sweep(engine.gateway), await engine.work.steps(within_seconds=SOON)] == [0, []]


async def test_the_other_processes_hear_of_it(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    elsewhere = restarted(engine)
    await engine.create()
    await engine.step()
    await elsewhere.breakers.flush()
    await elsewhere.step(await engine.create())
    assert (len(vendor.logins), await kinds(engine)) == (1, ["credentials"] * 2)


async def test_at_once_and_in_two_workers_it_is_told_once(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    await own(engine.gateway, "theirs", OTHER_TENANT)
    elsewhere = restarted(engine)
    for _ in range(6):
        await engine.create()
    claims = [await engine.take() for _ in range(6)]
    makers = [engine, elsewhere] * 3
    await asyncio.gather(*(maker.advance(claimed) for maker, claimed in zip(makers, claims, strict=True)))
    assert await kinds(engine) == ["credentials"] * 6
    # Nor is a tenant told that has an account of its own.
    assert await told(engine) == [(TENANT, "vendor.degraded", "refused", "shared")]


async def test_a_tenants_account_is_its_own_trouble(engine: Engine, vendor: Integrex) -> None:
    account = await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    mine = await engine.create()
    request = CreateVerification.model_validate(REQUEST)
    other = (await Acceptance(engine.gateway).create(replace(CALLER, within_tenant=OTHER_TENANT), request, None)).id
    await engine.step(mine)
    await engine.step(other)
    assert vendor.calls == ["POST"]
    assert await told(engine) == [(TENANT, "vendor.degraded", "refused", "own")]
    [row] = await engine.rows("SELECT id, state FROM vendor_accounts")
    assert (row.id, row.state) == (account, "refused")


async def test_other_credentials_are_tried_once_and_let_all_go_on(engine: Engine, vendor: Integrex) -> None:
    await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    ids = [await engine.create() for _ in range(3)]
    for _ in ids:
        await engine.step()
    await own(engine.gateway, "new")
    await engine.breakers.flush()
    await wake_for_trials(engine.gateway, engine.breakers.credentials)
    [first] = await engine.work.steps(within_seconds=SOON)
    others = [await engine.take(id_) for id_ in ids if id_ != first]

    async def others_come() -> None:
        vendor.meanwhile = None
        for claimed in others:
            await engine.advance(claimed)

    vendor.meanwhile = others_come
    await engine.step(first)
    assert vendor.calls == ["POST"]  # one trial
    assert [event[1] for event in await told(engine)] == ["vendor.degraded", "vendor.recovered"]
    assert await sweep(engine.gateway) == 2
    await engine.run_all()
    assert [(await engine.view(id_))["status"] for id_ in ids] == ["completed"] * 3
    [row] = await engine.rows("SELECT state FROM vendor_accounts")
    assert row.state == "ok"


async def test_other_credentials_that_are_wrong_too_burn_one_call_and_say_nothing_new(
    engine: Engine, vendor: Integrex
) -> None:
    await own(engine.gateway, "ours")
    vendor.refusing |= {"ours", "new"}
    ids = [await engine.create() for _ in range(3)]
    for _ in ids:
        await engine.step()
    await own(engine.gateway, "new")
    await engine.breakers.flush()
    for id_ in ids:
        await engine.step(id_)
    assert vendor.logins == ["ours:secret-of-ours", "new:secret-of-new"]
    assert [event[1] for event in await told(engine)] == ["vendor.degraded"]


async def test_a_refusal_on_the_line_is_not_of_the_credentials_that_came_meanwhile(
    engine: Engine, vendor: Integrex
) -> None:
    await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    id_ = await engine.create()

    async def mended() -> None:
        vendor.meanwhile = None
        await own(engine.gateway, "new")

    vendor.meanwhile = mended
    await engine.step(id_)
    assert (await kinds(engine), await told(engine)) == (["vendor_retry"], [])
    await engine.step(id_)
    assert vendor.calls == ["POST"]


async def test_a_restart_with_other_credentials_ends_it(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    ids = [await engine.create() for _ in range(2)]
    for _ in ids:
        await engine.step()
    begun = restarted(engine, client_id="other")
    await begun.breakers.flush()
    await wake_for_trials(begun.gateway, begun.breakers.credentials)
    [woken] = await engine.work.steps(within_seconds=SOON)
    await begun.step(woken)
    assert {event[1] for event in await told(engine)} == {"vendor.degraded", "vendor.recovered"}
    # A worker that still has the old ones sends nothing and says nothing.
    logins = len(vendor.logins)
    await engine.breakers.flush()
    await engine.step(next(id_ for id_ in ids if id_ != woken))
    assert (len(vendor.logins), len(await told(engine))) == (logins, 4)
    assert await sweep(engine.gateway) == 1
    await begun.breakers.flush()
    await begun.run_all()
    assert [(await engine.view(id_))["status"] for id_ in ids] == ["completed"] * 2


async def test_a_vendors_own_mistake_heals_by_a_rare_trial(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    id_ = await engine.create()
    await engine.step()
    rests = []
    for _ in range(9):
        await trial_is_due(engine)
        await wake_for_trials(engine.gateway, engine.breakers.credentials)
        assert await engine.work.steps(within_seconds=SOON) == [id_]
        await engine.step(id_)
        assert await kinds(engine) == ["credentials"]
        [row] = await engine.rows(
            "SELECT extract(epoch FROM trial_at - clock_timestamp())::int AS rest FROM refused_credentials"
        )
        rests.append(round(row.rest, -1))
    assert rests == [120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert len(vendor.logins) == 10
    assert len(await told(engine)) == 2  # one for each tenant
    vendor.refusing.clear()
    await trial_is_due(engine)
    await engine.step(id_)
    assert {event[1:3] for event in await told(engine)} == {
        ("vendor.degraded", "refused"),
        ("vendor.recovered", "taken"),
    }


async def test_one_trial_in_the_whole_fleet(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    await engine.create()
    await engine.step()
    await trial_is_due(engine)
    account = engine.gateway.shared_account("test", "integrex")
    assert account is not None
    fleet = [restarted(engine).breakers.credentials for _ in range(4)]
    async with engine.gateway.connection() as db:
        for one in fleet:
            await one.refresh(db)
    later = datetime.now(UTC) + timedelta(seconds=1)
    verdicts = await asyncio.gather(*(one.admit(account, later) for one in fleet))
    assert sorted(verdict.granted for verdict in verdicts) == [False, False, False, True]


async def test_a_trial_that_was_never_heard_of_again_is_made_again(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    await engine.create()
    await engine.step()
    await trial_is_due(engine)
    account = engine.gateway.shared_account("test", "integrex")
    assert account is not None
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert (await engine.breakers.credentials.admit(account, now)).granted
    assert not (await engine.breakers.credentials.admit(account, now)).granted
    await engine.run_sql("UPDATE refused_credentials SET trial_until = clock_timestamp()")
    await engine.breakers.flush()
    assert (await engine.breakers.credentials.admit(account, now)).granted


async def test_a_vendor_that_is_down_at_the_trial_tells_nothing(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    id_ = await engine.create()
    await engine.step()
    await trial_is_due(engine)

    async def down() -> None:
        raise httpx.ConnectError("down")

    vendor.meanwhile = down
    await engine.step(id_)
    vendor.meanwhile = None
    assert await kinds(engine) == ["vendor_retry"]
    await engine.step(id_)
    assert await kinds(engine) == ["credentials"]
    assert {event[1] for event in await told(engine)} == {"vendor.degraded"}


async def test_an_operator_has_it_tried_again(engine: Engine, vendor: Integrex) -> None:
    await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    id_ = await engine.create()
    await engine.step()
    vendor.refusing.clear()
    assert [await resume(engine.gateway, "integrex", "test") for _ in range(2)] == [True, False]
    assert await engine.work.steps(within_seconds=SOON) == [id_]
    await engine.breakers.flush()
    await engine.run_all()
    assert (await engine.view(id_))["status"] == "completed"
    assert [event[1:3] for event in await told(engine)] == [
        ("vendor.degraded", "refused"),
        ("vendor.recovered", "resumed"),
    ]


async def test_an_account_that_passes_its_test_goes_on(engine: Engine, vendor: Integrex) -> None:
    account = await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    id_ = await engine.create()
    await engine.step()
    vendor.refusing.clear()
    shown = await try_account(engine.gateway, engine.steps.transport, Owner(TENANT, "test", "integrex"))
    assert shown["state"] == "ok"
    await trust_credentials(engine.gateway, "integrex", "test", account)
    assert await engine.work.steps(within_seconds=SOON) == [id_]


async def test_a_removed_account_keeps_nothing_waiting(engine: Engine, vendor: Integrex) -> None:
    await own(engine.gateway, "ours")
    vendor.refusing.add("ours")
    id_ = await engine.create()
    await engine.step()
    await remove_account(engine.gateway, Owner(TENANT, "test", "integrex"))
    assert await sweep(engine.gateway) == 1
    await engine.step(id_)
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "vendor_auth_failed")


async def test_the_next_vendor_of_the_route_is_asked_if_nothing_was_submitted(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    routed = {"vendor": None, "routing": {"vendors": ["integrex", "sohar"]}}
    refused = await engine.create(**routed)
    await engine.step(refused)
    held = await engine.create(**routed)
    await engine.step(held)
    assert len(vendor.logins) == 1
    for id_ in (refused, held):
        view = await engine.view(id_)
        assert (view["vendor"], view["attempts"][0]["failure_code"]) == ("sohar", "vendor_auth_failed")


async def test_what_was_submitted_waits_for_its_answer(engine: Engine, vendor: Integrex) -> None:
    """Also if a second vendor may be paid: the answer of the first one is there to be fetched."""
    routing = {"vendors": ["integrex", "sohar"], "max_attempts": 2, "allow_second_submission": True}
    id_ = await engine.create(vendor=None, routing=routing)
    await engine.step(id_)
    vendor.refusing.add("sandbox")
    await engine.step(id_)
    assert await kinds(engine) == ["credentials"]
    vendor.refusing.clear()
    await resume(engine.gateway, "integrex", "test")
    await engine.breakers.flush()
    await engine.run_all()
    view = await engine.view(id_)
    assert (view["status"], view["vendor"], len(view["attempts"])) == ("completed", "integrex", 1)


async def test_a_record_that_the_vendor_will_not_show_holds_nobody_else(engine: Engine, vendor: Integrex) -> None:
    id_ = await engine.create()
    await engine.step(id_)
    vendor.refused_tickets.add("7")
    await engine.step(id_)
    assert (await kinds(engine), await told(engine)) == (["vendor_retry"], [])
    await engine.step(await engine.create())
    assert vendor.calls.count("POST") == 2


async def test_a_follower_waits_as_its_leader_does_and_fails_as_it_would(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    leader = await engine.create(max_age=60)
    follower = await engine.create(max_age=60)
    await engine.step(leader)
    await engine.step(follower)
    assert await kinds(engine) == ["credentials"] * 2
    assert await sweep(engine.gateway) == 0
    await engine.run_sql(
        "UPDATE work SET due_at = now(), next_check_at = now(), deadline = now() WHERE verification_id = :id",
        id=follower,
    )
    await engine.step(follower)
    view = await engine.view(follower)
    assert (view["status"], view["failure"]["code"]) == ("failed", "vendor_auth_failed")


async def test_neither_credentials_nor_what_leads_to_them_is_kept(engine: Engine, vendor: Integrex) -> None:
    vendor.refusing.add("sandbox")
    await engine.create()
    await engine.step()
    [row] = await engine.rows("SELECT versions FROM refused_credentials")
    [version] = row.versions
    assert len(version) == 32
    secret = engine.gateway.connections["test", "integrex"].client_secret  # type: ignore[attr-defined]
    assert secret not in version
    # Keyed: another gateway has another one for the same credentials.
    again = restarted(engine)
    account = again.gateway.shared_account("test", "integrex")
    assert account is not None
    assert await again.breakers.credentials._version_of(account) == version


FOR_VENDOR: dict[str, dict[str, Any]] = {
    "sohar": {
        "vendor": "sohar",
        "patient": WHOLE_PATIENT,
        "service": {"place_of_service_code": "10", "specialty": "PSY"},
    },
    "integrex": {"vendor": "integrex"},
    "health_harbor": FOR_HARBOR,
    "vsee": FOR_VSEE,
    "healthie": {"vendor": "healthie", "patient": WHOLE_PATIENT},
}


@pytest.mark.parametrize("name", FOR_VENDOR)
async def test_every_vendor_of_the_sandbox(gateway: Gateway, name: str) -> None:
    """The sandbox has another secret than the gateway; then it is given the gateway's."""
    sandboxes = [create_sandbox(SandboxSettings(_env_file=None, secret=secret)) for secret in ("other", SANDBOX_SECRET)]
    wires = [httpx.ASGITransport(sandbox) for sandbox in sandboxes]

    async def wire(request: httpx.Request) -> httpx.Response:
        answer = await wires[0].handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    async with running_engine(gateway, wire) as engine:
        ids = [await engine.create(**FOR_VENDOR[name]) for _ in range(2)]
        for id_ in ids:
            await engine.step(id_)
        assert await kinds(engine) == ["credentials"] * 2
        wires.reverse()
        await resume(gateway, name, "test")
        await engine.breakers.flush()
        for id_ in ids:
            await engine.step(id_)
        assert "credentials" not in await kinds(engine)
        assert "failed" not in [(await engine.view(id_))["status"] for id_ in ids]
    for sandbox in sandboxes:
        await sandbox.state.world.close()
