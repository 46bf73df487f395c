"""The registry of vendors: the one place that lists them. Adding a vendor is one folder and one line here."""

from __future__ import annotations

from covergate.vendors.health_harbor import VENDOR as HEALTH_HARBOR
from covergate.vendors.healthie import VENDOR as HEALTHIE
from covergate.vendors.integrex import VENDOR as INTEGREX
from covergate.vendors.sohar import VENDOR as SOHAR
from covergate.vendors.vendor import Vendor
from covergate.vendors.vsee import VENDOR as VSEE

_ALL: tuple[Vendor, ...] = (SOHAR, INTEGREX, HEALTH_HARBOR, VSEE, HEALTHIE)

VENDORS: dict[str, Vendor] = {vendor.name: vendor for vendor in _ALL}
