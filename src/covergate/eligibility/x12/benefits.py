"""EB rows to benefits: rows that are one benefit become one, with the pointers of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from covergate.eligibility.places import places_of
from covergate.eligibility.result import Benefit, Quantity
from covergate.eligibility.sourced import NOT_STATED, Sourced, Sources, pointers_at, pointers_of
from covergate.eligibility.terms import AppliesTo, AuthorizationNeed, BenefitPlace, Kind
from covergate.eligibility.x12.codes import AUTHORIZATION_REQUIRED, Figure
from covergate.eligibility.x12.joining import JoinedRows, joined_rows
from covergate.eligibility.x12.names import EB01_NAMES
from covergate.eligibility.x12.row_facts import RowFacts, all_facts, by_plan_network, is_known
from covergate.eligibility.x12.rows import EbRow, texts


def benefits_of(rows: Sequence[EbRow]) -> list[Benefit]:
    """Every row is in a benefit (identical rows share one); the order of `rows` decides only `sources`."""
    return [_benefit(one) for one in joined_rows([facts for row in by_plan_network(rows) for facts in all_facts(row)])]


def _benefit(joined: JoinedRows) -> Benefit:
    rows, first = joined.facts, joined.facts[0]
    row = first.row
    starts_on = _first_stated([facts.dates.starts_on for facts in rows])
    ends_on = _first_stated([facts.dates.ends_on for facts in rows])
    dollars, counts = joined.money, joined.counts
    unit = next((facts.unit for facts in rows if facts.unit), None) if counts else None
    authorization = _agreed_need(rows)
    places, place = _places(row)
    return Benefit(
        kind=first.kind,
        code=row.code or None,
        description=_description(first),
        applies_to=AppliesTo.CODES if row.eb03 or row.procedures else AppliesTo.UNKNOWN,
        service_type_codes=texts(row.eb03),
        procedure_codes=texts(row.procedures),
        network=first.network,
        level=first.level,
        period=joined.period,
        insurance_type=row.eb04.value,
        plan_name=row.eb05.value,
        place_of_service=places,
        place=place,
        facility=first.facility.value,
        tier=row.plan_network.value,
        limited_to=texts(row.limits),
        starts_on=starts_on.value,
        ends_on=ends_on.value,
        amount=first.amount.value,
        percent=first.percent.value,
        total=dollars.get(Figure.TOTAL, NOT_STATED).value,
        used=dollars.get(Figure.USED, NOT_STATED).value,
        remaining=dollars.get(Figure.REMAINING, NOT_STATED).value,
        quantity=Quantity(unit=unit, **{figure.value: count.value for figure, count in counts.items()})
        if unit
        else None,
        authorization_required=AUTHORIZATION_REQUIRED.get(authorization),
        authorization=authorization,
        notes=texts(row.msgs if len(rows) == 1 else [msg for facts in rows for msg in facts.row.msgs]),
        sources=_sources(rows, dollars, counts, authorization, place),
    )


def _first_stated(elements: list[Sourced[date]]) -> Sourced[date]:
    return next((element for element in elements if element.value is not None), NOT_STATED)


def _agreed_need(rows: list[RowFacts]) -> AuthorizationNeed:
    """What all rows that know it say; if some need one and others do not, one may apply."""
    needs = {facts.authorization for facts in rows if is_known(facts)}
    if len(needs) > 1:
        return AuthorizationNeed.MAY_APPLY
    return next(iter(needs), AuthorizationNeed.UNKNOWN)


def _places(row: EbRow) -> tuple[str | None, BenefitPlace | None]:
    """The codes of the places of service, and the one place that they are."""
    if not row.places:
        return None, None
    codes = ",".join(texts(row.places))
    places = places_of(codes)
    return codes, next(iter(places)) if len(places) == 1 else None


def _description(facts: RowFacts) -> str | None:
    named = facts.named_quantity or (EB01_NAMES.get(facts.row.code) if facts.kind is Kind.OTHER else None)
    return named or (f"within {facts.within}" if facts.within else None)


def _sources(
    facts: list[RowFacts],
    dollars: dict[Figure, Sourced[Decimal]],
    counts: dict[Figure, Sourced[Decimal]],
    authorization: AuthorizationNeed,
    place: BenefitPlace | None,
) -> Sources:
    """The pointers of all rows, by the benefit's fields."""
    sources: Sources = {**_sources_of(facts[0], of_network=True)}
    for other in facts[1:]:
        # Beside the rows of one network, what is used can come from a row for both.
        for name, pointers in _sources_of(other, of_network=other.network is facts[0].network).items():
            sources[name] = sorted({*pointers_at(sources, name), *pointers})
    if place and "place_of_service" in sources:
        sources["place"] = sources["place_of_service"]
    if "authorization" in sources and authorization in AUTHORIZATION_REQUIRED:
        sources["authorization_required"] = sources["authorization"]
    for figure, number in dollars.items():
        sources[figure.value] = list(number.pointers)
    if counts:
        sources["quantity"] = pointers_of(counts.values())
    return sources


def _sources_of(facts: RowFacts, *, of_network: bool) -> dict[str, list[str]]:
    row, dates = facts.row, facts.dates
    found = {
        name: [*element.pointers]
        for name, element in (
            ("kind", row.eb01),
            ("code", row.eb01),
            ("level", row.eb02),
            ("insurance_type", row.eb04),
            ("plan_name", row.eb05),
            ("period", row.eb06),
            ("network", row.eb12 if of_network else NOT_STATED),
            ("authorization", row.eb11 if is_known(facts) else NOT_STATED),
            ("amount", facts.amount),
            ("percent", facts.percent),
            ("starts_on", dates.starts_on),
            ("ends_on", dates.ends_on),
            ("facility", facts.facility),
            ("tier", row.plan_network),
        )
        if element.value is not None
    }
    for name, elements in (
        ("service_type_codes", row.eb03),
        ("procedure_codes", row.procedures),
        ("place_of_service", row.places),
        ("limited_to", row.limits),
        ("notes", row.msgs),
    ):
        if elements and (pointers := pointers_of(elements)):
            found[name] = pointers
    return found
