"""Each vendor's page, `docs/vendors/<name>.md`: the same headings, and every setting of its connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from covergate.vendors import VENDORS
from covergate.vendors.vendor import Vendor

PAGES = Path(__file__).parents[2] / "docs" / "vendors"
HEADINGS = [
    "Settings",
    "No place for",
    "How it is asked",
    "Readings",
    "Limits and quirks",
    "Events",
    "Sandbox",
    "Questions before going live",
]

each_vendor = pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)


def test_every_page_is_a_vendors() -> None:
    assert {path.stem for path in PAGES.iterdir()} == set(VENDORS)


@each_vendor
def test_a_page_has_the_headings_of_all(vendor: Vendor) -> None:
    expected = [heading for heading in HEADINGS if heading != "Events" or vendor.read_event is not None]
    assert re.findall(r"^## (.+)$", (PAGES / f"{vendor.name}.md").read_text(), re.MULTILINE) == expected


@each_vendor
def test_a_page_lists_every_setting_with_its_default(vendor: Vendor) -> None:
    prefix = vendor.connection.model_config["env_prefix"]
    listed: dict[str, str] = {}
    for line in (PAGES / f"{vendor.name}.md").read_text().splitlines():
        if line.startswith("| `COVERGATE_"):
            names, _, default = (cell.strip() for cell in line.strip("|").split("|"))
            listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), default.strip("`"))
    assert listed == {
        f"{prefix}{name.upper()}": "false" if field.default is False else str(field.default or "")
        for name, field in vendor.connection.model_fields.items()
    }
