"""Parts of a result: they take the values that translators give them, and no other fields."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import Benefit, Summary
from covergate.eligibility.terms import Kind, Network


def test_a_part_has_no_other_fields_than_its_own() -> None:
    fields: dict[str, Any] = {"kind": Kind.COPAY, "netwrok": Network.IN}
    with pytest.raises(TypeError, match="Benefit has no netwrok"):
        Benefit(**fields)


def test_a_part_has_all_that_it_needs() -> None:
    fields: dict[str, Any] = {"network": Network.IN}
    with pytest.raises(TypeError, match="Benefit needs kind"):
        Benefit(**fields)


def test_fields_are_written_in_one_order_however_they_were_given() -> None:
    one = Benefit(kind=Kind.COPAY, network=Network.IN, code="B")
    other = Benefit(code="B", network=Network.IN, kind=Kind.COPAY)
    assert one.model_dump_json() == other.model_dump_json()
    assert list(one.model_dump()) == list(Benefit.model_fields)


def test_what_comes_from_outside_is_checked() -> None:
    with pytest.raises(ValidationError):
        Benefit.model_validate({"kind": "no kind"})
    with pytest.raises(ValidationError):
        Summary.model_validate({"in": {"copay": "many"}})
    assert Benefit.model_validate({"kind": "copay"}) == Benefit(kind=Kind.COPAY)


@pytest.mark.parametrize("part", ResultPart.__subclasses__())
def test_what_is_not_stated_is_the_default(part: type[ResultPart]) -> None:
    """In every part ever made it is the same object."""
    assert part.not_stated == {
        name: field.get_default(call_default_factory=True) for name, field in part.model_fields.items()
    }
