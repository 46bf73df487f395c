"""The payers that the simulated vendors know by name.

Invariant: a vendor of the sandbox accepts any well-formed payer id; this list only names some of them,
and the one id that a vendor refuses as no payer at all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplePayer:
    id: str
    name: str
    alias_ids: tuple[str, ...] = ()
    alias_names: tuple[str, ...] = ()


SAMPLE_PAYERS = (
    SamplePayer(
        "60054",
        "Aetna",
        ("AETNA", "AET00"),
        ("Aetna Health Plans", "Aetna Better Health", "Aetna Life Insurance"),
    ),
    SamplePayer(
        "62308",
        "Cigna",
        ("CIGNA",),
        ("Cigna Healthcare", "Evernorth Behavioral Health"),
    ),
    SamplePayer(
        "87726",
        "UnitedHealthcare",
        ("UHC", "UHC01"),
        ("United Healthcare", "UMR", "Oxford Health Plans"),
    ),
    SamplePayer("61101", "Humana", ("HUMANA",), ("Humana Inc.",)),
    SamplePayer(
        "84980",
        "Blue Cross Blue Shield of Texas",
        ("BCBSTX", "G84980"),
        ("BCBS TX", "BCBS of Texas"),
    ),
    SamplePayer("OSCAR", "Oscar Health", ("OSCR1",), ("Oscar Insurance", "Oscar")),
    SamplePayer("SH03D959", "Sample State Medicaid", (), ("Medicaid",)),
)

NO_PAYER = "00000"
"""An id that no payer has."""


def payer_name(payer_id: str) -> str | None:
    """The payer's name, None if the sandbox does not know it."""
    return next(
        (payer.name for payer in SAMPLE_PAYERS if payer_id == payer.id or payer_id in payer.alias_ids),
        None,
    )
