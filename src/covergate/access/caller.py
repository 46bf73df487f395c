"""Who calls the API: tenant, mode and scopes, decided by the key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: decided by the API key."""

    tenant_id: str
    mode: str
    api_key_id: str
    scopes: frozenset[str]
