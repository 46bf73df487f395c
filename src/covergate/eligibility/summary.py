"""The short reading of the benefits: what a biller writes down (docs/x12.md#choosing-an-amount).

- Per network the plan's deductible and out-of-pocket maximum, and what the asked service costs in general: rows that a place,
  a text, a facility or a kind of provider narrows never feed these cells.
- `service`: the cost share that matches the asked service, place of service and specialty, in the network that holds.
- `why_null`: the reason of each null. Nothing is picked where several values are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

from covergate.eligibility.cost_shares import (
    authorization_of,
    deductible_applies,
    is_general,
    need_of,
    places,
    sources_of,
)
from covergate.eligibility.inquiry import Service
from covergate.eligibility.places import places_of
from covergate.eligibility.result import (
    Accumulator,
    Benefit,
    ByLevel,
    NetworkSummary,
    Quantity,
    ServiceShare,
    Summary,
    Warning_,
)
from covergate.eligibility.service_types import family_of, provider_kind_of
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import (
    AppliesTo,
    AuthorizationNeed,
    BenefitPlace,
    CodeType,
    Kind,
    Level,
    MatchedBy,
    Network,
    ProviderKind,
    Unit,
    WarningCode,
    WhyNull,
)
from covergate.eligibility.x12.codes import WHOLE_PLAN

_V = TypeVar("_V")

ServiceCodes = frozenset[tuple[CodeType, str]]

_FEEDS: dict[Network, tuple[Network, ...]] = {
    Network.IN: (Network.IN,),
    Network.OUT: (Network.OUT,),
    Network.BOTH: (Network.IN, Network.OUT),
    Network.UNKNOWN: (Network.UNKNOWN,),
}
_LEVELS: dict[Level, str] = {
    Level.INDIVIDUAL: "individual",
    Level.FAMILY: "family",
    Level.UNKNOWN: "unknown_level",
}
_ACCUMULATED = (Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX)
_FIGURES = ("total", "used", "remaining")
_STATED_IN: dict[Kind, tuple[str, ...]] = {
    Kind.COPAY: ("amount",),
    Kind.COINSURANCE: ("percent",),
    **dict.fromkeys(_ACCUMULATED, _FIGURES),
}
"""The fields of a benefit that hold the summary's values, by kind."""
_CONFLICT = "Several different values were stated for {field} ({network} network); see benefits."

_PLAN, _ELSE = 1_000, 2_000
"""Distances: below, the place of a code in the family; the plan as a whole; something else."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the summary is asked about; `network`: the one that this provider is in, None if nobody said."""

    codes: ServiceCodes
    family: tuple[str, ...] = ()
    places: frozenset[BenefitPlace] = frozenset()
    provider_kind: ProviderKind | None = None
    network: Network | None = None


def question_of(service: Service, codes: ServiceCodes, in_network: bool | None) -> Question:
    network = None if in_network is None else Network.IN if in_network else Network.OUT
    return Question(
        codes=codes - {(CodeType.SERVICE_TYPE, WHOLE_PLAN)},
        family=family_of(service),
        places=places_of(service.place_of_service_code),
        provider_kind=provider_kind_of(service.specialty),
        network=network,
    )


@dataclass(frozen=True, slots=True)
class _Cell(Generic[_V]):
    """A value with the rows that state it, or the reason why there is none."""

    value: _V | None = None
    rows: tuple[Benefit, ...] = ()
    why_null: WhyNull | None = None


@dataclass(slots=True)
class _Notes:
    why_null: dict[str, WhyNull] = field(default_factory=dict)
    warnings: list[Warning_] = field(default_factory=list)

    def value(self, path: str, cell: _Cell[_V]) -> _V | None:
        if cell.why_null is not None:
            self.why_null[path] = cell.why_null
        return cell.value

    def conflict(self, network: Network, name: str, kind: Kind, rows: Iterable[Benefit]) -> None:
        sources = {pointer for row in rows for part in _STATED_IN[kind] for pointer in pointers_at(row.sources, part)}
        self.warnings.append(
            Warning_(
                code=WarningCode.CONFLICTING_AMOUNTS,
                message=_CONFLICT.format(field=name, network=network.value),
                sources=sorted(sources),
            )
        )


def summarize(
    benefits: Sequence[Benefit], question: Question, this_provider: Network | None = None
) -> tuple[Summary, list[Warning_]]:
    """`benefits` are those of the asked service's plan, and those of no plan in particular."""
    notes = _Notes()
    networks = {
        network: _of_network([row for row in benefits if network in _FEEDS[row.network]], question, network, notes)
        for network in (Network.IN, Network.OUT, Network.UNKNOWN)
    }
    parts: dict[str, Any] = {network.value: part for network, part in networks.items()}
    service = _of_service(benefits, question, notes)
    why_null = dict(sorted(notes.why_null.items()))
    summary = Summary.model_validate(
        {**parts, "service": service, "this_provider": this_provider, "why_null": why_null}
    )
    return summary, notes.warnings


# --- one network -----------------------------------------------------------------------------------------------------


def _of_network(rows: list[Benefit], question: Question, network: Network, notes: _Notes) -> NetworkSummary | None:
    covered, _ = _covered(rows, question, network)
    needs = _nearest([row for row in rows if need_of(row) is not AuthorizationNeed.UNKNOWN], question)
    stated = [row for row in rows if row.kind in _STATED_IN]
    if not stated and not needs and covered is None:
        return None
    path = network.value

    def share(kind: Kind, name: str, part: str) -> Any:
        cell = _general(rows, question, kind, part)
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, name, kind, cell.rows)
        return notes.value(f"{path}.{name}", cell), cell.rows

    copay, copay_rows = share(Kind.COPAY, "copay", "amount")
    percent, percent_rows = share(Kind.COINSURANCE, "coinsurance_percent", "percent")
    deductible, deductible_rows = _by_level(rows, question, network, Kind.DEDUCTIBLE, notes)
    limit, limit_rows = _by_level(rows, question, network, Kind.OUT_OF_POCKET_MAX, notes)
    authorization = authorization_of(needs)
    taken = {
        "copay": copay_rows,
        "coinsurance_percent": percent_rows,
        "deductible": deductible_rows,
        "out_of_pocket_max": limit_rows,
        "authorization": needs,
    }
    return NetworkSummary(
        covered=covered,
        copay=copay,
        coinsurance_percent=percent,
        deductible=deductible,
        out_of_pocket_max=limit,
        authorization_required=_required(authorization),
        authorization=authorization,
        from_both=sorted(name for name, used in taken.items() if any(row.network is Network.BOTH for row in used)),
    )


def _required(need: AuthorizationNeed) -> bool | None:
    return {AuthorizationNeed.REQUIRED: True, AuthorizationNeed.NOT_REQUIRED: False}.get(need)


def _covered(rows: Iterable[Benefit], question: Question, network: Network) -> tuple[bool | None, list[Benefit]]:
    """False where the payer excludes an asked code in this network, at any place and without a limit."""
    excluded = [
        row
        for row in rows
        if row.kind is Kind.NON_COVERED and row.network is network and is_general(row) and _distance(row, question) == 0
    ]
    return (False, excluded) if excluded and network is not Network.UNKNOWN else (None, [])


def _general(rows: Iterable[Benefit], question: Question, kind: Kind, part: str) -> _Cell[Any]:
    """The one value of the nearest rows that nothing narrows."""
    stating = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    near = [row for row in stating if _distance(row, question) < _ELSE]
    general = [row for row in near if is_general(row)]
    if not general:
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY if near else WhyNull.NOT_STATED)
    nearest = _nearest(general, question)
    # A row nearer to the service that something narrows says that the plan's general share is not the service's.
    if min(_distance(row, question) for row in near) < _distance(nearest[0], question):
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    return _one(nearest, part)


def _one(rows: Sequence[Benefit], part: str) -> _Cell[Any]:
    values = {getattr(row, part) for row in rows}
    if len(values) == 1 and len({row.tier for row in rows}) == 1:
        return _Cell(values.pop(), tuple(rows))
    distinguished = len({row.tier for row in rows}) > 1
    return _Cell(rows=tuple(rows), why_null=WhyNull.SEVERAL_SHARES if distinguished else WhyNull.CONFLICT)


def _by_level(
    rows: list[Benefit], question: Question, network: Network, kind: Kind, notes: _Notes
) -> tuple[ByLevel, list[Benefit]]:
    used: list[Benefit] = []
    stated: dict[str, Accumulator] = {}
    whole = [row for row in rows if row.kind is kind and _accumulator(row) is not None]
    for level, name in _LEVELS.items():
        path = f"{kind.value}.{name}"
        cell = _accumulated([row for row in whole if row.level is level], question)
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, path, kind, cell.rows)
        # Whoever states no level leaves no level out.
        if level is not Level.UNKNOWN or cell.why_null is not WhyNull.NOT_STATED:
            notes.value(f"{network.value}.{path}", cell)
        if cell.value is not None:
            stated[name] = cell.value
            used += cell.rows
    left = [part.remaining for name, part in stated.items() if name != "unknown_level" and part.remaining is not None]
    family_only = "family" in stated and not any(row.level is Level.INDIVIDUAL for row in whole)
    return ByLevel(
        **stated,
        embedded=False if family_only else None,
        effective_remaining=min(left) if left else None,
    ), used


def _accumulated(rows: list[Benefit], question: Question) -> _Cell[Accumulator]:
    """The plan's own figures: rows on the plan as a whole; only without any those on the asked service."""
    general = [row for row in rows if is_general(row)]
    of_plan = [row for row in general if _is_of_the_plan(row)]
    candidates = of_plan or _nearest([row for row in general if _distance(row, question) < _ELSE], question)
    if not candidates:
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY if rows and not general else WhyNull.NOT_STATED)
    if len({row.tier for row in candidates}) > 1:
        return _Cell(rows=tuple(candidates), why_null=WhyNull.SEVERAL_SHARES)
    figures = {name: {value for row in candidates if (value := getattr(row, name)) is not None} for name in _FIGURES}
    unlimited = {row.unlimited for row in candidates}
    if any(len(values) > 1 for values in figures.values()) or len(unlimited) > 1:
        return _Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
    values: dict[str, Decimal] = {name: found.pop() for name, found in figures.items() if found}
    if "total" in values and values.get("remaining", Decimal(0)) > values["total"]:
        return _Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
    shared = sorted({other for row in candidates for other in row.shared_with})
    return _Cell(Accumulator(**values, unlimited=unlimited.pop(), shared_with=shared), tuple(candidates))


def _accumulator(row: Benefit) -> bool | None:
    return True if row.unlimited or any(getattr(row, name) is not None for name in _FIGURES) else None


def _is_of_the_plan(row: Benefit) -> bool:
    return not row.procedure_codes and (not row.service_type_codes or WHOLE_PLAN in row.service_type_codes)


# --- the asked service -----------------------------------------------------------------------------------------------


def _of_service(benefits: Sequence[Benefit], question: Question, notes: _Notes) -> ServiceShare:
    network = _network_of_service(benefits, question)
    rows = [row for row in benefits if network in _FEEDS[row.network]]
    copay = _matching(rows, question, Kind.COPAY, "amount")
    percent = _matching(rows, question, Kind.COINSURANCE, "percent")
    visits = _visits(rows, question)
    about = [row for row in rows if _distance(row, question) < _PLAN and _fits(row, question)]
    needs = [row for row in about if need_of(row) is not AuthorizationNeed.UNKNOWN]
    chosen = [*copay.rows, *percent.rows]
    applies = deductible_applies(chosen)
    waiving = [row for row in about if row.kind is Kind.DEDUCTIBLE and row.total == 0 and is_general(row)]
    if applies is None and waiving:
        applies = False
    matched_by = _matched_by(chosen, question)
    return ServiceShare(
        network=network,
        copay=notes.value("service.copay", copay),
        coinsurance_percent=notes.value("service.coinsurance_percent", percent),
        deductible_applies=notes.value("service.deductible_applies", _or_not_stated(applies)),
        visits=notes.value("service.visits", visits),
        authorization=authorization_of(_nearest(needs, question)),
        matched_by=matched_by,
        why=_why(chosen, matched_by, network),
        sources=sources_of(
            [*chosen, *visits.rows], {"copay": "amount", "coinsurance_percent": "percent", "visits": "quantity"}
        ),
    )


def _or_not_stated(value: bool | None) -> _Cell[bool]:
    return _Cell(value, why_null=WhyNull.NOT_STATED if value is None else None)


def _network_of_service(benefits: Iterable[Benefit], question: Question) -> Network:
    """The provider's own; else in network, as a patient would be sent there; else what was stated for no network."""
    if question.network is not None:
        return question.network
    stated = {network for row in benefits if row.kind in _STATED_IN for network in _FEEDS[row.network]}
    return next((one for one in (Network.IN, Network.UNKNOWN) if one in stated), Network.UNKNOWN)


def _matching(rows: Iterable[Benefit], question: Question, kind: Kind, part: str) -> _Cell[Any]:
    stating = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    near = [row for row in stating if _distance(row, question) < _ELSE]
    fitting = [row for row in near if _fits(row, question)]
    if not fitting:
        return _Cell(why_null=WhyNull.NOT_STATED if not near else _why_not(near))
    nearest = _nearest(fitting, question)
    if min(_distance(row, question) for row in near) < _distance(nearest[0], question):
        return _Cell(why_null=_why_not(near))
    most = max(_specific(row) for row in nearest)
    return _one([row for row in nearest if _specific(row) == most], part)


def _why_not(near: Sequence[Benefit]) -> WhyNull:
    """Only rows that text or facility narrow, or several of which the inquiry chooses none."""
    return WhyNull.LIMITED_ROWS_ONLY if all(row.limited_to or row.facility for row in near) else WhyNull.SEVERAL_SHARES


def _fits(row: Benefit, question: Question) -> bool:
    """Whether all conditions of the row are those of the inquiry."""
    if row.limited_to or row.facility:
        return False
    if row.provider_kind is not None and row.provider_kind is not question.provider_kind:
        return False
    where = places(row)
    return not where or bool(where & question.places)


def _specific(row: Benefit) -> int:
    return bool(places(row)) * 2 + (row.provider_kind is not None)


def _visits(rows: Iterable[Benefit], question: Question) -> _Cell[Quantity]:
    counted = [
        row
        for row in rows
        if row.quantity is not None
        and row.quantity.unit is Unit.VISITS
        and _distance(row, question) < _PLAN
        and _fits(row, question)
    ]
    if not counted:
        return _Cell(why_null=WhyNull.NOT_STATED)
    nearest = _nearest(counted, question)
    quantities = {row.quantity.model_dump_json(): row.quantity for row in nearest if row.quantity is not None}
    if len(quantities) > 1:
        return _Cell(rows=tuple(nearest), why_null=WhyNull.SEVERAL_SHARES)
    return _Cell(next(iter(quantities.values())), tuple(nearest))


def _matched_by(rows: Sequence[Benefit], question: Question) -> MatchedBy | None:
    if not rows:
        return None
    farthest = max(_distance(row, question) for row in rows)
    if farthest >= _PLAN:
        return MatchedBy.PLAN
    return MatchedBy.FAMILY if farthest else MatchedBy.CODE


_MATCHED: dict[MatchedBy, str] = {
    MatchedBy.CODE: "stated for the asked service",
    MatchedBy.FAMILY: "stated for a service type under which payers answer for the asked service",
    MatchedBy.PLAN: "stated for the plan as a whole",
}
_NETWORKS: dict[Network, str] = {
    Network.IN: "in network",
    Network.OUT: "out of network",
    Network.UNKNOWN: "for no network in particular",
    Network.BOTH: "in and out of network",
}


def _why(rows: Sequence[Benefit], matched_by: MatchedBy | None, network: Network) -> str | None:
    if matched_by is None:
        return None
    parts = [_MATCHED[matched_by], _NETWORKS[network]]
    if any(places(row) for row in rows):
        parts.append("at the asked place of service")
    kinds = sorted({row.provider_kind.value for row in rows if row.provider_kind is not None})
    if kinds:
        parts.append(f"for a provider of the kind {kinds[0]}")
    return ", ".join(parts)


# --- how near a row is to the question -------------------------------------------------------------------------------


def _nearest(rows: Sequence[Benefit], question: Question) -> list[Benefit]:
    distances = [_distance(row, question) for row in rows]
    least = min(distances, default=_ELSE)
    return [row for row, distance in zip(rows, distances, strict=True) if distance == least < _ELSE]


def _distance(row: Benefit, question: Question) -> int:
    """0 on the asked codes or the vendor's notion of the service; the place of its code in the family; the plan; else."""
    if row.applies_to is AppliesTo.ASKED_SERVICE:
        return 0
    codes: set[tuple[CodeType, str]] = {(CodeType.PROCEDURE, code) for code in row.procedure_codes}
    codes |= {(CodeType.SERVICE_TYPE, code) for code in row.service_type_codes}
    if not codes:
        return _PLAN + 1
    if codes & question.codes:
        return 0
    # A row of a procedure speaks of this alone, not of the service types beside it.
    if not row.procedure_codes:
        for place, code in enumerate(question.family, start=1):
            if code in row.service_type_codes:
                return place
    return _PLAN if WHOLE_PLAN in row.service_type_codes else _ELSE
