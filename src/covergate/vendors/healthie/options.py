"""Healthie's own part of a request, beyond the normalized inquiry: `vendor_options.healthie`."""

from __future__ import annotations

from typing import Annotated

from covergate.eligibility.inquiry import Pattern, Text
from covergate.vendors.vendor import NamesRecord, Options

_Id = Annotated[str, Text(40), Pattern(r"^[0-9A-Za-z_-]+$", "must be an id of letters, digits, _ and -")]
"""Healthie's ids are GraphQL IDs: digits, as far as seen."""


class HealthieOptions(Options):
    """Ids of records that Healthie has already. Without `user_id` only records that this gateway made are used.

    Users, policies and dietitians are records of the account; insurance plans are one list for everybody in it.

    `create_patient` false: a patient without a record is not asked about. `accepted_only`: a plan that the organization does
    not accept is not asked about; null leaves it to the account.
    """

    user_id: Annotated[_Id | None, NamesRecord()] = None
    policy_id: Annotated[_Id | None, NamesRecord()] = None
    insurance_plan_id: _Id | None = None
    dietitian_id: Annotated[_Id | None, NamesRecord()] = None
    create_patient: bool = True
    accepted_only: bool | None = None
