"""Looking now at what waits for its vendor: a button without a script, for whoever may change verifications."""

from __future__ import annotations

import pytest

from covergate.access.api_keys import create_key
from tests.console.browser import Visit, accessible
from tests.console.visitors import visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def waiting(house: House) -> str:
    id_ = await house.create("sohar", "NEVER-look")
    await house.happens(id_, "submitted")
    later = "UPDATE work SET due_at = now() + interval '1 h', next_check_at = now() + interval '1 h', step = step + 1"
    await house.sql(f"{later} WHERE verification_id = :id", id=id_)
    return id_


async def test_the_vendor_is_asked_again_at_once(house: House) -> None:
    id_ = await waiting(house)
    async with visiting(house, "staff", tenant="Clinic North", actor="jo") as jo:
        page = await jo.get(f"/verifications/{id_}")
        assert "you can look now or cancel it" in words_of(page)
        assert f'action="/console/verifications/{id_}/look-now"' in page.text
        done = await jo.send(f"/verifications/{id_}/look-now")
        assert (done.status_code, done.headers["location"]) == (303, f"/console/verifications/{id_}?done=look_now")
        assert "It is looked at as soon as its vendor may be called." in await jo.text(
            f"/verifications/{id_}", done="look_now"
        )
    await house.happens(id_, "checked")
    rows = await house.sql(
        "SELECT actor_id FROM audit_events WHERE action = 'verification.look_now' AND subject_id = :id", id=id_
    )
    assert [row.actor_id for row in rows] == ["jo"]


async def test_what_changed_meanwhile_is_said_and_anothers_is_not_found(house: House) -> None:
    id_ = await waiting(house)
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    async with visiting(house, "staff", tenant="Clinic South") as other:
        assert (await other.send(f"/verifications/{id_}/look-now")).status_code == 404
    async with visiting(house, "administrator", tenant="Clinic North") as unable:
        assert (await unable.send(f"/verifications/{id_}/look-now")).status_code == 403
    async with visiting(house, "operations") as operator:
        await operator.send(f"/verifications/{id_}/cancel")
        done = await operator.send(f"/verifications/{id_}/look-now")
        assert done.headers["location"].endswith("?done=changed")
        assert f"{id_}/look-now" not in (await operator.get(f"/verifications/{id_}")).text


async def test_the_button_is_accessible(house: House, visit: Visit) -> None:
    id_ = await waiting(house)
    page = await (await visit("operations")).page(f"/console/verifications/{id_}")
    await accessible(page)
    await page.get_by_role("button", name="Look now").click()
    await page.get_by_text("It is looked at as soon as its vendor may be called.").wait_for()
