"""Sealers without a database: the test says which data keys they have."""

from __future__ import annotations

import math

from covergate.db.data_keys import DataKey, new_key
from covergate.db.sealing import GATEWAY, KeyRing, Sealer

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
OURS, THEIRS = "ten_ours", "ten_theirs"


def ring(**keys: bytes) -> KeyRing:
    return KeyRing(keys)


def sealer_with(*keys: DataKey, of: KeyRing | None = None) -> Sealer:
    """Each tenant's keys, the newest first."""
    sealer = Sealer(of or ring(k1=OLD))
    for owner in {key.owner for key in keys}:
        sealer.adopt(owner, [key for key in keys if key.owner == owner], math.inf)
    return sealer


def usual_sealer() -> Sealer:
    """Two tenants and the gateway have one key each."""
    return sealer_with(new_key(OURS), new_key(THEIRS), new_key(GATEWAY))
