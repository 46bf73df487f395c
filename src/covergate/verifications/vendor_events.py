"""Inbound webhooks of vendors: verified on the raw bytes, stored once, matched to an attempt, answered; then they wake it.

An event may come before the answer to its own submit, twice, late, or forged. An event and the reference it names are both stored
under the lock of that reference, so whichever is second sees the first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.db.sealing import GATEWAY, Place
from covergate.db.sql import Query
from covergate.eligibility.inquiry import CONTROL
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED, VendorAccount
from covergate.vendors.event import ForgedEvent, Inbound, VendorEvent
from covergate.vendors.vendor import Vendor
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.event_rates import EventRates
from covergate.verifications.model import Change

log = structlog.get_logger(__name__)

LONGEST_NAME = 500
MOST_EVENTS = 200
"""In one message. Each is a transaction, and a vendor waits for all of them."""

_STORE = Query(
    """
WITH e AS (
  INSERT INTO vendor_events (id, vendor, mode, account, dedupe_key, kind, ref, echo, wakes, message_id)
  VALUES (:id, :vendor, :mode, :account, :dedupe_key, :kind, :ref, :echo, :wakes, :message_id)
  ON CONFLICT (vendor, mode, account, dedupe_key) DO NOTHING RETURNING id
), m AS (
  INSERT INTO vendor_messages (id, body_sealed) SELECT :message_id, :body WHERE :body IS NOT NULL AND EXISTS (SELECT FROM e)
)
SELECT id FROM e""",
    message_id="text",
    body="bytea",
)
_MATCH = Query(
    """
SELECT verification_id, id FROM (
  SELECT verification_id, attempt_id AS id, attempt_created_at AS created_at FROM work
  WHERE vendor = :vendor AND mode = :mode AND account = :account AND late_tries IS NULL
    AND (attempt_id = :echo OR vendor_ref = :ref)
  UNION ALL
  SELECT verification_id, id, created_at FROM attempts
  WHERE vendor = :vendor AND mode = :mode AND account = :account AND (id = :echo OR vendor_ref = :ref)) AS a
ORDER BY (id = :echo) DESC NULLS LAST, created_at DESC LIMIT 1""",
    echo="text",
    ref="text",
    vendor="text",
    mode="text",
    account="text",
)
_MATCHED = Query("UPDATE vendor_events SET verification_id = :verification_id WHERE id = :id")


class UnknownVendor(Exception):
    """No such vendor, or one that sends no events."""


class TooManyEvents(Exception):
    """More in one message than are taken."""


@dataclass(frozen=True, slots=True)
class _Message:
    """What came in: its body is stored once, with the first of its events that is new."""

    id: str
    body_sealed: bytes


async def receive(
    gateway: Gateway,
    vendor_name: str,
    inbound: Inbound,
    rates: EventRates | None = None,
    account_id: str = SHARED,
) -> int:
    """How many of the events were new. Raises UnknownVendor, ForgedEvent, TooManyEvents and, if there are more
    than are taken, Problem `rate_limited`; then nothing was stored.

    `account_id` is that of the address it came to. The signature comes first, which is one HMAC of the raw bytes: else
    anybody could use up a vendor's rate, and its own events would be refused. Then the rate, which is each account's own,
    before the message is read and the database asked.
    """
    vendor = VENDORS.get(vendor_name)
    if vendor is None or vendor.verify_event is None or vendor.read_event is None:
        raise UnknownVendor
    account = _verified_account(gateway, vendor, inbound, account_id)
    if rates is not None:
        rates.take(vendor.name, account.mode, len(inbound.body), account.id)
    events = vendor.read_event(inbound)
    if len(events) > MOST_EVENTS:
        raise TooManyEvents
    if not events:
        return 0
    if rates is not None:
        rates.owe(vendor.name, account.mode, len(events), account.id)
    id_ = ids.new(ids.VENDOR_EVENT)
    await gateway.meet(GATEWAY)
    place = Place(GATEWAY, "", "vendor_messages", "body", id_)
    message = _Message(id_, gateway.sealer.seal(place, inbound.body))
    stored = 0
    for event in events:
        stored += await _take_in(gateway, vendor, account, event, message, with_body=not stored)
    return stored


def _verified_account(gateway: Gateway, vendor: Vendor, inbound: Inbound, account_id: str) -> VendorAccount:
    """Each account has a secret of its own, the shared one of each mode too, so the signature tells whose event it is.

    An account that is not known is answered like a forged signature: which there are is nobody's business.
    """
    assert vendor.verify_event is not None
    if account_id == SHARED:
        candidates = [gateway.shared_account(mode, vendor.name) for mode in ("live", "test")]
    else:
        own = gateway.accounts.by_id(account_id)
        candidates = [own] if own is not None and own.vendor == vendor.name else []
    for account in candidates:
        if account is None:
            continue
        try:
            vendor.verify_event(inbound, account.connection)
        except ForgedEvent:
            continue
        return account
    raise ForgedEvent


def _storable(event: VendorEvent) -> VendorEvent:
    """Whatever a vendor put into it, it fits a text column and an index."""
    dedupe_key = event.dedupe_key
    if len(dedupe_key) > LONGEST_NAME or CONTROL.search(dedupe_key):
        dedupe_key = hashlib.sha256(dedupe_key.encode(errors="surrogatepass")).hexdigest()
    kind = CONTROL.sub("?", event.kind)[:LONGEST_NAME]
    return replace(event, dedupe_key=dedupe_key, kind=kind, ref=_named(event.ref), echo=_named(event.echo))


def _named(value: str | None) -> str | None:
    """What could not be stored names nothing of ours."""
    return None if value is None or len(value) > LONGEST_NAME or CONTROL.search(value) else value


async def _take_in(
    gateway: Gateway, vendor: Vendor, account: VendorAccount, event: VendorEvent, message: _Message, *, with_body: bool
) -> bool:
    event_id, event = ids.new(ids.VENDOR_EVENT), _storable(event)
    values: dict[str, Any] = {
        "id": event_id,
        "vendor": vendor.name,
        "mode": account.mode,
        "account": account.id,
        "dedupe_key": event.dedupe_key,
        "kind": event.kind,
        "ref": event.ref,
        "echo": event.echo,
        "wakes": event.wakes,
        "message_id": message.id,
        "body": message.body_sealed if with_body else None,
    }
    async with gateway.transaction() as db:
        if event.ref is not None:
            await store.lock_refs(db, [(vendor.name, event.ref)])
        if await _STORE.one(db, values) is None:
            return False
        await _wake(db, gateway, account, event, event_id)
    return True


async def _wake(
    db: AsyncConnection, gateway: Gateway, account: VendorAccount, event: VendorEvent, event_id: str
) -> None:
    """Of a verification whose raw replies were erased the message is not kept either."""
    match: dict[str, str | None] = {"vendor": account.vendor, "mode": account.mode, "account": account.id}
    match |= {"echo": event.echo, "ref": event.ref}
    attempt = await _MATCH.one(db, match)
    if attempt is None:
        return
    v = (await store.lock(db, gateway.sealer, [attempt.verification_id])).get(attempt.verification_id)
    if v is None:
        return
    await _MATCHED.run(db, {"id": event_id, "verification_id": v.id})
    if v.raw_erased_at is not None:
        await store.forget_messages(db, [v.id])
    if v.erased_at is not None:
        return
    if v.attempt.id == attempt.id:
        change = lifecycle.vendor_event(v, event.kind, event.ref, wakes=event.wakes, said=event.said)
    else:
        change = Change(v, (lifecycle.event_row(event.kind, event.said),))
    await apply(db, gateway.sealer, [change])
