"""Console sessions: who is signed in, kept in PostgreSQL, found by the digest of a cookie that is 256 random bits.

A session ends when its person signs out, is revoked or does nothing for the idle time, at the latest after
`LONGEST_SESSION`. PHI is masked in every page until it is revealed, for one verification and a few minutes, which the session
remembers.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.audit import Actor
from covergate.access.caller import NOWHERE, Caller, CallerKind, Origin
from covergate.access.console_roles import REVEALS, scopes_of
from covergate.access.console_users import SignedIn
from covergate.access.credentials import CREDENTIALS_CHANGED, digest
from covergate.db.kept import Kept
from covergate.db.sql import Query, Record
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import ActorKind, AuditOutcome, SubjectKind

LONGEST_SESSION = timedelta(hours=12)
REVEALED_FOR = timedelta(minutes=10)
TOUCHED_SECONDS = 20
"""`seen_at` is at most so old while its person works."""

KEPT = (Kept("console_sessions", "who was signed in when; what they did is in the audit", "90 days"),)

_OPEN = Query(
    """
INSERT INTO console_sessions (id, digest, actor_id, name, tenant_id, mode, roles, expires_at)
VALUES (:id, :digest, :actor_id, :name, :tenant_id, :mode, :roles, clock_timestamp() + :longest)""",
    tenant_id="text",
    longest="interval",
)
_KEY_HOLDS = """
NOT EXISTS (SELECT FROM portal_links l JOIN api_keys k ON k.id = l.made_by
            WHERE l.id = s.actor_id AND k.revoked_at IS NOT NULL)"""
"""A partner's session ends with the key that made its link."""
_FIND = Query(
    f"""
SELECT s.id, s.actor_id, s.name, s.tenant_id, t.name AS tenant, s.mode, s.roles, s.revealed, s.seen_at, s.expires_at,
  clock_timestamp() - s.seen_at > :touched AS is_stale, clock_timestamp() AS now
FROM console_sessions s LEFT JOIN tenants t ON t.id = s.tenant_id
WHERE s.digest = :digest AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()
  AND s.seen_at > clock_timestamp() - :idle AND t.erased_at IS NULL AND {_KEY_HOLDS}""",
    touched="interval",
    idle="interval",
)
_TOUCH = Query("UPDATE console_sessions SET seen_at = clock_timestamp() WHERE id = :id AND ended_at IS NULL")
_END = Query("""
WITH s AS (
  UPDATE console_sessions SET ended_at = clock_timestamp(), revealed = '{}' WHERE id = :id AND ended_at IS NULL RETURNING id
)
SELECT pg_notify(:channel, id) FROM s""")
_END_OTHER = Query(
    """
WITH s AS (
  UPDATE console_sessions SET ended_at = clock_timestamp(), revealed = '{}'
  WHERE id = :id AND ended_at IS NULL AND (:tenant_id IS NULL OR tenant_id = :tenant_id) RETURNING id
)
SELECT pg_notify(:channel, id) FROM s""",
    tenant_id="text",
)
_MODE = Query("UPDATE console_sessions SET mode = :mode WHERE id = :id")
_REVEAL = Query(
    """
UPDATE console_sessions SET revealed = (
    SELECT coalesce(jsonb_object_agg(r.key, r.value), '{}') FROM jsonb_each(revealed) r
    WHERE CAST(r.value ->> 'until' AS timestamptz) > clock_timestamp()
  ) || jsonb_build_object(CAST(:verification_id AS text),
    jsonb_build_object('until', clock_timestamp() + :lasts, 'reason', CAST(:reason AS text)))
WHERE id = :id""",
    lasts="interval",
)
_LIST = Query(
    f"""
SELECT s.id, s.actor_id, s.name, t.name AS tenant, s.roles, s.created_at, s.seen_at
FROM console_sessions s LEFT JOIN tenants t ON t.id = s.tenant_id
WHERE s.ended_at IS NULL AND s.expires_at > clock_timestamp() AND s.seen_at > clock_timestamp() - :idle AND {_KEY_HOLDS}
  AND (:tenant_id IS NULL OR s.tenant_id = :tenant_id) ORDER BY s.seen_at DESC LIMIT 200""",
    idle="interval",
    tenant_id="text",
)
_LINK = Query(
    """
INSERT INTO console_links (digest, purpose, name, tenant_id, mode, roles, expires_at)
VALUES (:digest, 'sign_in', :name, :tenant_id, :mode, :roles, clock_timestamp() + :lives)""",
    tenant_id="text",
    mode="text",
    lives="interval",
)
_REDEEM = Query("""
UPDATE console_links SET used_at = clock_timestamp()
WHERE digest = :digest AND purpose = 'sign_in' AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING name, tenant_id, mode, roles""")


class Reason(StrEnum):
    """Why somebody looks at PHI. Fixed, because free text would hold PHI itself."""

    PATIENT_CARE = "patient_care"
    BILLING = "billing"
    SUPPORT = "support"
    REPAIR = "repair"
    REVIEW = "review"


REASONS: dict[Reason, str] = {
    Reason.PATIENT_CARE: "A patient is being cared for",
    Reason.BILLING: "A claim or a bill is being worked on",
    Reason.SUPPORT: "A question of a clinic or a patient is being answered",
    Reason.REPAIR: "Something does not work and is being put right",
    Reason.REVIEW: "An audit or a review is under way",
}


@dataclass(frozen=True, slots=True)
class Session:
    """`tenant_id` None: of an operator. `mode` is the one that is looked at. `token` is the cookie's value."""

    id: str
    token: str
    actor_id: str
    name: str
    tenant_id: str | None
    tenant: str | None
    mode: str
    roles: tuple[str, ...]
    revealed: dict[str, datetime]
    reasons: dict[str, str]
    ends_at: datetime
    """At the latest, whatever its person does."""

    @property
    def is_operator(self) -> bool:
        return self.tenant_id is None

    @property
    def is_partner(self) -> bool:
        """Came by a portal link, which fixed the mode."""
        return ids.is_id(ids.PORTAL_LINK, self.actor_id)

    @property
    def scopes(self) -> frozenset[str]:
        return scopes_of(self.roles, of_tenant=not self.is_operator)

    @property
    def csrf(self) -> str:
        """What every form repeats; derived, so that it is the session's and says nothing of it."""
        return hashlib.sha256(f"covergate csrf {self.token}".encode()).hexdigest()

    def caller(self, origin: Origin = NOWHERE) -> Caller:
        """For the core's functions, without a look at PHI. An operator stands for all tenants in the mode looked at."""
        kind = CallerKind.OPERATOR if self.is_operator else CallerKind.USER
        return Caller(self.tenant_id, self.mode, self.actor_id, self.scopes, kind=kind, name=self.name, origin=origin)

    def is_revealed(self, verification_id: str) -> bool:
        until = self.revealed.get(verification_id)
        return REVEALS in self.scopes and until is not None and until > datetime.now(UTC)

    def revealing(self, caller: Caller, verification_id: str) -> Caller:
        """The caller, who sees the PHI of this verification if it was revealed."""
        if not self.is_revealed(verification_id):
            return caller
        return replace(caller, scopes=caller.scopes | {"phi"})


async def open_session(gateway: Gateway, who: SignedIn, origin: Origin, mode: str | None = None) -> str:
    """The cookie's value. `mode` None: live, if the gateway has live vendors."""
    token, session_id = secrets.token_urlsafe(32), ids.new(ids.CONSOLE_SESSION)
    values = {
        "id": session_id,
        "digest": digest(token),
        "actor_id": who.actor_id,
        "name": who.name,
        "tenant_id": who.tenant_id,
        "mode": mode or ("live" if gateway.enabled("live") else "test"),
        "roles": list(who.roles),
        "longest": LONGEST_SESSION,
    }
    kind = ActorKind.OPERATOR if who.tenant_id is None else ActorKind.USER
    async with gateway.transaction() as db:
        await _OPEN.run(db, values)
        actor = Actor(kind, who.actor_id, who.tenant_id, None, origin)
        await audit.record(db, actor, "session.begin", SubjectKind.SESSION, [session_id])
    return token


async def find_session(gateway: Gateway, token: str, idle: timedelta, *, touch: bool) -> Session | None:
    """`touch`: its person did something, so the idle time begins anew. None: none, ended, or idle for too long."""
    async with gateway.connection() as db:
        values = {"digest": digest(token), "touched": timedelta(seconds=TOUCHED_SECONDS), "idle": idle}
        row = await _FIND.one(db, values)
        if row is None:
            return None
        if touch and row.is_stale:
            await _TOUCH.run(db, {"id": row.id})
    return _session(row, token)


def _session(row: Record, token: str) -> Session:
    return Session(
        id=row.id,
        token=token,
        actor_id=row.actor_id,
        name=row.name,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        mode=row.mode,
        roles=tuple(row.roles),
        revealed={name: datetime.fromisoformat(seen["until"]) for name, seen in row.revealed.items()},
        reasons={name: seen["reason"] for name, seen in row.revealed.items()},
        ends_at=row.expires_at,
    )


async def end_session(gateway: Gateway, session: Session, origin: Origin) -> None:
    async with gateway.transaction() as db:
        await _END.run(db, {"id": session.id, "channel": CREDENTIALS_CHANGED})
        await audit.record(db, session.caller(origin), "session.end", SubjectKind.SESSION, [session.id])


async def end_other_session(gateway: Gateway, by: Caller, session_id: str) -> bool:
    """Of somebody else, of the same tenant if `by` is of one. False: there is none of that id that is open."""
    async with gateway.transaction() as db:
        values = {"id": session_id, "tenant_id": by.within_tenant, "channel": CREDENTIALS_CHANGED}
        ended = await _END_OTHER.one(db, values) is not None
        outcome = AuditOutcome.ALLOWED if ended else AuditOutcome.NOT_FOUND
        subject = session_id if ids.is_id(ids.CONSOLE_SESSION, session_id) else None
        await audit.record(db, by, "session.end", SubjectKind.SESSION, [subject], outcome)
    return ended


async def choose_mode(gateway: Gateway, session: Session, mode: str) -> None:
    async with gateway.connection() as db:
        await _MODE.run(db, {"id": session.id, "mode": mode})


async def reveal(db: AsyncConnection, session: Session, verification_id: str, reason: Reason | None) -> None:
    """Shows the PHI of a verification, which the caller has checked to be its to see, for `REVEALED_FOR`."""
    if REVEALS not in session.scopes:
        raise Problem("insufficient_scope", "your roles do not show patients")
    values = {"id": session.id, "verification_id": verification_id, "lasts": REVEALED_FOR, "reason": reason}
    await _REVEAL.run(db, values)


async def list_sessions(gateway: Gateway, idle: timedelta, tenant_id: str | None) -> list[Record]:
    """Those that are open, the latest seen first. `tenant_id` None: everybody's."""
    async with gateway.connection() as db:
        return await _LIST.all(db, {"idle": idle, "tenant_id": tenant_id})


async def make_link(
    gateway: Gateway,
    *,
    name: str,
    roles: tuple[str, ...],
    lives: timedelta,
    tenant_id: str | None = None,
    mode: str | None = None,
) -> str:
    """The code of a link that lets whoever opens it first in, once."""
    code = secrets.token_urlsafe(32)
    values = {
        "digest": digest(code),
        "name": name,
        "tenant_id": tenant_id,
        "mode": mode,
        "roles": list(roles),
        "lives": lives,
    }
    async with gateway.connection() as db:
        await _LINK.run(db, values)
    return code


async def redeem_link(gateway: Gateway, code: str) -> tuple[SignedIn, str | None] | None:
    """Who comes in by it, and the mode that it is for. None: it is none, was used, or is too old.

    Each link is somebody of its own, whatever name it was made for: to the audit, and to what is kept for a person.
    """
    made_of = digest(code)
    async with gateway.connection() as db:
        row = await _REDEEM.one(db, {"digest": made_of})
    if row is None:
        return None
    return SignedIn(f"link {row.name} {made_of.hex()[:12]}", row.name, row.tenant_id, tuple(row.roles)), row.mode
