"""What operators do: resolve unknown submissions, hold and resume vendors; and what they see of a vendor."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from covergate import ids
from covergate.api import examples
from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.verifications import store
from covergate.verifications.engine import Engine
from covergate.verifications.model import Exchange
from tests.support.clients import Body, End, Keys, Lasting, Post, Rows, Stuck


async def test_an_operator_has_it_submitted_again(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck
) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    await stuck(verification["id"])
    assert (await client.get(path, headers=keys.full)).json()["waiting_for"]["kind"] == "operator"

    answer = await client.post(f"{path}/resolve", json={"action": "resubmit"}, headers=keys.operator)

    shown = answer.json()
    assert answer.status_code == 200 and shown["id"] == verification["id"]
    assert [row["state"] for row in shown["attempts"]] == ["failed", "preparing"]
    assert shown["attempts"][0]["failure_code"] == "submission_unknown"
    timeline = (await client.get(f"{path}/timeline", headers=keys.full)).json()["data"]
    assert timeline[-1]["message"] == "an operator had it submitted again"
    again = await client.post(f"{path}/resolve", json={"action": "resubmit"}, headers=keys.operator)
    assert (again.status_code, again.json()["code"]) == (409, "not_waiting_for_operator")
    assert again.json()["detail"] == "the verification is in_progress, waiting for vendor"


async def test_an_operator_gives_up(client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    await stuck(verification["id"])
    answer = await client.post(f"{path}/resolve", json={"action": "give_up"}, headers=keys.operator)
    assert answer.status_code == 200 and answer.json()["failure"]["code"] == "submission_unknown"
    again = await client.post(f"{path}/resolve", json={"action": "give_up"}, headers=keys.operator)
    assert (again.status_code, again.json()["detail"]) == (409, "the verification is failed")


async def test_what_an_operator_found_at_the_vendor_goes_on_under_its_reference(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck, rows: Rows
) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    await stuck(verification["id"])
    found = {"action": "found", "vendor_ref": "seen-1"}

    answer = await client.post(f"{path}/resolve", json=found, headers=keys.operator)

    shown = answer.json()
    assert (answer.status_code, shown["waiting_for"]["kind"]) == (200, "vendor")
    [attempt] = shown["attempts"]
    assert (attempt["state"], attempt["vendor_ref"]) == ("waiting", "seen-1") and attempt["submitted_at"]
    timeline = (await client.get(f"{path}/timeline", headers=keys.full)).json()["data"]
    assert (timeline[-1]["type"], timeline[-1]["message"]) == (
        "submission_found",
        "an operator found the submission at the vendor",
    )
    [work] = await rows("SELECT due_at <= now() AS due FROM work WHERE verification_id = :id", id=verification["id"])
    assert work.due
    assert len(await rows("SELECT 1 FROM audit_events WHERE action = 'verification.found'")) == 1
    again = await client.post(f"{path}/resolve", json=found, headers=keys.operator)
    assert (again.status_code, again.json()["code"]) == (409, "not_waiting_for_operator")


async def test_a_reference_that_another_attempt_has_is_not_found_twice(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck, end: End
) -> None:
    """Whether that one is still open or not, and whosever it is."""
    first, second = (await post(keys.other))["id"], (await post())["id"]
    for id_ in (first, second):
        await stuck(id_)
    found = {"action": "found", "vendor_ref": "seen-1"}
    anyone = {name: value for name, value in keys.operator.items() if name == "authorization"}
    assert (await client.post(f"/v1/verifications/{first}/resolve", json=found, headers=anyone)).status_code == 200
    for is_open in (True, False):
        answer = await client.post(f"/v1/verifications/{second}/resolve", json=found, headers=anyone)
        assert (answer.status_code, answer.json()["code"]) == (409, "vendor_ref_taken")
        assert first not in answer.text
        if is_open:
            await end(first)


@pytest.mark.parametrize(
    ("vendor", "sent", "pointer"),
    [
        ("sohar", {"action": "found"}, "/vendor_ref"),
        ("sohar", {"action": "found", "vendor_ref": ""}, "/vendor_ref"),
        ("sohar", {"action": "found", "vendor_ref": "a b"}, "/vendor_ref"),
        ("sohar", {"action": "found", "vendor_ref": "x" * 201}, "/vendor_ref"),
        ("sohar", {"action": "found", "vendor_ref": 7}, "/vendor_ref"),
        ("sohar", {"action": "give_up", "vendor_ref": "7"}, "/vendor_ref"),
        ("healthie", {"action": "found", "vendor_ref": "seven"}, "/vendor_ref"),
    ],
)
async def test_a_reference_has_the_shape_of_the_vendors(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck, rows: Rows, vendor: str, sent: Any, pointer: str
) -> None:
    verification = await post()
    await rows("UPDATE work SET vendor = :vendor RETURNING 1", vendor=vendor)
    await stuck(verification["id"])
    answer = await client.post(f"/v1/verifications/{verification['id']}/resolve", json=sent, headers=keys.operator)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("action", ["resubmit", "give_up"])
async def test_two_operators_at_once_resolve_once(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck, action: str
) -> None:
    """Those that waited for the lock are told how it stands now, ended or not."""
    verification = await post()
    await stuck(verification["id"])
    path = f"/v1/verifications/{verification['id']}/resolve"
    answers = await asyncio.gather(
        *(client.post(path, json={"action": action}, headers=keys.operator) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 4


async def test_resolve_is_for_operators_within_the_tenant_and_mode_they_name(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck
) -> None:
    verification = await post()
    await stuck(verification["id"])
    path = f"/v1/verifications/{verification['id']}/resolve"
    body = {"action": "give_up"}
    assert (await client.post(path, json=body, headers=keys.full)).json()["code"] == "insufficient_scope"
    for named in ({"x-tenant": "Clinic South"}, {"x-mode": "live"}):
        assert (await client.post(path, json=body, headers=keys.operator | named)).json()["code"] == "not_found"
    for id_ in ("nothing", ids.new(ids.VERIFICATION), "ver_%00"):
        answer = await client.post(f"/v1/verifications/{id_}/resolve", json=body, headers=keys.operator)
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [({}, "/action"), ({"action": "retry"}, "/action"), ({"action": "give_up", "why": "x"}, "/why")],
)
async def test_resolve_says_what_it_takes(
    client: httpx.AsyncClient, keys: Keys, post: Post, sent: Any, pointer: str
) -> None:
    verification = await post()
    answer = await client.post(f"/v1/verifications/{verification['id']}/resolve", json=sent, headers=keys.operator)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_hold_and_resume(client: httpx.AsyncClient, keys: Keys) -> None:
    held = [await client.post("/v1/vendors/sohar/hold", headers=keys.operator) for _ in range(2)]
    assert [answer.status_code for answer in held] == [200, 200]
    assert held[0].json()["held"] is True and held[0].json()["enabled"] is True
    assert held[0].json()["held_since"] == held[1].json()["held_since"] is not None
    assert await vendor(client, keys.operator) == held[1].json()
    assert (await vendor(client, keys.full))["held"] is True
    assert (await vendor(client, keys.live))["held"] is False  # each mode on its own
    assert (await vendor(client, keys.full, "integrex"))["held"] is False

    resumed = [await client.post("/v1/vendors/sohar/resume", headers=keys.operator) for _ in range(2)]
    assert [(row.status_code, row.json()["held"], row.json()["held_since"]) for row in resumed] == [
        (200, False, None),
        (200, False, None),
    ]


async def test_a_hold_says_why_and_until_when(client: httpx.AsyncClient, keys: Keys) -> None:
    until = "2999-01-01T06:00:00Z"
    path = "/v1/vendors/sohar/hold"
    for wrong, at in (
        ({"until": until}, "/until"),  # more than 90 days ahead
        ({"until": "2020-01-01T06:00:00Z"}, "/until"),
        ({"until": "tomorrow"}, "/until"),
        ({"reason": ""}, "/reason"),
        ({"why": "x"}, "/why"),
    ):
        answer = await client.post(path, json=wrong, headers=keys.operator)
        assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (422, [at])
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")
    held = await client.post(path, json={"reason": "their window", "until": until}, headers=keys.operator)
    shown = held.json()
    assert (shown["held"], shown["held_reason"]) == (True, "their window")
    assert datetime.fromisoformat(shown["held_until"]) == datetime.fromisoformat(until)
    again = await client.post(path, json={"reason": "longer"}, headers=keys.operator)
    assert (again.json()["held_reason"], again.json()["held_until"]) == ("longer", shown["held_until"])
    for_keys = await vendor(client, keys.full)
    assert (for_keys["held_reason"], for_keys["held_until"]) == (None, shown["held_until"])
    resumed = (await client.post("/v1/vendors/sohar/resume", headers=keys.operator)).json()
    assert (resumed["held_reason"], resumed["held_until"]) == (None, None)


async def test_refused_credentials_are_shown_and_resumed(client: httpx.AsyncClient, keys: Keys, rows: Rows) -> None:
    assert (await vendor(client, keys.full))["credentials_refused_since"] is None
    await rows(
        "INSERT INTO refused_credentials (vendor, mode, refused_at, versions, trial_at)"
        " VALUES ('sohar', 'test', clock_timestamp(), '{x}', clock_timestamp() + interval '1 minute') RETURNING 1"
    )
    shown = await vendor(client, keys.full)
    assert shown["credentials_refused_since"] is not None
    assert (shown["verdict"], shown["held"], shown["enabled"]) == ("ours", False, True)
    assert (await vendor(client, keys.live))["credentials_refused_since"] is None
    resumed = (await client.post("/v1/vendors/sohar/resume", headers=keys.operator | {"x-mode": "test"})).json()
    assert resumed["credentials_refused_since"] is None


async def test_hold_is_for_operators_and_for_known_vendors(client: httpx.AsyncClient, keys: Keys) -> None:
    for action in ("hold", "resume"):
        assert (await client.post(f"/v1/vendors/sohar/{action}", headers=keys.full)).status_code == 403
        unknown = await client.post(f"/v1/vendors/nobody/{action}", headers=keys.operator)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_a_hold_is_told_to_who_subscribed(client: httpx.AsyncClient, keys: Keys) -> None:
    """The event types are known to endpoints and to the list of events."""
    endpoint = {"url": "https://a.example.com", "event_types": ["vendor.degraded", "vendor.recovered"]}
    assert (await client.post("/v1/webhook-endpoints", json=endpoint, headers=keys.full)).status_code == 201
    for action in ("hold", "hold", "resume"):
        await client.post(f"/v1/vendors/sohar/{action}", headers=keys.operator)
    params = {"type": ["vendor.degraded", "vendor.recovered"]}
    events = (await client.get("/v1/events", params=params, headers=keys.full)).json()["data"]
    assert [(event["type"], event["data"]["state"]) for event in events] == [
        ("vendor.degraded", "held"),
        ("vendor.recovered", "resumed"),
    ]


async def test_an_open_circuit_is_shown(client: httpx.AsyncClient, keys: Keys, rows: Rows) -> None:
    assert (await vendor(client, keys.full))["circuit"] == {"state": "closed", "since": None, "rests_until": None}
    await rows(
        "INSERT INTO vendor_standing (vendor, mode, circuit, rests_until)"
        " VALUES ('sohar', 'test', 'open', clock_timestamp() + interval '1 minute') RETURNING 1"
    )
    shown = await vendor(client, keys.full)
    assert (shown["circuit"]["state"], shown["verdict"], shown["enabled"]) == ("open", "vendor", True)
    assert shown["circuit"]["since"] < shown["circuit"]["rests_until"]


async def test_nothing_is_stated_where_nothing_ended(client: httpx.AsyncClient, keys: Keys) -> None:
    shown = await vendor(client, keys.full)
    nothing = {"attempts": 0, "success_rate": None, "wait_seconds": {"p50": None, "p95": None}}
    assert shown["last_hour"] == shown["last_day"] == nothing
    assert (shown["verdict"], shown["payers"]) == ("none", [])


async def test_the_sources_of_an_answer_that_was_taken_over_resolve(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, gateway: Gateway, rows: Rows
) -> None:
    first = await post()
    exchange = Exchange(ids.new(ids.EXCHANGE), datetime.now(UTC), "GET /x", 200, "application/json", b'{"status":"ok"}')
    await end(first["id"], exchanges=[exchange])
    second = await post(max_age=60)
    await take_over(gateway, second["id"])

    shown = (await client.get(f"/v1/verifications/{second['id']}", headers=keys.full)).json()
    assert (shown["status"], shown["reused_from"], shown["result"]) == ("completed", first["id"], examples.RESULT)
    raw = [
        (await client.get(f"/v1/verifications/{id_}/raw", headers=keys.full)).json()
        for id_ in (first["id"], second["id"])
    ]
    assert raw[0] == raw[1] and raw[1]["exchanges"][0]["body"] == {"status": "ok"}
    audited = await rows("SELECT subject_id FROM audit_events WHERE action = 'verification.raw' ORDER BY id")
    assert {row.subject_id for row in audited[1:]} == {first["id"], second["id"]}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"routing": {"vendors": ["sohar"], "max_attempts": 0}}, "/routing/max_attempts"),
        ({"routing": {"vendors": []}}, "/routing/vendors"),
        ({"routing": {"vendors": ["sohar", "sohar"]}}, "/routing/vendors/1"),
        ({"routing": {"vendors": ["nobody"]}}, "/routing/vendors/0"),
        ({"routing": {"vendors": ["sohar"], "allow_second_submission": True}}, "/routing/allow_second_submission"),
        ({"routing": {"payer_retries": -1}}, "/routing/payer_retries"),
        ({"routing": {"vendor": "sohar"}}, "/routing/vendor"),
        ({"max_age": 0}, "/max_age"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_bad_routes(lasting: Lasting, body: Body, changes: dict[str, Any], pointer: str) -> None:
    answer = await lasting.client.post(
        "/v1/verifications", json=body(vendor=None, **changes), headers=lasting.keys.full
    )
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


async def test_a_route_with_a_disabled_vendor(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    """Live mode has no vendors here."""
    sent = body(vendor=None, routing={"vendors": ["sohar", "integrex"]})
    answer = await client.post("/v1/verifications", json=sent, headers=keys.live)
    assert (answer.status_code, answer.json()["code"]) == (422, "vendor_not_enabled")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/routing/vendors/0", "/routing/vendors/1"]


async def vendor(client: httpx.AsyncClient, headers: dict[str, str], name: str = "sohar") -> dict[str, Any]:
    shown = (await client.get("/v1/vendors", headers=headers)).json()["data"]
    found: dict[str, Any] = next(row for row in shown if row["name"] == name)
    return found


async def take_over(gateway: Gateway, verification_id: str) -> None:
    """As a worker would."""
    breakers = CircuitBreakers(gateway)
    async with gateway.connection() as db:
        claimed = await store.read_claimed(db, gateway.sealer, verification_id)
    assert claimed is not None and claimed.verification.follows is not None
    async with Transport(allow_private_network=True, ended=breakers.count) as transport:
        await Engine(gateway, transport, breakers).advance(claimed)
