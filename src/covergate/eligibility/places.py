"""CMS place of service codes as the coarser places that benefits are told apart by (docs/x12.md#places)."""

from __future__ import annotations

from functools import lru_cache

from covergate.eligibility.terms import BenefitPlace

_P = BenefitPlace

BENEFIT_PLACES: dict[str, BenefitPlace] = {
    **dict.fromkeys(("02", "10"), _P.TELEHEALTH),
    **dict.fromkeys(("11", "49", "50", "53", "71", "72"), _P.OFFICE),
    "12": _P.HOME,
    **dict.fromkeys(("19", "22", "24", "52", "62"), _P.OUTPATIENT),
    "20": _P.URGENT_CARE,
    **dict.fromkeys(("21", "31", "34", "51", "55", "56", "61"), _P.INPATIENT),
    "23": _P.EMERGENCY,
    "01": _P.PHARMACY,
}


@lru_cache(256)
def places_of(codes: str | None) -> frozenset[BenefitPlace]:
    """Of codes joined by commas, as a benefit has them; none for no code."""
    return frozenset(BENEFIT_PLACES.get(code, _P.OTHER) for code in (codes or "").split(",") if code)
