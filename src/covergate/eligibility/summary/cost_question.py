"""The service whose cost is asked, and how near a benefit is to it (docs/x12.md#choosing-an-amount)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from covergate.eligibility.cost_shares import places
from covergate.eligibility.inquiry import Service
from covergate.eligibility.places import places_of
from covergate.eligibility.programs import line_of
from covergate.eligibility.result import Benefit
from covergate.eligibility.service_types import PHYSICIAN, VISITS, family_of, provider_kind_of, types_of_claim
from covergate.eligibility.summary.cells import ACCUMULATED
from covergate.eligibility.terms import AppliesTo, BenefitPlace, CodeType, Network, Program, ProviderKind
from covergate.eligibility.x12.codes import WHOLE_PLAN

ServiceCodes = frozenset[tuple[CodeType, str]]

OF_PHYSICIANS, OF_THE_PLAN, OF_SOMETHING_ELSE = 900, 1_000, 2_000
"""Distances: below, the place of a code in the family; a kind of physician; the plan as a whole; something else."""


@dataclass(frozen=True, slots=True)
class SharedCostQuestion:
    """What the summary is asked about; `network`: the one that this provider is in, None if nobody said."""

    procedures: frozenset[str] = frozenset()
    service_types: frozenset[str] = frozenset()
    family: tuple[str, ...] = ()
    places: frozenset[BenefitPlace] = frozenset()
    provider_kind: ProviderKind | None = None
    network: Network | None = None
    elsewhere: frozenset[str] = frozenset()
    """Service types that another payer has."""
    of_line: Program | None = None
    """The line of the plan that is asked, if that is one of dental care, vision or drugs."""

    @property
    def codes(self) -> frozenset[str]:
        return self.procedures | self.service_types

    @property
    def nearest_elsewhere(self) -> int:
        """How far the nearest service type is that another payer has."""
        if not self.service_types.isdisjoint(self.elsewhere):
            return 0
        places = (place for place, code in enumerate(self.family, start=1) if code in self.elsewhere)
        return next(places, OF_SOMETHING_ELSE)

    @property
    def is_of_another_line(self) -> bool:
        """Whether it is one of dental care, vision or drugs."""
        return line_of(self.service_types or self.family) is not None

    @property
    def is_visit(self) -> bool:
        return not VISITS.isdisjoint(self.family) or not VISITS.isdisjoint(self.service_types)


def question_of(
    service: Service,
    codes: ServiceCodes,
    in_network: bool | None,
    elsewhere: frozenset[str] = frozenset(),
    of_line: Program | None = None,
) -> SharedCostQuestion:
    network = None if in_network is None else Network.IN if in_network else Network.OUT
    service_types = types_of_claim(service)
    return SharedCostQuestion(
        procedures=frozenset(code for kind, code in codes if kind is CodeType.PROCEDURE),
        service_types=service_types,
        family=family_of(service, service_types),
        places=places_of(service.place_of_service_code),
        provider_kind=provider_kind_of(service.specialty),
        network=network,
        elsewhere=elsewhere,
        of_line=of_line,
    )


def distance_to(row: Benefit, question: SharedCostQuestion) -> int:
    """0 on the asked codes or the vendor's notion of the service; the place of its code in the family; the plan; else."""
    if row.applies_to is AppliesTo.ASKED_SERVICE:
        return 0
    procedures, service_types = row.procedure_codes, row.service_type_codes
    if not (procedures or service_types):
        return OF_THE_PLAN + 1
    # A row of a procedure speaks of this alone, not of the service types beside it.
    own, asked = (procedures, question.procedures) if procedures else (service_types, question.service_types)
    if not asked.isdisjoint(own):
        return 0
    if not procedures:
        for place, code in enumerate(question.family, start=1):
            if code in service_types:
                return place
        if _is_of_physicians(row, question):
            return OF_PHYSICIANS
    return OF_THE_PLAN if WHOLE_PLAN in service_types else OF_SOMETHING_ELSE


def _is_of_physicians(row: Benefit, question: SharedCostQuestion) -> bool:
    """What physicians as a whole have of a visit: the price of the asked kind, and a deductible."""
    if not question.is_visit or PHYSICIAN not in row.service_type_codes or WHOLE_PLAN in row.service_type_codes:
        return False
    if row.provider_kind is None and row.kind in ACCUMULATED:
        return True
    asked = question.provider_kind
    return asked is not None and (row.provider_kind is asked or any(map(KIND_IN_WORDS[asked].search, row.limited_to)))


KIND_IN_WORDS: dict[ProviderKind, re.Pattern[str]] = {
    ProviderKind.PCP: re.compile(r"\b(pcp|primary care|family practi(ce|tioners?))\b", re.IGNORECASE),
    ProviderKind.SPECIALIST: re.compile(r"\bspec(ialists?|ialty)?\b", re.IGNORECASE),
}
"""In texts that no phrase of the book is: enough to tell that a row may be the asked one, not to take its price."""


def nearest_of(rows: Sequence[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    distances = [distance_to(row, question) for row in rows]
    least = min(distances, default=OF_SOMETHING_ELSE)
    nearest = [row for row, distance in zip(rows, distances, strict=True) if distance == least < OF_SOMETHING_ELSE]
    return nearest if least else _of_the_procedures(nearest, question)


def _of_the_procedures(rows: list[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    """What is stated for the asked procedures goes before their service type, if it is stated for each of them."""
    asked = question.procedures
    own = [row for row in rows if not asked.isdisjoint(row.procedure_codes)]
    return own if own and asked <= {code for row in own for code in row.procedure_codes} else rows


def fits(row: Benefit, question: SharedCostQuestion) -> bool:
    """Whether all conditions of the row are those of the inquiry."""
    if row.limited_to or row.facility:
        return False
    if row.provider_kind is not None and row.provider_kind is not question.provider_kind:
        return False
    where = places(row)
    return not where or bool(where & question.places)


def is_elsewhere(row: Benefit, question: SharedCostQuestion) -> bool:
    """Whether the row holds at other places alone. What a visit costs in the office may be what it costs by video."""
    where = places(row)
    asked = question.places - {BenefitPlace.TELEHEALTH}
    return bool(where and asked) and where.isdisjoint(question.places)


def most_specific(rows: list[Benefit]) -> list[Benefit]:
    most = max((_specific(row) for row in rows), default=0)
    return [row for row in rows if _specific(row) == most]


def _specific(row: Benefit) -> int:
    return bool(places(row)) * 2 + (row.provider_kind is not None)
