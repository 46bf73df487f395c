"""The scenario of a simulated patient, by the start of the member id (docs/api.md#7-sandbox-scenarios).

Invariant: every member id has exactly one scenario. An id that starts with none of their names is `ELIGIBLE`, and so are
the vendors' own published test values (Sohar's payer 60054, member 00000000, state CA).
"""

from __future__ import annotations

from enum import StrEnum


class Scenario(StrEnum):
    """The sandbox scenarios of the public contract; the value is the start of the member id."""

    ELIGIBLE = "ELIGIBLE"
    SLOW = "SLOW"
    HTTP500ONCE = "HTTP500ONCE"
    """The first call that commits nothing answers 500."""
    RATELIMIT = "RATELIMIT"
    """The first submission answers 429."""
    DUPLICATEEVENT = "DUPLICATEEVENT"
    """The vendor's webhook comes several times under one id."""
    NOEVENT = "NOEVENT"
    """No webhook comes: only polling finds the answer."""
    INACTIVE = "INACTIVE"
    NOTCOVERED = "NOTCOVERED"
    BADMEMBER = "BADMEMBER"
    BADNAME = "BADNAME"
    BADDOB = "BADDOB"
    PAYERDOWN = "PAYERDOWN"
    BADNPI = "BADNPI"
    BADPAYER = "BADPAYER"
    NEVER = "NEVER"
    """The vendor works on it for ever and says nothing."""
    BROKENJSON = "BROKENJSON"
    """The answer is not JSON."""
    DROPREPLY = "DROPREPLY"
    """The submission's work is done, but its reply never arrives."""


def scenario_of(member_id: str) -> Scenario:
    """The scenario that `member_id` starts with, `ELIGIBLE` if none."""
    for scenario in Scenario:
        if member_id.startswith(scenario.value):
            return scenario
    return Scenario.ELIGIBLE
