"""Console users: people with an account of the gateway's own, a password (Argon2id) and a code of their phone (TOTP).

An account is made by an operator of the machine, who sees neither: a one-time link lets its owner choose the password and take
the second factor over. Whoever comes by an identity provider has no account here.

A wrong login and a wrong password look the same and take the same time. Each code is taken once, and after `MOST_FAILURES`
wrong ones in a row the account rests.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.audit import Actor, command_line
from covergate.access.caller import Caller
from covergate.access.console_roles import checked_roles
from covergate.access.credentials import CREDENTIALS_CHANGED, digest, name_of
from covergate.access.operators import find_tenant
from covergate.access.saved_views import forget_views
from covergate.db.kept import Kept
from covergate.db.sealing import GATEWAY, Place
from covergate.db.sql import Query, Record
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.states import ActorKind, AuditOutcome, SubjectKind

SET_UP_FOR = timedelta(hours=24)
"""How long the link of a new account opens."""
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 200
MOST_FAILURES = 10
RESTS_MINUTES = 15
ISSUER = "CoverGate"
"""What an authenticator app shows beside the code."""
STEP_SECONDS = 30
STEPS_AROUND = 1
"""A phone's clock may be so many steps off."""

KEPT = (
    Kept("console_users", "few, and the audit names them; a revoked one is marked"),
    Kept("console_links", "long past its end", "30 days"),
)

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_CODE = re.compile(r"[0-9]{6}")
_COMMON = frozenset({"password1234", "123456789012", "qwertyuiop12", "covergate1234"})

_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_hashing = asyncio.Semaphore(2)
"""64 MB each: guessers must not take the process's memory."""
_NOBODYS = "$argon2id$v=19$m=65536,t=3,p=1$bm9ib2R5IGhhcyB0aGlzIQ$dGhpcyBpcyB0aGUgaGFzaCBvZiBubyBwYXNzd29yZCBhdCE"
"""Compared for logins that do not exist, so that they take as long: a hash that no password has. Written down, because making
one takes 64 MB and a tenth of a second in each process that imports this.
"""

_CREATE = Query(
    """
INSERT INTO console_users (id, login, name, tenant_id, roles, totp_sealed) VALUES (:id, :login, :name, :tenant_id, :roles, :totp)
ON CONFLICT (login) DO NOTHING RETURNING id""",
    tenant_id="text",
)
_LINK = Query(
    """
INSERT INTO console_links (digest, purpose, user_id, expires_at) VALUES (:digest, 'set_up', :id, clock_timestamp() + :lives)""",
    lives="interval",
)
_FORGET_LINKS = Query("UPDATE console_links SET used_at = clock_timestamp() WHERE user_id = :id AND used_at IS NULL")
_LIST = Query("""
SELECT u.id, u.login, u.name, t.name AS tenant, u.roles, u.password_hash IS NOT NULL AS is_set_up, u.created_at, u.signed_in_at,
  u.revoked_at
FROM console_users u LEFT JOIN tenants t ON t.id = u.tenant_id ORDER BY u.id""")
_NEW_FACTOR = Query("""
UPDATE console_users SET totp_sealed = :totp, password_hash = NULL, failures = 0, locked_until = NULL
WHERE login = :login AND revoked_at IS NULL RETURNING id""")
_ID_OF = Query("SELECT id FROM console_users WHERE login = :login AND revoked_at IS NULL")
_REVOKE = Query("""
UPDATE console_users SET revoked_at = clock_timestamp(), password_hash = NULL WHERE login = :login AND revoked_at IS NULL
RETURNING id""")
_END_SESSIONS = Query(
    "UPDATE console_sessions SET ended_at = clock_timestamp() WHERE actor_id = :id AND ended_at IS NULL"
)
_TELL = Query("SELECT pg_notify(:channel, :id)")
_TO_SET_UP = Query("""
SELECT u.id, u.login, u.name, u.totp_sealed FROM console_links l JOIN console_users u ON u.id = l.user_id
WHERE l.digest = :digest AND l.purpose = 'set_up' AND l.used_at IS NULL AND l.expires_at > clock_timestamp()
  AND u.revoked_at IS NULL""")
_SET_UP = Query("""
WITH l AS (
  UPDATE console_links SET used_at = clock_timestamp()
  WHERE digest = :digest AND purpose = 'set_up' AND used_at IS NULL AND expires_at > clock_timestamp() RETURNING user_id
)
UPDATE console_users u SET password_hash = :hash, totp_step = :step, failures = 0, locked_until = NULL
FROM l WHERE u.id = l.user_id AND u.revoked_at IS NULL RETURNING u.id""")
_FIND = Query("""
SELECT id, name, tenant_id, roles, password_hash, totp_sealed, totp_step, locked_until > clock_timestamp() AS rests
FROM console_users WHERE login = :login AND revoked_at IS NULL""")
_RIGHT = Query("""
UPDATE console_users SET totp_step = :step, failures = 0, locked_until = NULL, signed_in_at = clock_timestamp()
WHERE id = :id AND totp_step < :step AND password_hash = :hash AND revoked_at IS NULL RETURNING id""")
_WRONG = Query("""
UPDATE console_users SET failures = failures + 1,
  locked_until = CASE WHEN (failures + 1) % :most = 0 THEN clock_timestamp() + make_interval(mins => :rests) END
WHERE id = :id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleUser:
    """As users are listed. `tenant` None: one of the gateway's operators."""

    id: str
    login: str
    name: str
    tenant: str | None
    roles: tuple[str, ...]
    is_set_up: bool
    created_at: datetime
    signed_in_at: datetime | None
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        return "revoked" if self.revoked_at else "valid" if self.is_set_up else "to be set up"


@dataclass(frozen=True, slots=True)
class PendingUser:
    """An account that its owner is about to set up."""

    login: str
    name: str
    totp_secret: str

    @property
    def totp_uri(self) -> str:
        """For a QR code."""
        return pyotp.TOTP(self.totp_secret).provisioning_uri(name=self.login, issuer_name=ISSUER)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who somebody has proven to be. `tenant_id` None: one of the gateway's operators."""

    actor_id: str
    name: str
    tenant_id: str | None
    roles: tuple[str, ...]


async def create_user(
    gateway: Gateway, *, login: str, name: str, roles: Iterable[str] = (), tenant: str | None = None
) -> str:
    """The code of the link by which the account is set up. Raises ConfigurationError."""
    login, user_id, code = _login_of(login), ids.new(ids.CONSOLE_USER), secrets.token_urlsafe(32)
    async with gateway.connection() as db:
        await gateway.sealer.meet(db, [GATEWAY])
        tenant_id = None if tenant is None else await find_tenant(db, tenant)
    if tenant is not None and tenant_id is None:
        raise ConfigurationError("there is no such tenant: see `covergate tenants list`")
    values = {
        "id": user_id,
        "login": login,
        "name": name_of("a user's name", name),
        "tenant_id": tenant_id,
        "roles": list(checked_roles(roles, of_tenant=tenant is not None)),
        "totp": _sealed_factor(gateway, user_id),
    }
    async with gateway.transaction() as db:
        if await _CREATE.one(db, values) is None:
            raise ConfigurationError("there is, or was, a user of this login: see `covergate users list`")
        await _LINK.run(db, {"digest": digest(code), "id": user_id, "lives": SET_UP_FOR})
        await audit.record(db, command_line(tenant_id), "user.create", SubjectKind.USER, [user_id])
    return code


async def reset_user(gateway: Gateway, login: str) -> str | None:
    """The code of a new link: password and second factor are chosen anew, sessions end. None: there is no such user."""
    code = secrets.token_urlsafe(32)
    async with gateway.connection() as db:
        await gateway.sealer.meet(db, [GATEWAY])
    async with gateway.transaction() as db:
        found = await _ID_OF.one(db, {"login": login.lower()})
        if found is None:
            return None
        await _NEW_FACTOR.run(db, {"login": login.lower(), "totp": _sealed_factor(gateway, found.id)})
        await _end_all(db, found.id)
        await _LINK.run(db, {"digest": digest(code), "id": found.id, "lives": SET_UP_FOR})
        await audit.record(db, command_line(), "user.reset", SubjectKind.USER, [found.id])
    return code


async def revoke_user(gateway: Gateway, login: str, by: Caller | None = None) -> bool:
    """At once, with all sessions. False: there is no such user, or it was revoked before. `by` None: a user of this machine."""
    async with gateway.transaction() as db:
        revoked = await _REVOKE.one(db, {"login": login.lower()})
        if revoked is not None:
            await _end_all(db, revoked.id)
            await forget_views(db, revoked.id)
        outcome = AuditOutcome.ALLOWED if revoked else AuditOutcome.NOT_FOUND
        await audit.record(db, by or command_line(), "user.revoke", SubjectKind.USER, [revoked and revoked.id], outcome)
    return revoked is not None


async def list_users(gateway: Gateway) -> list[ConsoleUser]:
    async with gateway.connection() as db:
        return [ConsoleUser(**{**row, "roles": tuple(row.roles)}) for row in await _LIST.all(db)]


async def pending_user(gateway: Gateway, code: str) -> PendingUser | None:
    """None: the link is none, was used, or is too old."""
    async with gateway.connection() as db:
        row = await _TO_SET_UP.one(db, {"digest": digest(code)})
        if row is None:
            return None
        await gateway.sealer.meet(db, [GATEWAY], [row.totp_sealed])
    return PendingUser(row.login, row.name, _factor(gateway, row))


async def set_up(gateway: Gateway, code: str, password: str, totp_code: str) -> str | None:
    """What is wrong, in words; None if the account may be used from now on."""
    pending = await pending_user(gateway, code)
    if pending is None:
        return "The link is not valid any more. Ask for a new one."
    if wrong := _wrong_password(password, pending.login, pending.name):
        return wrong
    step = _step_of(pending.totp_secret, totp_code)
    if step is None:
        return "The code from the phone is not right. Take the one that is shown now."
    async with gateway.transaction() as db:
        done = await _SET_UP.one(db, {"digest": digest(code), "hash": await _hash(password), "step": step})
        if done is None:
            return "The link is not valid any more. Ask for a new one."
        actor = Actor(ActorKind.USER, done.id)
        await audit.record(db, actor, "user.set_up", SubjectKind.USER, [done.id])
    return None


async def sign_in(gateway: Gateway, login: str, password: str, totp_code: str) -> SignedIn | None:
    """None: something of it is wrong, or the account rests; nobody is told what."""
    async with gateway.connection() as db:
        row = await _FIND.one(db, {"login": login.strip().lower()[:100]})
        if row is not None:
            await gateway.sealer.meet(db, [GATEWAY], [row.totp_sealed])
    known = row is not None and row.password_hash is not None
    right = await _verify(row.password_hash if row is not None and known else _NOBODYS, password) and known
    if row is None or row.rests:
        return None
    step = _step_of(_factor(gateway, row), totp_code) if right else None
    async with gateway.connection() as db:
        if step is not None:
            values = {"id": row.id, "step": step, "hash": row.password_hash}
            if await _RIGHT.one(db, values) is not None:
                return SignedIn(row.id, row.name, row.tenant_id, tuple(row.roles))
        await _WRONG.run(db, {"id": row.id, "most": MOST_FAILURES, "rests": RESTS_MINUTES})
    return None


async def _end_all(db: AsyncConnection, user_id: str) -> None:
    await _FORGET_LINKS.run(db, {"id": user_id})
    await _END_SESSIONS.run(db, {"id": user_id})
    await _TELL.run(db, {"channel": CREDENTIALS_CHANGED, "id": user_id})


def place_of_factor(user_id: str) -> Place:
    return Place(GATEWAY, "", "console_users", "totp", user_id)


def _sealed_factor(gateway: Gateway, user_id: str) -> bytes:
    return gateway.sealer.seal(place_of_factor(user_id), pyotp.random_base32().encode())


def _factor(gateway: Gateway, row: Record) -> str:
    return gateway.sealer.open(place_of_factor(row.id), row.totp_sealed).decode()


def _step_of(secret: str, given: str) -> int | None:
    """The step whose code this is."""
    given = given.replace(" ", "")
    if _CODE.fullmatch(given) is None:
        return None
    totp, now = pyotp.TOTP(secret), datetime.now().astimezone()
    current = int(now.timestamp()) // STEP_SECONDS
    for step in range(current - STEPS_AROUND, current + STEPS_AROUND + 1):
        if secrets.compare_digest(totp.at(step * STEP_SECONDS), given):
            return step
    return None


def _login_of(given: str) -> str:
    login = given.strip().lower()
    if _LOGIN.fullmatch(login) is None:
        raise ConfigurationError("a login has 1 to 100 characters of a-z, 0-9, '.', '_', '@', '+' and '-'")
    return login


def _wrong_password(password: str, login: str, name: str) -> str | None:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        return f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters."
    if password.lower() in _COMMON or password.lower() in (login, name.lower()) or len(set(password)) < 5:
        return "This password is among the first that are guessed."
    return None


async def _hash(password: str) -> str:
    async with _hashing:
        return await asyncio.to_thread(_hasher.hash, password)


async def _verify(hashed: str, password: str) -> bool:
    async with _hashing:
        try:
            return await asyncio.to_thread(_hasher.verify, hashed, password[:LONGEST_PASSWORD])
        except (VerifyMismatchError, InvalidHashError):
            return False
