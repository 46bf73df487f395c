"""A member id chooses exactly one scenario."""

from __future__ import annotations

import pytest

from covergate.sandbox.scenarios import Scenario, scenario_of

# The public contract's list; a test that read it from the enum would not notice a missing one.
NAMES = [
    "ELIGIBLE",
    "SLOW",
    "HTTP500ONCE",
    "RATELIMIT",
    "DUPLICATEEVENT",
    "NOEVENT",
    "INACTIVE",
    "NOTCOVERED",
    "BADMEMBER",
    "BADNAME",
    "BADDOB",
    "PAYERDOWN",
    "BADNPI",
    "BADPAYER",
    "NEVER",
    "BROKENJSON",
    "DROPREPLY",
]


def test_the_scenarios_are_those_of_the_contract() -> None:
    assert {scenario.value for scenario in Scenario} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rest", ["", "1", "-0042", "W123456789"])
def test_the_start_of_the_member_id_chooses(name: str, rest: str) -> None:
    assert scenario_of(name + rest) == name


@pytest.mark.parametrize("member_id", ["00000000", "W123456789", "", "never1", "XNEVER", "BAD1"])
def test_any_other_member_is_eligible(member_id: str) -> None:
    assert scenario_of(member_id) is Scenario.ELIGIBLE
