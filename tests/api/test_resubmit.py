"""Asking again: a new verification made from what an ended one asked, with corrections."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from covergate import ids
from covergate.access.api_keys import create_key
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.inquiry import today_eastern
from covergate.gateway import Gateway
from covergate.verifications.seals import place_in_verification
from tests.support.clients import Body, End, Headers, Keys, Post, Rows, Stuck, bearer, make_operator

YEAR_AGO = (today_eastern(datetime.now(UTC)) - timedelta(days=365)).isoformat()


@pytest.fixture
async def failed(post: Post, end: End) -> str:
    id_: str = (await post())["id"]
    await end(id_, FailureCode.MEMBER_ID_INVALID)
    return id_


async def again(
    client: httpx.AsyncClient, headers: Headers, id_: str, corrections: dict[str, Any] | None = None
) -> httpx.Response:
    body = {} if corrections is None else {"corrections": corrections}
    return await client.post(f"/v1/verifications/{id_}/resubmit", json=body, headers=headers)


async def sealed(gateway: Gateway, id_: str, rows: Rows) -> dict[str, Any]:
    """What a worker will ask, and what is kept beside it."""
    [row] = await rows("SELECT tenant_id, mode, inquiry_sealed FROM verifications WHERE id = :id", id=id_)
    await gateway.meet(row.tenant_id)
    opened: dict[str, Any] = gateway.sealer.open_json(
        place_in_verification(row.tenant_id, row.mode, id_, "inquiry"), row.inquiry_sealed
    )
    return opened


async def test_a_corrected_one_asks_what_the_original_asked(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    options = {"integrex": {"account_number_1": "A-1"}}
    routing = {"vendors": ["sohar", "integrex"], "max_attempts": 2, "payer_retries": 1}
    original = await post(vendor=None, vendor_options=options, routing=routing, max_age=60)
    await end(original["id"], FailureCode.MEMBER_ID_INVALID)

    answer = await again(client, keys.full, original["id"], {"/patient/member_id": "ELIGIBLE-0002"})

    shown = answer.json()
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/verifications/{shown['id']}"
    assert (shown["retry_of"], shown["status"], shown["vendor"]) == (original["id"], "queued", "sohar")
    assert (shown["external_id"], shown["metadata"]) == ("intake-1", {"clinic": "north"})
    patient = {**original["inquiry"]["patient"], "member_id": "ELIGIBLE-0002"}
    assert shown["inquiry"] == {**original["inquiry"], "patient": patient}
    first, second = await sealed(gateway, original["id"], rows), await sealed(gateway, shown["id"], rows)
    assert {**second, **dict.fromkeys(("inquiry", "patient_key", "ssn_removed"))} == {
        **first,
        **dict.fromkeys(("inquiry", "patient_key", "ssn_removed")),
    }
    [work] = await rows("SELECT route, payer_retries FROM work WHERE verification_id = :id", id=shown["id"])
    assert (list(work.route), work.payer_retries) == (["integrex"], 1)
    # The original is as it was.
    assert (await client.get(f"/v1/verifications/{original['id']}", headers=keys.full)).json()["status"] == "failed"


async def test_nothing_has_to_be_corrected_and_a_completed_or_canceled_one_is_asked_again_too(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    completed, canceled = (await post())["id"], (await post())["id"]
    await end(completed)
    await client.post(f"/v1/verifications/{canceled}/cancel", headers=keys.full)
    for id_ in (completed, canceled):
        answer = await client.post(f"/v1/verifications/{id_}/resubmit", headers=keys.full)  # no body at all
        assert (answer.status_code, answer.json()["retry_of"]) == (202, id_)


async def test_an_open_one_is_not_paid_twice(client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows) -> None:
    answer = await again(client, keys.full, (await post())["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ended")
    assert len(await rows("SELECT 1 FROM verifications")) == 1


async def test_the_ssn_that_has_left_is_told_unless_it_is_given_again(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, failed: str, rows: Rows
) -> None:
    without = (await again(client, keys.full, failed)).json()
    given = (await again(client, keys.full, failed, {"/patient/ssn": "987654321"})).json()
    assert "/patient/ssn" in without["not_asked"]
    gone = "without the SSN: it is not kept once it was submitted"
    assert (await accepted(client, keys, without["id"])).endswith(f"; asks {failed} again, {gone}")
    assert (await accepted(client, keys, given["id"])).endswith(f"; asks {failed} again")
    assert (await sealed(gateway, given["id"], rows))["inquiry"]["patient"]["ssn"] == "987654321"


async def accepted(client: httpx.AsyncClient, keys: Keys, id_: str) -> str:
    timeline = (await client.get(f"/v1/verifications/{id_}/timeline", headers=keys.full)).json()["data"]
    message: str = timeline[0]["message"]
    return message


async def test_an_ssn_that_is_still_held_is_asked_again(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, failed: str, rows: Rows
) -> None:
    """As in rows of before the SSN left at the end."""
    [row] = await rows("SELECT tenant_id FROM verifications WHERE id = :id", id=failed)
    opened = await sealed(gateway, failed, rows)
    opened["inquiry"]["patient"]["ssn"] = opened.pop("ssn_removed") and "987654321"
    place = place_in_verification(row.tenant_id, "test", failed, "inquiry")
    value = gateway.sealer.seal_json(place, orjson.dumps(opened))
    await rows("UPDATE verifications SET inquiry_sealed = :value WHERE id = :id RETURNING 1", value=value, id=failed)
    shown = (await again(client, keys.full, failed)).json()
    assert "SSN" not in await accepted(client, keys, shown["id"])
    assert (await sealed(gateway, shown["id"], rows))["inquiry"]["patient"]["ssn"] == "987654321"


async def test_the_deadline_is_as_far_ahead_as_it_was(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    deadline = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    given, usual = (await post(deadline=deadline))["id"], await post()
    for id_ in (given, usual["id"]):
        await end(id_, FailureCode.VENDOR_UNAVAILABLE)
        await rows(
            "UPDATE verifications SET created_at = created_at - interval '1 day', deadline = deadline - interval '1 day'"
            " WHERE id = :id RETURNING 1",
            id=id_,
        )
    spans = [_span((await again(client, keys.full, id_)).json()) for id_ in (given, usual["id"])]
    assert [round(span / 60) for span in spans] == [180, round(_span(usual) / 60)]
    corrected = await again(client, keys.full, given, {"/deadline": deadline})
    assert (
        corrected.json()["deadline"] == datetime.fromisoformat(deadline).isoformat(timespec="milliseconds")[:23] + "Z"
    )


def _span(shown: dict[str, Any]) -> float:
    deadline, created = (datetime.fromisoformat(shown[name]) for name in ("deadline", "created_at"))
    return (deadline - created).total_seconds()


async def test_a_shortest_deadline_is_not_too_short_the_second_time(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    original = await post(deadline=(datetime.now(UTC) + timedelta(seconds=5.2)).isoformat())
    await end(original["id"], FailureCode.DEADLINE_EXCEEDED)
    assert (await again(client, keys.full, original["id"])).status_code == 202


async def test_a_date_that_was_not_given_is_todays_again(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, failed: str, rows: Rows
) -> None:
    [row] = await rows("SELECT tenant_id FROM verifications WHERE id = :id", id=failed)
    opened = await sealed(gateway, failed, rows)
    opened["inquiry"]["service"]["date"] = YEAR_AGO  # as if it had been asked then
    place = place_in_verification(row.tenant_id, "test", failed, "inquiry")
    value = gateway.sealer.seal_json(place, orjson.dumps(opened))
    await rows("UPDATE verifications SET inquiry_sealed = :value WHERE id = :id RETURNING 1", value=value, id=failed)
    shown = (await again(client, keys.full, failed)).json()
    assert shown["inquiry"]["service"]["date"] == today_eastern(datetime.now(UTC)).isoformat()


async def test_a_date_of_service_that_has_passed_is_a_422_that_names_it(
    client: httpx.AsyncClient, keys: Keys, failed: str
) -> None:
    answer = await again(client, keys.full, failed, {"/service/date": YEAR_AGO})
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported_by_vendor")
    [error] = answer.json()["errors"]
    assert (error["pointer"], error["vendor"]) == ("/service/date", "sohar") and "past" in error["message"]
    assert (await again(client, keys.full, failed, {"/service/date": None})).status_code == 202


async def test_a_payer_is_looked_up_as_it_was_named(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    original = await post(payer={"name": "Aetna"})
    await end(original["id"], FailureCode.PAYER_UNAVAILABLE)
    assert original["inquiry"]["payer"]["id"] == "60054"
    shown = (await again(client, keys.full, original["id"], {"/payer/name": "Cigna"})).json()
    assert shown["inquiry"]["payer"]["id"] == "62308"


@pytest.mark.parametrize(
    ("corrections", "code", "pointers"),
    [
        ({"/patient/date_of_birth": "1990-02-30"}, "invalid_request", ["/patient/date_of_birth"]),
        ({"/patient/member_id": 7}, "invalid_request", ["/patient/member_id"]),
        ({"/patient/nickname": "J"}, "invalid_request", ["/patient/nickname"]),
        ({"/patient/first_name": None}, "invalid_request", ["/patient/first_name"]),
        ({"/payer": {"name": "Nobody's Insurance"}}, "missing_for_vendor", ["/payer/name"]),
        ({"/patient/address": None}, "missing_for_vendor", ["/patient/address/state"]),
        ({"/vendor": "acme"}, "invalid_request", ["/vendor"]),
        ({"/deadline": "2020-01-01T00:00:00Z"}, "invalid_request", ["/deadline"]),
        ({"/service/procedure_codes/0": "9"}, "invalid_request", ["/service/procedure_codes/0"]),
        ({"patient/member_id": "x"}, "invalid_request", ["/corrections/patient~1member_id"]),
        ({"": {}}, "invalid_request", ["/corrections/"]),
        ({"/patient/first_name/x": "y"}, "invalid_request", ["/corrections/~1patient~1first_name~1x"]),
        ({"/service/procedure_codes/7": "90837"}, "invalid_request", ["/corrections/~1service~1procedure_codes~17"]),
        ({"/retry_of": None}, "invalid_request", ["/corrections/~1retry_of"]),
        ({"/metadata": {"n": 2**70}}, "invalid_request", ["/corrections"]),
    ],
)
async def test_what_is_wrong_is_named_by_its_pointer_as_a_create_does(
    client: httpx.AsyncClient, keys: Keys, failed: str, rows: Rows, corrections: Any, code: str, pointers: list[str]
) -> None:
    answer = await again(client, keys.full, failed, corrections)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]][: len(pointers)] == pointers
    assert len(await rows("SELECT 1 FROM verifications")) == 1


async def test_everything_wrong_is_told_at_once(client: httpx.AsyncClient, keys: Keys, failed: str) -> None:
    wrong = {"/patient/member_id": 7, "/deadline": "2020-01-01T00:00:00Z", "/vendor": "acme"}
    answer = await again(client, keys.full, failed, wrong)
    assert {error["pointer"] for error in answer.json()["errors"]} == set(wrong)


async def test_lists_and_missing_parts_are_corrected(client: httpx.AsyncClient, keys: Keys, failed: str) -> None:
    corrections = {
        "/service/procedure_codes/-": "90834",
        "/service/procedure_codes/0": "90791",
        "/provider/address/state": "CA",
        "/metadata/a~1b": "c",
        "/external_id": "intake-2",
    }
    shown = (await again(client, keys.full, failed, corrections)).json()
    assert shown["inquiry"]["service"]["procedure_codes"] == ["90791", "90834"]
    assert shown["inquiry"]["provider"]["address"]["state"] == "CA"
    assert (shown["metadata"], shown["external_id"]) == ({"clinic": "north", "a/b": "c"}, "intake-2")


async def test_what_was_erased_cannot_be_asked_again(
    client: httpx.AsyncClient, keys: Keys, failed: str, rows: Rows
) -> None:
    patient = {"member_id": "ELIGIBLE-0001", "date_of_birth": "1990-09-20", "dry_run": False}
    assert (await client.post("/v1/patients/erase", json=patient, headers=keys.full)).status_code == 200
    answer = await again(client, keys.full, failed)
    assert (answer.status_code, answer.json()["code"]) == (409, "inquiry_erased")


async def test_an_inquiry_that_does_not_open_is_told(
    client: httpx.AsyncClient, keys: Keys, failed: str, post: Post, end: End, rows: Rows
) -> None:
    other = (await post())["id"]
    await end(other)
    moved = "UPDATE verifications SET inquiry_sealed = (SELECT inquiry_sealed FROM verifications WHERE id = :other)"
    await rows(f"{moved} WHERE id = :id RETURNING 1", id=failed, other=other)
    answer = await again(client, keys.full, failed)
    assert (answer.status_code, answer.json()["code"]) == (409, "inquiry_erased")


async def test_one_key_asks_once(client: httpx.AsyncClient, keys: Keys, failed: str, body: Body, rows: Rows) -> None:
    headers = keys.full | {"idempotency-key": "again-1"}
    corrections = {"/patient/member_id": "ELIGIBLE-0002"}
    both = await asyncio.gather(*(again(client, headers, failed, corrections) for _ in range(2)))
    later = await again(client, headers, failed, corrections)
    assert [answer.status_code for answer in (*both, later)] == [202] * 3
    assert len({answer.json()["id"] for answer in (*both, later)}) == 1
    assert later.headers["idempotent-replayed"] == "true"
    assert sorted("idempotent-replayed" in answer.headers for answer in both) == [False, True]
    for other in (
        await again(client, headers, failed, {"/patient/member_id": "ELIGIBLE-0003"}),
        await client.post("/v1/verifications", json=body(), headers=headers),
    ):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await rows("SELECT 1 FROM verifications")) == 2
    log = await rows("SELECT subject_id FROM audit_events WHERE action = 'verification.retry'")
    assert [row.subject_id for row in log] == [failed]


async def test_only_the_tenants_own_in_its_mode(client: httpx.AsyncClient, keys: Keys, failed: str) -> None:
    for stranger in (keys.other, keys.live):
        assert (await again(client, stranger, failed)).status_code == 404
    assert (await again(client, keys.full, ids.new(ids.VERIFICATION))).status_code == 404


async def test_an_operator_asks_again_for_a_tenant_and_is_audited(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, failed: str, rows: Rows
) -> None:
    anywhere = await make_operator(gateway)
    answer = await again(client, anywhere, failed, {"/patient/member_id": "ELIGIBLE-0002"})
    shown = answer.json()
    assert (answer.status_code, shown["retry_of"], shown["inquiry"]) == (202, failed, None)
    log = await rows(
        "SELECT action, subject_id, actor_kind, actor_id, tenant_id, mode FROM audit_events"
        " WHERE request_id = :request ORDER BY position",
        request=answer.headers["x-request-id"],
    )
    assert sorted((row.action, row.subject_id, row.actor_kind) for row in log) == [
        ("verification.create", shown["id"], "operator"),
        ("verification.retry", failed, "operator"),
    ]
    [tenant] = await rows("SELECT tenant_id FROM verifications WHERE id = :id", id=failed)
    assert {(row.tenant_id, row.mode) for row in log} == {(tenant.tenant_id, "test")}
    assert all(row.actor_id.startswith("opr_") for row in log)
    seeing = await make_operator(gateway, "operations", "phi")
    answer = await again(client, seeing, failed)
    assert answer.json()["inquiry"]["patient"]["first_name"] == "Jane"
    read = await rows(
        "SELECT 1 FROM audit_events WHERE request_id = :request AND action = 'verification.read'",
        request=answer.headers["x-request-id"],
    )
    assert len(read) == 1


@pytest.mark.parametrize("who", ["writer", "operator"])
async def test_without_phi_nothing_is_learned_by_correcting(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, end: End, who: str
) -> None:
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["verifications:write"]))
    headers = writer if who == "writer" else keys.operator
    original = await post(payer={"name": "Aetna"})
    await end(original["id"], FailureCode.MEMBER_NOT_FOUND)
    # A birth date would be found by halving, from whether dates fit each other; a payer by a name that is nearly its own.
    tries: tuple[dict[str, Any], ...] = (
        {"/service/date": "1990-09-19"},
        {"/service": {"date": "1990-09-19"}},
        {"/patient/date_of_birth": "1990-09-20"},
        {"/service/end_date": "2026-12-01"},
        {"/payer/name": "Aetnaa"},
        {"/patient/member_id": ""},
        {"/patient/member_id": "ELIGIBLE-0002"},
    )
    answers = [await again(client, headers, original["id"], corrections) for corrections in tries]
    *refused, accepted = answers
    assert [answer.status_code for answer in refused] == [422] * 6
    for answer in refused[:4]:
        assert {(error["code"], error["pointer"][:12]) for error in answer.json()["errors"]} == {
            ("not_allowed", "/corrections")
        }
    assert refused[4].json()["errors"] == [] or "60054" not in refused[4].text
    assert accepted.status_code == 202 and accepted.json()["inquiry"] is None
    for answer in answers:
        assert [
            phi for phi in ("Jane", "Sample", "1990-09-20", "ELIGIBLE", "60054", "Aetna") if phi in answer.text
        ] == []


async def test_the_retries_of_one_question_are_listed_together(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, failed: str
) -> None:
    other = await post()
    first = (await again(client, keys.full, failed)).json()["id"]
    await end(first, FailureCode.MEMBER_ID_INVALID)
    second, third = [(await again(client, keys.full, id_)).json()["id"] for id_ in (first, failed)]

    async def family(of: str, headers: Headers = keys.full) -> list[str]:
        answer = await client.get("/v1/verifications", params={"family": of}, headers=headers)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    for one in (failed, first, second, third):
        assert await family(one) == [third, second, first, failed]
    assert await family(other["id"]) == [other["id"]]
    assert await family(failed, keys.other) == await family("nothing") == []


async def test_a_canceled_first_answer_and_two_operators_at_once(
    client: httpx.AsyncClient, keys: Keys, post: Post, stuck: Stuck
) -> None:
    """Cancel is for operators, too: what waits for a person is ended before it is asked again."""
    waiting = (await post())["id"]
    await stuck(waiting)
    both = await asyncio.gather(
        *(client.post(f"/v1/verifications/{waiting}/cancel", headers=keys.operator) for _ in range(2))
    )
    assert [answer.status_code for answer in both] == [200, 200]
    assert (await again(client, keys.operator, waiting)).status_code == 202
