"""`/v1/vendor-accounts` over HTTP: what goes in, what is shown, and that it is nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from covergate.access.api_keys import create_key
from covergate.api.app import create_app
from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from tests.support.clients import Keys, Rows, bearer

PATH = "/v1/vendor-accounts/sohar"
SECRET = "a-long-secret-8c1f"
BODY: dict[str, Any] = {"environment": "sandbox", "credentials": {"client_id": "north", "client_secret": SECRET}}
KEYS = {
    *("id", "object", "vendor", "mode", "environment", "hint", "fingerprint", "state", "tested_at", "created_at"),
    *("changed_at", "events_url"),
}


class Sohar:
    """Answers every call alike, once it has given out a token."""

    def __init__(self) -> None:
        self.token_status, self.status = 200, 404
        self.asked: list[tuple[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, request.url.path))
        if request.url.path == "/oauth/token":
            assert SECRET in request.content.decode()
            return httpx.Response(
                self.token_status, json={"access_token": "t", "token_type": "Bearer", "expires_in": 9}
            )
        return httpx.Response(self.status, json={"error": "not found"})


@pytest.fixture
def vendor() -> Sohar:
    return Sohar()


@pytest.fixture
async def app(gateway: Gateway, vendor: Sohar) -> AsyncIterator[FastAPI]:
    transport = Transport(allow_private_network=False, wire=httpx.MockTransport(vendor))
    app = create_app(gateway, transport)
    async with app.router.lifespan_context(app):
        yield app


async def test_an_account_is_put_in_read_replaced_and_removed(client: httpx.AsyncClient, keys: Keys) -> None:
    made = await client.put(PATH, json=BODY, headers=keys.full)
    assert (made.status_code, made.headers["location"]) == (201, PATH)
    shown = made.json()
    assert set(shown) == KEYS
    assert (shown["hint"], shown["state"], shown["environment"], shown["mode"]) == (
        "8c1f",
        "untested",
        "sandbox",
        "test",
    )
    assert shown["events_url"].endswith(f"/v1/vendor-events/sohar/{shown['id']}")
    assert (await client.get(PATH, headers=keys.full)).json() == shown
    assert (await client.get("/v1/vendor-accounts", headers=keys.full)).json()["data"] == [shown]

    other = {"credentials": {"client_id": "north", "client_secret": "another-secret-77aa"}}
    again = await client.put(PATH, json=other, headers=keys.full)
    assert (again.status_code, again.json()["id"], again.json()["hint"]) == (200, shown["id"], "77aa")
    assert again.json()["fingerprint"] != shown["fingerprint"]

    assert (await client.delete(PATH, headers=keys.full)).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await client.request(method, PATH, headers=keys.full)).status_code == 404
    assert (await client.get("/v1/vendor-accounts", headers=keys.full)).json()["data"] == []


async def test_the_list_goes_by_pages(client: httpx.AsyncClient, keys: Keys) -> None:
    integrex = {"credentials": BODY["credentials"]}
    for name in ("sohar", "integrex"):
        assert (await client.put(f"/v1/vendor-accounts/{name}", json=integrex, headers=keys.full)).status_code == 201
    first = (await client.get("/v1/vendor-accounts?limit=1", headers=keys.full)).json()
    assert ([row["vendor"] for row in first["data"]], first["has_more"]) == (["integrex"], True)
    after = (await client.get(f"/v1/vendor-accounts?limit=1&after={first['next_cursor']}", headers=keys.full)).json()
    assert ([row["vendor"] for row in after["data"]], after["has_more"]) == (["sohar"], False)


async def test_an_account_is_one_tenants_in_one_mode(client: httpx.AsyncClient, keys: Keys) -> None:
    await client.put(PATH, json=BODY, headers=keys.full)
    for stranger in (keys.other, keys.live):
        for method, path in (("GET", PATH), ("DELETE", PATH), ("POST", f"{PATH}/test")):
            answer = await client.request(method, path, headers=stranger)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await client.get("/v1/vendor-accounts", headers=stranger)).json()["data"] == []
        shown = {
            row["name"]: row["account"] for row in (await client.get("/v1/vendors", headers=stranger)).json()["data"]
        }
        assert shown["sohar"] == ("shared" if stranger is keys.other else None)
    mine = {row["name"]: row for row in (await client.get("/v1/vendors", headers=keys.full)).json()["data"]}
    assert (mine["sohar"]["account"], mine["integrex"]["account"]) == ("own", "shared")
    assert mine["sohar"]["enabled"]


async def test_no_key_has_the_scope_unless_it_is_named(client: httpx.AsyncClient, gateway: Gateway) -> None:
    key = await create_key(gateway, tenant="Clinic East", mode="test")
    answer = await client.put(PATH, json=BODY, headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


async def test_a_key_of_one_mode_takes_no_account_of_the_other_environment(
    client: httpx.AsyncClient, keys: Keys
) -> None:
    for headers, environment in ((keys.full, "production"), (keys.live, "sandbox")):
        answer = await client.put(PATH, json={**BODY, "environment": environment}, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/environment")


async def test_everything_wrong_is_told_at_once_and_no_value(client: httpx.AsyncClient, keys: Keys) -> None:
    given = {"client_id": "a\nb", "nonsense": SECRET}
    answer = await client.put(PATH, json={"environment": "production", "credentials": given}, headers=keys.full)
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert (answer.status_code, pointers) == (422, ["/environment", "/credentials/client_id", "/credentials/nonsense"])
    assert SECRET not in answer.text
    answer = await client.put("/v1/vendor-accounts/nobody", json=BODY, headers=keys.full)
    assert answer.status_code == 404
    answer = await client.put(PATH, json={"credentials": {"client_id": "x", "client_secret": ["s"]}}, headers=keys.full)
    assert answer.status_code == 422 and '"s"' not in answer.text


@pytest.mark.parametrize(
    ("token_status", "status", "state", "message"),
    [
        (200, 404, "ok", "the vendor took the credentials"),
        (401, 404, "refused", "the vendor refused the credentials"),
        (200, 403, "refused", "the vendor refused the credentials"),
        (200, 503, "untested", "the vendor could not be asked (http_503): nothing is known about the credentials"),
    ],
)
async def test_a_test_says_what_the_vendor_said(
    client: httpx.AsyncClient,
    keys: Keys,
    vendor: Sohar,
    rows: Rows,
    token_status: int,
    status: int,
    state: str,
    message: str,
) -> None:
    vendor.token_status, vendor.status = token_status, status
    await client.put(PATH, json=BODY, headers=keys.full)
    answer = await client.post(f"{PATH}/test", headers=keys.full)
    assert (answer.status_code, answer.json()["state"], answer.json()["message"]) == (200, state, message)
    told = await rows("SELECT action FROM audit_events WHERE subject_kind = 'account' ORDER BY position")
    assert [row.action for row in told] == ["account.put", "account.test"]
    assert {host for host, _ in vendor.asked} == {"api.soharhealth.com"}
    assert (await client.get(PATH, headers=keys.full)).json()["state"] == state
    assert (await client.put(PATH, json=BODY, headers=keys.full)).json()["state"] == "untested"


async def test_a_verification_is_bound_to_it(client: httpx.AsyncClient, keys: Keys, rows: Rows, body: Any) -> None:
    account = (await client.put(PATH, json=BODY, headers=keys.full)).json()["id"]
    for headers, bound in ((keys.full, account), (keys.other, "")):
        answer = await client.post("/v1/verifications", json=body(), headers=headers)
        assert account not in answer.text
        [work] = await rows("SELECT account FROM work WHERE verification_id = :id", id=answer.json()["id"])
        assert work.account == bound


async def test_events_come_to_the_accounts_own_address(client: httpx.AsyncClient, keys: Keys) -> None:
    shown = (await client.put(PATH, json=BODY, headers=keys.full)).json()
    for path in (f"sohar/{shown['id']}", "sohar/acc_00000000000000000000000000", "sohar/x"):
        answer = await client.post(f"/v1/vendor-events/{path}", content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_nothing_is_sent_to_a_vendor_that_is_held(client: httpx.AsyncClient, keys: Keys, vendor: Sohar) -> None:
    await client.put(PATH, json=BODY, headers=keys.full)
    await client.post("/v1/vendors/sohar/hold", headers=keys.operator)
    answer = await client.post(f"{PATH}/test", headers=keys.full)
    assert (answer.status_code, answer.json()["state"], vendor.asked) == (200, "untested", [])
    assert "an operator holds the vendor" in answer.json()["message"]
    await client.post("/v1/vendors/sohar/resume", headers=keys.operator)
    assert (await client.post(f"{PATH}/test", headers=keys.full)).json()["state"] != "untested"
