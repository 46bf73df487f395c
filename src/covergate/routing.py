"""Which vendor is asked: the named one if it can answer, else the first enabled one that can.

"Can answer" is decided before anything is sent, from the vendor's facts and from what it says is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from covergate.eligibility.inquiry import Inquiry, is_past
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.base import ServiceDates, Vendor
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


def choose(
    gateway: Gateway, mode: str, request: CreateVerification, inquiry: Inquiry, payer_codes: PayerCodes, now: datetime
) -> Vendor:
    """The vendor to ask. Raises Problem: `vendor_not_enabled`, `missing_for_vendor`, `unsupported_by_vendor`,
    `no_vendor_available`.
    """
    if request.vendor is not None:
        return _named(gateway, mode, request, inquiry, payer_codes, now)
    enabled = gateway.enabled(mode)
    if not enabled:
        raise Problem("vendor_not_enabled", f"no vendor is enabled for {mode} mode")
    found: list[FieldError] = []
    for vendor in enabled:
        reasons = cannot_answer(vendor, request, inquiry, payer_codes, now)
        if not reasons:
            return vendor
        found += reasons
    raise Problem("no_vendor_available", "no enabled vendor can answer this inquiry; errors say why for each", found)


def _named(
    gateway: Gateway, mode: str, request: CreateVerification, inquiry: Inquiry, payer_codes: PayerCodes, now: datetime
) -> Vendor:
    vendor = VENDORS[request.vendor or ""]
    if gateway.connection(mode, vendor.name) is None:
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
