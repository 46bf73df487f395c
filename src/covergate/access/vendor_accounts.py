"""Tenants' own accounts at vendors: credentials go in sealed and never come out, but for a hint and a fingerprint.

`refresh_accounts` fills the process's book, which is what routing and every call look at; `AccountsWatch` keeps it as old as
a NOTIFY, at most `BOOK_SECONDS`. A removed account is gone for good, its credentials with it; putting new credentials in
keeps the account, and what was begun with it goes on.

Invariant: an account's connection holds nothing of the process's own environment but the pace that the operator chose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.access.vendor_credentials import Credentials, checked
from covergate.db.kept import Kept
from covergate.db.notify import tell
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sealing import Place, Sealer, SealError
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import Environment, SubjectKind, VendorAccountState
from covergate.timestamps import instant
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.vendors.account import (
    VendorAccount,
    connection_of_account,
)
from covergate.vendors.errors import VendorAuthFailed, VendorError
from covergate.vendors.vendor import Connection, Vendor

log = structlog.get_logger(__name__)

ACCOUNTS_CHANGED = "covergate_accounts"
"""The channel on which processes hear that an account was put in, changed or removed."""
BOOK_SECONDS = 60.0
SHORTEST_HINTED = 12
"""Four characters of a shorter secret would say too much of it."""
FINGERPRINT_DIGITS = 16

KEPT = (Kept("vendor_accounts", "few, and attempts name them; a removed one is marked, and its credentials are gone"),)

_SHOWN = "id, tenant_id, mode, vendor, environment, hint, fingerprint, state, tested_at, created_at, changed_at"
_KNOWN = Query(
    "SELECT id, tenant_id, mode, vendor, environment, changed_at, credentials_sealed FROM vendor_accounts"
    " WHERE removed_at IS NULL"
)
_LIST = Query(
    f"SELECT {_SHOWN} FROM vendor_accounts"
    " WHERE tenant_id = :tenant_id AND mode = ANY(:modes) AND removed_at IS NULL ORDER BY mode, vendor",
    modes="text[]",
)
_LOCK = Query("SELECT pg_advisory_xact_lock(hashtextextended('vendor account ' || CAST(:owner AS text), 0))")
_FIND = Query(
    f"SELECT {_SHOWN}, credentials_sealed FROM vendor_accounts"
    " WHERE tenant_id = :tenant_id AND mode = :mode AND vendor = :vendor AND removed_at IS NULL"
)
_PUT = Query(f"""
INSERT INTO vendor_accounts (id, tenant_id, mode, vendor, environment, credentials_sealed, hint, fingerprint, state)
VALUES (:id, :tenant_id, :mode, :vendor, :environment, :credentials_sealed, :hint, :fingerprint,
  '{VendorAccountState.UNTESTED}')
ON CONFLICT (id) DO UPDATE SET credentials_sealed = excluded.credentials_sealed, hint = excluded.hint,
  fingerprint = excluded.fingerprint, state = excluded.state, tested_at = NULL, changed_at = clock_timestamp()
RETURNING {_SHOWN}""")
_REMOVE = Query("""
UPDATE vendor_accounts SET removed_at = clock_timestamp(), changed_at = clock_timestamp(), credentials_sealed = NULL
WHERE tenant_id = :tenant_id AND mode = :mode AND vendor = :vendor AND removed_at IS NULL RETURNING id""")
_TESTED = Query(
    f"UPDATE vendor_accounts SET state = :state, tested_at = clock_timestamp()"
    f" WHERE id = :id AND changed_at = :version AND removed_at IS NULL RETURNING {_SHOWN}",
    version="timestamptz",
)
_SAID = Query(
    "UPDATE vendor_accounts SET state = :state, tested_at = clock_timestamp()"
    " WHERE id = :id AND changed_at = :version AND removed_at IS NULL RETURNING id",
    version="timestamptz",
)
_OWNER = Query("SELECT tenant_id FROM vendor_accounts WHERE id = :id")
_OWNER_NAMES = Query(
    "SELECT a.id, t.name FROM vendor_accounts a JOIN tenants t ON t.id = a.tenant_id WHERE a.id = ANY(:ids)",
    ids="text[]",
)
_OWNERS = Query("SELECT tenant_id FROM vendor_accounts WHERE vendor = :vendor AND mode = :mode AND removed_at IS NULL")

HELD = "an operator holds the vendor, and nothing is sent to it: nothing is known about the credentials"
TAKEN, REFUSED = "the vendor took the credentials", "the vendor refused the credentials"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose account: one tenant's in one mode, at one vendor."""

    tenant_id: str
    mode: str
    vendor: str

    @property
    def key(self) -> dict[str, str]:
        return {"tenant_id": self.tenant_id, "mode": self.mode, "vendor": self.vendor}


# --- the book --------------------------------------------------------------------------------------------------------


async def refresh_accounts(gateway: Gateway) -> None:
    """Brings the process's book up to date. An account that does not open is told from none: one row is one tenant's trouble."""
    book = gateway.accounts
    async with book.refreshing:
        async with gateway.connection() as db:
            rows = await _KNOWN.all(db)
            changed = [row for row in rows if (old := book.by_id(row.id)) is None or old.version != row.changed_at]
            if changed:
                await gateway.sealer.meet(
                    db, {row.tenant_id for row in changed}, [row.credentials_sealed for row in changed]
                )
        operators: dict[str, Connection] = {}
        opened = {row.id: _opened(gateway.sealer, row, operators) for row in changed}
        accounts = {row.id: opened[row.id] if row.id in opened else book.by_id(row.id) for row in rows}
        book.replace(
            [account for account in accounts.values() if account is not None],
            {row.id: (row.tenant_id, row.mode, row.vendor) for row in rows if accounts[row.id] is None},
        )


class AccountsWatch:
    """Refreshes the book when it is told that accounts changed, and every `BOOK_SECONDS`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._changed = asyncio.Event()

    def wake(self, _: str = "") -> None:
        """Accounts changed, or a change may have been missed."""
        self._changed.set()

    async def run(self) -> None:
        """Until it is canceled."""
        while True:
            self._changed.clear()
            try:
                await refresh_accounts(self._gateway)
            # Broad on purpose: a book that nobody refreshes any more would keep what was removed.
            except Exception as error:
                trace = None if isinstance(error, DATABASE_ERRORS) else error
                log.warning("accounts_not_refreshed", error=type(error).__name__, exc_info=trace)
            with suppress(TimeoutError):
                async with asyncio.timeout(BOOK_SECONDS):
                    await self._changed.wait()


async def owner_of(db: AsyncConnection, account_id: str) -> str | None:
    """The account's tenant, after its removal too."""
    tenant_id: str | None = await _OWNER.scalar(db, {"id": account_id})
    return tenant_id


async def owner_names(db: AsyncConnection, account_ids: Collection[str]) -> dict[str, str]:
    """Account → the name of its tenant, after its removal too."""
    return {row.id: row.name for row in await _OWNER_NAMES.all(db, {"ids": list(account_ids)})}


async def owners_at(db: AsyncConnection, vendor: str, mode: str) -> list[str]:
    """The tenants that have an account of their own there."""
    return [row.tenant_id for row in await _OWNERS.all(db, {"vendor": vendor, "mode": mode})]


async def note_credentials(db: AsyncConnection, account: VendorAccount, state: VendorAccountState) -> bool:
    """What the vendor said to these credentials of a tenant's; False if they were replaced or removed meanwhile.

    Until the transaction ends nobody replaces them.
    """
    values = {"id": account.id, "version": account.version, "state": state}
    return await _SAID.scalar(db, values) is not None


def _opened(sealer: Sealer, row: Record, operators: dict[str, Connection]) -> VendorAccount | None:
    """None if it does not open, or its vendor or a field of it is not there any more."""
    vendor = VENDORS.get(row.vendor)
    try:
        if vendor is None:
            return None
        given = _unsealed(sealer, row)
        pace = operators.setdefault(vendor.name, vendor.connection())
        connection = connection_of_account(vendor, Environment(row.environment), given, pace)
    except (SealError, ValidationError) as error:
        log.error("account_not_usable", account=row.id, error=type(error).__name__)
        return None
    return VendorAccount(row.id, row.tenant_id, row.vendor, row.mode, connection, row.changed_at)


def place_of_credentials(tenant_id: str, mode: str, account_id: str) -> Place:
    return Place(tenant_id, mode, "vendor_accounts", "credentials", account_id)


def _sealed(sealer: Sealer, account_id: str, owner: Owner, credentials: Credentials) -> bytes:
    document = {**owner.key, "environment": credentials.environment, "fields": dict(credentials.fields)}
    return sealer.seal_json(place_of_credentials(owner.tenant_id, owner.mode, account_id), document)


def _unsealed(sealer: Sealer, row: Record) -> dict[str, str]:
    """The fields. Whose and where they are stands inside, too: a row that was given to another vendor does not open."""
    document = sealer.open_json(place_of_credentials(row.tenant_id, row.mode, row.id), row.credentials_sealed)
    fields: dict[str, str] = document.pop("fields")
    if document != {name: row[name] for name in ("tenant_id", "mode", "vendor", "environment")}:
        raise SealError(f"vendor_accounts.credentials of {row.id} is another owner's")
    return fields


# --- putting in, listing, removing -----------------------------------------------------------------------------------


async def put_account(
    gateway: Gateway, owner: Owner, environment: str | None, given: Mapping[str, str], by: Caller | None = None
) -> tuple[dict[str, Any], bool]:
    """The account as it is shown, and whether it is new. `by` None: a user of this machine.

    Raises Problem with everything that is wrong.
    """
    vendor = vendor_named(owner.vendor)
    credentials = checked(gateway, vendor, owner.mode, environment, given)
    await gateway.meet(owner.tenant_id)
    if not gateway.sealer.can_seal(owner.tenant_id):
        raise Problem("not_found", "the tenant was erased")
    async with gateway.transaction() as db:
        await _LOCK.run(db, {"owner": " ".join(owner.key.values())})
        before = await _FIND.one(db, owner.key)
        account_id = ids.new(ids.ACCOUNT) if before is None else before.id
        row = await _PUT.one(
            db,
            {
                **owner.key,
                "id": account_id,
                "environment": credentials.environment,
                "credentials_sealed": _sealed(gateway.sealer, account_id, owner, credentials),
                "hint": _hint(vendor, credentials),
                "fingerprint": _fingerprint(gateway.sealer, owner, credentials),
            },
        )
        await _audit(db, by, owner, "account.put")
        tell(db, ACCOUNTS_CHANGED, account_id)
    assert row is not None
    await refresh_accounts(gateway)
    log.info("vendor_account_put", account=account_id, tenant_id=owner.tenant_id, mode=owner.mode, vendor=owner.vendor)
    return shown_account(gateway, row), before is None


async def list_accounts(gateway: Gateway, tenant_id: str, *modes: str) -> list[dict[str, Any]]:
    async with gateway.connection() as db:
        rows = await _LIST.all(db, {"tenant_id": tenant_id, "modes": list(modes)})
    return [shown_account(gateway, row) for row in rows]


async def read_account(gateway: Gateway, owner: Owner) -> dict[str, Any]:
    """Raises Problem `not_found`."""
    vendor_named(owner.vendor)
    async with gateway.connection() as db:
        row = await _FIND.one(db, owner.key)
    if row is None:
        raise _no_account()
    return shown_account(gateway, row)


async def _audit(db: AsyncConnection, by: Caller | None, owner: Owner, action: str) -> None:
    actor = by or audit.command_line(owner.tenant_id, owner.mode)
    await audit.record(db, actor, action, SubjectKind.ACCOUNT, [owner.vendor])


async def remove_account(gateway: Gateway, owner: Owner, by: Caller | None = None) -> None:
    """For good; what is open under it ends at its next step. Raises Problem `not_found`."""
    vendor_named(owner.vendor)
    async with gateway.transaction() as db:
        await _LOCK.run(db, {"owner": " ".join(owner.key.values())})
        account_id = await _REMOVE.scalar(db, owner.key)
        if account_id is None:
            raise _no_account()
        await _audit(db, by, owner, "account.remove")
        tell(db, ACCOUNTS_CHANGED, account_id)
    await refresh_accounts(gateway)
    log.info("vendor_account_removed", account=account_id, tenant_id=owner.tenant_id)


async def try_account(
    gateway: Gateway, transport: Transport, owner: Owner, by: Caller | None = None, *, held: bool = False
) -> dict[str, Any]:
    """Makes one harmless call with the credentials: the account as it is shown, with a `message` in our words.

    Only a clear word of the vendor changes its state. `held`: an operator holds the vendor. Raises Problem `not_found`.
    """
    vendor = vendor_named(owner.vendor)
    async with gateway.connection() as db:
        row = await _FIND.one(db, owner.key)
        if row is not None:
            await gateway.sealer.meet(db, [owner.tenant_id], [row.credentials_sealed])
    account = None if row is None else _opened(gateway.sealer, row, {})
    if row is None or account is None:
        raise _no_account()
    async with gateway.connection() as db:
        await _audit(db, by, owner, "account.test")
    state, message = (None, HELD) if held else await _said_to(transport, vendor, account)
    if state is not None:
        async with gateway.connection() as db:
            values = {"id": row.id, "version": row.changed_at, "state": state}
            row = await _TESTED.one(db, values) or row
    return {**shown_account(gateway, row), "message": message}


async def try_shared_account(
    gateway: Gateway, transport: Transport, mode: str, vendor_name: str, by: Caller, *, held: bool
) -> tuple[VendorAccountState | None, str]:
    """The same with the gateway's own account: the vendor's clear word (None: nothing is known), and a message in our words.

    Raises Problem `not_found`.
    """
    vendor, account = vendor_named(vendor_name), gateway.shared_account(mode, vendor_name)
    if account is None:
        raise Problem("not_found", "the gateway has no account of its own at this vendor in this mode")
    async with gateway.connection() as db:
        await audit.record(db, by, "account.test", SubjectKind.ACCOUNT, [vendor_name], mode=mode)
    return (None, HELD) if held else await _said_to(transport, vendor, account)


async def _said_to(
    transport: Transport, vendor: Vendor, account: VendorAccount
) -> tuple[VendorAccountState | None, str]:
    if vendor.probe is None:
        return None, "there is no harmless call at this vendor: a verification will tell"
    try:
        await transport.run(vendor, account.mode, account.connection, vendor.probe(account.connection), account.id)
    except VendorAuthFailed:
        return VendorAccountState.REFUSED, REFUSED
    except VendorError as error:
        return None, f"the vendor could not be asked ({error.reason}): nothing is known about the credentials"
    return VendorAccountState.OK, TAKEN


def shown_account(gateway: Gateway, row: Record) -> dict[str, Any]:
    events = VENDORS[row.vendor].verify_event is not None
    return {
        "object": "vendor_account",
        "id": row.id,
        "vendor": row.vendor,
        "mode": row.mode,
        "environment": row.environment,
        "hint": row.hint,
        "fingerprint": row.fingerprint,
        "state": row.state,
        "tested_at": instant(row.tested_at),
        "created_at": instant(row.created_at),
        "changed_at": instant(row.changed_at),
        "events_url": f"{gateway.settings.public_url}/v1/vendor-events/{row.vendor}/{row.id}" if events else None,
    }


def vendor_named(name: str) -> Vendor:
    """Raises Problem `not_found`."""
    vendor = VENDORS.get(name)
    if vendor is None:
        raise Problem("not_found", "there is no such vendor")
    return vendor


def _no_account() -> Problem:
    return Problem("not_found", "the tenant has no account of its own at this vendor")


def _hint(vendor: Vendor, credentials: Credentials) -> str:
    secret = credentials.fields.get(vendor.connection.required[-1], "") if vendor.connection.required else ""
    return secret[-4:] if len(secret) >= SHORTEST_HINTED else ""


def _fingerprint(sealer: Sealer, owner: Owner, credentials: Credentials) -> str:
    """The same for the same credentials, whichever key is current; of another tenant another one."""
    given = [part for pair in sorted(credentials.fields.items()) for part in pair]
    return sealer.name(owner.tenant_id, "vendor account", owner.vendor, *given).hex()[:FINGERPRINT_DIGITS]
