"""What a caller may tell VSee beyond the normalized inquiry: `vendor_options.vsee`."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from covergate.vendors.vendor import Options

CardPicture = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000_000)]


class VSeeOptions(Options):
    """`carrier_code` is one of `GET /insurances/` (`car7551`); the pictures of the card go as they are."""

    carrier_code: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = (
        None
    )
    card_front: CardPicture | None = None
    card_back: CardPicture | None = None
