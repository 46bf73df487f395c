"""Cost shares: what the patient pays, once for each set of conditions that the payer tells apart (docs/x12.md#cost-shares).

A copay of a telemedicine visit, of a specialist or of breast pumps is none of the service in general, so each condition that
a row states is one of its share: place, kind of provider, tier, facility, the payer's narrowing words.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from decimal import Decimal

from covergate.eligibility.places import places_of
from covergate.eligibility.result import Benefit, CostShare
from covergate.eligibility.sourced import PhraseSource, Sources, pointers_at
from covergate.eligibility.terms import AuthorizationNeed, BenefitPlace, Kind

SHARING = frozenset({Kind.COPAY, Kind.COINSURANCE})


def cost_shares_of(benefits: Iterable[Benefit]) -> list[CostShare]:
    """One for each condition and amount; copay and coinsurance of one condition stand together if there is one of each."""
    alike: dict[Hashable, list[Benefit]] = {}
    for row in benefits:
        if row.kind in SHARING and (row.amount is not None or row.percent is not None):
            alike.setdefault(_conditions(row), []).append(row)
    return [share for rows in alike.values() for share in _shares(rows)]


def _conditions(row: Benefit) -> Hashable:
    return (
        row.network,
        tuple(row.service_type_codes),
        tuple(row.procedure_codes),
        row.provider_kind,
        row.tier,
        row.facility,
        tuple(row.limited_to),
        places(row),
    )


def places(row: Benefit) -> frozenset[BenefitPlace]:
    """Where the row holds; none if it names no place."""
    return places_of(row.place_of_service) | ({row.place} if row.place is not None else set())


def is_general(row: Benefit) -> bool:
    """Whether nothing narrows the row but its codes and its network."""
    return not row.limited_to and is_anywhere(row)


def is_anywhere(row: Benefit) -> bool:
    """Whether the row holds at any place and for any provider."""
    return not (row.facility or row.provider_kind or row.place or row.place_of_service)


def _shares(rows: Sequence[Benefit]) -> list[CostShare]:
    copays, percents = _by_value(rows, "amount"), _by_value(rows, "percent")
    one_of_each = len(copays) <= 1 and len(percents) <= 1
    groups = [rows] if one_of_each else [*copays.values(), *percents.values()]
    return [share for group in groups for share in _at_each_place(group)]


def _by_value(rows: Sequence[Benefit], field: str) -> dict[Decimal, list[Benefit]]:
    values: dict[Decimal, list[Benefit]] = {}
    for row in rows:
        if (value := getattr(row, field)) is not None:
            values.setdefault(value, []).append(row)
    return values


def _at_each_place(rows: Sequence[Benefit]) -> list[CostShare]:
    first, where = rows[0], places(rows[0])
    copays = [row.amount for row in rows if row.amount is not None]
    percents = [row.percent for row in rows if row.percent is not None]
    sources = sources_of(rows, _SOURCES)
    return [
        CostShare(
            network=first.network,
            service_type_codes=first.service_type_codes,
            procedure_codes=first.procedure_codes,
            place=place,
            provider_kind=first.provider_kind,
            tier=first.tier,
            facility=first.facility,
            limited_to=first.limited_to,
            copay=copays[0] if copays else None,
            coinsurance_percent=percents[0] if percents else None,
            deductible_applies=deductible_applies(rows),
            counts_to_out_of_pocket=_agreed(row.counts_to_out_of_pocket for row in rows),
            authorization=authorization_among(rows),
            sources={**sources, **_place_sources(rows, place)},
        )
        for place in (sorted(where) if where else (None,))
    ]


def _place_sources(rows: Sequence[Benefit], place: BenefitPlace | None) -> Sources:
    if place is None:
        return {}
    return sources_of(rows, {"place": "place_of_service"}) or sources_of(rows, {"place": "place"})


_SOURCES = {
    "copay": "amount",
    "coinsurance_percent": "percent",
    "deductible_applies": "deductible_waived",
    "counts_to_out_of_pocket": "counts_to_out_of_pocket",
    "authorization": "authorization_required",
    "network": "network",
    "service_type_codes": "service_type_codes",
    "procedure_codes": "procedure_codes",
    "provider_kind": "provider_kind",
    "tier": "tier",
    "facility": "facility",
    "limited_to": "limited_to",
}
"""Field of a share → the benefit's field that it was taken from."""


def sources_of(rows: Iterable[Benefit], fields: dict[str, str]) -> Sources:
    """The pointers of these rows, under the names that their fields have in what is made of them.

    A value that only one phrase states keeps its name.
    """
    rows = list(rows)
    if len(rows) == 1:
        of_row = rows[0].sources
        return {
            name: source
            for name, field in fields.items()
            if (source := of_row.get(field)) and (isinstance(source, list) or source.pointers)
        }
    sources: Sources = {}
    for name, field in fields.items():
        stated = [row.sources[field] for row in rows if field in row.sources]
        if not stated:
            continue
        pointers = sorted({pointer for row in rows for pointer in pointers_at(row.sources, field)})
        phrases = {source.by if isinstance(source, PhraseSource) else None for source in stated}
        by = phrases.pop() if len(phrases) == 1 else None
        if pointers:
            sources[name] = pointers if by is None else PhraseSource(pointers=pointers, by=by)
    return sources


def deductible_applies(rows: Iterable[Benefit]) -> bool | None:
    waived = _agreed(row.deductible_waived for row in rows)
    return None if waived is None else not waived


_NEEDS: dict[bool | None, AuthorizationNeed] = {
    True: AuthorizationNeed.REQUIRED,
    False: AuthorizationNeed.NOT_REQUIRED,
    None: AuthorizationNeed.UNKNOWN,
}


def need_of(row: Benefit) -> AuthorizationNeed:
    """Vendors that know only yes and no state it as such."""
    return _NEEDS[row.authorization_required] if row.authorization is AuthorizationNeed.UNKNOWN else row.authorization


def authorization_among(rows: Iterable[Benefit]) -> AuthorizationNeed:
    """What the rows agree on; needed for some of them only, or perhaps: it may apply."""
    needs = {need_of(row) for row in rows} - {AuthorizationNeed.UNKNOWN}
    if len(needs) > 1:
        return AuthorizationNeed.MAY_APPLY
    return next(iter(needs), AuthorizationNeed.UNKNOWN)


def _agreed(values: Iterable[bool | None]) -> bool | None:
    stated = {value for value in values if value is not None}
    return stated.pop() if len(stated) == 1 else None
