"""The gateway of one process: settings, database, the vendors' connections. Made once at the start, handed to everything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.database import Database
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.settings import Settings
from covergate.vendors import VENDORS
from covergate.vendors.vendor import Connection, Vendor

TENANTS_KNOWN_SECONDS = 60.0
"""How long it is remembered that the gateway has one tenant only, if no news of another come."""

_SEVERAL_TENANTS = Query("SELECT count(*) > 1 FROM (SELECT FROM tenants LIMIT 2) AS t")


class Tenancy:
    """Whether the gateway has more than one tenant, remembered until keys change, a minute at most."""

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
        forgotten = self._forgotten
        async with database.connection() as db:
            several = bool(await _SEVERAL_TENANTS.scalar(db))
        if forgotten == self._forgotten:
            # Else a tenant came while we were looking, and what we saw may be older than it.
            self._known = (several, time.monotonic() + TENANTS_KNOWN_SECONDS)
        return several


def connections_of(settings: Settings) -> dict[tuple[str, str], Connection]:
    """(mode, vendor) → connection, for the vendors that are enabled: test mode talks to the sandbox, live mode to those whose
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
    tenancy: Tenancy = field(default_factory=Tenancy, compare=False)

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

    def account(self, mode: str, vendor: str) -> Connection | None:
        """The vendor's connection in this mode; None if it is not enabled."""
        return self.connections.get((mode, vendor))

    async def account_is_shared(self, tenant_id: str, mode: str, vendor: str) -> bool:
        """Whether other tenants' patients may be in the vendor's account that this tenant's questions go to.

        Then no request may name a record of it (`vendors.vendor.NamesRecord`).
        """
        return await self.tenancy.has_several(self.database)

    def enabled(self, mode: str) -> list[Vendor]:
        """The vendors that can be asked in this mode, in the order in which they are tried."""
        order = [name.strip() for name in (self.settings.vendor_order or "").split(",") if name.strip()]
        ranked = sorted(VENDORS.values(), key=lambda v: order.index(v.name) if v.name in order else len(order))
        return [vendor for vendor in ranked if (mode, vendor.name) in self.connections]
