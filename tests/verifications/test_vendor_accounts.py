"""Whose account a verification uses: the tenant's own or the shared one, from the beginning of an attempt to its end."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from covergate.access.api_keys import create_key
from covergate.access.caller import Caller
from covergate.access.vendor_accounts import Owner, put_account, refresh_accounts, remove_account
from covergate.db.database import Database
from covergate.erasure import erase_tenant
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.vendors.account import SHARED, AccountBook
from covergate.vendors.errors import VendorUnavailable
from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.healthie.connection import HealthieConnection
from covergate.vendors.integrex.connection import IntegrexConnection
from covergate.vendors.sohar.connection import SoharConnection
from covergate.verifications import engine as engines
from covergate.verifications.create import Acceptance
from covergate.verifications.request import CreateVerification
from covergate.verifications.sweep import wake_held_back, wake_refused
from covergate.verifications.vendor_events import receive
from tests.support import sohar
from tests.support.engine import Engine, running_engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT, make_gateway
from tests.support.requests import REQUEST
from tests.support.wire import ACTIVE

OTHER = Caller(OTHER_TENANT, "test", "key_other", frozenset())
INTEGREX = "/api/v2/enhanced-eligibility"
WEBHOOK = {name: f"whsec_{base64.b64encode(name.encode() * 8).decode()}" for name in ("ours", "theirs")}


@dataclass
class Vendors:
    """Integrex and Sohar as they tell accounts apart: each call is noted with the client whose token it carries."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/integrex").removeprefix("/sohar")
        self.hosts.add(request.url.host)
        if path == "/api/v2/auth":
            client, _, _ = base64.b64decode(request.headers["authorization"].split()[1]).decode().partition(":")
            return self.token(client)
        if path == "/oauth/token":
            return self.token(json.loads(request.content)["client_id"])
        client = request.headers["authorization"].removeprefix("Bearer token-of-")
        self.calls.append((client, f"{request.method} {path}"))
        if path == INTEGREX:
            answer: Any = {"id": "1234567890987654321"} if request.method == "POST" else ACTIVE
            return httpx.Response(200, json=answer)
        if request.method == "POST":
            return httpx.Response(201, json={"verificationId": sohar.REF, "id": None})
        answer = {"verificationId": sohar.REF, "status": "complete.eligible", "statusReason": None, "benefits": []}
        return httpx.Response(200, json=answer)

    def token(self, client: str) -> httpx.Response:
        if client in self.refusing:
            return httpx.Response(401, json={"error": "invalid_client"})
        token = f"token-of-{client}"
        return httpx.Response(
            200, json={"token": token, "access_token": token, "token_type": "Bearer", "expires_in": 3600}
        )


@pytest.fixture
def vendors() -> Vendors:
    return Vendors()


@pytest.fixture
async def engine(gateway: Gateway, vendors: Vendors) -> AsyncIterator[Engine]:
    async with running_engine(gateway, vendors) as engine:
        yield engine


async def own(gateway: Gateway, tenant_id: str, client: str, vendor: str = "integrex", **more: str) -> str:
    given = {"client_id": client, "client_secret": f"secret-of-{client}", **more}
    shown, _ = await put_account(gateway, Owner(tenant_id, "test", vendor), None, given)
    return str(shown["id"])


async def accept(gateway: Gateway, caller: Caller, **changes: Any) -> str:
    request = CreateVerification.model_validate({**REQUEST, **changes})
    return (await Acceptance(gateway).create(caller, request, None)).id


async def test_each_tenant_is_asked_for_on_its_own_account(engine: Engine, vendors: Vendors) -> None:
    await own(engine.gateway, TENANT, "ours")
    await own(engine.gateway, OTHER_TENANT, "theirs")
    for caller, client in ((CALLER, "ours"), (OTHER, "theirs"), (CALLER, "ours")):
        vendors.calls.clear()
        id_ = await accept(engine.gateway, caller)
        await engine.step(id_)
        await engine.step(id_)
        assert vendors.calls == [(client, f"POST {INTEGREX}"), (client, f"GET {INTEGREX}")]
    assert vendors.hosts == {"api.integrexrcm.com"}


async def test_a_tenant_without_one_uses_the_shared_account(engine: Engine, vendors: Vendors) -> None:
    await own(engine.gateway, TENANT, "ours")
    id_ = await accept(engine.gateway, OTHER)
    await engine.step(id_)
    assert vendors.calls == [("sandbox", f"POST {INTEGREX}")]
    assert vendors.hosts == {"sandbox.invalid"}


async def test_an_account_is_of_one_mode(gateway: Gateway) -> None:
    shown, _ = await put_account(
        gateway, Owner(TENANT, "live", "sohar"), "production", {"client_id": "a", "client_secret": "s"}
    )
    in_test, in_live = gateway.account(TENANT, "test", "sohar"), gateway.account(TENANT, "live", "sohar")
    assert in_test is not None and in_live is not None
    assert (in_test.id, in_live.id) == (SHARED, shown["id"])
    assert gateway.bound_account(TENANT, "test", "sohar", shown["id"]) is None
    assert gateway.bound_account(OTHER_TENANT, "live", "sohar", shown["id"]) is None
    assert gateway.bound_account(TENANT, "live", "integrex", shown["id"]) is None


async def test_what_began_on_the_shared_account_ends_there(engine: Engine, vendors: Vendors) -> None:
    id_ = await engine.create()
    await engine.step(id_)
    await own(engine.gateway, TENANT, "ours")
    await engine.step(id_)
    assert [client for client, _ in vendors.calls] == ["sandbox", "sandbox"]
    assert (await engine.view(id_))["status"] == "completed"


async def test_changed_credentials_go_on_with_what_is_open(engine: Engine, vendors: Vendors) -> None:
    first = await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.step(id_)
    assert await own(engine.gateway, TENANT, "ours-rotated") == first
    await engine.step(id_)
    assert [client for client, _ in vendors.calls] == ["ours", "ours-rotated"]
    assert (await engine.view(id_))["status"] == "completed"


async def test_new_credentials_wake_what_a_vendor_refused_of_one_record(engine: Engine, vendors: Vendors) -> None:
    """What waits because the whole account is refused: tests/vendor_health/test_refused_credentials.py."""
    account = await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.step(id_)
    vendors.refusing.add("ours")
    await own(engine.gateway, TENANT, "ours", client_secret="changed at the vendor")
    await engine.step(id_)
    assert (await engine.view(id_))["waiting_for"]["kind"] == "credentials"
    await engine.run_sql(
        "UPDATE work SET waiting_for = 'vendor_retry',"
        " due_at = now() + interval '1 hour', next_check_at = now() + interval '1 hour'"
    )
    await own(engine.gateway, TENANT, "ours-rotated")
    await wake_refused(engine.gateway, account)
    assert await engine.work.steps(within_seconds=5) == [id_]
    await engine.step(id_)
    assert (await engine.view(id_))["status"] == "completed"


async def test_a_removed_account_ends_what_was_submitted_on_it(engine: Engine, vendors: Vendors) -> None:
    await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.step(id_)
    await remove_account(engine.gateway, Owner(TENANT, "test", "integrex"))
    vendors.calls.clear()
    await engine.step(id_)
    shown = await engine.view(id_)
    assert (shown["status"], shown["failure"]["code"], vendors.calls) == ("failed", "vendor_auth_failed", [])
    assert (await engine.entries(id_))[-1]["message"].endswith("its account at the vendor was removed")


async def test_a_removed_account_leaves_the_next_vendor_what_was_not_submitted(
    engine: Engine, vendors: Vendors
) -> None:
    await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create(vendor=None, routing={"vendors": ["integrex", "sohar"]})
    await remove_account(engine.gateway, Owner(TENANT, "test", "integrex"))
    await engine.run_all()
    assert vendors.calls[0] == ("sandbox", "POST /v2/verifications")
    assert [attempt["vendor"] for attempt in (await engine.view(id_))["attempts"]] == ["integrex", "sohar"]


async def test_an_account_put_in_after_a_removal_takes_nothing_over(engine: Engine, vendors: Vendors) -> None:
    before = await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.step(id_)
    await remove_account(engine.gateway, Owner(TENANT, "test", "integrex"))
    assert await own(engine.gateway, TENANT, "another organization") != before
    vendors.calls.clear()
    await engine.step(id_)
    assert ((await engine.view(id_))["status"], vendors.calls) == ("failed", [])


async def test_the_next_attempt_is_bound_when_it_begins(engine: Engine, vendors: Vendors) -> None:
    ours = await own(engine.gateway, TENANT, "ours", "sohar")
    id_ = await engine.create(vendor=None, routing={"vendors": ["integrex", "sohar"]})
    vendors.refusing.add("sandbox")
    await engine.step(id_)
    [work] = await engine.rows("SELECT account, vendor FROM work")
    [attempt] = await engine.rows("SELECT account, vendor FROM attempts")
    assert ((work.account, work.vendor), (attempt.account, attempt.vendor)) == ((ours, "sohar"), (SHARED, "integrex"))
    await engine.run_all()
    assert vendors.calls[-1][0] == "ours"
    accounts = {row.vendor: row.account for row in await engine.rows("SELECT account, vendor FROM attempts")}
    assert accounts == {"integrex": SHARED, "sohar": ours}
    assert (await engine.view(id_))["status"] == "completed"


async def test_a_worker_that_has_not_heard_of_an_account_looks_for_it(gateway: Gateway, vendors: Vendors) -> None:
    await own(gateway, TENANT, "ours")
    id_ = await accept(gateway, CALLER)
    async with running_engine(replace(gateway, accounts=AccountBook()), vendors) as elsewhere:
        await elsewhere.step(id_)
    assert vendors.calls == [("ours", f"POST {INTEGREX}")]


# --- the vendor's trouble is of one account ---------------------------------------------------------------------------


async def test_the_circuit_of_one_account_stops_no_other(engine: Engine, vendors: Vendors) -> None:
    ours = await own(engine.gateway, TENANT, "ours")
    await own(engine.gateway, OTHER_TENANT, "theirs")
    id_ = await accept(engine.gateway, CALLER)
    for _ in range(10):
        engine.breakers.count("integrex", "test", VendorUnavailable("down", sent=True), ours)
    await engine.breakers.flush()
    await engine.step(id_)
    assert ((await engine.view(id_))["waiting_for"]["kind"], vendors.calls) == ("circuit", [])
    await engine.step(await accept(engine.gateway, OTHER))
    assert vendors.calls == [("theirs", f"POST {INTEGREX}")]
    [standing] = await engine.rows("SELECT vendor, mode, account, circuit FROM vendor_standing")
    assert tuple(standing) == ("integrex", "test", ours, "open")
    await engine.run_sql("UPDATE vendor_standing SET rests_until = clock_timestamp()")
    await engine.breakers.flush()
    await engine.step(id_)
    assert vendors.calls[-1] == ("ours", f"POST {INTEGREX}")
    assert [row.circuit for row in await engine.rows("SELECT circuit FROM vendor_standing")] == ["closed"]


async def test_trouble_of_an_account_is_told_to_its_tenant_alone(engine: Engine) -> None:
    account = await own(engine.gateway, TENANT, "ours")
    await engine.run_sql(
        "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)"
        " SELECT 'whe_' || id, id, 'test', 'https://a.example', ARRAY['*'], 'thin', 'enabled', '' FROM tenants"
    )
    for _ in range(10):
        engine.breakers.count("integrex", "test", VendorUnavailable("down", sent=True), account)
    await engine.breakers.flush()
    rows = await engine.rows("SELECT tenant_id, type, data FROM events")
    assert [(row.tenant_id, row.type, row.data["account"]) for row in rows] == [
        (TENANT, EventType.VENDOR_DEGRADED, "own")
    ]


async def test_work_that_waits_for_its_accounts_circuit_is_woken_by_that_one(engine: Engine) -> None:
    ours = await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.run_sql(
        "UPDATE work SET waiting_for = 'circuit', due_at = now() + interval '5 min', next_check_at = now() + interval '5 min'"
    )
    await engine.run_sql("INSERT INTO vendor_standing (vendor, mode, circuit) VALUES ('integrex', 'test', 'closed')")
    assert await wake_held_back(engine.gateway) == 0
    await engine.run_sql(
        "INSERT INTO vendor_standing (vendor, mode, account, circuit) VALUES ('integrex', 'test', :id, 'closed')",
        id=ours,
    )
    assert await wake_held_back(engine.gateway) == 1
    assert await engine.work.steps(within_seconds=5) == [id_]


async def test_rates_are_each_accounts_own(engine: Engine) -> None:
    for account in (SHARED, "acc_1", "acc_2"):
        await engine.steps.rate_limits.take("healthie", "test", 1.0, account)
    assert sorted(row.account for row in await engine.rows("SELECT account FROM vendor_rates")) == [
        "",
        "acc_1",
        "acc_2",
    ]


# --- events -----------------------------------------------------------------------------------------------------------


def signed(client: str, echo: str | None = None, message_id: str = "msg_1") -> Inbound:
    return sohar.event(echo, message_id, key=client.encode() * 8)


async def test_an_event_touches_only_what_belongs_to_the_account_that_signed_it(
    engine: Engine, vendors: Vendors
) -> None:
    ours = await own(engine.gateway, TENANT, "ours", "sohar", webhook_secret=WEBHOOK["ours"])
    theirs = await own(engine.gateway, OTHER_TENANT, "theirs", "sohar", webhook_secret=WEBHOOK["theirs"])
    id_ = await accept(engine.gateway, OTHER, vendor="sohar")
    await engine.step(id_)
    [work] = await engine.rows("SELECT attempt_id FROM work")
    # The vendor's reference and our echo of the other tenant's attempt, with a signature that is good.
    assert await receive(engine.gateway, "sohar", signed("ours", work.attempt_id), account_id=ours) == 1
    assert await engine.timeline(id_) == ["created", "submitted"]
    assert await engine.work.steps(within_seconds=0) == []
    # Nor does it stand in the way of the same message to the other account.
    assert await receive(engine.gateway, "sohar", signed("theirs"), account_id=theirs) == 1
    assert await engine.timeline(id_) == ["created", "submitted", "vendor_event"]
    kept = {
        row.account: row.verification_id
        for row in await engine.rows("SELECT account, verification_id FROM vendor_events")
    }
    assert kept == {ours: None, theirs: id_}


async def test_an_event_that_came_first_waits_for_its_own_account(engine: Engine) -> None:
    ours = await own(engine.gateway, TENANT, "ours", "sohar", webhook_secret=WEBHOOK["ours"])
    assert await receive(engine.gateway, "sohar", signed("ours"), account_id=ours) == 1
    id_ = await accept(engine.gateway, OTHER, vendor="sohar")
    await engine.step(id_)
    assert [row.verification_id for row in await engine.rows("SELECT verification_id FROM vendor_events")] == [None]
    mine = await accept(engine.gateway, CALLER, vendor="sohar")
    await engine.step(mine)
    assert [row.verification_id for row in await engine.rows("SELECT verification_id FROM vendor_events")] == [mine]


@pytest.mark.parametrize("address", ["theirs", "shared", "unknown", "another vendor's"])
async def test_a_signature_counts_at_its_own_address_only(engine: Engine, address: str) -> None:
    ours = await own(engine.gateway, TENANT, "ours", "sohar", webhook_secret=WEBHOOK["ours"])
    theirs = await own(engine.gateway, OTHER_TENANT, "theirs", "sohar", webhook_secret=WEBHOOK["theirs"])
    integrex = await own(engine.gateway, TENANT, "ours")
    to = {
        "theirs": theirs,
        "shared": SHARED,
        "unknown": ours[:-1] + ("1" if ours.endswith("0") else "0"),
        "another vendor's": integrex,
    }[address]
    with pytest.raises(ForgedEvent):
        await receive(engine.gateway, "sohar", signed("ours"), account_id=to)
    with pytest.raises(ForgedEvent):
        await receive(engine.gateway, "sohar", sohar.event(), account_id=ours)
    assert await engine.rows("SELECT 1 FROM vendor_events") == []


async def test_a_removed_accounts_address_is_dead(engine: Engine) -> None:
    ours = await own(engine.gateway, TENANT, "ours", "sohar", webhook_secret=WEBHOOK["ours"])
    await remove_account(engine.gateway, Owner(TENANT, "test", "sohar"))
    with pytest.raises(ForgedEvent):
        await receive(engine.gateway, "sohar", signed("ours"), account_id=ours)


# --- sharing ----------------------------------------------------------------------------------------------------------


def live(gateway: Gateway, **connections: Any) -> Gateway:
    return replace(gateway, connections={("live", name): connection for name, connection in connections.items()})


LIVE, OTHER_LIVE = (Caller(tenant, "live", "key_live", frozenset()) for tenant in (TENANT, OTHER_TENANT))


async def test_a_shared_account_may_be_kept_from_the_tenants(gateway: Gateway) -> None:
    apart = live(gateway, sohar=SoharConnection(client_id="gateway", client_secret="s", shared=False))
    request = {"vendor": "sohar", "payer": {"id": "60054"}}
    with pytest.raises(Problem) as caught:
        await accept(apart, LIVE, **request)
    assert caught.value.code == "vendor_not_enabled"
    assert caught.value.errors[0].message == (
        "needs an account of your own: PUT /v1/vendor-accounts/sohar; the gateway's is not shared"
    )
    assert apart.enabled("live", TENANT) == []
    await put_account(apart, Owner(TENANT, "live", "sohar"), None, {"client_id": "ours", "client_secret": "secret"})
    assert [vendor.name for vendor in apart.enabled("live", TENANT)] == ["sohar"]
    await accept(apart, LIVE, **request)
    with pytest.raises(Problem):
        await accept(apart, OTHER_LIVE, **request)


@pytest.mark.parametrize(
    ("shared", "tenants", "is_shared"), [(None, 1, True), (None, 2, False), (True, 2, True), (False, 1, False)]
)
async def test_a_vendor_that_keeps_patients_is_shared_by_one_tenant_only_unless_it_is_said(
    database: Database, shared: bool | None, tenants: int, *, is_shared: bool
) -> None:
    gateway = live(await make_gateway(database), healthie=HealthieConnection(api_key="k", shared=shared))
    if tenants == 1:
        async with gateway.transaction() as db:
            await db.exec_driver_sql("DELETE FROM tenants WHERE id = 'ten_other'")
    await gateway.know_tenants()
    assert gateway.is_shared("live", "healthie") is is_shared
    assert (gateway.account(TENANT, "live", "healthie") is not None) is is_shared


async def test_until_the_tenants_are_counted_there_are_several(database: Database) -> None:
    gateway = live(await make_gateway(database), healthie=HealthieConnection(api_key="k"))
    async with gateway.transaction() as db:
        await db.exec_driver_sql("DELETE FROM tenants WHERE id = 'ten_other'")
    assert gateway.account(TENANT, "live", "healthie") is None
    await gateway.know_tenants()
    assert gateway.account(TENANT, "live", "healthie") is not None
    gateway.tenancy.forget()
    assert gateway.account(TENANT, "live", "healthie") is None


async def test_the_count_holds_until_there_is_another_tenant(database: Database) -> None:
    gateway = live(await make_gateway(database), healthie=HealthieConnection(api_key="k"))
    async with gateway.transaction() as db:
        await db.exec_driver_sql("DELETE FROM tenants WHERE id = 'ten_other'")
    await gateway.know_tenants()
    assert gateway.account(TENANT, "live", "healthie") is not None
    await create_key(gateway, tenant="A second clinic", mode="live")
    gateway.tenancy.forget()
    await gateway.know_tenants()
    assert gateway.account(TENANT, "live", "healthie") is None


def live_engine(engine: Engine, **connections: Any) -> Engine:
    gateway = live(engine.gateway, **connections)
    return Engine(gateway, engines.Engine(gateway, engine.steps.transport, engine.breakers))


@pytest.mark.parametrize("trouble", ["removed", "unusable"])
async def test_the_next_vendor_is_not_asked_on_an_account_that_is_not_for_the_tenant(
    engine: Engine, vendors: Vendors, trouble: str
) -> None:
    integrex = IntegrexConnection(client_id="gateway", client_secret="s")
    sohar_ = SoharConnection(client_id="gateway-sohar", client_secret="s", shared=trouble == "unusable")
    engine = live_engine(engine, integrex=integrex, sohar=sohar_)
    owner = Owner(TENANT, "live", "sohar")
    await put_account(engine.gateway, owner, None, {"client_id": "ours", "client_secret": "secret"})
    id_ = await accept(engine.gateway, LIVE, vendor=None, routing={"vendors": ["integrex", "sohar"]})
    if trouble == "removed":
        await remove_account(engine.gateway, owner)
    else:
        await engine.run_sql("UPDATE vendor_accounts SET credentials_sealed = 'x', changed_at = clock_timestamp()")
        await refresh_accounts(engine.gateway)
    vendors.refusing.add("gateway")
    await engine.step(id_)
    await engine.step(id_)
    [row] = await engine.rows("SELECT vendor, waiting_for FROM work")
    assert (tuple(row), vendors.calls) == (("sohar", "vendor_retry"), [])


async def test_a_queued_attempt_does_not_begin_once_its_account_is_kept_from_the_tenants(
    engine: Engine, vendors: Vendors
) -> None:
    shared = live_engine(engine, integrex=IntegrexConnection(client_id="gateway", client_secret="s"))
    apart = live_engine(engine, integrex=IntegrexConnection(client_id="gateway", client_secret="s", shared=False))
    id_ = await accept(shared.gateway, LIVE)
    await apart.step(id_)
    assert vendors.calls == []
    await shared.step(id_)
    await apart.step(id_)  # what was submitted is still fetched
    assert vendors.calls == [("gateway", f"POST {INTEGREX}"), ("gateway", f"GET {INTEGREX}")]


async def test_a_worker_that_has_just_begun_knows_the_tenants_accounts(engine: Engine, vendors: Vendors) -> None:
    await own(engine.gateway, TENANT, "ours", "sohar")
    id_ = await engine.create(vendor=None, routing={"vendors": ["integrex", "sohar"]})
    vendors.refusing.add("sandbox")
    gateway = replace(engine.gateway, accounts=AccountBook())
    begun = Engine(gateway, engines.Engine(gateway, engine.steps.transport, engine.breakers))
    await begun.step(id_)
    await begun.step(id_)
    assert vendors.calls == [("ours", "POST /v2/verifications")]


async def test_the_sandbox_is_everybodys(gateway: Gateway) -> None:
    assert {vendor.name for vendor in gateway.enabled("test", TENANT)} >= {"healthie", "vsee", "sohar"}


# --- what is stored ---------------------------------------------------------------------------------------------------


async def test_a_row_that_was_given_to_another_tenant_does_not_open(gateway: Gateway) -> None:
    await own(gateway, TENANT, "ours")
    async with gateway.transaction() as db:
        await db.exec_driver_sql("UPDATE vendor_accounts SET tenant_id = 'ten_other', changed_at = clock_timestamp()")
    with capture_logs() as logs:
        await refresh_accounts(gateway)
    assert [entry["event"] for entry in logs] == ["account_not_usable"]
    assert gateway.account(OTHER_TENANT, "test", "integrex") is None


async def test_an_account_that_does_not_open_is_never_replaced_by_the_shared_one(
    engine: Engine, vendors: Vendors
) -> None:
    await own(engine.gateway, TENANT, "ours")
    id_ = await engine.create()
    await engine.run_sql("UPDATE vendor_accounts SET credentials_sealed = 'x', changed_at = clock_timestamp()")
    await refresh_accounts(engine.gateway)
    await engine.step(id_)
    assert ((await engine.view(id_))["waiting_for"]["kind"], vendors.calls) == ("vendor_retry", [])
    with pytest.raises(Problem):
        await engine.create()
    await own(engine.gateway, TENANT, "ours")
    await engine.step(id_)
    assert vendors.calls == [("ours", f"POST {INTEGREX}")]


async def test_credentials_are_nowhere_in_the_clear(engine: Engine, vendors: Vendors) -> None:
    with capture_logs() as logs:
        account = await own(
            engine.gateway, TENANT, "ours", "sohar", client_secret="s3cr3t-0123456789", webhook_secret=WEBHOOK["ours"]
        )
        id_ = await engine.create(vendor="sohar")
        await receive(engine.gateway, "sohar", signed("ours"), account_id=account)
        await engine.run_all()
        await remove_account(engine.gateway, Owner(TENANT, "test", "sohar"))
    assert (await engine.view(id_))["status"] == "completed"
    tables = await engine.rows(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    dump = repr(logs)
    for table in tables:
        dump += repr([row[0] for row in await engine.rows(f"SELECT t::text FROM {table.relname} t")])
    secrets = ("s3cr3t-0123456789", WEBHOOK["ours"], "token-of-")
    assert account in dump
    for secret in secrets:
        assert secret not in dump and secret.encode().hex() not in dump
    assert [row.credentials_sealed for row in await engine.rows("SELECT credentials_sealed FROM vendor_accounts")] == [
        None
    ]


async def test_a_tenant_that_is_erased_leaves_no_account(gateway: Gateway) -> None:
    await own(gateway, TENANT, "ours")
    theirs = await own(gateway, OTHER_TENANT, "theirs")
    assert (await erase_tenant(gateway, "Test clinic", dry_run=True)).counts["vendor_accounts"] == 1
    await erase_tenant(gateway, "Test clinic", dry_run=False)
    await refresh_accounts(gateway)
    assert [account.id for account in gateway.accounts] == [theirs]
    async with gateway.connection() as db:
        rows = await db.exec_driver_sql(
            "SELECT hint, credentials_sealed FROM vendor_accounts WHERE tenant_id = 'ten_test'"
        )
        assert [tuple(row) for row in rows] == [("", None)]


async def test_a_record_may_be_named_on_an_own_account_only(gateway: Gateway) -> None:
    await put_account(gateway, Owner(TENANT, "test", "healthie"), None, {"api_key": "key"})
    assert not await gateway.account_is_shared(TENANT, "test", "healthie")
    assert await gateway.account_is_shared(OTHER_TENANT, "test", "healthie")
    assert await gateway.account_is_shared(TENANT, "test", "vsee")
