"""The body of `POST /v1/verifications`: an inquiry and what is to be done with it (api.md section 2)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from covergate.eligibility.inquiry import CONTROL, Inquiry, Text, invalid
from covergate.errors import FieldError
from covergate.vendors import VENDORS

SHORTEST_DEADLINE = timedelta(seconds=5)
LONGEST_DEADLINE = timedelta(days=14)
DEFAULT_DEADLINE = timedelta(hours=24)

ENCODABLE = "must be text without control characters"


def _metadata_text(value: str) -> str:
    if CONTROL.search(value):
        raise invalid("invalid_text", ENCODABLE)
    return value


def _instant_text(value: object) -> object:
    if isinstance(value, datetime | str):
        return value
    raise invalid("invalid_instant", "must be an RFC 3339 instant with a zone, e.g. 2026-11-21T15:00:00Z")


MetadataKey = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_metadata_text)]
MetadataValue = Annotated[str, Field(max_length=500), AfterValidator(_metadata_text)]
Instant = Annotated[AwareDatetime, BeforeValidator(_instant_text)]

VendorOptions: type[BaseModel] = create_model(
    "VendorOptions",
    __config__=ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True),
    __doc__="One optional block per vendor, validated also when another vendor is asked.",
    **{vendor.name: (vendor.options | None, None) for vendor in VENDORS.values()},  # type: ignore[call-overload]
)


class CreateVerification(Inquiry):
    """`external_id` and `metadata` must not hold PHI: both appear in thin webhooks. `external_id` need not be unique."""

    external_id: Annotated[str, Text(64)] | None = None
    retry_of: Annotated[str, Text(40)] | None = None
    vendor: Annotated[str, Text(40)] | None = None
    deadline: Instant | None = None
    vendor_options: VendorOptions = Field(default_factory=VendorOptions)  # type: ignore[valid-type]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=50)] = {}

    @property
    def inquiry(self) -> Inquiry:
        return Inquiry.model_construct(_fields_set=None, **{name: getattr(self, name) for name in Inquiry.model_fields})

    def options_of(self, vendor: str) -> Any:
        return getattr(self.vendor_options, vendor) or VENDORS[vendor].options()

    def wrong_with(self, now: datetime) -> list[FieldError]:
        """What the types could not say: impossible dates, a deadline out of range, options missing their own rules."""
        found = [FieldError(code, message, pointer=pointer) for pointer, code, message in self.inquiry.problems(now)]
        if self.deadline is not None and not (
            now + SHORTEST_DEADLINE <= self.deadline <= now + LONGEST_DEADLINE + timedelta(seconds=1)
        ):
            found.append(
                FieldError("out_of_range", "must be between 5 seconds and 14 days from now", pointer="/deadline")
            )
        if self.vendor is not None and self.vendor not in VENDORS:
            known = ", ".join(sorted(VENDORS))
            found.append(FieldError("unknown_vendor", f"must be one of: {known}", pointer="/vendor"))
        return found
