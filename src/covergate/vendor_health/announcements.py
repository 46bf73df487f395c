"""`vendor.degraded` and `vendor.recovered`: told to the tenants whose work it concerns and that subscribed."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access.vendor_accounts import owner_of, owners_at
from covergate.states import EventType, WaitingFor
from covergate.vendors.account import SHARED
from covergate.webhooks.events import News, publish, publish_to_all

VendorPlace: TypeAlias = tuple[str, str, str]
"""Vendor, mode, account."""


async def announce_vendor(
    db: AsyncConnection, place: VendorPlace, type_: EventType, state: str, reason: WaitingFor
) -> None:
    """News of a tenant's own account are for that tenant alone; those of the shared one not for tenants that have their own.

    A hold is of all accounts. `reason` is the `waiting_for.kind` of the work that it concerns.
    """
    vendor, mode, account = place
    data = {
        "vendor": vendor,
        "mode": mode,
        "state": state,
        "reason": reason,
        "account": "shared" if account == SHARED else "own",
    }
    if account != SHARED:
        if (tenant_id := await owner_of(db, account)) is not None:
            await publish(db, [News(tenant_id, mode, type_, None, data)])
        return
    apart = [] if reason is WaitingFor.HOLD else await owners_at(db, vendor, mode)
    await publish_to_all(db, mode, type_, data, but=apart)
