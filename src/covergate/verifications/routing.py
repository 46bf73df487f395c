"""Routing: the vendors to ask, in order: the named one, those of the route, or every enabled one that can answer.

"Can answer" is decided before anything is sent, from the vendor's facts and from what it says is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from covergate.access.caller import Caller
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.vendor import Vendor
from covergate.verifications.checks import MISSING, Intake, errors_for_vendor


@dataclass(frozen=True, slots=True)
class Route:
    """The vendors to ask, the first at once; `skipped` says, in our words, why others were left out."""

    vendors: tuple[Vendor, ...]
    skipped: tuple[FieldError, ...] = ()

    @property
    def decision(self) -> str:
        """For the timeline."""
        names = ", then ".join(vendor.name for vendor in self.vendors)
        reasons = dict.fromkeys(f"{error.vendor}: {error.pointer} {error.code}" for error in self.skipped)
        return f"asking {names}" + (f"; not {', not '.join(reasons)}" if reasons else "")


def route_of(gateway: Gateway, intake: Intake) -> Route:
    """Raises Problem: `vendor_not_enabled`, `missing_for_vendor`, `unsupported_by_vendor`, `no_vendor_available`."""
    caller, request = intake.caller, intake.request
    if request.vendor is not None:
        return Route((_named_vendor(gateway, intake),))
    if request.routing.vendors is not None:
        candidates = _wanted(gateway, caller, request.routing.vendors)
    else:
        candidates = gateway.enabled(caller.mode, caller.tenant_id)
        if not candidates:
            raise Problem("vendor_not_enabled", f"no vendor is enabled for {caller.mode} mode")
    able: list[Vendor] = []
    skipped: list[FieldError] = []
    for vendor in candidates:
        reasons = errors_for_vendor(vendor, intake) + _too_slow(vendor, intake)
        skipped += reasons
        if not reasons:
            able.append(vendor)
    if not able:
        raise Problem("no_vendor_available", "no vendor can answer this inquiry; errors say why for each", skipped)
    return Route(tuple(able[: request.routing.max_attempts]), tuple(skipped))


def _wanted(gateway: Gateway, caller: Caller, names: tuple[str, ...]) -> list[Vendor]:
    disabled = [
        FieldError("not_enabled", _why_not_enabled(gateway, caller, name), pointer=f"/routing/vendors/{index}")
        for index, name in enumerate(names)
        if gateway.account(caller.tenant_id, caller.mode, name) is None
    ]
    if disabled:
        raise Problem("vendor_not_enabled", "the route names vendors that are not enabled", disabled)
    return [VENDORS[name] for name in names]


def _why_not_enabled(gateway: Gateway, caller: Caller, name: str) -> str:
    if gateway.shared_account(caller.mode, name) is None:
        return f"must be enabled for {caller.mode} mode: GET /v1/vendors shows which are"
    return f"needs an account of your own: PUT /v1/vendor-accounts/{name}; the gateway's is not shared"


def _too_slow(vendor: Vendor, intake: Intake) -> list[FieldError]:
    """On a route, a vendor that usually needs longer than the deadline leaves is not asked; a named vendor is."""
    median, _ = vendor.capabilities.typical_wait_seconds
    deadline = intake.request.deadline
    if deadline is None or (deadline - intake.now).total_seconds() >= median:
        return []
    message = f"must be later: {vendor.title} usually needs longer"
    return [FieldError("deadline_too_soon", message, pointer="/deadline", vendor=vendor.name)]


def _named_vendor(gateway: Gateway, intake: Intake) -> Vendor:
    vendor = VENDORS[intake.request.vendor or ""]
    caller = intake.caller
    if gateway.account(caller.tenant_id, caller.mode, vendor.name) is None:
        raise Problem(
            "vendor_not_enabled",
            f"{vendor.title} is not enabled for {caller.mode} mode",
            [FieldError("not_enabled", _why_not_enabled(gateway, caller, vendor.name), pointer="/vendor")],
        )
    reasons = errors_for_vendor(vendor, intake)
    if not reasons:
        return vendor
    missing = any(reason.code in MISSING for reason in reasons)
    raise Problem(
        "missing_for_vendor" if missing else "unsupported_by_vendor",
        f"{vendor.title} needs more than was given" if missing else f"{vendor.title} cannot answer this inquiry",
        reasons,
    )
