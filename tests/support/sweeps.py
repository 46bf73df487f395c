"""A worker's sweeps, made once."""

from __future__ import annotations

from covergate.gateway import Gateway
from covergate.verifications.sweep import close_late, wake_held_back


async def sweep(gateway: Gateway) -> int:
    """How many verifications were closed or woken."""
    return await close_late(gateway) + await wake_held_back(gateway)
