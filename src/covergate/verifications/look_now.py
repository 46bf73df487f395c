"""Looking now: what waits for a vendor's answer is looked at at once, instead of when that was planned.

A worker makes the look as any other, so a hold, the circuit and the vendor's rate are kept, and nothing is submitted by it.
"""

from __future__ import annotations

from covergate.access import audit
from covergate.access.caller import Caller
from covergate.gateway import Gateway
from covergate.states import AttemptState, SubjectKind, WaitingFor
from covergate.vendors import VENDORS
from covergate.verifications import lifecycle
from covergate.verifications.commit import apply
from covergate.verifications.model import Verification
from covergate.verifications.operator import lock_callers


async def look_now(gateway: Gateway, caller: Caller, verification_id: str) -> bool:
    """Again is fine: a look that is due, or being made, is not disturbed. False: it does not wait for an answer (any more).

    Raises Problem `not_found`.
    """
    async with gateway.transaction() as db:
        v = await lock_callers(db, gateway.sealer, caller, verification_id)
        if not _waits_for_answer(v):
            return False
        if not v.due:
            await apply(db, gateway.sealer, [lifecycle.woken(v)])
        action, kind = "verification.look_now", SubjectKind.VERIFICATION
        await audit.record(db, caller, action, kind, [verification_id], tenant_id=v.tenant_id, mode=v.mode)
    return True


def _waits_for_answer(v: Verification) -> bool:
    vendor = VENDORS.get(v.attempt.vendor)
    asked = v.attempt.state is AttemptState.WAITING and vendor is not None and vendor.check is not None
    return asked and v.waiting_for is WaitingFor.VENDOR
