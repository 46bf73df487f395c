"""An operator's word: on a submission whose fate nobody could find out, and on a vendor. Each is audited with who said it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.access.vendor_accounts import TAKEN, Owner, try_account
from covergate.db.sealing import Sealer
from covergate.eligibility.failure import FailureCode, failure
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.states import SubjectKind, WaitingFor
from covergate.transport.transport import Transport
from covergate.vendor_health import circuit_breaker, refused_credentials
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED
from covergate.verifications import lifecycle, policy, store
from covergate.verifications.commit import apply
from covergate.verifications.model import Verification
from covergate.verifications.sweep import wake_held_back

LONGEST_HOLD = timedelta(days=90)
"""A hold with an end; one without ends when it is resumed."""


class Resolution(StrEnum):
    RESUBMIT = "resubmit"
    GIVE_UP = "give_up"
    FOUND = "found"


async def resolve(
    gateway: Gateway, caller: Caller, verification_id: str, resolution: Resolution, vendor_ref: str | None = None
) -> None:
    """Only for a verification that waits for an operator; anything else is a 409 that says where it stands.

    If the SSN has left, what is submitted again lacks it: timeline and `not_asked` say so. `vendor_ref`: under which it was
    found.
    """
    async with gateway.transaction() as db:
        await resolve_in(db, gateway, caller, verification_id, resolution, vendor_ref)


async def resolve_in(
    db: AsyncConnection,
    gateway: Gateway,
    caller: Caller,
    verification_id: str,
    resolution: Resolution,
    vendor_ref: str | None = None,
    before: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """The same in the caller's transaction. `before` is done under the lock, if there is something to decide."""
    if vendor_ref is not None:
        # Before the row is locked, as whoever brings a reference does.
        await store.lock_refs(db, {(await store.vendor_of(db, verification_id), vendor_ref)})
    v = await lock_callers(db, gateway.sealer, caller, verification_id)
    if not v.open or v.waiting_for is not WaitingFor.OPERATOR:
        waits = f", waiting for {v.waiting_for}" if v.waiting_for else ""
        raise Problem("not_waiting_for_operator", f"the verification is {v.status}{waits}")
    if before is not None:
        await before()
    match resolution:
        case Resolution.GIVE_UP:
            change = lifecycle.failed(v, failure(FailureCode.SUBMISSION_UNKNOWN), "an operator gave it up")
        case Resolution.RESUBMIT:
            change = policy.resubmitted(v, await store.removed_ssns(db, gateway.sealer, v))
        case Resolution.FOUND:
            change = lifecycle.found(v, await _free_ref(db, v, vendor_ref or ""))
            await store.match_events(db, [change.verification])
    await apply(db, gateway.sealer, [change])
    action, kind = f"verification.{resolution}", SubjectKind.VERIFICATION
    await audit.record(db, caller, action, kind, [verification_id], tenant_id=v.tenant_id, mode=v.mode)


async def _free_ref(db: AsyncConnection, v: Verification, vendor_ref: str) -> str:
    """Raises Problem if it is none of this vendor's, or another attempt's."""
    vendor = VENDORS.get(v.attempt.vendor)
    wrong = None
    if vendor is None or vendor.check is None:
        wrong = FieldError(
            "unsupported", "must be another one: this vendor answers at once or never", pointer="/action"
        )
    elif not vendor.ref_shape.fullmatch(vendor_ref):
        message = f"must be a reference as {vendor.title} gives it: {vendor.ref_words}"
        wrong = FieldError("invalid_value", message, pointer="/vendor_ref", vendor=vendor.name)
    if wrong is not None:
        raise Problem("invalid_request", "errors lists everything that is wrong", [wrong])
    if await store.is_ref_taken(db, v.attempt, v.mode, vendor_ref):
        raise Problem("vendor_ref_taken", "another attempt at this vendor has this reference: look again at the vendor")
    return vendor_ref


async def hold(
    gateway: Gateway,
    caller: Caller | audit.Actor,
    vendor: str,
    mode: str,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    seen: str | None = None,
) -> bool:
    """Nothing is sent to the vendor until it is resumed, or `until` has come.

    Again changes only what is given of `reason` and `until`, not by whom it is held and since when. `seen`: the `hold_mark` that
    the operator saw; if it is another one by now, nothing is done, and False is returned.
    """
    async with gateway.transaction() as db:
        if seen is not None and await circuit_breaker.lock_hold(db, vendor, mode) != seen:
            return False
        by = caller.operator_id if isinstance(caller, Caller) else None
        begins = await circuit_breaker.begin_hold(db, vendor, mode, by=by, reason=reason, until=until)
        if begins or reason is not None or until is not None:
            await audit.record(db, caller, "vendor.hold", SubjectKind.VENDOR, [vendor], mode=mode)
    return True


async def resume(
    gateway: Gateway, vendor: str, mode: str, caller: Caller | audit.Actor | None = None, *, seen: str | None = None
) -> bool:
    """Held work goes on, and what waits because the vendor refused credentials, on any account; whether there was a hold of
    either kind. What this process does not come to wake, the sweep does. `seen` as with `hold`.
    """
    async with gateway.transaction() as db:
        if seen is not None and await circuit_breaker.lock_hold(db, vendor, mode) != seen:
            return False
        held = await circuit_breaker.end_hold(db, vendor, mode)
        ended = await refused_credentials.trust_again(db, vendor, mode, None, "resumed") or held
        if ended and caller is not None:
            await audit.record(db, caller, "vendor.resume", SubjectKind.VENDOR, [vendor], mode=mode)
    if ended:
        await wake_held_back(gateway)
    return ended


async def trust_credentials(gateway: Gateway, vendor: str, mode: str, account: str) -> None:
    """The vendor took them for a harmless call: what waits for them goes on."""
    async with gateway.transaction() as db:
        ended = await refused_credentials.trust_again(db, vendor, mode, account, "taken")
    if ended:
        await wake_held_back(gateway)


async def prove_account(gateway: Gateway, transport: Transport, owner: Owner, by: Caller) -> dict[str, Any]:
    """Tries a tenant's account at a vendor by one harmless call, unless the vendor is held; what waits for it goes on if it is
    taken. The account as it is shown, with a `message`. Raises Problem `not_found`.
    """
    async with gateway.connection() as db:
        standing = (await circuit_breaker.read_standing(db)).get((owner.vendor, owner.mode, SHARED))
    held = standing is not None and standing.held_at is not None
    shown = await try_account(gateway, transport, owner, by, held=held)
    if shown["message"] == TAKEN:
        await trust_credentials(gateway, owner.vendor, owner.mode, shown["id"])
    return shown


async def lock_callers(db: AsyncConnection, sealer: Sealer, caller: Caller, verification_id: str) -> Verification:
    """A verification that the caller may see, locked. Raises Problem `not_found`."""
    locked = {}
    if ids.is_id(ids.VERIFICATION, verification_id):
        locked = await store.lock(db, sealer, [verification_id])
    v = locked.get(verification_id)
    if v is None or not caller.may_see(v.tenant_id, v.mode):
        raise Problem("not_found", "there is no such verification")
    return v
