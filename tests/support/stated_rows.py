"""EB rows written short, for the tests of what an X12 answer states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Aaa
from covergate.eligibility.inquiry import Service
from covergate.eligibility.sourced import Sourced
from covergate.eligibility.x12.reader import Reading, read_271
from covergate.eligibility.x12.rows import DeliveryPattern, EbRow, Entity, Reference, dtp, element

MH = Service(service_type_codes=("MH",))
_LISTS = ("eb03", "msgs", "procedures", "places", "limits")


def eb(**elements: Any) -> dict[str, Any]:
    return elements


def rows(*specs: dict[str, Any]) -> list[EbRow]:
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


def reading(*specs: dict[str, Any], service: Service = MH, aaas: tuple[Aaa, ...] = (), **more: Any) -> Reading:
    found = read_271(rows(*specs), service, aaas, **more)
    assert isinstance(found, Reading)
    return found


def answer_of(reading: Reading) -> Answer:
    return Answer(
        coverage=reading.coverage,
        as_of=date(2026, 11, 21),
        answered_at=datetime(2026, 11, 21, 17, tzinfo=UTC),
        plan=reading.plan,
        services=reading.services,
        benefits=reading.benefits,
        other_coverage=reading.other_coverage,
        related_entities=reading.related_entities,
        notes=reading.notes,
        warnings=reading.warnings,
    )
