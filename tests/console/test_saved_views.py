"""A person's own views: kept, renamed and removed without a script; nobody else sees them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from covergate.access.api_keys import create_key
from covergate.access.console_sessions import make_link, redeem_link
from covergate.access.console_users import create_user, list_users, revoke_user
from covergate.access.saved_views import MOST_VIEWS
from tests.console.visitors import links_of, visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIST = "/verifications"


async def names(house: House) -> list[str]:
    return [row.name for row in await house.sql("SELECT name FROM saved_views ORDER BY name")]


def ids_in(text: str) -> list[str]:
    return re.findall(r"/views/(svw_[a-z0-9]+)/rename", text)


async def test_a_view_is_kept_renamed_and_removed(house: House) -> None:
    async with visiting(house, "operations", actor="anna") as anna:
        kept = await anna.send(f"{LIST}/views", view_name=" Mine   today ", status="failed", completed_after="today")
        assert kept.status_code == 303
        assert kept.headers["location"] == "/console/verifications?status=failed&completed_after=today"
        page = await anna.get(LIST)
        assert links_of(page)["Mine today"].endswith("?status=failed&completed_after=today")
        shown = await anna.get(LIST, completed_after="today", status="failed")
        assert shown.text.count('aria-current="page">Mine today<') == 1
        [view_id] = ids_in(page.text)
        assert (await anna.send(f"{LIST}/views/{view_id}/rename", view_name="Anna's")).status_code == 303
        page = await anna.get(LIST)
        assert "Anna's" in links_of(page) and "Mine today" not in links_of(page)
        assert (await anna.send(f"{LIST}/views/{view_id}/remove")).status_code == 303
        page = await anna.get(LIST)
        assert "Anna's" not in links_of(page) and "Your views" not in words_of(page)


async def test_a_person_sees_and_changes_only_their_own(house: House) -> None:
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    async with visiting(house, "operations", actor="bert") as bert:
        await bert.send(f"{LIST}/views", view_name="Bert's", status="failed")
        [view_id] = ids_in((await bert.get(LIST)).text)
        others = {"carla": None, "bert": "Clinic South"}
        for actor, tenant in others.items():
            role = "operations" if tenant is None else "staff"
            async with visiting(house, role, actor=actor, tenant=tenant) as other:
                assert "Bert's" not in await other.text(LIST), actor
                for action in ("rename", "remove"):
                    answer = await other.send(f"{LIST}/views/{view_id}/{action}", view_name="taken")
                    assert answer.status_code == 404, (actor, action)
                # Their own may have the same name.
                assert (await other.send(f"{LIST}/views", view_name="Bert's", status="completed")).status_code == 303
        assert links_of(await bert.get(LIST))["Bert's"].endswith("?status=failed")


async def test_what_cannot_be_kept_is_said_and_changes_nothing(house: House) -> None:
    async with visiting(house, "staff", tenant="Clinic North", actor="dora") as dora:
        assert (await dora.send(f"{LIST}/views", view_name="One", payer_id="60054")).status_code == 303
        before = await names(house)
        for fields, said in (
            ({"view_name": "One", "status": "failed"}, "you have a view of this name"),
            ({"view_name": "Two"}, "choose a filter first"),
            ({"view_name": " ", "status": "failed"}, "has 1 to 60 characters"),
            ({"view_name": "x" * 61, "status": "failed"}, "has 1 to 60 characters"),
            ({"view_name": "Two", "status": "Jane"}, "status must be one of"),
            ({"view_name": "Two", "tenant": "Clinic South", "status": "failed"}, "there is no such filter"),
        ):
            answer = await dora.send(f"{LIST}/views", **fields)
            assert answer.status_code == 422, fields
            assert said in words_of(answer) and "Jane" not in answer.text
        for number in range(MOST_VIEWS - 1):
            await dora.send(f"{LIST}/views", view_name=f"Full {number}", status="failed")
        answer = await dora.send(f"{LIST}/views", view_name="One more", status="failed")
        assert answer.status_code == 422 and f"you have {MOST_VIEWS} views" in words_of(answer)
        assert len(await names(house)) == len(before) + MOST_VIEWS - 1
        one = next(row.id for row in await house.sql("SELECT id FROM saved_views WHERE name = 'One'"))
        assert (await dora.send(f"{LIST}/views/{one}/rename", view_name="Full 3")).status_code == 422
        assert "One" in await names(house)


async def test_views_go_with_their_persons_account(house: House) -> None:
    await create_user(house.gateway, login="eve", name="Eve", roles=["operations"])
    user = next(user.id for user in await list_users(house.gateway) if user.login == "eve")
    async with visiting(house, "operations", actor=user) as eve:
        await eve.send(f"{LIST}/views", view_name="Eve's", status="failed")
    assert "Eve's" in await names(house)
    assert await revoke_user(house.gateway, "eve")
    assert "Eve's" not in await names(house)


async def test_a_view_that_is_seen_is_kept_on(house: House) -> None:
    async with visiting(house, "operations", actor="fay") as fay:
        await fay.send(f"{LIST}/views", view_name="Fay's", status="failed")
        await house.sql("UPDATE saved_views SET used_at = now() - interval '300 days' WHERE actor_id = 'fay'")
        await fay.get(LIST)
    [row] = await house.sql("SELECT now() - used_at AS age FROM saved_views WHERE actor_id = 'fay'")
    assert row.age < timedelta(minutes=1)


async def test_each_one_time_link_has_views_of_its_own(house: House) -> None:
    """Also if two were made for one name."""
    came = []
    for _ in range(2):
        code = await make_link(house.gateway, name="Dora", roles=("operations",), lives=timedelta(minutes=5))
        redeemed = await redeem_link(house.gateway, code)
        assert redeemed is not None and redeemed[0].name == "Dora"
        came.append(redeemed[0].actor_id)
    async with (
        visiting(house, "operations", actor=came[0]) as first,
        visiting(house, "operations", actor=came[1]) as second,
    ):
        await first.send(f"{LIST}/views", view_name="Dora's", status="failed")
        assert "Dora's" in await first.text(LIST)
        assert "Dora's" not in await second.text(LIST)
