"""An operator's word on a submission whose fate nobody could find out: submit again, or give up."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from covergate import ids
from covergate.access.caller import Caller
from covergate.eligibility.failure import FailureCode
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.verifications import transitions
from covergate.verifications.record import fail, finish
from covergate.verifications.state import Successor, locked


class Resolution(StrEnum):
    RESUBMIT = "resubmit"
    GIVE_UP = "give_up"


async def resolve(gateway: Gateway, caller: Caller, verification_id: str, resolution: Resolution) -> None:
    """Only for a verification that waits for an operator; anything else is a 409 that says where it stands."""
    async with gateway.transaction() as db:
        state = await locked(db, verification_id) if ids.is_id(ids.VERIFICATION, verification_id) else None
        if state is None or (state.tenant_id, state.mode) != (caller.tenant_id, caller.mode):
            raise Problem("not_found", "there is no such verification")
        if not state.open or state.waiting_for != "operator":
            waits = f", waiting for {state.waiting_for}" if state.waiting_for else ""
            raise Problem("not_waiting_for_operator", f"the verification is {state.status}{waits}")
        if resolution is Resolution.GIVE_UP:
            change = fail(gateway.sealer, state, FailureCode.SUBMISSION_UNKNOWN, "an operator gave it up")
        else:
            successor = Successor(ids.new(ids.ATTEMPT), state.attempt.vendor, state.not_asked)
            change = transitions.next_attempt(
                state, successor, FailureCode.SUBMISSION_UNKNOWN, timedelta(0), "an operator had it submitted again"
            )
        await finish(db, gateway.sealer, state, change)
