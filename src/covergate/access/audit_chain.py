"""The audit's chain: rows are closed into batches, each bound to the one before, so that no row changes unnoticed.

A batch has all rows between two positions. Its digest is SHA-256 over its rows, as `covergate audit export` writes them, its own
fields and the digest before; a MAC under a key of the ring vouches for it, and with it for every batch before. So whoever has
the database but not the keys cannot make the chain anew, and keys that are retired leave it provable.

Rows are committed out of the order of their positions. Invariant: a batch is closed only up to a position below which nothing
can be added any more. A transaction gets its number before it draws a position (the column's default sees to it). So: read the
last position that was drawn, then take a number of our own; when every transaction with a lower number is over, whoever
drew a position up to that one is, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.partitions import AUDIT_MONTHS, KEPT_SINCE
from covergate.db.ring import KeyRing
from covergate.db.sql import Query, turn
from covergate.gateway import Gateway

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 30.0
"""How often a worker closes what can be closed. Under load it takes two times: one to look, one to find it settled."""
MOST_IN_BATCH = 5000
"""In one batch."""
HELD_BACK_AFTER = timedelta(minutes=10)
FORMAT = "covergate audit batch 1"
PURPOSE = "audit batch"

_TEXTS = ("acting_user", "address", "request_id", "subject_kind", "subject_id", "outcome")


def _text(column: str) -> str:
    return f"""',"{column}":' || coalesce(CAST(to_json({column}) AS text), 'null')"""


_AT = """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_LINE = " || ".join(
    [
        """'{"position":' || position""",
        _text("id"),
        f"""',"at":"' || {_AT} || '"'""",
        *(_text(name) for name in ("tenant_id", "mode", "action", "actor_kind", "actor_id", *_TEXTS)),
        """',"count":' || count""",
        """coalesce(',"reason":' || CAST(to_json(reason) AS text), '')""",
        """'}' || chr(10)""",
    ]
)
"""A row as it is digested and exported, byte for byte; every part of it but `position`, `at` and `count` may be null. Without a
reason it has none, as the rows from before there were reasons."""

_WITHIN = "position > :after AND position <= :last"
_TURN = turn("covergate audit chain")
_DRAWN = Query("SELECT last_value FROM audit_events_position_seq WHERE is_called")
_OUR_NUMBER = Query("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
_LOWEST_OPEN = Query("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_LAST_OF_NEXT = Query(f"""
SELECT max(position) AS last, count(*) AS count
FROM (SELECT position FROM audit_events WHERE {_WITHIN} ORDER BY position LIMIT :most) AS next""")
_DIGESTED = Query(f"""
SELECT count(*) AS count, min(at) AS first_at, max(at) AS last_at, clock_timestamp() AS closed_at,
  sha256(convert_to(coalesce(string_agg({_LINE}, '' ORDER BY position), ''), 'UTF8')) AS rows_digest
FROM audit_events WHERE {_WITHIN}""")
_LINES = Query(f"SELECT {_LINE} AS line FROM audit_events WHERE {_WITHIN} ORDER BY position")
_COLUMNS = (
    "number, after_position, last_position, count, first_at, last_at, closed_at, rows_digest, digest, key_id, mac"
)
_NEWEST = Query(f"SELECT {_COLUMNS} FROM audit_batches ORDER BY number DESC LIMIT 1")
_BATCHES = Query(f"SELECT {_COLUMNS} FROM audit_batches WHERE number > :number ORDER BY number LIMIT :most")
_ADD = Query(f"""
INSERT INTO audit_batches ({_COLUMNS}) VALUES (:number, :after_position, :last_position, :count, :first_at, :last_at, :closed_at,
  :rows_digest, :digest, :key_id, :mac)""")
_OPEN = Query("SELECT count(*) FROM audit_events WHERE position > :after")
_KEPT_SINCE = Query(f"SELECT {KEPT_SINCE} AT TIME ZONE 'UTC'", months="int")

_BATCHES_AT_ONCE = 500
_BEFORE_ALL = -(2**63)
_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Batch:
    """A closed batch: the rows with positions after `after_position`, up to `last_position`."""

    number: int
    after_position: int
    last_position: int
    count: int
    first_at: datetime
    last_at: datetime
    closed_at: datetime
    rows_digest: bytes
    digest: bytes
    key_id: str
    mac: bytes

    def shown(self) -> dict[str, Any]:
        """As it stands in an export, with digests in hex."""
        instants = {name: _exact(getattr(self, name)) for name in ("first_at", "last_at", "closed_at")}
        digests = {name: getattr(self, name).hex() for name in ("rows_digest", "digest", "mac")}
        numbers = {name: getattr(self, name) for name in ("after_position", "last_position", "count")}
        return {"batch": self.number, **numbers, **instants, **digests, "key_id": self.key_id}

    @classmethod
    def parse(cls, shown: dict[str, Any]) -> Batch:
        """Of an export's line. Raises KeyError, TypeError or ValueError if it is none."""
        fields: dict[str, Any] = {"number": int(shown["batch"]), "key_id": str(shown["key_id"])}
        fields |= {name: datetime.fromisoformat(shown[name]) for name in ("first_at", "last_at", "closed_at")}
        fields |= {name: bytes.fromhex(shown[name]) for name in ("rows_digest", "digest", "mac")}
        fields |= {name: int(shown[name]) for name in ("after_position", "last_position", "count")}
        return cls(**fields)


def chained(batch: Batch, before: bytes) -> bytes:
    """The digest that the batch must have behind the digest `before`."""
    fields = [
        FORMAT,
        batch.number,
        batch.after_position,
        batch.last_position,
        batch.count,
        *(_exact(at) for at in (batch.first_at, batch.last_at, batch.closed_at)),
        batch.rows_digest.hex(),
        before.hex(),
    ]
    return hashlib.sha256("".join(f"{value}\n" for value in fields).encode()).digest()


def _mac(ring: KeyRing, key_id: str, digest: bytes) -> bytes:
    return hmac.digest(ring.derive(key_id, PURPOSE), digest, "sha256")


def _exact(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- closing -----------------------------------------------------------------------------------------------------------


class Chain:
    """Closes batches; one per worker, of which one closes at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settled = 0
        """No position up to this one can be added any more."""
        self._looked_at: tuple[int, int] | None = None
        """A position, and the transaction's number below which all must be over before it is settled."""
        self._held_back_since: datetime | None = None

    async def close(self) -> int:
        """Closes what can be closed: the number of batches."""
        await self._settle()
        closed = 0
        while await self._close_next():
            closed += 1
        return closed

    async def _settle(self) -> None:
        async with self._gateway.transaction() as db:
            drawn = await _DRAWN.scalar(db) or 0
            newest = await _NEWEST.one(db)
            if drawn <= max(self._settled, newest.last_position if newest is not None else 0):
                return
            if self._looked_at is None:
                # The position first: see above.
                self._looked_at = drawn, await _OUR_NUMBER.scalar(db)
            position, number = self._looked_at
            now = datetime.now(UTC)
            if await _LOWEST_OPEN.scalar(db) >= number:
                self._settled, self._looked_at, self._held_back_since = position, None, None
                return
        self._held_back_since = self._held_back_since or now
        if now - self._held_back_since > HELD_BACK_AFTER:
            log.warning("audit_chain_waits", reason="a transaction is open for longer than ten minutes")
            self._held_back_since = now

    async def _close_next(self) -> bool:
        async with self._gateway.transaction() as db:
            await _TURN.run(db)
            newest = await _NEWEST.one(db)
            number, after, before = (0, 0, _NO_DIGEST)
            if newest is not None:
                number, after, before = newest.number, newest.last_position, newest.digest
            span: dict[str, Any] = {"after": after, "last": self._settled}
            next_ = await _LAST_OF_NEXT.one(db, {**span, "most": MOST_IN_BATCH})
            if next_ is None or next_["count"] == 0:
                return False
            span["last"] = next_.last
            row = await _DIGESTED.one(db, span)
            assert row is not None
            drafted = Batch(number + 1, after, next_.last, **row, digest=b"", key_id="", mac=b"")
            digest = chained(drafted, before)
            ring = self._gateway.sealer.ring
            signed = {
                "digest": digest,
                "key_id": ring.current_key_id,
                "mac": _mac(ring, ring.current_key_id, digest),
            }
            await _ADD.run(db, {**{name: getattr(drafted, name) for name in Batch.__slots__}, **signed})
        log.info("audit_batch_closed", batch=number + 1, rows=drafted.count, digest=digest.hex())
        return True


# --- verifying ---------------------------------------------------------------------------------------------------------


@dataclass
class Inspection:
    """What a look at the whole chain found. Sound if `faults` is empty."""

    batches: int = 0
    rows: int = 0
    expired: int = 0
    """Batches whose rows are older than they are kept, and not all there any more."""
    not_closed: int = 0
    head: tuple[int, str] | None = None
    """The newest batch's number and digest in hex: what to keep elsewhere."""
    unproven: int = 0
    """Batches at the end that no key at hand vouches for."""
    faults: list[str] = field(default_factory=list)


class _Follower:
    """Follows a chain, batch by batch."""

    def __init__(self, ring: KeyRing | None, expected: tuple[int, str] | None, verdict: Inspection) -> None:
        self._ring = ring
        self._expected = expected
        self._verdict = verdict
        self._before: Batch | None = None

    def follow(self, batch: Batch, *, from_the_start: bool = True) -> None:
        """Its place, its digest, its MAC. Its rows are the caller's to compare."""
        verdict, before = self._verdict, self._before
        place = (before.number, before.last_position) if before is not None else (0, 0)
        if before is not None or from_the_start:
            if batch.number != place[0] + 1:
                verdict.faults.append(
                    f"batch {batch.number} stands where {place[0] + 1} should be: batches are missing"
                )
            elif batch.after_position != place[1]:
                verdict.faults.append(f"batch {batch.number} does not begin where the one before ends")
            if chained(batch, before.digest if before is not None else _NO_DIGEST) != batch.digest:
                verdict.faults.append(f"batch {batch.number} was altered, or the one before it")
        self._prove(batch)
        if self._expected is not None and batch.number == self._expected[0]:
            if batch.digest.hex() != self._expected[1]:
                verdict.faults.append(f"batch {batch.number} is not the one that was noted: the chain was made anew")
            self._expected = None
        verdict.batches += 1
        verdict.head = batch.number, batch.digest.hex()
        self._before = batch

    def _prove(self, batch: Batch) -> None:
        self._verdict.unproven += 1
        if self._ring is None or batch.key_id not in self._ring.keys:
            return  # a later one may vouch for it
        if hmac.compare_digest(batch.mac, _mac(self._ring, batch.key_id, batch.digest)):
            self._verdict.unproven = 0
        else:
            self._verdict.faults.append(f"batch {batch.number} was not signed under key {batch.key_id}")

    def end(self) -> None:
        if self._expected is not None:
            self._verdict.faults.append(f"batch {self._expected[0]} was noted and is missing: the end was cut off")
        if self._ring is not None and self._verdict.unproven:
            self._verdict.faults.append(
                f"the last {self._verdict.unproven} batches are signed under no key of the ring"
            )


async def verify_chain(gateway: Gateway, expected: tuple[int, str] | None = None, after: int = 0) -> Inspection:
    """Every batch and every row of it. `expected` is a batch's number and digest as they were noted elsewhere.

    `after`: only the rows of later batches; of that one it is proved that it was signed.
    """
    verdict = Inspection()
    follower = _Follower(gateway.sealer.ring, expected, verdict)
    async with gateway.connection() as db:
        kept_since: datetime = await _KEPT_SINCE.scalar(db, {"months": AUDIT_MONTHS})
        last = 0
        async for batch in _batches(db, max(after - 1, 0)):
            follower.follow(batch, from_the_start=after == 0)
            last = batch.last_position
            if batch.number <= after:
                continue
            first = batch.after_position if verdict.batches > 1 else _BEFORE_ALL
            row = await _DIGESTED.one(db, {"after": first, "last": last})
            assert row is not None
            verdict.rows += row["count"]
            if (row["count"], row.rows_digest) == (batch.count, batch.rows_digest):
                continue
            if batch.first_at < kept_since and row["count"] < batch.count:
                verdict.expired += 1
            elif row["count"] != batch.count:
                verdict.faults.append(f"batch {batch.number} has {row['count']} rows and was closed with {batch.count}")
            else:
                verdict.faults.append(f"batch {batch.number} has rows that were altered or moved")
        verdict.not_closed = await _OPEN.scalar(db, {"after": last})
    follower.end()
    return verdict


async def _batches(db: AsyncConnection, number: int) -> AsyncIterator[Batch]:
    """Those after this number."""
    while rows := await _BATCHES.all(db, {"number": number, "most": _BATCHES_AT_ONCE}):
        for row in rows:
            yield Batch(**row)
        number = rows[-1].number


# --- exporting ---------------------------------------------------------------------------------------------------------


async def exported(gateway: Gateway, after: int) -> AsyncIterator[str]:
    """The closed batches after that number as NDJSON: the lines of its rows, then a line of its own."""
    async with gateway.connection() as db:
        async for batch in _batches(db, after):
            span = {"after": batch.after_position, "last": batch.last_position}
            for row in await _LINES.all(db, span):
                yield row.line
            yield orjson.dumps(batch.shown()).decode() + "\n"


def verify_export(lines: Iterable[bytes], ring: KeyRing | None, expected: tuple[int, str] | None = None) -> Inspection:
    """An export's own chain, without a database. `ring` None: without the keys, so that only digests are compared."""
    verdict = Inspection()
    follower = _Follower(ring, expected, verdict)
    for rows, count, batch in _parts(lines, verdict):
        follower.follow(batch, from_the_start=batch.number == 1)
        verdict.rows += count
        if count != batch.count:
            verdict.faults.append(f"batch {batch.number} has {count} rows and was closed with {batch.count}")
        elif rows != batch.rows_digest:
            verdict.faults.append(f"batch {batch.number} has rows that were altered or moved")
    follower.end()
    return verdict


def _parts(lines: Iterable[bytes], verdict: Inspection) -> Iterator[tuple[bytes, int, Batch]]:
    rows, count = hashlib.sha256(), 0
    for number, line in enumerate(lines, start=1):
        if line.startswith(b'{"position":'):
            rows.update(line)
            count += 1
            continue
        try:
            batch = Batch.parse(orjson.loads(line))
        except (KeyError, TypeError, ValueError):
            verdict.faults.append(f"line {number} is neither a row nor a batch")
            continue
        yield rows.digest(), count, batch
        rows, count = hashlib.sha256(), 0
    verdict.not_closed = count


def noted(text: str) -> tuple[int, str]:
    """`NUMBER:DIGEST` as `covergate audit verify` prints it. Raises ValueError."""
    number, _, digest = text.partition(":")
    if len(bytes.fromhex(digest)) != len(_NO_DIGEST):
        raise ValueError
    return int(number), digest.lower()
