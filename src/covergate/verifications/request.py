"""The body of `POST /v1/verifications`: an inquiry and what is to be done with it (docs/api.md#2-the-request)."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from covergate.eligibility.inquiry import CONTROL, Inquiry, Pattern, Payer, Text, invalid
from covergate.vendors import VENDORS

DEFAULT_DEADLINE = timedelta(hours=24)

RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

ENCODABLE = "must be text without control characters"


def _metadata_text(value: str) -> str:
    if CONTROL.search(value):
        raise invalid("invalid_text", ENCODABLE)
    return value


def _instant_text(value: object) -> object:
    """Pydantic alone would also take numbers, and strings of digits, as seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and RFC_3339.fullmatch(value):
        # Parsed here: what a validator hands on is no longer JSON to pydantic, which in strict mode takes no string for it.
        with suppress(ValueError):
            return datetime.fromisoformat(value.upper())
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


class Routing(BaseModel):
    """Which vendors may be asked, in which order. Without `vendors`: every enabled one that can answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    vendors: Annotated[
        Annotated[tuple[Annotated[str, Text(40)], ...], Field(min_length=1, max_length=20)] | None,
        Field(
            description="Asked in this order, each once; not together with `vendor`", examples=[["sohar", "integrex"]]
        ),
    ] = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(
        default=None, description="How many of them may be asked at most; all by default", examples=[2]
    )
    allow_second_submission: bool = Field(
        default=False,
        description="Whether a second vendor may be paid when a first has, or may have, taken the submission on",
    )
    payer_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        default=0, description="How often a submission is made again when the payer could not respond"
    )


class AskedPayer(Payer):
    """Named by electronic payer id (`60054`), by name, or by the directory's own id (`pyr_…`).

    The form of an id is asked of new requests only: what was accepted before stays readable.
    """

    id: (
        Annotated[
            str,
            Text(40),
            Pattern(
                r"^[0-9A-Za-z][0-9A-Za-z._-]{1,39}$",
                "must be an electronic payer id of 2 to 40 letters, digits, - . or _, e.g. 60054; a name goes into name",
            ),
        ]
        | None
    ) = None


class CreateVerification(Inquiry):
    """`external_id` and `metadata` must not hold PHI: both appear in thin webhooks. `external_id` need not be unique."""

    payer: AskedPayer
    external_id: Annotated[str, Text(64)] | None = None
    retry_of: Annotated[str, Text(40)] | None = None
    vendor: Annotated[str, Text(40)] | None = None
    routing: Routing = Field(
        default=Routing(),
        description="Which vendors may be asked, in which order; without `vendors` every enabled one that can answer",
        examples=[{"vendors": ["sohar", "integrex"], "max_attempts": 2, "allow_second_submission": False}],
    )
    max_age: Annotated[int, Field(ge=1, le=30 * 86_400)] | None = Field(
        default=None,
        description="Seconds: an answer to the same question at most that old may be taken over instead of asking again"
        " (`reused_from`), and equal questions that are asked at the same time share one submission. Off by default",
        examples=[3600],
    )
    deadline: Instant | None = None
    vendor_options: VendorOptions = Field(default_factory=VendorOptions)
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=50)] = Field(default_factory=dict)

    @property
    def inquiry(self) -> Inquiry:
        return Inquiry.model_construct(_fields_set=None, **{name: getattr(self, name) for name in Inquiry.model_fields})

    def options_of(self, vendor: str) -> Any:
        return getattr(self.vendor_options, vendor) or VENDORS[vendor].no_options


def beside_inquiry(sent: CreateVerification, completed: CreateVerification) -> dict[str, Any]:
    """What was sent beside the inquiry that is asked, as far as it is no default, and as it was before it was completed.

    With the sealed inquiry it is the whole request: `resubmit.py` makes another one of it.
    """
    beside: dict[str, Any] = {}
    if sent.vendor is not None:
        beside["vendor"] = sent.vendor
    if sent.routing.model_fields_set:
        beside["routing"] = sent.routing.model_dump(mode="json")
    if sent.max_age is not None:
        beside["max_age"] = sent.max_age
    if sent.deadline is not None:
        beside["has_deadline"] = True
    if sent.payer is not completed.payer and sent.payer != completed.payer:
        beside["payer"] = sent.payer.model_dump(mode="json")
    if sent.service.date is None:
        beside["undated"] = True
    return beside
