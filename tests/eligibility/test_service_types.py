"""docs/x12.md#service-type-families and the tables of the code say the same, and only codes of X12 stand in them."""

from __future__ import annotations

import re
from pathlib import Path

from covergate.eligibility.inquiry import Service, Specialty
from covergate.eligibility.service_types import PROCEDURES, SERVICE_TYPES, SPECIALTIES, family_of, types_of_claim
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
    assert family_of(Service(procedure_codes=("90837",)), {"30"}) == ("A6", "MH", "A8", "CF", "98")
    assert family_of(Service(service_type_codes=("MH",)), {"MH"}) == ("A8", "CF", "A6")
    assert family_of(Service(), {"30"}) == ()


def test_of_several_service_types_the_claims_own_is_meant() -> None:
    psychotherapy = Service(service_type_codes=("98", "MH", "UC"), procedure_codes=("90834", "90837"))
    assert types_of_claim(psychotherapy) == {"MH"}
    assert types_of_claim(Service(service_type_codes=("98", "MH"), specialty=Specialty.PRC)) == {"98"}
    two = Service(service_type_codes=("MH", "PT"), procedure_codes=("90837", "97110"))
    assert types_of_claim(two) == {"MH", "PT"}
    of_no_family = Service(service_type_codes=("98", "MH"), procedure_codes=("90837", "36415"))
    assert types_of_claim(of_no_family) == {"98", "MH"}
    crown = Service(service_type_codes=("35",), procedure_codes=("D2740",))
    assert types_of_claim(crown) == frozenset()
    assert family_of(crown, types_of_claim(crown)) == ("36", "35")
