"""The answers over HTTP: JSON, one page to print, the audit, and what a caller without PHI is told."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from covergate.api import examples
from covergate.eligibility.answers.given import ANSWERED_LATE
from covergate.eligibility.answers.page import answers_page
from covergate.eligibility.failure import MEANINGS, FailureCode, failure
from covergate.eligibility.next_steps import shown_steps, steps_by_end
from covergate.eligibility.terms import QuestionName
from covergate.gateway import Gateway
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.view import answers_view
from tests.support.clients import Body, End, Keys, Post, Rows, make_operator

GOLDEN = Path(__file__).parent / "answers"
HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PHI = ("Jane", "Sample", "1990-09-20", "ELIGIBLE-0001", "30.00")


def path(verification: dict[str, Any]) -> str:
    return f"/v1/verifications/{verification['id']}/answers"


async def test_the_questions_are_answered_in_their_order(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    made = await post()
    await end(made["id"])
    answer = await client.get(path(made), headers=keys.full)
    shown = answer.json()
    assert answer.headers["cache-control"] == "no-store" and answer.headers["vary"] == "accept"
    assert [row["question"] for row in shown["answers"]] == list(QuestionName)
    assert (shown["verification_id"], shown["status"], shown["outcome"]) == (made["id"], "completed", "eligible")
    verification = (await client.get(f"/v1/verifications/{made['id']}", headers=keys.full)).json()
    assert shown["next_steps"] == verification["next_steps"]
    assert [step["code"] for step in shown["next_steps"]] == ["collect_copay"]


async def test_before_the_end_and_after_a_failure_nothing_is_known(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    made = await post()
    for because, steps in (("has not ended", []), ("failed", ["correct_member_id"])):
        shown = (await client.get(path(made), headers=keys.full)).json()
        assert {(row["answer"], row["confidence"]) for row in shown["answers"]} == {(None, "not_stated")}
        assert because in shown["answers"][0]["because"]
        assert [step["code"] for step in shown["next_steps"]] == steps
        await end(made["id"], FailureCode.MEMBER_ID_INVALID)


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        (HTML["accept"], True),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("image/png", False),
        ("", False),
    ],
)
async def test_a_page_is_sent_only_if_it_is_liked_better(
    client: httpx.AsyncClient, keys: Keys, post: Post, accept: str, page: bool
) -> None:
    answer = await client.get(path(await post()), headers=keys.full | {"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html" if page else "application/json")


async def test_the_page_runs_and_loads_nothing_and_its_title_tells_of_nobody(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    made = await post()
    await end(made["id"])
    answer = await client.get(path(made), headers=keys.full | HTML)
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    policy = answer.headers["content-security-policy"]
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "script" not in policy
    assert not re.search(r"<script|<form|<a |\son\w+=|style=|https?:|url\(|@import", answer.text)
    title = re.search(r"<title>(.*?)</title>", answer.text)
    assert title is not None and title[1] == f"Coverage: {made['id']}"
    assert "Jane Sample" in answer.text and "$30.00 copay" in answer.text


async def test_what_a_vendor_or_a_caller_wrote_is_text(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, body: Body
) -> None:
    script = "<script>alert(1)</script>"
    patient = {**body()["patient"], "last_name": script}
    made = await post(patient=patient)
    other = {"order": None, "kind": "other", "payer": {"id": None, "name": script}, "member_id": "<b>", "sources": {}}
    async with gateway.transaction() as db:
        v = (await store.lock(db, gateway.sealer, [made["id"]]))[made["id"]]
        result = orjson.dumps({**examples.RESULT, "other_coverage": [other]})
        await apply(db, gateway.sealer, [lifecycle.completed(v, "eligible", None, result)])
    text = (await client.get(path(made), headers=keys.full | HTML)).text
    assert "<script" not in text and "<b>" not in text and text.count("&lt;script&gt;") == 2


async def test_reading_answers_is_audited_like_reading_the_verification(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    made = await post()
    await end(made["id"])
    await client.get(path(made), headers=keys.full)
    await client.get(path(made), headers=keys.full | HTML)
    told = await rows("SELECT subject_id, outcome FROM audit_events WHERE action = 'verification.answers'")
    assert [(row.subject_id, row.outcome) for row in told] == [(made["id"], "allowed")] * 2


async def test_an_operator_without_the_role_sees_no_answers(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, end: End
) -> None:
    made = await post()
    await end(made["id"])
    answer = await client.get(path(made), headers=keys.operator)
    assert answer.json()["answers"] is None and answer.json()["outcome"] == "eligible"
    page = await client.get(path(made), headers=keys.operator | HTML)
    assert page.status_code == 200 and "not shown" in page.text
    assert not [phi for phi in PHI if phi in answer.text + page.text]
    reader = await make_operator(gateway, "operations", "phi", x_tenant="Clinic North", x_mode="test")
    assert "30.00" in (await client.get(path(made), headers=reader)).text


async def test_a_list_tells_the_steps_that_need_no_result(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End
) -> None:
    eligible, failed = await post(), await post()
    await end(eligible["id"])
    await end(failed["id"], FailureCode.PAYER_UNAVAILABLE)
    queued = await post()
    canceled = await post()
    await client.post(f"/v1/verifications/{canceled['id']}/cancel", headers=keys.full)
    listed = (await client.get("/v1/verifications", headers=keys.full)).json()["data"]
    steps = {row["id"]: [step["code"] for step in row["next_steps"]] for row in listed}
    assert steps == {
        eligible["id"]: [],
        failed["id"]: ["ask_again_later", "call_payer"],
        queued["id"]: [],
        canceled["id"]: [],
    }


async def test_an_older_result_is_shown_with_every_key(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post
) -> None:
    made = await post()
    older = {name: value for name, value in examples.RESULT.items() if name not in ("plans", "cost_shares", "bill_to")}
    async with gateway.transaction() as db:
        v = (await store.lock(db, gateway.sealer, [made["id"]]))[made["id"]]
        await apply(db, gateway.sealer, [lifecycle.completed(v, "eligible", None, orjson.dumps(older))])
    shown = (await client.get(f"/v1/verifications/{made['id']}", headers=keys.full)).json()["result"]
    assert set(shown) == set(examples.RESULT)
    assert (shown["plans"], shown["cost_shares"], shown["bill_to"]) == ([], [], None)
    assert (await client.get(path(made), headers=keys.full)).status_code == 200


async def test_what_came_after_the_end_is_told_on_page_and_in_steps(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, end: End
) -> None:
    answered, refused = await post(), await post()
    for made in (answered, refused):
        await end(made["id"], FailureCode.DEADLINE_EXCEEDED)
    async with gateway.transaction() as db:
        locked = await store.lock(db, gateway.sealer, [answered["id"], refused["id"]])
        late = [
            lifecycle.answered_late(locked[answered["id"]], orjson.dumps(examples.RESULT)),
            lifecycle.refused_late(locked[refused["id"]], failure(FailureCode.PAYER_UNAVAILABLE)),
        ]
        await apply(db, gateway.sealer, late)
    shown = (await client.get(path(answered), headers=keys.full)).json()
    assert {row["because"] for row in shown["answers"]} == {ANSWERED_LATE}
    assert [step["code"] for step in shown["next_steps"]] == ["read_late_answer"]
    assert (await client.get(path(answered), headers=keys.full | HTML)).text.count(
        "came after the verification had"
    ) == 2
    page = (await client.get(path(refused), headers=keys.full | HTML)).text
    assert (
        "<table>" in page
        and "What to ask the payer" in page
        and MEANINGS[FailureCode.PAYER_UNAVAILABLE].message in page
    )


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_sheet_without_answers_says_nothing_twice(code: FailureCode) -> None:
    shown = {**examples.VERIFICATION_PAGE["data"][0], "inquiry": None, "result": None}
    shown |= {
        "failure": failure(code).model_dump(mode="json"),
        "next_steps": shown_steps(steps_by_end(None, None, code)),
    }
    said = re.findall(r"[A-Z][^.<>]*\.", answers_page(answers_view(shown, phi=True), shown).partition("<main>")[2])
    assert len(said) > 2 and len(said) == len(set(said))


@pytest.mark.parametrize("name", ["eligible", "failed"])
def test_the_page_is_the_one_that_was_looked_at(name: str) -> None:
    """Change the golden page with the template, and look at it: `UPDATE_GOLDEN=1` is not there on purpose."""
    shown = (
        examples.COMPLETED_VERIFICATION
        if name == "eligible"
        else {
            **examples.VERIFICATION_PAGE["data"][0],
            "inquiry": examples.ACCEPTED_VERIFICATION["inquiry"],
            "result": None,
        }
    )
    page = answers_page(answers_view(shown, phi=True), shown)
    assert page == (GOLDEN / f"{name}.html").read_text()
