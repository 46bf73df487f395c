"""VSee's own part of a request, beyond the normalized inquiry: `vendor_options.vsee`."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from covergate.eligibility.inquiry import Pattern, Trimmed
from covergate.vendors.vendor import Options

_CarrierCode = Annotated[
    Trimmed, Pattern(r"^[A-Za-z0-9_-]{1,40}$", "must be a carrier code of 1 to 40 letters, digits, _ and -")
]
_CardPicture = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000)]


class VSeeOptions(Options):
    """`carrier_code` is one of `GET /insurances/` (`car7551`); the pictures of the card go as they are, 100,000 characters
    each at most: a request of two is within the size that the API takes."""

    carrier_code: _CarrierCode | None = None
    card_front: _CardPicture | None = None
    card_back: _CardPicture | None = None
