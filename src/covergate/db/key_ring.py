"""Custody of the key ring: where its keys come from, and whether they belong to this database.

A ring comes from one of three settings: the keys themselves, a file, or a command that prints them (any KMS or vault). The
embedded database makes a key file of its own at the first start if none is given.

Invariant: a database is never written under a key that it did not accept. It keeps a fingerprint of every key it was
used with; another key under a known id, a missing key under which something still stands, a weak key, a key file that
others can read: each ends the start with one line. Nothing that a file or a command says is repeated.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import shlex
import signal
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from covergate.db.kept import Kept
from covergate.db.ring import KEY_BYTES, KeyRing
from covergate.db.sql import Query, Record
from covergate.errors import ConfigurationError
from covergate.secret_files import make_once
from covergate.settings import Settings

KEY_FILE = "encryption.key"
COMMAND_SECONDS = 30.0
MOST_PRINTED = 65_536
RING_SETTINGS = ("COVERGATE_ENCRYPTION_KEYS", "COVERGATE_ENCRYPTION_KEYS_FILE", "COVERGATE_ENCRYPTION_KEYS_COMMAND")

log = structlog.get_logger(__name__)

KEPT = (Kept("encryption_keys", "a row for each key that something may be sealed under"),)

_KNOWN = Query("""
SELECT id, fingerprint, seals_values,
  (SELECT count(*) FROM data_keys d WHERE d.encryption_key_id = k.id AND d.destroyed_at IS NULL) AS wraps
FROM encryption_keys k ORDER BY id""")
_INTRODUCE = Query(
    """
INSERT INTO encryption_keys (id, fingerprint) SELECT * FROM unnest(:ids, :fingerprints) ON CONFLICT DO NOTHING""",
    ids="text[]",
    fingerprints="bytea[]",
)


async def load_key_ring(settings: Settings, engine: AsyncEngine) -> KeyRing:
    """The ring this process works with; new keys are made known to the database."""
    given = await ring_from_settings(settings)
    async with engine.begin() as connection:
        ring = given
        if ring is None:
            ring = _from_own_file(settings.data_dir / KEY_FILE, may_create=not await _known(connection))
        await introduce(ring, connection)
    return ring


async def ring_from_settings(settings: Settings) -> KeyRing | None:
    values = (settings.encryption_keys, settings.encryption_keys_file, settings.encryption_keys_command)
    if sum(value is not None for value in values) > 1:
        raise ConfigurationError(f"only one of {', '.join(RING_SETTINGS)} may be set")
    if settings.encryption_keys is not None:
        return KeyRing.parse(settings.encryption_keys.get_secret_value())
    if settings.encryption_keys_file is not None:
        return _from_file(settings.encryption_keys_file, RING_SETTINGS[1])
    if settings.encryption_keys_command is not None:
        return await _from_command(settings.encryption_keys_command)
    if settings.database_url is not None:
        raise ConfigurationError(
            f"with COVERGATE_DATABASE_URL one of {', '.join(RING_SETTINGS)} must be set: keys like "
            f"k1:<base64 of {KEY_BYTES} bytes>; `openssl rand -base64 {KEY_BYTES}` makes one"
        )
    return None


def _from_file(path: Path, name: str) -> KeyRing:
    return KeyRing.parse(_read(path), name)


def _from_own_file(path: Path, *, may_create: bool) -> KeyRing:
    if not path.exists():
        if not may_create:
            raise ConfigurationError(
                f"{path} is missing, and the database has data sealed under the key in it: restore the file"
            )
        _create(path)
    text = _read(path)
    try:
        return KeyRing.parse(text, str(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} does not hold a key: restore the file ({error})") from None


def _read(path: Path) -> str:
    """Raises ConfigurationError if others than its owner may read or write it."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} can be read by others than its owner: chmod 600 it")
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} cannot be read: restore the file or its permissions") from None


async def _from_command(command: str) -> KeyRing:
    """What it prints. It has no shell, no input and no say in the log; it and what it started are ended in time."""
    name = RING_SETTINGS[2]
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MOST_PRINTED,
            start_new_session=True,
        )
    except (OSError, ValueError, TypeError):  # the last one: it names no program
        raise ConfigurationError(f"the program of {name} cannot be started") from None
    assert process.stdout is not None
    printed = b""
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            while (more := await process.stdout.read(MOST_PRINTED)) and len(printed) <= MOST_PRINTED:
                printed += more
            code = await process.wait()
    except TimeoutError:
        raise ConfigurationError(f"the program of {name} did not end within {COMMAND_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            while await process.stdout.read(MOST_PRINTED):  # it is not over before its pipe is
                pass
            await process.wait()
    if code != 0:
        raise ConfigurationError(f"the program of {name} ended with exit code {code}")
    try:
        return KeyRing.parse(printed.decode("ascii"), f"what the program of {name} prints")
    except UnicodeDecodeError:
        raise ConfigurationError(f"what the program of {name} prints is not a key ring") from None


def _create(path: Path) -> None:
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
    try:
        made = make_once(path, f"k1:{key}\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    if made:
        log.warning(
            "encryption_key_created", path=str(path), advice="back it up: without it nothing sealed can be read"
        )


async def introduce(ring: KeyRing, connection: AsyncConnection) -> None:
    """Makes the ring's keys known to the database. Raises ConfigurationError if they are not the ones it needs."""
    known = await _known(connection)
    missing = known.keys() - ring.keys.keys()
    if needed := [key_id for key_id in sorted(missing) if known[key_id].wraps or known[key_id].seals_values]:
        raise ConfigurationError(
            f"the database has data sealed under {', '.join(needed)}: keep that key after the new ones in the ring "
            "until `covergate keys status` says that nothing stands under it"
        )
    mine = {key_id: ring.fingerprint(key_id) for key_id in ring.keys}
    await _INTRODUCE.run(connection, {"ids": list(mine), "fingerprints": list(mine.values())})
    # Read after the insert: another process may have been first with the same id.
    known = await _known(connection)
    if other := {key_id for key_id in mine if known[key_id].fingerprint != mine[key_id]}:
        raise ConfigurationError(
            f"the key with the id {', '.join(sorted(other))} is not the one that this database was used with: "
            "restore it, or give a new key a new id"
        )
    if missing:
        log.warning("encryption_key_missing", key_ids=sorted(missing))


async def _known(connection: AsyncConnection) -> dict[str, Record]:
    return {row.id: row for row in await _KNOWN.all(connection)}
