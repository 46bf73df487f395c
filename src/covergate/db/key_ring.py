"""Custody of the encryption keys: from the settings or, for the embedded database, from a file made on first start.

Invariant: a database is never written under a key that it did not accept. It keeps a fingerprint of every key it was
used with; another key under a known id, a ring without any known key, or a lost key file ends the start with one line.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from covergate.db.kept import Kept
from covergate.db.sealing import KEY_BYTES, KeyRing, Sealer
from covergate.db.sql import Query
from covergate.errors import ConfigurationError
from covergate.settings import Settings

KEY_FILE = "encryption.key"

log = structlog.get_logger(__name__)

KEPT = (Kept("encryption_keys", "a row for each key that something may be sealed under"),)

_KNOWN = Query("SELECT id, fingerprint FROM encryption_keys")
_INTRODUCE = Query(
    """
INSERT INTO encryption_keys (id, fingerprint) SELECT * FROM unnest(:ids, :fingerprints) ON CONFLICT DO NOTHING""",
    ids="text[]",
    fingerprints="bytea[]",
)


async def load_key_ring(settings: Settings, engine: AsyncEngine) -> KeyRing:
    """The ring this process seals with; new keys are made known to the database."""
    async with engine.begin() as connection:
        known = await _fingerprints(connection)
        ring = _from_settings(settings) or _from_file(settings.data_dir / KEY_FILE, may_create=not known)
        await _introduce(ring, known, connection)
    return ring


def _from_settings(settings: Settings) -> KeyRing | None:
    if settings.encryption_keys is not None:
        return KeyRing.parse(settings.encryption_keys.get_secret_value())
    if settings.database_url is not None:
        raise ConfigurationError(
            "COVERGATE_ENCRYPTION_KEYS must be set with COVERGATE_DATABASE_URL, "
            f"like k1:<base64 of {KEY_BYTES} bytes>; `openssl rand -base64 {KEY_BYTES}` makes a key"
        )
    return None


def _from_file(path: Path, *, may_create: bool) -> KeyRing:
    if not path.exists():
        if not may_create:
            raise ConfigurationError(
                f"{path} is missing, and the database has data sealed under the key in it: restore the file"
            )
        _create(path)
    try:
        if path.stat().st_mode & 0o077:
            log.warning("encryption_key_readable_by_others", path=str(path))
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} cannot be read: restore the file or its permissions") from None
    try:
        return KeyRing.parse(text)
    except ConfigurationError:
        raise ConfigurationError(f"{path} does not hold a key: restore the file") from None


def _create(path: Path) -> None:
    """Writes a new key; complete or not at all, and never over a key that another process has just made."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"k1:{key}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # like O_EXCL, but the key is already in it
        except FileExistsError:
            return
        finally:
            draft.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    log.warning("encryption_key_created", path=str(path), advice="back it up: without it nothing sealed can be read")


async def _introduce(ring: KeyRing, known: dict[str, bytes], connection: AsyncConnection) -> None:
    if known and not known.keys() & ring.keys.keys():
        raise ConfigurationError(
            f"the database has data sealed under {_listed(known)}: keep that key after the new ones in "
            "COVERGATE_ENCRYPTION_KEYS"
        )
    sealer = Sealer(ring)
    mine = {key_id: sealer.fingerprint(key_id) for key_id in ring.keys}
    await _INTRODUCE.run(connection, {"ids": list(mine), "fingerprints": list(mine.values())})
    # Read after the insert: another process may have been first with the same id.
    known = await _fingerprints(connection)
    if other := {key_id for key_id in mine if known[key_id] != mine[key_id]}:
        raise ConfigurationError(
            f"the key with the id {_listed(other)} is not the one that this database was used with: "
            "restore it, or give a new key a new id"
        )
    if missing := known.keys() - mine.keys():
        log.warning("encryption_key_missing", key_ids=sorted(missing))


async def _fingerprints(connection: AsyncConnection) -> dict[str, bytes]:
    return {row.id: row.fingerprint for row in await _KNOWN.all(connection)}


def _listed(key_ids: dict[str, bytes] | set[str]) -> str:
    return ", ".join(sorted(key_ids))
