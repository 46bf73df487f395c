"""EB rows written short, and what is read from them and concluded of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import Derived, derive
from covergate.eligibility.failure import Aaa
from covergate.eligibility.inquiry import Inquiry, Service
from covergate.eligibility.sourced import Sourced
from covergate.eligibility.terms import WarningCode
from covergate.eligibility.x12.reader import Reading, read_271
from covergate.eligibility.x12.rows import DeliveryPattern, EbRow, Entity, Reference, dtp, element

Row = dict[str, Any]

TODAY = date(2026, 11, 21)
MH = Service(service_type_codes=("MH",))
_LISTS = ("eb03", "msgs", "procedures", "places", "limits")


def eb(segment: str = "", *days: tuple[str, str], nm1: Sequence[str] = (), **elements: Any) -> Row:
    """By its elements, or as a segment without its name (`1**30*HM*CHOICE PLUS`), its DTP, NM1 (`VN*CARELON*C1`)."""
    spec: Row = {}
    for number, text in enumerate(segment.split("*"), start=1):
        if text:
            spec[f"eb{number:02}"] = text.split("^") if number == 3 else text
    if days:
        spec["days"] = days
    if nm1:
        spec["entities"] = [dict(zip(("code", "name", "id"), one.split("*"), strict=False)) for one in nm1]
    return spec | elements


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


def rows(*specs: Row) -> list[EbRow]:
    """`eb03`, `msgs` and the like as lists of texts, `days` as (qualifier, text); pointers are `/<row>/<name>/<n>`.

    `entities` and `deliveries` are dicts of texts, `references` (qualifier, number).
    """
    return [row(index, **spec) for index, spec in enumerate(specs)]


def row(index: int, **spec: Any) -> EbRow:
    fields: dict[str, Any] = {}
    for name, value in spec.items():
        at = f"/{index}/{name}"
        if name in _LISTS:
            fields[name] = tuple(Sourced(text, (f"{at}/{place}",)) for place, text in enumerate(value))
        elif name == "days":
            found = (dtp(qualifier, text, f"{at}/{place}") for place, (qualifier, text) in enumerate(value))
            fields[name] = tuple(days for days in found if days)
        elif name == "entities":
            fields[name] = tuple(
                one if isinstance(one, Entity) else entity(f"{at}/{n}", **one) for n, one in _of(value)
            )
        elif name == "deliveries":
            fields[name] = tuple(DeliveryPattern(**_elements(one, f"{at}/{place}")) for place, one in _of(value))
        elif name == "references":
            fields[name] = tuple(Reference(one[0], element(one[1], f"{at}/{place}")) for place, one in _of(value))
        elif (name.startswith("eb") and name != "eb08_is_fraction") or (name == "member_id" and isinstance(value, str)):
            fields[name] = element(value, at)
        else:
            fields[name] = value
    return EbRow(**fields)


def entity(at: str, **texts: str) -> Entity:
    return Entity(**_elements(texts, at))


def _of(values: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(enumerate(values))


def _elements(texts: dict[str, str], at: str) -> dict[str, Any]:
    return {name: element(text, f"{at}/{name}") for name, text in texts.items()}


def reading(*specs: Row, service: Service = MH, aaas: tuple[Aaa, ...] = (), **more: Any) -> Reading:
    found = read_271(rows(*specs), service, aaas, **more)
    assert isinstance(found, Reading)
    return found


def answer_of(reading: Reading, **more: Any) -> Answer:
    fields: dict[str, Any] = {
        "coverage": reading.coverage,
        "plan": reading.plan,
        "services": reading.services,
        "benefits": reading.benefits,
        "other_coverage": reading.other_coverage,
        "related_entities": reading.related_entities,
        "notes": reading.notes,
        "warnings": reading.warnings,
    }
    return Answer(as_of=TODAY, answered_at=datetime(2026, 11, 21, 17, tzinfo=UTC), **{**fields, **more})


def concluded(lines: Sequence[Row], asked: Inquiry | None = None, **more: Any) -> Derived:
    asked = asked or inquiry()
    return derive(answer_of(reading(*lines, service=asked.service), **more), asked, frozenset(), TODAY)


def warned(derived: Derived) -> set[WarningCode]:
    return {warning.code for warning in derived.result.warnings}


def without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_sources(one) for name, one in value.items() if name != "sources"}
    return [without_sources(one) for one in value] if isinstance(value, list) else value
