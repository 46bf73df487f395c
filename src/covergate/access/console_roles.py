"""Roles of people in the console, and the scopes that each brings.

An operator's roles are those of operators everywhere (`operators.py`); a tenant's people have roles of their own. `phi` is not a
scope of a role: PHI is masked until somebody asks for it, and `REVEALS` are the scopes that may.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from covergate.access.operators import ROLES as OPERATOR_ROLES
from covergate.errors import ConfigurationError

TENANT_ROLES: dict[str, tuple[str, frozenset[str]]] = {
    "staff": (
        "see, retry and cancel the tenant's verifications, and their PHI when asked for",
        frozenset({"verifications:read", "verifications:write", "verifications:raw"}),
    ),
    "webhooks": ("see and change the tenant's webhook endpoints and deliveries", frozenset({"webhooks:manage"})),
    "administrator": ("see keys and audit, and manage vendor accounts", frozenset({"accounts:manage", "audit:read"})),
}

_OPERATORS_ALSO: dict[str, frozenset[str]] = {
    "operations": frozenset({"verifications:write", "webhooks:manage", "audit:read"}),
}
"""Of what tenants' keys may do, for any tenant."""

REVEALS = "verifications:raw"
"""The scope without which PHI stays masked."""


def roles_of(*, of_tenant: bool) -> dict[str, str]:
    """Role → what it allows."""
    if of_tenant:
        return {role: allows for role, (allows, _) in TENANT_ROLES.items()}
    return {role: known.allows for role, known in OPERATOR_ROLES.items()}


def checked_roles(given: Iterable[str], *, of_tenant: bool) -> tuple[str, ...]:
    """Without any: `staff` of a tenant's, `operations` of an operator's. Raises ConfigurationError."""
    wanted = tuple(dict.fromkeys(given)) or (("staff",) if of_tenant else ("operations",))
    known = roles_of(of_tenant=of_tenant)
    if not set(wanted) <= known.keys():
        whose = "a tenant's" if of_tenant else "an operator's"
        raise ConfigurationError(f"{whose} roles in the console are some of: {', '.join(known)}")
    return wanted


def scopes_of(roles: Collection[str], *, of_tenant: bool) -> frozenset[str]:
    """Roles that are not known (any more) bring nothing."""
    if of_tenant:
        brought = [TENANT_ROLES[role][1] for role in roles if role in TENANT_ROLES]
    else:
        known = [role for role in roles if role in OPERATOR_ROLES]
        brought = [OPERATOR_ROLES[role].scopes - {"phi"} | _OPERATORS_ALSO.get(role, frozenset()) for role in known]
    return frozenset[str]().union(*brought)
