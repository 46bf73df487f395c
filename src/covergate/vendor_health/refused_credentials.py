"""Credentials that a vendor refused: nothing is sent with them until they are mended, but for a rare trial.

A refusal is of the credentials that the call was made with (`versions`), never of those that took their place meanwhile. Other
credentials, of a changed account or a process that was restarted with others, are tried by one call before all the work
goes out; if the vendor takes them the account is well again, and whatever process still has the refused ones sends
nothing. The refused ones are tried again, too: after a minute, then ever more seldom, for the mistake may be the vendor's.

Invariant: credentials are stored nowhere, only digests under the gateway's key, or the instant when a tenant's were put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access.vendor_accounts import note_credentials
from covergate.db.kept import Kept
from covergate.db.sealing import GATEWAY
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import EventType, VendorAccountState, WaitingFor
from covergate.vendor_health.announcements import VendorPlace, announce_vendor
from covergate.vendors.account import SHARED, VendorAccount, account_fields
from covergate.vendors.vendor import Connection

log = structlog.get_logger(__name__)

FIRST_TRIAL_SECONDS = 60
LONGEST_TRIAL_SECONDS = 3600
"""Between two trials of the same credentials: the first after a minute, then twice as long each time, an hour at most."""
LOST_TRIAL_SECONDS = 90
"""After which a trial whose process said nothing counts as lost."""
MOST_VERSIONS = 5
"""Refused credentials of one account that are remembered, the latest ones."""

KEPT = (Kept("refused_credentials", "one row for each vendor, mode and account"),)

_ITS = "vendor = :vendor AND mode = :mode AND account = :account"
_READ = Query("SELECT vendor, mode, account, refused_at, versions, trial_at, trial_until FROM refused_credentials")
_BEGIN_ROW = Query("""
INSERT INTO refused_credentials (vendor, mode, account, trial_at) VALUES (:vendor, :mode, :account, clock_timestamp())
ON CONFLICT DO NOTHING""")
_LOCK = Query(
    f"SELECT refused_at, versions, trial_until, trials FROM refused_credentials WHERE {_ITS} FOR NO KEY UPDATE"
)
_REFUSE = Query(f"""
UPDATE refused_credentials
SET refused_at = coalesce(refused_at, CASE WHEN :begins THEN clock_timestamp() END), versions = CAST(:versions AS text[]),
  trials = :trials, trial_until = NULL, trial_at = clock_timestamp() + make_interval(secs => :rest)
WHERE {_ITS}""")
_ACCEPT = Query(f"""
UPDATE refused_credentials
SET refused_at = NULL, versions = CAST(:versions AS text[]), trials = 0, trial_until = NULL,
  trial_at = clock_timestamp() + make_interval(secs => {FIRST_TRIAL_SECONDS})
WHERE {_ITS}""")
_TRY = Query(f"""
UPDATE refused_credentials SET trial_until = clock_timestamp() + make_interval(secs => {LOST_TRIAL_SECONDS})
WHERE {_ITS} AND versions <> '{{}}' AND (trial_until IS NULL OR trial_until <= clock_timestamp())
  AND (trial_at <= clock_timestamp() OR refused_at IS NOT NULL AND CAST(:version AS text) <> ALL(versions))
RETURNING trial_until""")
_RELEASE = Query(f"""
UPDATE refused_credentials SET trial_until = NULL,
  trial_at = greatest(trial_at, clock_timestamp() + make_interval(secs => :rest))
WHERE {_ITS} AND trial_until = :trial_until""")
_LOCK_ALL = Query(
    "SELECT account, refused_at FROM refused_credentials WHERE vendor = :vendor AND mode = :mode"
    " AND (:account IS NULL OR account = :account) AND versions <> '{}' ORDER BY account FOR NO KEY UPDATE",
    account="text",
)
_FORGET = Query("""
UPDATE refused_credentials SET refused_at = NULL, versions = '{}', trials = 0, trial_until = NULL
WHERE vendor = :vendor AND mode = :mode AND account = ANY(CAST(:accounts AS text[]))""")


@dataclass(frozen=True, slots=True)
class Refusal:
    """`since` is None if the vendor takes the credentials of today, and refused only others."""

    since: datetime | None
    versions: tuple[str, ...]
    trial_at: datetime
    trial_until: datetime | None


@dataclass(frozen=True, slots=True)
class CredentialsVerdict:
    """Whether a call may be made. `trial_until` names the trial that the call is."""

    granted: bool
    trial_until: datetime | None = None


TRUSTED, REFUSED = CredentialsVerdict(True), CredentialsVerdict(False)


class RefusedCredentials:
    """This process's view of the refused credentials; `refresh` once a second keeps it up to date."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._known: Mapping[VendorPlace, Refusal] = {}
        self._digests: dict[tuple[str, str], tuple[Connection, str]] = {}

    async def admit(self, account: VendorAccount, now: datetime) -> CredentialsVerdict:
        """`now` is the database's clock. At most one caller in the fleet is granted a trial."""
        place = _place_of(account)
        if (refusal := self._known.get(place)) is None or not refusal.versions:
            return TRUSTED
        version = await self._version_of(account)
        if not self._may_try(refusal, version, now):
            return TRUSTED if refusal.since is None and version not in refusal.versions else REFUSED
        async with self.gateway.connection() as db:
            trial_until = await _TRY.scalar(db, {**_its(place), "version": version})
            if trial_until is not None:
                return CredentialsVerdict(True, trial_until)
            await self.refresh(db)
        refusal = self._known.get(place)
        trusted = refusal is None or (refusal.since is None and version not in refusal.versions)
        return TRUSTED if trusted else REFUSED

    async def refuses(self, account: VendorAccount) -> bool:
        """Whether these credentials were refused; asks for no trial."""
        refusal = self._known.get(_place_of(account))
        return refusal is not None and bool(refusal.versions) and await self._version_of(account) in refusal.versions

    @property
    def any_refused(self) -> bool:
        return any(refusal.versions for refusal in self._known.values())

    async def awaiting_trial(self, now: datetime) -> list[VendorPlace]:
        """Accounts whose credentials may be tried by this process now."""
        return [
            place
            for place, refusal in self._known.items()
            if refusal.versions
            and (account := self._account_at(place)) is not None
            and self._may_try(refusal, await self._version_of(account), now)
        ]

    async def refuse(self, account: VendorAccount, trial_until: datetime | None) -> bool:
        """The vendor refused these credentials. False if others took their place meanwhile: then it tells nothing of those.

        `trial_until` names the trial that the call was.
        """
        place, version = _place_of(account), await self._version_of(account)
        known = self._known.get(place)
        if trial_until is None and known is not None and version in known.versions:
            return True
        async with self.gateway.transaction() as db:
            if account.id != SHARED and not await note_credentials(db, account, VendorAccountState.REFUSED):
                return False
            await _BEGIN_ROW.run(db, _its(place))
            row = await _LOCK.one(db, _its(place))
            assert row is not None
            is_new = version not in row.versions
            is_trial = trial_until is not None and row.trial_until == trial_until
            if is_new or is_trial:
                trials = 1 if is_new else row.trials + 1
                values = {
                    "begins": is_new,
                    "versions": [*(one for one in row.versions if one != version), version][-MOST_VERSIONS:],
                    "trials": trials,
                    "rest": min(FIRST_TRIAL_SECONDS * 2 ** min(trials - 1, 10), LONGEST_TRIAL_SECONDS),
                }
                await _REFUSE.run(db, {**_its(place), **values})
            if is_new and row.refused_at is None:
                log.warning("credentials_refused", **_named(place))
                await announce_vendor(db, place, EventType.VENDOR_DEGRADED, "refused", WaitingFor.CREDENTIALS)
            await self.refresh(db)
        return True

    async def accept(self, account: VendorAccount, trial_until: datetime) -> None:
        """The trial was not refused: what waited goes on."""
        place, version = _place_of(account), await self._version_of(account)
        async with self.gateway.transaction() as db:
            row = await _LOCK.one(db, _its(place))
            if row is None or row.trial_until != trial_until:
                return
            left = [one for one in row.versions if one != version]
            await _ACCEPT.run(db, {**_its(place), "versions": left})
            if row.refused_at is not None:
                if account.id != SHARED:
                    await note_credentials(db, account, VendorAccountState.OK)
                await _announce_taken(db, place, "taken")
            await self.refresh(db)

    async def release(self, account: VendorAccount, trial_until: datetime, *, made: bool) -> None:
        """The trial told nothing. `made`: its call failed otherwise, so the next one waits a little."""
        place = _place_of(account)
        async with self.gateway.connection() as db:
            values = {"trial_until": trial_until, "rest": FIRST_TRIAL_SECONDS if made else 0}
            await _RELEASE.run(db, {**_its(place), **values})
            await self.refresh(db)

    async def refresh(self, db: AsyncConnection) -> None:
        self._known = await read_refusals(db)

    def _may_try(self, refusal: Refusal, version: str, now: datetime) -> bool:
        if refusal.trial_until is not None and refusal.trial_until > now:
            return False
        if version in refusal.versions:
            return refusal.trial_at <= now
        return refusal.since is not None

    def _account_at(self, place: VendorPlace) -> VendorAccount | None:
        vendor, mode, account = place
        if account == SHARED:
            return self.gateway.shared_account(mode, vendor)
        return self.gateway.accounts.by_id(account)

    async def _version_of(self, account: VendorAccount) -> str:
        if account.id != SHARED:
            return str(account.version)
        key, connection = (account.mode, account.vendor), account.connection
        known = self._digests.get(key)
        if known is None or known[0] != connection:
            await self.gateway.meet(GATEWAY)
            fields = [(name, str(getattr(connection, name))) for name in account_fields(type(connection))]
            parts = [part for field in sorted(fields) for part in field]
            digest = self.gateway.sealer.name(GATEWAY, "shared account", *key, *parts).hex()[:32]
            known = self._digests[key] = (connection, digest)
        return known[1]


async def read_refusals(db: AsyncConnection) -> dict[VendorPlace, Refusal]:
    """Those of every account of which credentials ever were refused."""
    return {
        (row.vendor, row.mode, row.account): Refusal(row.refused_at, tuple(row.versions), row.trial_at, row.trial_until)
        for row in await _READ.all(db)
    }


async def trust_again(db: AsyncConnection, vendor: str, mode: str, account: str | None, why: str) -> bool:
    """Whatever was refused may be sent again; whether anything was. `account` None: all accounts."""
    rows = await _LOCK_ALL.all(db, {"vendor": vendor, "mode": mode, "account": account})
    if rows:
        await _FORGET.run(db, {"vendor": vendor, "mode": mode, "accounts": [row.account for row in rows]})
    for row in rows:
        if row.refused_at is not None:
            await _announce_taken(db, (vendor, mode, row.account), why)
    return bool(rows)


async def _announce_taken(db: AsyncConnection, place: VendorPlace, state: str) -> None:
    log.info("credentials_trusted", state=state, **_named(place))
    await announce_vendor(db, place, EventType.VENDOR_RECOVERED, state, WaitingFor.CREDENTIALS)


def _place_of(account: VendorAccount) -> VendorPlace:
    return account.vendor, account.mode, account.id


def _its(place: VendorPlace) -> dict[str, str]:
    return dict(zip(("vendor", "mode", "account"), place, strict=True))


def _named(place: VendorPlace) -> dict[str, str]:
    """For a log line."""
    return {**_its(place), "account": place[2] or "shared"}
