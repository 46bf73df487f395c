"""The caller of the API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Tenant, mode and scopes of a request, as its API key decides them."""

    tenant_id: str
    mode: str
    api_key_id: str
    scopes: frozenset[str]
