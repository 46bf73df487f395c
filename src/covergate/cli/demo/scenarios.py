"""Who the demo asks about and what has to come back: three synthetic patients for each vendor.

Source: docs/api.md#7-sandbox-scenarios. The requests state what any vendor needs, so a vendor added to the registry takes part
by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from covergate.vendors import VENDORS


@dataclass(frozen=True, slots=True)
class Ending:
    """`reading` is the outcome with its reason, or the failure's code."""

    status: str
    reading: str


ELIGIBLE = Ending("completed", "eligible")
ENDINGS = {
    "ELIGIBLE": ELIGIBLE,
    "INACTIVE": Ending("completed", "ineligible inactive"),
    "BADMEMBER": Ending("failed", "member_id_invalid"),
}
"""Start of the member id → what has to come back."""

CANNOT_EXPRESS = {("health_harbor", "BADMEMBER")}
"""A caller who does not find the member has no words for it in that vendor's answer: behaves as ELIGIBLE."""

FIRST_NAMES = {"ELIGIBLE": "Jane", "INACTIVE": "John", "BADMEMBER": "Robin"}

VENDOR_OPTIONS = {"vsee": {"carrier_code": "car7551"}, "healthie": {"insurance_plan_id": "102"}}
"""Vendors' own names for the payer Aetna, as their sandboxes list them."""


@dataclass(frozen=True, slots=True)
class Case:
    vendor: str
    scenario: str

    @property
    def is_beyond_vendor(self) -> bool:
        return (self.vendor, self.scenario) in CANNOT_EXPRESS

    @property
    def expected(self) -> Ending:
        return ELIGIBLE if self.is_beyond_vendor else ENDINGS[self.scenario]

    @property
    def request(self) -> dict[str, Any]:
        address = {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"}
        return {
            "vendor": self.vendor,
            "external_id": f"demo-{self.vendor}-{self.scenario.lower()}",
            "payer": {"id": "60054", "name": "Aetna"},
            "patient": {
                "first_name": FIRST_NAMES[self.scenario],
                "last_name": "Sample",
                "date_of_birth": "1990-09-20",
                "gender": "F",
                "member_id": f"{self.scenario}001",
                "address": address,
            },
            "provider": {"npi": "1234567893", "tax_id": "123456789", "name": "Sample Clinic"},
            "service": {
                "service_type_codes": ["MH"],
                "procedure_codes": ["90837"],
                "place_of_service_code": "10",
                "specialty": "PSY",
            },
            "vendor_options": {name: given for name, given in VENDOR_OPTIONS.items() if name in VENDORS},
        }


def cases(vendors: Iterable[str]) -> list[Case]:
    return [Case(vendor, scenario) for vendor in vendors for scenario in ENDINGS]
