"""Takes over the payer lists of the vendors that have one.

Invariant: a row of a list belongs to a known payer only by its electronic id or by a name that can mean no other; it is a new
payer only when it resembles none; everything in between waits for a person (`candidates.py`), and what was settled once stays
settled. A list that cannot be read, or is empty, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from covergate import ids
from covergate.db.kept import Kept
from covergate.db.sql import Query, Record
from covergate.eligibility.inquiry import CONTROL
from covergate.gateway import Gateway
from covergate.payers import store
from covergate.payers.matching import Names
from covergate.payers.store import Candidate, Codes, DirectoryPayer
from covergate.transport.transport import Transport
from covergate.vendors.errors import VendorBroken, VendorError
from covergate.vendors.flow import ListedPayer
from covergate.vendors.vendor import Connection, Vendor

log = structlog.get_logger(__name__)

LONGEST_PAYER_NAME = 200
LONGEST_PAYER_CODE = 100
DAILY = 24 * 3600
AFTER_FAILURE = 3600

KEPT = (Kept("payer_syncs", "one row for each vendor and mode"),)

_START = Query(
    """
INSERT INTO payer_syncs AS s (vendor, mode, started_at) VALUES (:vendor, :mode, clock_timestamp())
ON CONFLICT (vendor, mode) DO UPDATE SET started_at = clock_timestamp()
  WHERE s.started_at < clock_timestamp() - make_interval(
    secs => CASE WHEN s.synced_at IS NULL OR s.synced_at < s.started_at THEN :failed_after ELSE :due_after END)
RETURNING 1""",
    failed_after="int",
    due_after="int",
)
_FAILED = Query("UPDATE payer_syncs SET error = :error WHERE vendor = :vendor AND mode = :mode")
_SYNCED = Query(
    "UPDATE payer_syncs SET synced_at = clock_timestamp(), listed = :listed, error = NULL"
    " WHERE vendor = :vendor AND mode = :mode"
)


_SYNCS = Query(
    "SELECT vendor, mode, started_at, synced_at, listed, error FROM payer_syncs WHERE mode = :mode ORDER BY vendor"
)


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome for one vendor's list. `error` says in a constant why it could not be taken over."""

    vendor: str
    mode: str
    listed: int = 0
    linked: int = 0
    created: int = 0
    doubtful: int = 0
    error: str | None = None


@dataclass
class Changes:
    """A list's changes to the directory: (id, name, electronic id), (payer id, value), (codes, payer id)."""

    payers: list[tuple[str, str, str | None]] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    electronic_ids: list[tuple[str, str]] = field(default_factory=list)
    codes: list[tuple[Codes, str]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)


async def read_syncs(gateway: Gateway, mode: str) -> list[Record]:
    """When each vendor's list was last taken over, and why the latest try failed, if it did."""
    async with gateway.connection() as db:
        return await _SYNCS.all(db, {"mode": mode})


async def sync_all(gateway: Gateway, transport: Transport, mode: str | None = None) -> list[Synced]:
    """Every enabled vendor that lists its payers, now; of both modes unless one is named."""
    return [
        await _sync(gateway, transport, vendor, of_mode, connection)
        for vendor, of_mode, connection in _listing(gateway, mode)
        if await _start(gateway, vendor, of_mode, due_after=0)
    ]


async def sync_if_due(gateway: Gateway, transport: Transport) -> None:
    """The same for those whose list is a day old, or whose latest try failed an hour ago. Of many workers one does it."""
    for vendor, mode, connection in _listing(gateway, None):
        if await _start(gateway, vendor, mode, due_after=DAILY):
            await _sync(gateway, transport, vendor, mode, connection)


def _listing(gateway: Gateway, mode: str | None) -> list[tuple[Vendor, str, Connection]]:
    """On the gateway's own accounts: the directory is everybody's."""
    return [
        (vendor, of_mode, gateway.connections[of_mode, vendor.name])
        for of_mode in ("test", "live")
        for vendor in gateway.enabled(of_mode)
        if vendor.list_payers is not None and mode in (None, of_mode)
    ]


async def _start(gateway: Gateway, vendor: Vendor, mode: str, *, due_after: int) -> bool:
    values = {"vendor": vendor.name, "mode": mode, "due_after": due_after}
    values["failed_after"] = min(due_after, AFTER_FAILURE)
    async with gateway.connection() as db:
        return await _START.one(db, values) is not None


async def _sync(gateway: Gateway, transport: Transport, vendor: Vendor, mode: str, connection: Connection) -> Synced:
    assert vendor.list_payers is not None
    try:
        listed = usable(await transport.run(vendor, mode, connection, vendor.list_payers(connection)))
        if not listed:
            raise VendorBroken("empty_payer_list", sent=True)
        synced = await _take_over(gateway, vendor.name, mode, listed)
    except VendorError as error:
        async with gateway.connection() as db:
            await _FAILED.run(db, {"vendor": vendor.name, "mode": mode, "error": error.reason})
        synced = Synced(vendor.name, mode, error=error.reason)
    log.info(
        "payers_synced",
        vendor=vendor.name,
        mode=mode,
        listed=synced.listed,
        linked=synced.linked,
        created=synced.created,
        doubtful=synced.doubtful,
        error=synced.error,
    )
    return synced


def usable(listed: Sequence[ListedPayer]) -> list[ListedPayer]:
    """The rows that can be kept, one for each set of codes: a vendor may list anything."""
    rows: dict[tuple[tuple[str, str], ...], ListedPayer] = {}
    for row in listed:
        if not row.codes or not _fit(row.name, LONGEST_PAYER_NAME):
            continue
        if not all(_fit(code, LONGEST_PAYER_CODE) for code in row.codes.values()):
            continue
        electronic_id = row.electronic_id if row.electronic_id and _fit(row.electronic_id, LONGEST_PAYER_CODE) else None
        aliases = tuple(alias for alias in row.aliases if _fit(alias, LONGEST_PAYER_NAME))
        alias_ids = tuple(alias for alias in row.alias_ids if _fit(alias, LONGEST_PAYER_CODE))
        rows.setdefault(
            _key(row.codes),
            replace(row, electronic_id=electronic_id, aliases=aliases, alias_ids=alias_ids),
        )
    return list(rows.values())


def compared(
    vendor: str,
    mode: str,
    listed: Sequence[ListedPayer],
    payers: Sequence[DirectoryPayer],
    settled: Sequence[tuple[Codes, str]],
) -> Changes:
    """The list's changes to these payers; `settled` are the vendor's codes whose payer is known."""
    known = _Known(payers)
    payer_of = {_key(codes): payer_id for codes, payer_id in settled}
    changes = Changes()
    for row in listed:
        payer_id = payer_of.get(_key(row.codes)) or known.certain(row)
        if payer_id is None and (suggested := known.doubtful(row)):
            candidate = Candidate(ids.new(ids.PAYER_CANDIDATE), vendor, mode, row, tuple(suggested))
            changes.candidates.append(candidate)
            continue
        if payer_id is None:
            payer_id = ids.new(ids.PAYER)
            changes.payers.append((payer_id, row.name, row.electronic_id))
            known.learn_name(payer_id, row.name, is_main=True)
        changes.codes.append((row.codes, payer_id))
        changes.aliases += [(payer_id, name) for name in (row.name, *row.aliases) if known.learn_name(payer_id, name)]
        changes.aliases += [(payer_id, alias_id) for alias_id in row.alias_ids]
        if row.electronic_id is not None and known.learn_electronic_id(payer_id, row.electronic_id):
            changes.electronic_ids.append((payer_id, row.electronic_id))
    return changes


class _Known:
    """The payers so far, those that the list itself brought included."""

    def __init__(self, payers: Sequence[DirectoryPayer]) -> None:
        self._names = Names(
            (payer.id, name, name == payer.name) for payer in payers for name in (payer.name, *payer.aliases)
        )
        self._by_electronic_id: defaultdict[str, set[str]] = defaultdict(set)
        self._has_electronic_id: set[str] = set()
        for payer in payers:
            for electronic_id in payer.electronic_ids:
                self.learn_electronic_id(payer.id, electronic_id)

    def certain(self, row: ListedPayer) -> str | None:
        if row.electronic_id is not None and (same_id := self._by_electronic_id.get(row.electronic_id.upper())):
            return next(iter(same_id)) if len(same_id) == 1 else None
        meant = self._names.meant(row.name)
        if len(meant) != 1 or (row.electronic_id is not None and meant[0] in self._has_electronic_id):
            # The same name under another electronic id may be another payer.
            return None
        return meant[0]

    def doubtful(self, row: ListedPayer) -> list[str]:
        same_id = sorted(self._by_electronic_id.get((row.electronic_id or "").upper(), ()))
        called = [payer_id for name in (row.name, *row.aliases) for payer_id in self._names.meant(name)]
        resembling = [payer_id for payer_id, _ in self._names.resembling(row.name)]
        if row.electronic_id is not None:
            # Both have an electronic id and it differs: being called much alike is not being the same.
            resembling = [payer_id for payer_id in resembling if payer_id not in self._has_electronic_id]
        return list(dict.fromkeys([*same_id, *called, *resembling]))

    def learn_name(self, payer_id: str, name: str, *, is_main: bool = False) -> bool:
        """True if it is news that the payer goes by this name."""
        if payer_id in self._names.called(name):
            return False
        self._names.add(payer_id, name, is_main)
        return True

    def learn_electronic_id(self, payer_id: str, electronic_id: str) -> bool:
        self._has_electronic_id.add(payer_id)
        owners = self._by_electronic_id[electronic_id.upper()]
        is_news = payer_id not in owners
        owners.add(payer_id)
        return is_news


async def _take_over(gateway: Gateway, vendor: str, mode: str, listed: Sequence[ListedPayer]) -> Synced:
    async with gateway.transaction() as db:
        await store.lock_directory(db)
        payers = await store.read_payers(db, mode)
        settled = await store.read_codes(db, vendor, mode)
        # Thousands of names with thousands of names: not on the loop that serves everything else.
        changes = await asyncio.to_thread(compared, vendor, mode, listed, payers, settled)
        await store.add_payers(db, mode, changes.payers)
        await store.add_names(db, mode, "alias", changes.aliases)
        await store.add_names(db, mode, "electronic_id", changes.electronic_ids)
        await store.add_codes(db, vendor, mode, "list", changes.codes)
        await store.drop_unlisted(db, vendor, mode, [row.codes for row in listed])
        await store.replace_candidates(db, vendor, mode, changes.candidates)
        await _SYNCED.run(db, {"vendor": vendor, "mode": mode, "listed": len(listed)})
        await store.bump_version(db)
    created, doubtful = len(changes.payers), len(changes.candidates)
    return Synced(vendor, mode, len(listed), len(listed) - created - doubtful, created, doubtful)


def _key(codes: Codes) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(codes.items()))


def _fit(value: str, longest: int) -> bool:
    return bool(value.strip()) and len(value) <= longest and CONTROL.search(value) is None
