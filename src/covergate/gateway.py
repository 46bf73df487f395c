"""The gateway of one process: settings, database, the vendors' connections. Made once at the start, handed to everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.database import Database
from covergate.db.sealing import Sealer
from covergate.settings import Settings
from covergate.vendors import VENDORS
from covergate.vendors.vendor import Connection, Vendor


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
            connections["test", vendor.name] = vendor.connection.sandbox(settings.sandbox_url, settings.sandbox_secret)
    return connections


@dataclass(frozen=True)
class Gateway:
    settings: Settings
    database: Database
    connections: Mapping[tuple[str, str], Connection] = field(default_factory=dict)

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

    def enabled(self, mode: str) -> list[Vendor]:
        """The vendors that can be asked in this mode, in the order in which they are tried."""
        order = [name.strip() for name in (self.settings.vendor_order or "").split(",") if name.strip()]
        ranked = sorted(VENDORS.values(), key=lambda v: order.index(v.name) if v.name in order else len(order))
        return [vendor for vendor in ranked if (mode, vendor.name) in self.connections]
