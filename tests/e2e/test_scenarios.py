"""Every scenario of docs/api.md#7-sandbox-scenarios at every vendor, over real HTTP from the POST to the verified webhook."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from covergate.vendors import VENDORS
from tests.e2e.house import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCS = Path(__file__).parents[2] / "docs" / "vendors.md"


@dataclass(frozen=True)
class Ending:
    """`reading` is the outcome with its reason, the failure's code, or what is waited for."""

    status: str
    reading: str
    warning: str | None = None


ELIGIBLE = Ending("completed", "eligible")
OPERATOR = Ending("in_progress", "operator")

SCENARIOS: dict[str, Ending] = {
    "ELIGIBLE": ELIGIBLE,
    "SLOW": ELIGIBLE,
    "HTTP500ONCE": ELIGIBLE,
    "RATELIMIT": ELIGIBLE,
    "DUPLICATEEVENT": ELIGIBLE,
    "NOEVENT": ELIGIBLE,
    "INACTIVE": Ending("completed", "ineligible/inactive"),
    "NOTCOVERED": Ending("completed", "ineligible/not_covered"),
    "BADMEMBER": Ending("failed", "member_id_invalid"),
    "BADNAME": Ending("failed", "member_name_mismatch"),
    "BADDOB": Ending("failed", "member_dob_mismatch"),
    "PAYERDOWN": Ending("failed", "payer_unavailable"),
    "BADNPI": Ending("failed", "provider_not_recognized"),
    "BADPAYER": Ending("failed", "payer_not_recognized"),
    "NEVER": Ending("failed", "deadline_exceeded"),
    "BROKENJSON": Ending("failed", "vendor_protocol_error"),
    "DROPREPLY": ELIGIBLE,
}
INNER_DOCUMENT_BROKEN = Ending("completed", "unknown", warning="raw_unparsable")
OTHERWISE: dict[tuple[str, str], Ending] = {
    ("vsee", "BROKENJSON"): INNER_DOCUMENT_BROKEN,
    ("healthie", "BROKENJSON"): INNER_DOCUMENT_BROKEN,
    ("integrex", "DROPREPLY"): OPERATOR,
}
"""Also as docs/api.md says: only the inner document is broken, or nothing can find a lost submission."""

NOT_APPLICABLE = {
    ("integrex", "NOTCOVERED"),
    ("integrex", "DUPLICATEEVENT"),
    ("integrex", "NOEVENT"),
    ("health_harbor", "BADMEMBER"),
    ("health_harbor", "BADNAME"),
    ("health_harbor", "BADDOB"),
    ("health_harbor", "PAYERDOWN"),
    ("health_harbor", "BADNPI"),
    ("health_harbor", "BADPAYER"),
    ("healthie", "DUPLICATEEVENT"),
    ("healthie", "NOEVENT"),
}
"""Cells that a vendor cannot express: they behave as ELIGIBLE. docs/vendors.md gives the reasons."""

REFUSED_ONCE = {"HTTP500ONCE": 500, "RATELIMIT": 429}
"""Scenarios that did not happen unless a reply had this status. Healthie's rate limit stands inside a 200."""

CELLS = [(vendor, scenario) for vendor in VENDORS for scenario in SCENARIOS]

Asked: TypeAlias = dict[tuple[str, str], tuple[str, dict[str, Any]] | BaseException]
"""(vendor, scenario) → id, and the verification as it came to rest; or why it did not."""

COPAY = {"sohar": "in", "integrex": "unknown", "health_harbor": "unknown", "vsee": "in", "healthie": "in"}
DEDUCTIBLE = COPAY | {"integrex": "in"}
"""For which network the vendor states the plan's copay of $30 and the deductible of $1,000 of which $250 are left."""

ECHOES_THE_ATTEMPT = ("sohar", "integrex", "health_harbor")
"""Vendors with a field for our name of a submission; the others have one for the patient only."""

HEALTHIE_CALLS = 4
"""What one submission takes there: plan, patient, policy, check."""

NEVER_SECONDS = 12
"""Time enough for the other vendors' calls on a busy machine: what is never answered must be asked first."""
SENT_BY_SECONDS = 6.0
"""Before that a submission may still be under way: to look it up would be a mistake of the test."""


def expected(vendor: str, scenario: str) -> Ending:
    if (vendor, scenario) in NOT_APPLICABLE:
        return ELIGIBLE
    return OTHERWISE.get((vendor, scenario), SCENARIOS[scenario])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asked(house: House) -> Asked:
    """All are asked at once."""

    async def ask(vendor: str, scenario: str) -> tuple[str, dict[str, Any]]:
        deadline = (datetime.now(UTC) + timedelta(seconds=NEVER_SECONDS)).isoformat() if scenario == "NEVER" else None
        verification_id = await house.create(vendor, _member(vendor, scenario), deadline=deadline)
        # Only for an operator's decision it is pointless to wait on; an event may settle what looks lost for a moment.
        patience = 1 if expected(vendor, scenario).status == "in_progress" else 20
        return verification_id, await house.settled(verification_id, patience=patience)

    async def never_asked() -> bool:
        """That the vendors have counted them is not enough: a reply that is read too late counts as lost."""
        listed = await house.client.get("/v1/verifications", params={"limit": 100})
        attempts = [attempt for one in listed.json()["data"] for attempt in one["attempts"]]
        return sum(attempt["submitted_at"] is not None for attempt in attempts) == len(VENDORS)

    # Those that wait for a deadline go first and by themselves, so that it leaves time for all that comes before it.
    cells = sorted(CELLS, key=lambda cell: cell[1] != "NEVER")
    async with house.fast_clock(minutes=2, sent_by=SENT_BY_SECONDS):
        first = [asyncio.create_task(ask(*cell)) for cell in cells[: len(VENDORS)]]
        await eventually(never_asked, what="the submissions of NEVER", every=0.05)
        rest = [asyncio.create_task(ask(*cell)) for cell in cells[len(VENDORS) :]]
        asked = await asyncio.gather(*first, *rest, return_exceptions=True)
    return dict(zip(cells, asked, strict=True))


def _member(vendor: str, scenario: str) -> str:
    return f"{scenario}-{vendor.replace('_', '')}"


@pytest.mark.parametrize(("vendor", "scenario"), CELLS)
async def test_a_scenario_ends_as_it_should(house: House, asked: Asked, vendor: str, scenario: str) -> None:
    verification_id, seen = _rested(asked, vendor, scenario)
    ending = expected(vendor, scenario)
    assert (seen["status"], _reading(seen)) == (ending.status, ending.reading), await house.timeline(verification_id)
    if ending.warning is not None:
        assert ending.warning in [warning["code"] for warning in seen["result"]["warnings"]]
    if ending.status != "in_progress":
        told = await house.receiver.end_of(verification_id)
        assert told["type"] == f"verification.{ending.status}"
        assert told["data"] == {
            "id": verification_id,
            "external_id": None,
            "status": seen["status"],
            "outcome": seen["outcome"],
            "outcome_reason": seen["outcome_reason"],
            "failure_code": (seen["failure"] or {}).get("code"),
            "metadata": {},
        }
    if scenario in REFUSED_ONCE:
        statuses = await house.statuses(verification_id)
        assert REFUSED_ONCE[scenario] in statuses or (vendor == "healthie" and len(statuses) > HEALTHIE_CALLS)
    made = [row for row in await house.submissions() if row["member_id"] == _member(vendor, scenario)]
    assert len(made) == 1
    if vendor in ECHOES_THE_ATTEMPT:
        assert made[0]["echo"] == seen["attempts"][0]["id"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_answer_says_what_the_vendor_stated(asked: Asked, vendor: str) -> None:
    _, seen = _rested(asked, vendor, "ELIGIBLE")
    result = seen["result"]
    assert result["coverage"] == "active"
    assert result["summary"][COPAY[vendor]]["copay"] == "30.00"
    deductible = result["summary"][DEDUCTIBLE[vendor]]["deductible"]["individual"]
    assert (deductible["total"], deductible["remaining"]) == ("1000.00", "250.00")


DOUBTS = ("payer_not_in_directory", "payer_matched_by_name", "payer_id_and_name_differ")


@pytest.mark.parametrize(
    ("vendor", "changes", "codes", "directory_id"),
    [
        ("integrex", {"payer": {"id": "60054"}}, set(), None),
        ("integrex", {"payer": {"id": "99999"}}, {"payer_not_in_directory"}, None),
        ("integrex", {"payer": {"id": "nopayer"}}, {"payer_not_in_directory"}, None),
        ("integrex", {"payer": {"id": "60054", "name": "Cigna"}}, {"payer_id_and_name_differ"}, None),
        ("integrex", {"payer": {"name": "Aetna"}}, {"payer_matched_by_name"}, "pyr_01m80aq8c7epyshsw0x172jhr7"),
        ("integrex", {"service": {"service_type_codes": ["ZZ"]}}, {"unknown_code"}, None),
        # Known, but not from Sohar, which lists its payers; Integrex has no list.
        ("sohar", {"payer": {"id": "94036"}}, {"payer_not_in_directory"}, None),
        ("sohar", {"payer": {"id": "60054"}}, set(), None),
        ("integrex", {"payer": {"id": "94036"}}, set(), None),
    ],
)
async def test_a_doubtful_question_is_told_in_the_result(
    house: House, vendor: str, changes: dict[str, Any], codes: set[str], directory_id: str | None
) -> None:
    seen = await house.settled(await house.create(vendor, "ELIGIBLE-doubtful", **changes))
    told = {warning["code"]: warning for warning in seen["result"]["warnings"]}
    assert told.keys() & {*DOUBTS, "unknown_code"} == codes
    assert seen["inquiry"]["payer"]["directory_id"] == directory_id
    assert "ZZ" in told["unknown_code"]["message"] if "unknown_code" in codes else True


async def test_a_plan_that_is_not_accepted_is_told_before_the_check_that_costs(house: House) -> None:
    member_id, not_accepted = "ELIGIBLE-not-accepted", {"payer": {"id": "94036"}}
    only = {"vendor_options": {"healthie": {"accepted_only": True}}}
    seen = await house.settled(await house.create("healthie", member_id, **not_accepted, **only))
    assert seen["failure"]["code"] == "payer_not_supported"
    assert [row for row in await house.submissions() if row["member_id"] == member_id] == []
    asked_anyway = await house.settled(await house.create("healthie", member_id, **not_accepted))
    assert asked_anyway["outcome"] == "eligible"


async def test_no_webhook_had_a_wrong_signature(house: House, asked: Asked) -> None:
    assert house.receiver.bodies
    assert house.receiver.forged == 0


def _rested(asked: Asked, vendor: str, scenario: str) -> tuple[str, dict[str, Any]]:
    rested = asked[vendor, scenario]
    if isinstance(rested, BaseException):
        raise rested
    return rested


def _reading(seen: dict[str, Any]) -> str:
    if seen["failure"]:
        return str(seen["failure"]["code"])
    if seen["waiting_for"]:
        return str(seen["waiting_for"]["kind"])
    return "/".join(filter(None, (seen["outcome"], seen["outcome_reason"])))


async def test_what_a_vendor_cannot_express_is_documented() -> None:
    section = re.search(r"^## Sandbox scenarios\n(.*?)^## ", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    names = {name.replace("_", " "): name for name in VENDORS}
    documented = set()
    for vendor, scenarios, reason in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section[1], re.MULTILINE):
        if vendor.lower() in names:
            assert reason.strip()
            documented |= {(names[vendor.lower()], scenario) for scenario in re.findall(r"`([A-Z0-9]+)`", scenarios)}
    assert documented == NOT_APPLICABLE
