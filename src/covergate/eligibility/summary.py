"""The short reading of the benefits: what a biller writes down (docs/x12.md#choosing-an-amount).

- Per network the plan's deductible and out-of-pocket maximum, and what the asked service costs in general: rows that a place,
  a text, a facility or a kind of provider narrows never feed these cells.
- `service`: the cost share that matches the asked service, place of service and specialty, in the network that holds.
- `why_null`: the reason of each null. Nothing is picked where several values are left.
- Rows on something else (a dental copay beside an office visit) are left out at the start: they change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

from covergate.eligibility.cost_shares import (
    SHARING,
    authorization_among,
    deductible_applies,
    is_anywhere,
    is_general,
    need_of,
    places,
    sources_of,
)
from covergate.eligibility.inquiry import Service
from covergate.eligibility.places import places_of
from covergate.eligibility.programs import line_of
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
from covergate.eligibility.service_types import PHYSICIAN, VISITS, family_of, provider_kind_of
from covergate.eligibility.sourced import Sources, pointers_at
from covergate.eligibility.terms import (
    AppliesTo,
    AuthorizationNeed,
    BenefitPlace,
    CodeType,
    Kind,
    Level,
    MatchedBy,
    Network,
    Period,
    ProviderKind,
    Unit,
    WarningCode,
    WhyNull,
)
from covergate.eligibility.x12.codes import ACTIVE, INACTIVE, WHOLE_PLAN

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

_PHYSICIAN, _PLAN, _ELSE = 900, 1_000, 2_000
"""Distances: below, the place of a code in the family; a kind of physician; the plan as a whole; something else."""
_NOTHING = Decimal(0)
_YEARLY = frozenset({Period.CALENDAR_YEAR, Period.SERVICE_YEAR, Period.YEAR, Period.CONTRACT, Period.UNKNOWN})
_ASK_ELSEWHERE = "U"
"""EB01 of a row that sends its services to another payer."""


@dataclass(frozen=True, slots=True)
class SharedCostQuestion:
    """What the summary is asked about; `network`: the one that this provider is in, None if nobody said."""

    procedures: frozenset[str] = frozenset()
    service_types: frozenset[str] = frozenset()
    family: tuple[str, ...] = ()
    places: frozenset[BenefitPlace] = frozenset()
    provider_kind: ProviderKind | None = None
    network: Network | None = None

    @property
    def is_of_another_line(self) -> bool:
        """Whether it is one of dental care, vision or drugs."""
        return line_of(self.service_types or self.family) is not None

    @property
    def is_visit(self) -> bool:
        return not VISITS.isdisjoint(self.family) or not VISITS.isdisjoint(self.service_types)


def question_of(service: Service, codes: ServiceCodes, in_network: bool | None) -> SharedCostQuestion:
    network = None if in_network is None else Network.IN if in_network else Network.OUT
    return SharedCostQuestion(
        procedures=frozenset(code for kind, code in codes if kind is CodeType.PROCEDURE),
        service_types=frozenset(code for kind, code in codes if kind is CodeType.SERVICE_TYPE) - {WHOLE_PLAN},
        family=family_of(service),
        places=places_of(service.place_of_service_code),
        provider_kind=provider_kind_of(service.specialty),
        network=network,
    )


class _Cell(NamedTuple, Generic[_V]):
    """A value with the rows that state it, or the reason why there is none."""

    value: _V | None = None
    rows: tuple[Benefit, ...] = ()
    why_null: WhyNull | None = None


_NOT_STATED: _Cell[Any] = _Cell(why_null=WhyNull.NOT_STATED)


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
                message=_CONFLICT.format(field=name, network=network),
                sources=sorted(sources),
            )
        )


def summarize(
    benefits: Sequence[Benefit], question: SharedCostQuestion, this_provider: Network | None = None
) -> tuple[Summary, list[Warning_]]:
    """`benefits` are those of the asked service's plan, and those of no plan in particular."""
    notes = _Notes()
    near = [row for row in benefits if _distance(row, question) < _ELSE]
    denials = _denials_in(near, question)
    accumulated = {kind: _accumulating(near, kind, question) for kind in _ACCUMULATED}
    networks = {
        network: _of_network(_heard(near, denials, question, network), near, accumulated, question, network, notes)
        for network in (Network.IN, Network.OUT, Network.UNKNOWN)
    }
    service = _of_service(near, denials, question, notes)
    nulls = dict.fromkeys(_nulls(networks, service), WhyNull.NOT_STATED) | notes.why_null
    if this_provider is None:
        nulls["this_provider"] = WhyNull.NOT_STATED
    summary = Summary(
        in_=networks[Network.IN],
        out=networks[Network.OUT],
        unknown=networks[Network.UNKNOWN],
        this_provider=this_provider,
        service=service,
        why_null=dict(sorted(nulls.items())),
    )
    return summary, notes.warnings


def _nulls(networks: dict[Network, NetworkSummary | None], service: ServiceShare) -> Iterator[str]:
    """The paths of the null cells."""
    for network, part in networks.items():
        if part is None:
            yield network.value
            continue
        for name, path in _OF_NETWORK[network]:
            if getattr(part, name) is None:
                yield path
        for kind, cells_of_kind in _OF_ACCUMULATORS[network]:
            cells = getattr(part, kind)
            for name, path in cells_of_kind:
                if getattr(cells, name) is None:
                    yield path
    for name, path in _OF_SERVICE:
        if getattr(service, name) is None:
            yield path


def _paths(of: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{of}.{name}") for name in names)


_OF_NETWORK = {
    network: _paths(network, "covered", "copay", "coinsurance_percent", "authorization_required") for network in Network
}
_OF_ACCUMULATORS = {
    network: tuple(
        (kind.value, _paths(f"{network}.{kind}", *_LEVELS.values(), "embedded", "effective_remaining"))
        for kind in _ACCUMULATED
    )
    for network in Network
}
_OF_SERVICE = _paths("service", "copay", "coinsurance_percent", "deductible_applies", "visits")
"""The cells of a summary that can be null, by name and path."""


def _denials_in(near: Sequence[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    """In any network. Also what has ended, unless something as near to the question is active."""
    active = {_distance(row, question) for row in near if row.code in ACTIVE}
    return [
        row
        for row in near
        if (
            row.kind is Kind.NON_COVERED
            or row.code == _ASK_ELSEWHERE
            or (row.code in INACTIVE and (distance := _distance(row, question)) < _PLAN and distance not in active)
        )
        and is_anywhere(row)
    ]


def _heard(
    near: Sequence[Benefit], denials: Sequence[Benefit], question: SharedCostQuestion, network: Network
) -> list[Benefit]:
    """The rows that feed a network, without what lies beyond a denial.

    A payer that does not pay for mental health says nothing of psychotherapy by what it pays for an office visit.
    """
    heard = [row for row in near if network in _FEEDS[row.network]]
    denied = [row for row in denials if row.network in (network, Network.BOTH, Network.UNKNOWN)]
    if not denied:
        return heard
    barrier = min(_distance(row, question) for row in denied)
    return [row for row in heard if row.kind not in SHARING or _distance(row, question) <= barrier]


def _accumulating(near: Sequence[Benefit], kind: Kind, question: SharedCostQuestion) -> list[Benefit]:
    """The plan's own rows; if the payer states none in any network, those on the asked service.

    A zero for one service is no figure of the plan: it says that the deductible is waived for this service. Dental care,
    vision and drugs have figures of their own, even within one plan: there the plan's are not the service's.
    """
    stating = [row for row in near if row.kind is kind and _is_accumulator(row)]
    if question.is_of_another_line:
        own = [row for row in stating if _distance(row, question) < _PHYSICIAN and is_general(row)]
        if own:
            return _nearest(own, question)
    of_plan = [row for row in stating if _is_of_the_plan(row)]
    if any(is_general(row) for row in of_plan):
        return of_plan
    of_service = [row for row in stating if not _is_of_the_plan(row) and row.total != 0]
    return [*of_plan, *_nearest([row for row in of_service if is_general(row)] or of_service, question)]


# --- one network -----------------------------------------------------------------------------------------------------


def _of_network(
    rows: list[Benefit],
    near: Sequence[Benefit],
    accumulating: dict[Kind, list[Benefit]],
    question: SharedCostQuestion,
    network: Network,
    notes: _Notes,
) -> NetworkSummary | None:
    covered = notes.value(f"{network}.covered", _covered(rows, near, question))
    needs = _nearest([row for row in rows if need_of(row) is not AuthorizationNeed.UNKNOWN], question)
    stated = [row for row in rows if row.kind in _STATED_IN]
    # That a service is covered is said by the result; a network needs something that a patient pays, or a denial.
    if not stated and not needs and covered is not False:
        notes.why_null.pop(f"{network}.covered", None)
        return None

    def share(kind: Kind, name: str, part: str) -> Any:
        cell = _general(rows, question, kind, part)
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, name, kind, cell.rows)
        return notes.value(f"{network}.{name}", cell), cell.rows

    copay, copay_rows = share(Kind.COPAY, "copay", "amount")
    percent, percent_rows = share(Kind.COINSURANCE, "coinsurance_percent", "percent")
    levels = {
        kind: _by_level(
            [row for row in accumulating[kind] if network in _FEEDS[row.network]],
            network,
            kind,
            notes,
            # Also one without a figure that could be read says that there is one.
            of_persons=any(row.kind is kind and row.level is Level.INDIVIDUAL for row in rows),
        )
        for kind in _ACCUMULATED
    }
    authorization = authorization_among(needs)
    taken: dict[str, Sequence[Benefit]] = {
        "copay": copay_rows if copay is not None else (),
        "coinsurance_percent": percent_rows if percent is not None else (),
        "authorization": needs,
        **{f"{kind}.{level}": used for kind, (_, cells) in levels.items() for level, used in cells.items()},
    }
    return NetworkSummary(
        covered=covered,
        copay=copay,
        coinsurance_percent=percent,
        deductible=levels[Kind.DEDUCTIBLE][0],
        out_of_pocket_max=levels[Kind.OUT_OF_POCKET_MAX][0],
        authorization_required=_required(authorization),
        authorization=authorization,
        from_both=sorted(
            name for name, used in taken.items() if used and all(row.network is Network.BOTH for row in used)
        ),
    )


def _required(need: AuthorizationNeed) -> bool | None:
    return {AuthorizationNeed.REQUIRED: True, AuthorizationNeed.NOT_REQUIRED: False}.get(need)


def _covered(rows: Iterable[Benefit], near: Iterable[Benefit], question: SharedCostQuestion) -> _Cell[bool]:
    """False where the payer excludes an asked code, at any place, and nothing says the contrary.

    Words on an exclusion of what is covered otherwise, in whatever network, exclude a part of it.
    """
    stated = {
        row.kind is Kind.COVERAGE
        for row in rows
        if _tells_coverage(row, question)
        or (
            row.kind is Kind.NON_COVERED
            and is_anywhere(row)
            and _distance(row, question) == 0
            and not (row.limited_to and any(_tells_coverage(other, question) for other in near))
        )
    }
    if len(stated) > 1:
        return _Cell(why_null=WhyNull.CONFLICT)
    if not stated and _is_plan_excluded(rows, question):
        return _Cell(False)
    return _Cell(next(iter(stated), None), why_null=None if stated else WhyNull.NOT_STATED)


def _is_plan_excluded(rows: Iterable[Benefit], question: SharedCostQuestion) -> bool:
    """Nothing at all is covered out of network, and no row there speaks of the asked service."""
    rows = list(rows)
    excluded = any(
        row.kind is Kind.NON_COVERED and row.network is Network.OUT and _is_of_the_plan(row) and is_general(row)
        for row in rows
    )
    return excluded and not any(row.kind in _STATED_IN and _distance(row, question) < _PLAN for row in rows)


def _tells_coverage(row: Benefit, question: SharedCostQuestion) -> bool:
    is_active = row.kind is Kind.COVERAGE and row.code not in INACTIVE
    return is_active and is_general(row) and _distance(row, question) == 0


def _general(rows: Iterable[Benefit], question: SharedCostQuestion, kind: Kind, part: str) -> _Cell[Any]:
    """The one value of the nearest rows that nothing narrows."""
    near = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    general = [row for row in near if is_general(row)]
    if not general:
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY if near else WhyNull.NOT_STATED)
    nearest = _nearest(general, question)
    # A row nearer to the service that something narrows says that the plan's general share is not the service's.
    if min(_distance(row, question) for row in near) < _distance(nearest[0], question):
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    # Where office visits have a share of their own, another one without a place is not what a visit costs.
    in_office = [row for row in near if BenefitPlace.OFFICE in places(row) and not row.limited_to]
    beside = [row for row in in_office if _distance(row, question) == _distance(nearest[0], question)]
    if beside and {getattr(row, part) for row in beside} != {getattr(row, part) for row in nearest}:
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    return _one(nearest, part)


def _one(rows: Sequence[Benefit], part: str) -> _Cell[Any]:
    """The value on which all agree. Different values under different conditions are several shares and no conflict."""
    if len({getattr(row, part) for row in rows}) == 1 and len({row.tier for row in rows}) == 1:
        return _Cell(getattr(rows[0], part), tuple(rows))
    conditions: defaultdict[str, set[Any]] = defaultdict(set)
    for row in rows:
        conditions[_condition(row)].add(getattr(row, part))
    contradicted = any(len(values) > 1 for values in conditions.values())
    return _Cell(rows=tuple(rows), why_null=WhyNull.CONFLICT if contradicted else WhyNull.SEVERAL_SHARES)


def _condition(row: Benefit) -> str:
    return repr((row.tier, row.period, sorted(places(row)), row.provider_kind, row.insurance_type, row.plan_name))


def _by_level(
    rows: list[Benefit], network: Network, kind: Kind, notes: _Notes, *, of_persons: bool
) -> tuple[ByLevel, dict[str, tuple[Benefit, ...]]]:
    """The cells, and by their names the rows that they were taken from."""
    if not rows:
        return ByLevel(), {}
    cells = {name: _accumulated([row for row in rows if row.level is level]) for level, name in _LEVELS.items()}
    stated: dict[str, Accumulator] = {}
    for name, cell in cells.items():
        path = f"{kind}.{name}"
        if cell.why_null is WhyNull.CONFLICT:
            notes.conflict(network, path, kind, cell.rows)
        value = notes.value(f"{network}.{path}", cell)
        if value is not None:
            stated[name] = value
    limits = (cells["individual"], cells["family"])
    left = [cell.value.remaining for cell in limits if cell.value is not None and cell.value.remaining is not None]
    unclear = [cell.why_null for cell in limits if cell.why_null not in (None, WhyNull.NOT_STATED)]
    if unclear:
        notes.why_null[f"{network}.{kind}.effective_remaining"] = unclear[0]
    return ByLevel(
        **stated,
        embedded=False if "family" in stated and not of_persons else None,
        effective_remaining=min(left) if left and not unclear else None,
    ), {name: cell.rows for name, cell in cells.items() if cell.value is not None}


def _accumulated(rows: list[Benefit]) -> _Cell[Accumulator]:
    """The figures of these rows as one, if nothing narrows them and they agree. A limit of a lifetime is not the year's."""
    if not rows:
        return _NOT_STATED
    general = [row for row in rows if is_general(row)]
    candidates = [row for row in general if row.period in _YEARLY] or general
    if not candidates:
        return _Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    if len({row.tier for row in candidates}) > 1:
        return _Cell(rows=tuple(candidates), why_null=WhyNull.SEVERAL_SHARES)
    figures: dict[str, Decimal] = {}
    for name in _FIGURES:
        values = {value for row in candidates if (value := getattr(row, name)) is not None}
        if len(values) > 1:
            return _Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
        if values:
            figures[name] = values.pop()
    if is_impossible(figures.get("total"), figures.get("used"), figures.get("remaining")):
        return _Cell(rows=tuple(candidates), why_null=WhyNull.CONFLICT)
    shared = sorted({other for row in candidates for other in row.shared_with})
    includes = {row.includes_deductible for row in candidates} - {None}
    accumulator = Accumulator(
        **figures,
        unlimited="total" not in figures and any(row.unlimited for row in candidates),
        shared_with=shared,
        includes_deductible=includes.pop() if len(includes) == 1 else None,
    )
    return _Cell(accumulator, tuple(candidates))


def is_impossible(total: Decimal | None, used: Decimal | None, remaining: Decimal | None) -> bool:
    """More is left than there is. Less may be: what is left of the family's amount limits that of a person."""
    if total is None or remaining is None:
        return False
    return remaining > max(total if used is None else total - used, _NOTHING)


def _is_accumulator(row: Benefit) -> bool:
    return row.unlimited or any(getattr(row, name) is not None for name in _FIGURES)


def _is_of_the_plan(row: Benefit) -> bool:
    return not row.procedure_codes and (not row.service_type_codes or WHOLE_PLAN in row.service_type_codes)


# --- the asked service -----------------------------------------------------------------------------------------------


def _of_service(
    near: Sequence[Benefit], denials: Sequence[Benefit], question: SharedCostQuestion, notes: _Notes
) -> ServiceShare:
    network = _network_of_service(near, question)
    rows = _heard(near, denials, question, network)
    # Some vendors state shares for no network in particular, beside others of a network or of this provider.
    unplaced = _heard(near, denials, question, Network.UNKNOWN) if network is not Network.UNKNOWN else []
    copay, percent = _of_one_share(
        _or_else(_matching(rows, question, Kind.COPAY), _matching(unplaced, question, Kind.COPAY)),
        _or_else(_matching(rows, question, Kind.COINSURANCE), _matching(unplaced, question, Kind.COINSURANCE)),
        question,
    )
    visits = _or_else(_visits(rows, question), _visits(unplaced, question))
    about = [row for row in (*rows, *unplaced) if _distance(row, question) < _PLAN and _fits(row, question)]
    needs = _nearest([row for row in about if need_of(row) is not AuthorizationNeed.UNKNOWN], question)
    chosen = [row for cell in (copay, percent) if cell.value is not None for row in cell.rows]
    applies = _deductible(chosen, about, question)
    for name, kind, cell in (("copay", Kind.COPAY, copay), ("coinsurance_percent", Kind.COINSURANCE, percent)):
        known = notes.why_null.get(f"{network}.{name}")
        if cell.why_null is WhyNull.CONFLICT and known is not WhyNull.CONFLICT:
            notes.conflict(network, f"service.{name}", kind, cell.rows)
    stated_in = {row.network for row in chosen}
    shown = Network.UNKNOWN if stated_in == {Network.UNKNOWN} else network
    matched_by = _matched_by(chosen, question)
    return ServiceShare(
        network=shown,
        copay=notes.value("service.copay", copay),
        coinsurance_percent=notes.value("service.coinsurance_percent", percent),
        deductible_applies=notes.value("service.deductible_applies", applies),
        visits=notes.value("service.visits", visits),
        authorization=authorization_among(needs),
        matched_by=matched_by,
        why=_why(chosen, matched_by, shown),
        sources={
            **_sources(chosen, "copay", "amount"),
            **_sources(chosen, "coinsurance_percent", "percent"),
            **_sources(applies.rows, "deductible_applies", "deductible_waived", "total"),
            **_sources(visits.rows if visits.value is not None else (), "visits", "quantity"),
            **_sources(needs, "authorization", "authorization", "authorization_required"),
        },
    )


def _sources(rows: Iterable[Benefit], name: str, *fields: str) -> Sources:
    """By the first of the fields that has any."""
    rows = list(rows)
    return next((found for field in fields if (found := sources_of(rows, {name: field}))), {})


def _or_else(cell: _Cell[_V], other: _Cell[_V]) -> _Cell[_V]:
    return other if cell.why_null is WhyNull.NOT_STATED else cell


def _of_one_share(
    copay: _Cell[Any], percent: _Cell[Any], question: SharedCostQuestion
) -> tuple[_Cell[Any], _Cell[Any]]:
    """A copay of the service and a coinsurance of the plan are not one share: the farther one is not the service's."""
    if not copay.rows or not percent.rows:
        return copay, percent
    near, far = _distance(copay.rows[0], question), _distance(percent.rows[0], question)
    if near < far:
        return copay, _NOT_STATED
    return (_NOT_STATED, percent) if far < near else (copay, percent)


def _deductible(chosen: Sequence[Benefit], about: Sequence[Benefit], question: SharedCostQuestion) -> _Cell[bool]:
    """By the share itself; else by a row on the same codes: one that waives it, or a deductible of zero for them."""
    if (applies := deductible_applies(chosen)) is not None:
        return _Cell(applies, tuple(row for row in chosen if row.deductible_waived is not None))
    near = _nearest(chosen or about, question)
    distance = _distance(near[0], question) if near else _ELSE
    alike = [row for row in about if _distance(row, question) == distance]
    waiving = [row for row in alike if row.deductible_waived is not None]
    if waiving:
        waiving = _most_specific(waiving)
        if (applies := deductible_applies(waiving)) is not None:
            return _Cell(applies, tuple(waiving))
        return _Cell(why_null=WhyNull.SEVERAL_SHARES)
    own = _most_specific([row for row in alike if row.kind is Kind.DEDUCTIBLE and row.total is not None])
    if own and all(row.total == 0 for row in own):
        return _Cell(False, tuple(own))
    return _NOT_STATED


def _network_of_service(near: Iterable[Benefit], question: SharedCostQuestion) -> Network:
    """The provider's own; else in network, as a patient would be sent there; else what was stated for no network."""
    if question.network is not None:
        return question.network
    telling = (
        [row for row in near if row.kind in _STATED_IN]
        or [row for row in near if row.quantity is not None]
        or [row for row in near if need_of(row) is not AuthorizationNeed.UNKNOWN]
    )
    stated = {network for row in telling for network in _FEEDS[row.network]}
    return next((one for one in (Network.IN, Network.UNKNOWN) if one in stated), Network.UNKNOWN)


def _matching(rows: Iterable[Benefit], question: SharedCostQuestion, kind: Kind) -> _Cell[Any]:
    (part,) = _STATED_IN[kind]
    near = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    fitting = [row for row in near if _fits(row, question)]
    if not fitting:
        return _Cell(why_null=_why_not(near, part)) if near else _NOT_STATED
    nearest = _most_specific(_nearest(fitting, question))
    if min(_distance(row, question) for row in near) < _distance(nearest[0], question):
        return _Cell(why_null=_why_not(near, part))
    return _of_the_kind(rows, nearest, question, part) or _one(nearest, part)


def _of_the_kind(
    rows: Iterable[Benefit], nearest: Sequence[Benefit], question: SharedCostQuestion, part: str
) -> _Cell[Any] | None:
    """If the payer prices the asked kind of physician apart from the visits that it states for any kind.

    A visit has that price; of a service that only may be paid as a visit it is not known whether it does.
    """
    of_any_kind = {
        getattr(row, part)
        for row in nearest
        if row.provider_kind is None and not VISITS.isdisjoint(row.service_type_codes)
    }
    apart = [
        row for row in rows if row.kind in SHARING and _distance(row, question) == _PHYSICIAN and _fits(row, question)
    ]
    if not of_any_kind or not apart:
        return None
    stating = _most_specific([row for row in apart if getattr(row, part) is not None])
    if _distance(nearest[0], question) == 0:
        return _one(stating, part) if stating else _NOT_STATED
    if {getattr(row, part) for row in stating} == of_any_kind:
        return None
    return _Cell(why_null=WhyNull.SEVERAL_SHARES)


def _most_specific(rows: list[Benefit]) -> list[Benefit]:
    most = max((_specific(row) for row in rows), default=0)
    return [row for row in rows if _specific(row) == most]


def _why_not(near: Sequence[Benefit], part: str) -> WhyNull:
    """Several that only place or provider tell apart, of which the inquiry chooses none; or nothing but narrower rows."""
    told_apart = {getattr(row, part) for row in near if not row.limited_to and not row.facility}
    return WhyNull.SEVERAL_SHARES if len(told_apart) > 1 else WhyNull.LIMITED_ROWS_ONLY


def _fits(row: Benefit, question: SharedCostQuestion) -> bool:
    """Whether all conditions of the row are those of the inquiry."""
    if row.limited_to or row.facility:
        return False
    if row.provider_kind is not None and row.provider_kind is not question.provider_kind:
        return False
    where = places(row)
    return not where or bool(where & question.places)


def _specific(row: Benefit) -> int:
    return bool(places(row)) * 2 + (row.provider_kind is not None)


def _visits(rows: Iterable[Benefit], question: SharedCostQuestion) -> _Cell[Quantity]:
    counted = [
        row
        for row in rows
        if row.kind not in SHARING
        and row.quantity is not None
        and row.quantity.unit is Unit.VISITS
        and _distance(row, question) < _PLAN
        and _fits(row, question)
    ]
    if not counted:
        return _NOT_STATED
    nearest = _nearest(counted, question)
    # So many a day are beside those of the year, not instead of them.
    nearest = [row for row in nearest if row.period in _YEARLY] or nearest
    quantities = {row.quantity.model_dump_json(): row.quantity for row in nearest if row.quantity is not None}
    if len(quantities) > 1:
        return _Cell(rows=tuple(nearest), why_null=WhyNull.SEVERAL_SHARES)
    return _Cell(next(iter(quantities.values())), tuple(nearest))


def _matched_by(rows: Sequence[Benefit], question: SharedCostQuestion) -> MatchedBy | None:
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


def _nearest(rows: Sequence[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    distances = [_distance(row, question) for row in rows]
    least = min(distances, default=_ELSE)
    nearest = [row for row, distance in zip(rows, distances, strict=True) if distance == least < _ELSE]
    return nearest if least else _of_the_procedures(nearest, question)


def _of_the_procedures(rows: list[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    """What is stated for the asked procedures goes before their service type, if it is stated for each of them."""
    asked = question.procedures
    own = [row for row in rows if not asked.isdisjoint(row.procedure_codes)]
    return own if own and asked <= {code for row in own for code in row.procedure_codes} else rows


def _distance(row: Benefit, question: SharedCostQuestion) -> int:
    """0 on the asked codes or the vendor's notion of the service; the place of its code in the family; the plan; else."""
    if row.applies_to is AppliesTo.ASKED_SERVICE:
        return 0
    procedures, service_types = row.procedure_codes, row.service_type_codes
    if not (procedures or service_types):
        return _PLAN + 1
    # A row of a procedure speaks of this alone, not of the service types beside it.
    own, asked = (procedures, question.procedures) if procedures else (service_types, question.service_types)
    if not asked.isdisjoint(own):
        return 0
    if not procedures:
        for place, code in enumerate(question.family, start=1):
            if code in service_types:
                return place
        if _is_of_physicians(row, question):
            return _PHYSICIAN
    return _PLAN if WHOLE_PLAN in service_types else _ELSE


def _is_of_physicians(row: Benefit, question: SharedCostQuestion) -> bool:
    """What physicians as a whole have of a visit: the price of the asked kind, and a deductible."""
    if not question.is_visit or PHYSICIAN not in row.service_type_codes or WHOLE_PLAN in row.service_type_codes:
        return False
    is_of_any = row.provider_kind is None and row.kind in _ACCUMULATED
    return is_of_any or row.provider_kind is question.provider_kind is not None
