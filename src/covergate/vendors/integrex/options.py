"""Integrex's own part of a request, beyond the normalized inquiry: `vendor_options.integrex`."""

from __future__ import annotations

from typing import Annotated

from covergate.eligibility.inquiry import Text
from covergate.vendors.vendor import Options


class IntegrexOptions(Options):
    """`account_number_1` defaults to the attempt's id."""

    account_number_1: Annotated[str, Text(80)] | None = None
    account_number_2: Annotated[str, Text(80)] | None = None
