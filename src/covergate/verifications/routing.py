"""Which vendors are asked, in which order: the named one, the ones of the route, or every enabled one that can answer.

"Can answer" is decided before anything is sent, from the vendor's facts and from what it says is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from covergate.eligibility.inquiry import Inquiry, is_past
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.vendor import ServiceDates, Vendor
from covergate.verifications.request import CreateVerification

REQUIRED = "required"

PayerCodes = Mapping[str, Mapping[str, str]]
"""Vendor name → that vendor's own codes for the payer."""


def cannot_answer(
    vendor: Vendor, request: CreateVerification, inquiry: Inquiry, payer_codes: PayerCodes, now: datetime
) -> list[FieldError]:
    """Why this vendor cannot be asked; empty when it can."""
    codes = payer_codes.get(vendor.name) or {}
    missing = vendor.missing_fields(inquiry, request.options_of(vendor.name), codes)
    found = [FieldError(row.code, row.message, pointer=row.pointer, vendor=vendor.name) for row in missing]
    if vendor.capabilities.service_dates is ServiceDates.TODAY and is_past(inquiry.service_date, now):
        found.append(
            FieldError(
                "unsupported",
                f"{vendor.title} answers for today; a past service date cannot be asked",
                pointer="/service/date",
                vendor=vendor.name,
            )
        )
    if inquiry.subscriber is not None and not vendor.capabilities.dependents:
        found.append(
            FieldError(
                "unsupported",
                f"{vendor.title} does not answer for dependents",
                pointer="/subscriber",
                vendor=vendor.name,
            )
        )
    return found


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


def plan(
    gateway: Gateway, mode: str, request: CreateVerification, inquiry: Inquiry, payer_codes: PayerCodes, now: datetime
) -> Route:
    """Whom to ask in which order. Raises Problem: `vendor_not_enabled`, `missing_for_vendor`, `unsupported_by_vendor`,
    `no_vendor_available`.
    """
    if request.vendor is not None:
        return Route((_named(gateway, mode, request, inquiry, payer_codes, now),))
    if request.routing.vendors is not None:
        candidates = _wanted(gateway, mode, request.routing.vendors)
    else:
        candidates = gateway.enabled(mode)
        if not candidates:
            raise Problem("vendor_not_enabled", f"no vendor is enabled for {mode} mode")
    able: list[Vendor] = []
    skipped: list[FieldError] = []
    for vendor in candidates:
        reasons = cannot_answer(vendor, request, inquiry, payer_codes, now) + _too_slow(vendor, request, now)
        skipped += reasons
        if not reasons:
            able.append(vendor)
    if not able:
        raise Problem("no_vendor_available", "no vendor can answer this inquiry; errors say why for each", skipped)
    return Route(tuple(able[: request.routing.max_attempts]), tuple(skipped))


def _wanted(gateway: Gateway, mode: str, names: tuple[str, ...]) -> list[Vendor]:
    disabled = [
        FieldError("not_enabled", f"is not enabled for {mode} mode", pointer=f"/routing/vendors/{index}")
        for index, name in enumerate(names)
        if gateway.account(mode, name) is None
    ]
    if disabled:
        raise Problem("vendor_not_enabled", "the route names vendors that are not enabled", disabled)
    return [VENDORS[name] for name in names]


def _too_slow(vendor: Vendor, request: CreateVerification, now: datetime) -> list[FieldError]:
    """On a route, a vendor that usually needs longer than the deadline leaves is not asked; a named vendor is."""
    median, _ = vendor.capabilities.typical_wait_seconds
    if request.deadline is None or (request.deadline - now).total_seconds() >= median:
        return []
    message = f"{vendor.title} usually needs longer than this deadline leaves"
    return [FieldError("deadline_too_soon", message, pointer="/deadline", vendor=vendor.name)]


def _named(
    gateway: Gateway, mode: str, request: CreateVerification, inquiry: Inquiry, payer_codes: PayerCodes, now: datetime
) -> Vendor:
    vendor = VENDORS[request.vendor or ""]
    if gateway.account(mode, vendor.name) is None:
        raise Problem(
            "vendor_not_enabled",
            f"{vendor.title} is not enabled for {mode} mode",
            [FieldError("not_enabled", "choose a vendor that GET /v1/vendors shows as enabled", pointer="/vendor")],
        )
    reasons = cannot_answer(vendor, request, inquiry, payer_codes, now)
    if not reasons:
        return vendor
    missing = any(reason.code == REQUIRED for reason in reasons)
    raise Problem(
        "missing_for_vendor" if missing else "unsupported_by_vendor",
        f"{vendor.title} needs more than was given" if missing else f"{vendor.title} cannot answer this inquiry",
        reasons,
    )
