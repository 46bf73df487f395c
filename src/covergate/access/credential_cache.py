"""Keys and operators' credentials as a process knows them: for as long as a revocation is sure to arrive.

A credential is known until a NOTIFY says that one changed, until it expires, and at most for `CREDENTIAL_KNOWN_SECONDS`. Uses
are written in the background, once a minute: a request never waits for that.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime

import structlog

from covergate.access.api_keys import find_key
from covergate.access.caller import Caller
from covergate.access.credentials import digest
from covergate.access.operators import find_operator
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sql import Query
from covergate.gateway import Gateway

log = structlog.get_logger(__name__)

CREDENTIAL_KNOWN_SECONDS = 60.0
MOST_KNOWN = 10_000
USES_WRITTEN_SECONDS = 60.0
REFUSALS_TOLD_SECONDS = 60.0

_SHAPE = re.compile(r"cg_(test|live|op)_[A-Za-z0-9_-]{20,100}")
_OPERATORS = "cg_op_"

_VALID = """
SELECT 1 FROM {table} WHERE id = :id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"""
_IS_VALID = Query(f"{_VALID.format(table='api_keys')} UNION ALL {_VALID.format(table='operators')}", id="text")
_EXISTING = Query(
    """
SELECT digest FROM api_keys WHERE digest = ANY(:digests) AND revoked_at IS NULL
UNION ALL SELECT digest FROM operators WHERE digest = ANY(:digests) AND revoked_at IS NULL""",
    digests="bytea[]",
)
_USED = """
WITH u AS (
  SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:at AS timestamptz[])) AS u(id, at)
), free AS (
  SELECT t.id FROM {table} t JOIN u USING (id) ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
)
UPDATE {table} t SET last_used_at = greatest(t.last_used_at, u.at) FROM u JOIN free USING (id) WHERE t.id = u.id"""
_USED_BY = tuple(Query(_USED.format(table=table)) for table in ("api_keys", "operators"))
"""What another process is writing at this moment is left to it."""


class CredentialCache:
    """Credentials that were looked up lately. Only valid ones are remembered, so guessing fills nothing."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[bytes, tuple[Caller, float]] = {}
        self._valid_until: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self._forgotten = 0

    def forget(self) -> None:
        """Credentials changed, or a change may have been missed."""
        self._known.clear()
        self._valid_until.clear()
        self._forgotten += 1

    def remembered(self, credential: str) -> Caller | None:
        """The caller of one that was looked up lately, without a look-up."""
        known = self._known.get(digest(credential))
        return known[0] if known is not None and known[1] > time.monotonic() else None

    async def existing(self, digests: list[bytes]) -> frozenset[bytes]:
        """Those of the digests that are of credentials which were not revoked."""
        async with self._gateway.connection() as db:
            return frozenset(row.digest for row in await _EXISTING.all(db, {"digests": digests}))

    async def authenticate(self, credential: str) -> Caller | None:
        """None for one that does not exist, was revoked, or has expired."""
        if _SHAPE.fullmatch(credential) is None:
            return None
        digested = digest(credential)
        known = self._known.get(digested)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        forgotten = self._forgotten
        async with self._gateway.connection() as db:
            caller = await (find_operator if credential.startswith(_OPERATORS) else find_key)(db, digested)
        if caller is None:
            self._known.pop(digested, None)
            return None
        if forgotten == self._forgotten:
            # Else a revocation came while we were looking, and what we saw may be older than it.
            if len(self._known) >= MOST_KNOWN:
                self.forget()
            until = min(time.monotonic() + CREDENTIAL_KNOWN_SECONDS, caller.valid_until)
            self._known[digested] = (caller, until)
            self._valid_until[caller.id] = until
        return caller

    async def is_still_valid(self, caller: Caller) -> bool:
        """For a request that has waited. Costs a look into the database only if something changed, or it has waited long."""
        if self._valid_until.get(caller.id, 0.0) > time.monotonic():
            return True
        async with self._gateway.connection() as db:
            return await _IS_VALID.one(db, {"id": caller.id}) is not None

    def note_use(self, caller: Caller) -> None:
        self._used[caller.id] = time.time()

    def refusal_is_news(self, caller: Caller, address: str) -> bool:
        """Whether it is a minute since this credential was refused for this address: else a thief could fill the audit."""
        now, key = time.monotonic(), (caller.id, address)
        if self._refused.get(key, 0.0) > now:
            return False
        if len(self._refused) >= MOST_KNOWN:
            self._refused.clear()
        self._refused[key] = now + REFUSALS_TOLD_SECONDS
        return True

    async def run(self) -> None:
        """Until it is canceled."""
        while True:
            await asyncio.sleep(USES_WRITTEN_SECONDS)
            await self.write_uses()

    async def write_uses(self) -> None:
        """What cannot be written now is written with the next."""
        used, self._used = self._used, {}
        if not used:
            return
        values = {"ids": list(used), "at": [datetime.fromtimestamp(at, UTC) for at in used.values()]}
        try:
            async with self._gateway.connection() as db:
                for query in _USED_BY:
                    await query.run(db, values)
        except DATABASE_ERRORS as error:
            log.warning("uses_not_written", error=type(error).__name__)
            self._used = used | self._used
