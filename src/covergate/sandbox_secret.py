"""The sandbox's secret: whoever knows it can sign events of test mode and use the simulated vendors.

From the settings or, with the embedded database, from a file beside the encryption key, random and made at the first start;
gateway and sandbox find the same one. Invariant: where others than this machine can send anything, a known secret ends the
start.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from covergate.db.connect import is_this_machine
from covergate.db.embedded.host import prepare_data_dir
from covergate.errors import ConfigurationError
from covergate.secret_files import make_once
from covergate.settings import Settings

SECRET_FILE = "sandbox.secret"  # noqa: S105 (a file's name)
SHORTEST = 16
KNOWN = frozenset({"sandbox"})
"""What it was by default once."""

_VARIABLE = "COVERGATE_SANDBOX_SECRET"
_HOW = "`openssl rand -hex 32` makes one"

log = structlog.get_logger(__name__)


def sandbox_secret(settings: Settings) -> str:
    """Raises ConfigurationError if there is none and none can be made."""
    if settings.sandbox_secret:
        return settings.sandbox_secret
    if settings.database_url is not None:
        raise ConfigurationError(
            f"{_VARIABLE} must be set with COVERGATE_DATABASE_URL and a sandbox, the same for both; {_HOW}"
        )
    return _from_file(settings.data_dir)


def refuse_known_secret(secret: str, *, host: str, public_url: str = "") -> None:
    """`host` is where this process listens, `public_url` where what stands in front of it does. Raises ConfigurationError."""
    reached_by = [host, *([urlsplit(public_url).hostname or ""] if public_url else [])]
    if all(is_this_machine(one) for one in reached_by):
        return
    if secret in KNOWN or len(secret) < SHORTEST:
        raise ConfigurationError(
            f"{_VARIABLE} must be one that nobody knows, of {SHORTEST} characters or more, where others than this machine"
            f" can reach the gateway or the sandbox; {_HOW}"
        )


def _from_file(data_dir: Path) -> str:
    path = data_dir / SECRET_FILE
    try:
        if not path.exists() and make_once(prepare_data_dir(data_dir) / SECRET_FILE, f"{secrets.token_hex(32)}\n"):
            log.info("sandbox_secret_created", path=str(path))
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(
            f"{path} cannot be used ({reason}): restore or remove it, or set {_VARIABLE}"
        ) from None
    if len(secret) < SHORTEST:
        raise ConfigurationError(f"{path} holds no secret: remove it, and a new one is made")
    return secret
