"""Small answers of a 271, written row by row as payers write them, and what is concluded from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import Derived, derive
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.sourced import Sourced
from covergate.eligibility.terms import WarningCode
from covergate.eligibility.x12.reader import Reading, read_271
from covergate.eligibility.x12.rows import EbRow, Entity, Reference, dtp, element

TODAY = date(2026, 11, 21)


def inquiry(*codes: str, payer: dict[str, str] | None = None, **service: Any) -> Inquiry:
    """Jane's, for a service on 2026-11-21; by default service type 30 of payer 60054."""
    return Inquiry.model_validate(
        {
            "payer": payer or {"id": "60054"},
            "patient": {
                "first_name": "Jane",
                "last_name": "Sample",
                "date_of_birth": "1990-09-20",
                "member_id": "W1",
            },
            "service": {"date": "2026-11-21", "service_type_codes": codes or ("30",)} | service,
        }
    )


@dataclass(frozen=True)
class Row:
    """An EB segment without its name (`1**30*HM*CHOICE PLUS`), its DTP, NM1 (`VN*CARELON*C1`) and REF (`18*H0001`)."""

    text: str
    days: tuple[tuple[str, str], ...] = ()
    entities: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


def eb(text: str, *days: tuple[str, str], nm1: Sequence[str] = (), ref: Sequence[str] = ()) -> Row:
    return Row(text, days, tuple(nm1), tuple(ref))


def rows(lines: Sequence[Row]) -> list[EbRow]:
    return [_row(f"/{index}", line) for index, line in enumerate(lines)]


def _row(at: str, line: Row) -> EbRow:
    elements = dict(enumerate(line.text.split("*"), start=1))
    fields: dict[str, Any] = {
        f"eb{number:02}": element(value, f"{at}/eb{number:02}")
        for number, value in elements.items()
        if number in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    }
    return EbRow(
        **fields,
        eb03=tuple(Sourced(code, (f"{at}/eb03",)) for code in elements.get(3, "").split("^") if code),
        days=tuple(day for one in line.days if (day := dtp(*one, f"{at}/dtp"))),
        entities=tuple(_entity(f"{at}/nm1/{place}", text) for place, text in enumerate(line.entities)),
        references=tuple(_reference(f"{at}/ref/{place}", text) for place, text in enumerate(line.references)),
    )


def _entity(at: str, text: str) -> Entity:
    code, name, number = [*text.split("*"), "", ""][:3]
    return Entity(code=element(code, f"{at}/code"), name=element(name, f"{at}/name"), id=element(number, f"{at}/id"))


def _reference(at: str, text: str) -> Reference:
    qualifier, number = text.split("*")
    return Reference(qualifier, element(number, at))


def concluded(lines: Sequence[Row], asked: Inquiry | None = None, **more: Any) -> Derived:
    asked = asked or inquiry()
    reading = read_271(rows(lines), asked.service)
    assert isinstance(reading, Reading)
    fields: dict[str, Any] = {
        "coverage": reading.coverage,
        "plan": reading.plan,
        "services": reading.services,
        "benefits": reading.benefits,
        "warnings": reading.warnings,
        "other_coverage": reading.other_coverage,
        "related_entities": reading.related_entities,
    }
    answer = Answer(as_of=TODAY, answered_at=datetime(2026, 11, 21, 17, tzinfo=UTC), **{**fields, **more})
    return derive(answer, asked, frozenset(), TODAY)


def warned(derived: Derived) -> set[WarningCode]:
    return {warning.code for warning in derived.result.warnings}


def without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_sources(one) for name, one in value.items() if name != "sources"}
    return [without_sources(one) for one in value] if isinstance(value, list) else value
