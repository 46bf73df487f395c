"""A value that does not open, as the console shows it: its own row or page says so, and nothing fails."""

from __future__ import annotations

import pytest

from tests.console.visitors import visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

_BREAK = {
    "inquiry": "UPDATE verifications SET inquiry_sealed = '\\x00' WHERE id = :id",
    "result": "UPDATE results SET sealed = '\\x00' WHERE verification_id = :id",
    "failure": "UPDATE verifications SET failure_sealed = '\\x00' WHERE id = :id",
    "raw": "UPDATE history SET contents_sealed = array_fill('\\x00'::bytea, ARRAY[cardinality(contents_sealed)])"
    " WHERE verification_id = :id AND contents_sealed IS NOT NULL",
    "outcome": "UPDATE verifications SET outcome = 'ineligible' WHERE id = :id",
}


@pytest.mark.parametrize("value", _BREAK)
async def test_what_does_not_open_is_said_and_nothing_fails(house: House, value: str) -> None:
    broken, whole = [await house.create("sohar", f"ELIGIBLE-{value}{n}") for n in range(2)]
    for id_ in (broken, whole):
        assert (await house.settled(id_))["status"] == "completed"
    await house.sql(_BREAK[value], id=broken)
    async with visiting(house, "operations", "phi", "audit", actor="unreadable") as visitor:
        listed = await visitor.text("/verifications")
        assert whole[-6:] in listed and broken[-6:] in listed
        assert (await visitor.send(f"/verifications/{broken}/reveal", reason="patient_care")).status_code == 303
        answers = {path: await visitor.get(f"/verifications/{broken}{path}") for path in ("", "/raw", "/print")}
        assert {answer.status_code for answer in answers.values()} <= {200, 303}
        if value == "raw":
            assert "does not open" in words_of(answers["/raw"])
        else:
            assert f"does not open: {value}" in words_of(answers[""])
            assert answers["/print"].status_code == 200
