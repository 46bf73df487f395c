from __future__ import annotations

from typing import Any

import httpx
import pytest

from covergate.access.api_keys import create_key
from covergate.gateway import Gateway
from tests.support.clients import Body, Keys, bearer

AETNA = "pyr_01m80aq8c7epyshsw0x172jhr7"


async def test_every_payer_by_name_page_by_page(client: httpx.AsyncClient, keys: Keys) -> None:
    names: list[str] = []
    params: dict[str, Any] = {"limit": 5}
    while True:
        page = (await client.get("/v1/payers", params=params, headers=keys.full)).json()
        names += [payer["name"] for payer in page["data"]]
        if not page["has_more"]:
            break
        params["after"] = page["next_cursor"]
    assert names == sorted(names, key=str.lower)
    assert len(names) == len(set(names)) == 14


async def test_a_payer_as_it_is_shown_in_each_mode(client: httpx.AsyncClient, keys: Keys) -> None:
    shown = (await client.get("/v1/payers", params={"q": "60054"}, headers=keys.full)).json()["data"]
    codes = {name: {"payer_id": "60054"} for name in ("healthie", "integrex", "sohar")}
    codes["health_harbor"] = {"payor_id": "60054"}
    assert shown == [
        {
            "id": AETNA,
            "object": "payer",
            "name": "Aetna",
            "electronic_id": "60054",
            "aliases": ["Aetna Health Plans"],
            "vendors": {**codes, "vsee": {"carrier_code": "car7551"}},
        }
    ]
    (live,) = (await client.get("/v1/payers", params={"q": "60054"}, headers=keys.live)).json()["data"]
    assert live["vendors"] == codes


async def test_search_and_filter(client: httpx.AsyncClient, keys: Keys) -> None:
    async def found(**params: str) -> list[str]:
        answer = await client.get("/v1/payers", params=params, headers=keys.full)
        return [payer["name"] for payer in answer.json()["data"]]

    assert await found(q="aetna") == ["Aetna", "Aetna Better Health of Illinois"]
    assert await found(q="aetna", vendor="sohar") == ["Aetna"]
    assert "Blue Cross Blue Shield of Texas" not in await found(vendor="vsee")
    assert await found(q="nobody at all") == []


async def test_what_is_wrong_with_a_query(client: httpx.AsyncClient, keys: Keys) -> None:
    answer = await client.get("/v1/payers?q=%20&vendor=nobody&payer=x&limit=0", headers=keys.full)
    assert answer.status_code == 422
    assert {error["parameter"] for error in answer.json()["errors"]} == {"q", "vendor", "payer", "limit"}
    answer = await client.get("/v1/payers?after=bm9ib2R5", headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_it_needs_a_scope(client: httpx.AsyncClient, gateway: Gateway) -> None:
    key = await create_key(gateway, tenant="Clinic North", mode="test", scopes=["webhooks:manage"])
    assert (await client.get("/v1/payers", headers=bearer(key))).status_code == 403
    assert (await client.get("/v1/payers")).status_code == 401


async def test_a_payer_named_in_any_way_is_asked_by_its_codes(
    client: httpx.AsyncClient, keys: Keys, body: Body
) -> None:
    for payer in ({"directory_id": AETNA}, {"name": "AETNA"}, {"id": "60054"}):
        answer = await client.post("/v1/verifications", json=body(payer=payer), headers=keys.full)
        assert answer.status_code == 202
        asked = answer.json()["inquiry"]["payer"]
        assert (asked["id"], asked["directory_id"]) == ("60054", None if "id" in payer else AETNA)
    # VSee's carrier code comes from the directory; a payer without one cannot be asked there.
    address = {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"}
    patient = {**body()["patient"], "gender": "F", "address": address}
    for payer_id, status in (("60054", 202), ("87726", 422)):
        asked_of_vsee = body(vendor="vsee", patient=patient, payer={"id": payer_id})
        assert (await client.post("/v1/verifications", json=asked_of_vsee, headers=keys.full)).status_code == status


async def test_an_ambiguous_name_lists_the_candidates(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    answer = await client.post("/v1/verifications", json=body(payer={"name": "Blue Shield"}), headers=keys.full)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "payer_ambiguous")
    assert {error["pointer"] for error in problem["errors"]} == {"/payer/name"}
    (texas,) = [error for error in problem["errors"] if "Texas" in error["message"]]
    id_ = texas["message"].rpartition("(")[2].rstrip(")")
    answer = await client.post("/v1/verifications", json=body(payer={"directory_id": id_}), headers=keys.full)
    assert answer.status_code == 202


async def test_an_unknown_directory_id_is_listed_with_all_that_is_wrong(
    client: httpx.AsyncClient, keys: Keys, body: Body
) -> None:
    wrong = body(payer={"directory_id": "pyr_nobody"}, service={"specialty": "PSY", "date": "1999-01-01"})
    answer = await client.post("/v1/verifications", json=wrong, headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/payer/directory_id",
        "/service/date",
        "/service/place_of_service_code",
    }


async def test_a_misspelt_name_is_not_taken_for_the_nearest_payer(
    client: httpx.AsyncClient, keys: Keys, body: Body
) -> None:
    answer = await client.post("/v1/verifications", json=body(payer={"name": "Aetnaa"}), headers=keys.full)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "payer_ambiguous")
    (candidate,) = problem["errors"]
    assert (candidate["code"], candidate["pointer"]) == ("candidate", "/payer/name")
    assert candidate["message"] == f"may be Aetna ({AETNA})"


async def test_an_unknown_name_is_not_told_as_a_missing_id(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    answer = await client.post("/v1/verifications", json=body(payer={"name": "Sample Trust"}), headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_for_vendor")
    error, *_ = answer.json()["errors"]
    assert (error["code"], error["pointer"]) == ("not_found", "/payer/name")
    assert "GET /v1/payers" in error["message"]


async def test_an_unknown_name_is_told_beside_those_like_it(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    answer = await client.post("/v1/verifications", json=body(payer={"name": "Sample Aetna Trust"}), headers=keys.full)
    told, *candidates = answer.json()["errors"]
    assert told["code"] == "not_found"
    assert f"may be Aetna ({AETNA})" in [candidate["message"] for candidate in candidates]
    assert {candidate["code"] for candidate in candidates} == {"candidate"}


@pytest.mark.parametrize("payer_id", ["Blue Cross", "6", "60054;", "x" * 41])
async def test_an_id_has_the_form_of_an_id(client: httpx.AsyncClient, keys: Keys, body: Body, payer_id: str) -> None:
    answer = await client.post("/v1/verifications", json=body(payer={"id": payer_id}), headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/payer/id"]


async def test_an_unknown_payer_is_asked_as_it_was_named(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    payer = {"id": "ZZ999", "name": "Nobody Knows"}
    answer = await client.post("/v1/verifications", json=body(payer=payer), headers=keys.full)
    assert answer.json()["inquiry"]["payer"] == {**payer, "directory_id": None}


async def test_a_replay_is_the_body_that_was_sent(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    headers = {**keys.full, "idempotency-key": "one"}
    by_name = body(payer={"name": "Aetna"})
    first = await client.post("/v1/verifications", json=by_name, headers=headers)
    again = await client.post("/v1/verifications", json=by_name, headers=headers)
    assert (again.headers["idempotent-replayed"], again.json()["id"]) == ("true", first.json()["id"])
    other = await client.post("/v1/verifications", json=body(payer={"name": "Aetna", "id": "60054"}), headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"
