"""What API keys and operators' credentials have in common: 256 random bits, shown once, of which the SHA-256 digest is kept.

So many random bits need no slow digest, and a look-up by digest needs no comparison in constant time.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from covergate.eligibility.inquiry import CONTROL
from covergate.errors import ConfigurationError

CREDENTIALS_CHANGED = "covergate_keys"
"""The channel on which processes hear that a credential was made, perhaps for a new tenant, or revoked; its id is the payload."""
LONGEST_LABEL = 200
LONGEST = timedelta(days=36_500)

_SPAN = re.compile(r"([1-9][0-9]{0,3})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCredential:
    """What every credential is listed with: `hint` is its last four characters."""

    id: str
    name: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    expired: bool | None

    @property
    def state(self) -> str:
        return "revoked" if self.revoked_at else "expired" if self.expired else "valid"


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def name_of(what: str, given: str) -> str:
    """Without blanks around it. Raises ConfigurationError."""
    name = given.strip()
    if not name or len(name) > LONGEST_LABEL or CONTROL.search(name):
        raise ConfigurationError(f"{what} has 1 to {LONGEST_LABEL} characters and no control characters")
    return name


def expiry_of(given: str | None) -> datetime | None:
    """`90d`, `12h` or `2w` from now, or an instant; a date means its beginning in UTC. Raises ConfigurationError."""
    if given is None:
        return None
    now = datetime.now(UTC)
    if span := _SPAN.fullmatch(given):
        instant = now + timedelta(hours=int(span[1]) * _HOURS[span[2]])
    else:
        try:
            instant = datetime.fromisoformat(given)
        except ValueError:
            raise ConfigurationError("an expiry is a span such as 12h, 90d or 4w, a date, or an instant") from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    if not now < instant < now + LONGEST:
        raise ConfigurationError("an expiry lies in the future, within a hundred years")
    return instant
