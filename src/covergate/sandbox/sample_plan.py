"""The one insurance plan of every insured patient in the sandbox, the same for every vendor.

Invariant: the same amounts behind every vendor's dialect, so a demo that asks two vendors shows one picture. All money
is in dollars, all shares in whole percent; each vendor's file writes them its own way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from covergate.sandbox.world import World


@dataclass(frozen=True, slots=True)
class YearlyLimit:
    """A deductible or out-of-pocket maximum for one person or one family."""

    total: int
    remaining: int

    @property
    def used(self) -> int:
        return self.total - self.remaining


@dataclass(frozen=True, slots=True)
class NetworkCosts:
    """The patient's costs in, or out of, the plan's network."""

    copay: int | None
    coinsurance_percent: int
    deductible: YearlyLimit
    family_deductible: YearlyLimit
    out_of_pocket: YearlyLimit
    family_out_of_pocket: YearlyLimit


IN_NETWORK = NetworkCosts(
    30, 10, YearlyLimit(1000, 250), YearlyLimit(2000, 1250), YearlyLimit(5000, 4000), YearlyLimit(10000, 9000)
)
OUT_OF_NETWORK = NetworkCosts(
    None,
    40,
    YearlyLimit(3000, 3000),
    YearlyLimit(6000, 6000),
    YearlyLimit(10000, 10000),
    YearlyLimit(20000, 20000),
)

PLAN_NAME = "Sample Choice HMO"
PLAN_NUMBER = "SCH-100"
INSURANCE_TYPE = ("HM", "Health Maintenance Organization (HMO)")
GROUP_NUMBER = "G1"
GROUP_NAME = "Sample Employer"


def plan_dates(world: World, *, ended: bool = False) -> tuple[date, date]:
    """First and last day of the plan: the calendar year around today or, if it has ended, the one before.

    A day of slack on both sides keeps today inside the plan in every time zone.
    """
    today = datetime.fromtimestamp(world.now(), UTC).date()
    first_year, last_year = (
        (today - timedelta(days=1)).year,
        (today + timedelta(days=1)).year,
    )
    if ended:
        first_year = last_year = first_year - 1
    return date(first_year, 1, 1), date(last_year, 12, 31)


def relationship_code(patient_born: date, subscriber_born: date | None) -> str:
    """X12 relationship of the patient to the subscriber: 18 self, 19 child, 01 spouse.

    The requests do not say it, so a dependent much younger than the subscriber is taken for a child.
    """
    if subscriber_born is None:
        return "18"
    return "19" if patient_born.year - subscriber_born.year >= 16 else "01"
