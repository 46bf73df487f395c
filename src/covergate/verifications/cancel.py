"""Canceling: the verification ends at once; what the vendor is doing is not recalled."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access import audit
from covergate.access.caller import Caller
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import Status, SubjectKind
from covergate.verifications import lifecycle
from covergate.verifications.commit import apply
from covergate.verifications.operator import lock_callers


async def cancel(gateway: Gateway, caller: Caller, verification_id: str) -> None:
    """Again is fine; a verification that completed or failed is `already_ended`."""
    async with gateway.transaction() as db:
        await cancel_in(db, gateway, caller, verification_id)


async def cancel_in(db: AsyncConnection, gateway: Gateway, caller: Caller, verification_id: str) -> None:
    """The same in the caller's transaction."""
    v = await lock_callers(db, gateway.sealer, caller, verification_id)
    if v.status is Status.CANCELED:
        return
    if not v.open:
        raise Problem("already_ended", f"the verification is {v.status}; an end never changes")
    await apply(db, gateway.sealer, [lifecycle.canceled(v)])
    action, kind = "verification.cancel", SubjectKind.VERIFICATION
    await audit.record(db, caller, action, kind, [verification_id], tenant_id=v.tenant_id, mode=v.mode)
