"""What a caller may say to Healthie beyond the normalized inquiry: `vendor_options.healthie`."""

from __future__ import annotations

from typing import Annotated

from covergate.eligibility.inquiry import Pattern, Text
from covergate.vendors.vendor import Options

Id = Annotated[str, Text(40), Pattern(r"^[0-9A-Za-z_-]+$", "must be an id of letters, digits, _ and -")]
"""Their ids are GraphQL IDs: digits, as far as seen."""


class HealthieOptions(Options):
    """Ids of records that are at Healthie already. Without `user_id` only patients that this gateway made are looked at.

    `create_patient` false: ask only about a patient who is there.
    """

    user_id: Id | None = None
    policy_id: Id | None = None
    insurance_plan_id: Id | None = None
    dietitian_id: Id | None = None
    create_patient: bool = True
