"""The caller of the API: an API key, which belongs to one tenant in one mode, or an operator, who belongs to none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from math import inf

from covergate.errors import FieldError, Problem

TENANT_HEADER, MODE_HEADER = "X-Tenant", "X-Mode"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. `acting_user` is the caller's own word for its user, opaque to the gateway."""

    request_id: str | None = None
    address: str | None = None
    acting_user: str | None = None


NOWHERE = Origin()


class CallerKind(StrEnum):
    KEY = "key"
    OPERATOR = "operator"
    USER = "user"
    """Of a tenant's own, in the console."""
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what the credential allows.

    `within_tenant` and `within_mode` are None only for an operator who named none: such a caller stands for all of them, and a
    route that needs one reads `tenant_id` and `mode`, which then say so. `valid_until` is of this process's monotonic clock.
    """

    within_tenant: str | None
    within_mode: str | None
    id: str
    scopes: frozenset[str]
    kind: CallerKind = CallerKind.KEY
    name: str = ""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    valid_until: float = inf
    origin: Origin = NOWHERE

    @property
    def tenant_id(self) -> str:
        if self.within_tenant is None:
            raise _not_named(TENANT_HEADER, "name the tenant, by its id or its name")
        return self.within_tenant

    @property
    def mode(self) -> str:
        if self.within_mode is None:
            raise _not_named(MODE_HEADER, "name the mode: test or live")
        return self.within_mode

    def require_named(self) -> None:
        """Raises Problem `invalid_request` unless it is said for which tenant and in which mode."""
        for _ in (self.tenant_id, self.mode):
            continue

    @property
    def api_key_id(self) -> str | None:
        return self.id if self.kind is CallerKind.KEY else None

    @property
    def operator_id(self) -> str | None:
        return self.id if self.kind is CallerKind.OPERATOR else None

    @property
    def sees_phi(self) -> bool:
        """Whether inquiries, results and the vendors' words may be shown."""
        return ("verifications:read" if self.kind is CallerKind.KEY else "phi") in self.scopes

    def may_see(self, tenant_id: str, mode: str) -> bool:
        """Whether what belongs to this tenant in this mode is the caller's to see."""
        return self.within_tenant in (None, tenant_id) and self.within_mode in (None, mode)

    def may_come_from(self, address: str | None) -> bool:
        """Whether the client's address is on the credential's list; without a list any is."""
        if not self.networks:
            return True
        try:
            client = ip_address(address or "")
        except ValueError:
            return False
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        return any(client in network for network in self.networks)


def _not_named(header: str, message: str) -> Problem:
    errors = [FieldError("required", message, parameter=header)]
    return Problem("invalid_request", "an operator has to say for whom", errors)
