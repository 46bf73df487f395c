"""Canceling: the verification ends at once; what the vendor is doing is not recalled."""

from __future__ import annotations

from covergate import ids
from covergate.access.caller import Caller
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.verifications import transitions
from covergate.verifications.record import finish
from covergate.verifications.state import locked


async def cancel(gateway: Gateway, caller: Caller, verification_id: str) -> None:
    """Again is fine; a verification that completed or failed is `already_ended`."""
    async with gateway.transaction() as db:
        state = await locked(db, verification_id) if ids.is_id(ids.VERIFICATION, verification_id) else None
        if state is None or (state.tenant_id, state.mode) != (caller.tenant_id, caller.mode):
            raise Problem("not_found", "there is no such verification")
        if state.status == "canceled":
            return
        if not state.open:
            raise Problem("already_ended", f"the verification is {state.status}; an end never changes")
        await finish(db, gateway.sealer, state, transitions.canceled(state))
