"""Ids: TypeIDs (`ver_01h…`), a prefix and a UUIDv7, so they sort by creation and say what they name."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from typeid import base32
from uuid_utils import uuid7


def new(prefix: str) -> str:
    return f"{prefix}_{base32.encode(uuid7().bytes)}"


VERIFICATION = "ver"
ATTEMPT = "att"
INTENT = "int"
EXCHANGE = "exc"
EVENT = "evt"
ENDPOINT = "whe"
DELIVERY = "dlv"
TENANT = "ten"
API_KEY = "key"
DATA_KEY = "dky"
OPERATOR = "opr"
VENDOR_EVENT = "vev"
REQUEST = "req"
ACCOUNT = "acc"
PAYER = "pyr"
PAYER_CANDIDATE = "pyc"
AUDIT_EVENT = "aud"
CONSOLE_USER = "usr"
CONSOLE_SESSION = "ses"
PORTAL_LINK = "pol"
BULK_JOB = "job"
SAVED_VIEW = "svw"

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_SHAPE = re.compile(r"[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}")


def is_id(prefix: str, value: str) -> bool:
    """Whether `value` can be an id of that kind at all; anything else is simply not found."""
    return value.startswith(f"{prefix}_") and _SHAPE.fullmatch(value) is not None


def first_at(prefix: str, moment: datetime) -> str:
    """No id that is made at this moment or later sorts before it."""
    # A UUIDv7 begins with 48 bits of milliseconds.
    number = max(int(moment.timestamp() * 1000), 0) << 80
    return f"{prefix}_" + "".join(_DIGITS[number >> place & 31] for place in range(125, -5, -5))


def new_api_key(mode: str) -> str:
    """`cg_test_…` or `cg_live_…` with 256 bits of randomness."""
    return f"cg_{mode}_{secrets.token_urlsafe(32)}"


def new_operator_credential() -> str:
    """`cg_op_…` with 256 bits of randomness."""
    return f"cg_op_{secrets.token_urlsafe(32)}"
