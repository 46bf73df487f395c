"""docs/x12.md#service-type-families and the tables of the code say the same, and only codes of X12 stand in them."""

from __future__ import annotations

import re
from pathlib import Path

from covergate.eligibility.inquiry import Service
from covergate.eligibility.service_types import PROCEDURES, SERVICE_TYPES, SPECIALTIES, family_of
from covergate.eligibility.x12.names import EB03_NAMES

_PAGE = Path(__file__).parents[2] / "docs" / "x12.md"


def _tables() -> list[list[list[str]]]:
    sections = re.split(r"^## ", _PAGE.read_text(), flags=re.MULTILINE)
    (text,) = [section for section in sections if section.startswith("Service type families")]
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    return [[re.findall("`([^`]+)`", line) for line in block.strip().splitlines()[2:]] for block in blocks]


def test_the_page_has_the_families() -> None:
    procedures, specialties, service_types = _tables()
    assert procedures == [[one.first, one.last, *one.family] for one in PROCEDURES]
    assert specialties == [[name.value, *family] for name, family in SPECIALTIES.items()]
    assert service_types == [[code, *family] for code, family in SERVICE_TYPES.items()]


def test_families_have_codes_of_x12() -> None:
    families = [*(one.family for one in PROCEDURES), *SPECIALTIES.values(), *SERVICE_TYPES.values()]
    assert {code for family in families for code in family} <= set(EB03_NAMES)


def test_the_nearest_come_first() -> None:
    assert family_of(Service(procedure_codes=("90837",))) == ("A6", "MH", "A8", "CF", "98")
    assert family_of(Service(service_type_codes=("MH",))) == ("A8", "CF", "A6")
    assert family_of(Service()) == ()
