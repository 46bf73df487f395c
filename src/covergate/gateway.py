"""The gateway of one process: settings, database, the vendors' accounts. Made once at the start, handed to everything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.database import Database
from covergate.db.group_commit import GroupCommit
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.settings import Settings
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED, AccountBook, VendorAccount
from covergate.vendors.vendor import Connection, Vendor

TENANTS_KNOWN_SECONDS = 60.0
"""How long it is remembered that the gateway has one tenant only, if no news of another come."""

_SEVERAL_TENANTS = Query("SELECT count(*) > 1 FROM (SELECT FROM tenants LIMIT 2) AS t")


class Tenancy:
    """Whether the gateway has more than one tenant, remembered until keys change, a minute at most.

    Invariant: as long as it is not known there are several.
    """

    def __init__(self) -> None:
        self._known: tuple[bool, float] | None = None
        self._forgotten = 0

    def forget(self) -> None:
        """Keys changed, or a change may have been missed."""
        self._known = None
        self._forgotten += 1

    async def has_several(self, database: Database) -> bool:
        if self._known is not None and self._known[1] > time.monotonic():
            return self._known[0]
        async with database.connection() as db:
            several = await self._look(db)
            while self._known is None:
                several = await self._look(db)
        return several

    async def _look(self, db: AsyncConnection) -> bool:
        forgotten = self._forgotten
        several = bool(await _SEVERAL_TENANTS.scalar(db))
        if forgotten == self._forgotten:
            # Else a tenant came while we were looking, and what we saw may be older than it.
            self._known = (several, time.monotonic() + TENANTS_KNOWN_SECONDS)
        return several

    @property
    def is_of_one(self) -> bool:
        """Whether it is known, without a look, that there is one tenant only."""
        return self._known is not None and self._known[1] > time.monotonic() and not self._known[0]


def connections_of(settings: Settings) -> dict[tuple[str, str], Connection]:
    """(mode, vendor) → the gateway's own connection: test mode talks to the sandbox, live mode to the vendors whose
    connection is complete.
    """
    connections: dict[tuple[str, str], Connection] = {}
    for vendor in VENDORS.values():
        live = vendor.connection()
        if live.complete:
            connections["live", vendor.name] = live
        if settings.sandbox_url is not None:
            assert settings.sandbox_secret, "found when the process starts"
            connections["test", vendor.name] = vendor.connection.sandbox(settings.sandbox_url, settings.sandbox_secret)
    return connections


@dataclass(frozen=True)
class Gateway:
    settings: Settings
    database: Database
    connections: Mapping[tuple[str, str], Connection] = field(default_factory=dict)
    accounts: AccountBook = field(default_factory=AccountBook)
    tenancy: Tenancy = field(default_factory=Tenancy, compare=False)
    groups: dict[str, GroupCommit[Any, Any]] = field(default_factory=dict, compare=False, repr=False)
    """Writers for all of the process, by what they write; whoever needs one first makes it."""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """For single statements: each is a transaction by itself."""
        return self.database.connection()

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Committed at the end of the block, rolled back if it raises."""
        return self.database.transaction()

    @property
    def sealer(self) -> Sealer:
        return self.database.sealer

    async def meet(self, *tenant_ids: str, sealed: Iterable[bytes | None] = ()) -> None:
        """As `Sealer.meet`, for those who hold no connection."""
        sealed = tuple(sealed)
        if not self.sealer.knows(tenant_ids, sealed):
            async with self.connection() as db:
                await self.sealer.meet(db, tenant_ids, sealed)

    def account(self, tenant_id: str, mode: str, vendor: str) -> VendorAccount | None:
        """The account that the tenant's next attempt at the vendor uses: its own, else the shared one if it may.

        None if the vendor is not enabled for it.
        """
        own = self.accounts.owned_by(tenant_id, mode, vendor)
        if own is not None:
            return own
        return self.shared_account(mode, vendor) if self.may_use_shared(tenant_id, mode, vendor) else None

    def may_use_shared(self, tenant_id: str, mode: str, vendor: str) -> bool:
        """Whether an attempt of the tenant's may begin on the gateway's own account."""
        return self.is_shared(mode, vendor) and self.accounts.is_usable(tenant_id, mode, vendor)

    async def know_tenants(self) -> None:
        """Before `account`, `is_shared` or `enabled` is asked, which do not look into the database."""
        if any(self._goes_by_tenants(mode, vendor) for mode, vendor in self.connections):
            await self.tenancy.has_several(self.database)

    def _goes_by_tenants(self, mode: str, vendor: str) -> bool:
        """Whether the account is shared if there is one tenant only."""
        return mode == "live" and self.connections[mode, vendor].shared is None and VENDORS[vendor].keeps_patients

    def shared_account(self, mode: str, vendor: str) -> VendorAccount | None:
        """The gateway's own account, whoever may use it."""
        connection = self.connections.get((mode, vendor))
        return None if connection is None else VendorAccount(SHARED, None, vendor, mode, connection)

    def bound_account(self, tenant_id: str, mode: str, vendor: str, account_id: str) -> VendorAccount | None:
        """The account that an attempt began with; None if it is not there any more, or not known to this process yet."""
        if account_id == SHARED:
            return self.shared_account(mode, vendor)
        account = self.accounts.by_id(account_id)
        place = (tenant_id, mode, vendor)
        return account if account and (account.tenant_id, account.mode, account.vendor) == place else None

    def is_shared(self, mode: str, vendor: str) -> bool:
        """Whether tenants without an account of their own may use the gateway's. The sandbox is everybody's."""
        connection = self.connections.get((mode, vendor))
        if connection is None or mode == "test":
            return connection is not None
        if connection.shared is not None:
            return connection.shared
        return not self._goes_by_tenants(mode, vendor) or self.tenancy.is_of_one

    async def account_is_shared(self, tenant_id: str, mode: str, vendor: str) -> bool:
        """Whether other tenants' patients may be in the vendor's account that this tenant's questions go to.

        Then no request may name a record of it (`vendors.vendor.NamesRecord`).
        """
        own = self.accounts.owned_by(tenant_id, mode, vendor)
        return own is None and await self.tenancy.has_several(self.database)

    async def is_used_by_several(self, account: VendorAccount) -> bool:
        """The same of the account that an attempt began with."""
        return account.tenant_id is None and await self.tenancy.has_several(self.database)

    def enabled(self, mode: str, tenant_id: str | None = None) -> list[Vendor]:
        """The vendors that the tenant can ask in this mode, in the order in which they are tried; without a tenant those
        at which the gateway itself has an account.
        """
        order = [name.strip() for name in (self.settings.vendor_order or "").split(",") if name.strip()]
        ranked = sorted(VENDORS.values(), key=lambda v: order.index(v.name) if v.name in order else len(order))
        if tenant_id is None:
            return [vendor for vendor in ranked if (mode, vendor.name) in self.connections]
        return [vendor for vendor in ranked if self.account(tenant_id, mode, vendor.name) is not None]
