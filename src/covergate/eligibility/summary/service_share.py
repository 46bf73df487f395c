"""The cost share that matches the asked service, place of service and specialty, in the network that holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from covergate.eligibility.cost_shares import (
    SHARING,
    authorization_among,
    deductible_applies,
    need_of,
    places,
    sources_of,
)
from covergate.eligibility.result import Benefit, Quantity, ServiceShare
from covergate.eligibility.service_types import VISITS
from covergate.eligibility.sourced import Sources
from covergate.eligibility.summary.cells import (
    FEEDS,
    NO_VALUE,
    STATED_IN,
    YEARLY,
    Cell,
    SummaryNotes,
    agreed_cell,
    or_else,
)
from covergate.eligibility.summary.cost_question import (
    KIND_IN_WORDS,
    OF_PHYSICIANS,
    OF_SOMETHING_ELSE,
    OF_THE_PLAN,
    SharedCostQuestion,
    distance_to,
    fits,
    is_elsewhere,
    most_specific,
    nearest_of,
)
from covergate.eligibility.summary.denials import heard
from covergate.eligibility.terms import AuthorizationNeed, BenefitPlace, Kind, MatchedBy, Network, Unit, WhyNull


def service_share(
    near: Sequence[Benefit], denials: Sequence[Benefit], question: SharedCostQuestion, notes: SummaryNotes
) -> ServiceShare:
    network = _network_of_service(near, question)
    rows = heard(near, denials, question, network)
    # Some vendors state shares for no network in particular, beside others of a network or of this provider.
    unplaced = heard(near, denials, question, Network.UNKNOWN) if network is not Network.UNKNOWN else []
    copay, percent = _of_one_share(
        or_else(_matching(rows, question, Kind.COPAY), _matching(unplaced, question, Kind.COPAY)),
        or_else(_matching(rows, question, Kind.COINSURANCE), _matching(unplaced, question, Kind.COINSURANCE)),
        question,
    )
    visits = or_else(_visits(rows, question), _visits(unplaced, question))
    about = [row for row in (*rows, *unplaced) if distance_to(row, question) < OF_THE_PLAN and fits(row, question)]
    needs = nearest_of([row for row in about if need_of(row) is not AuthorizationNeed.UNKNOWN], question)
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


def _network_of_service(near: Iterable[Benefit], question: SharedCostQuestion) -> Network:
    """The provider's own; else in network, as a patient would be sent there; else what was stated for no network."""
    if question.network is not None:
        return question.network
    telling = (
        [row for row in near if row.kind in STATED_IN]
        or [row for row in near if row.quantity is not None]
        or [row for row in near if need_of(row) is not AuthorizationNeed.UNKNOWN]
    )
    stated = {network for row in telling for network in FEEDS[row.network]}
    return next((one for one in (Network.IN, Network.UNKNOWN) if one in stated), Network.UNKNOWN)


def _matching(rows: Iterable[Benefit], question: SharedCostQuestion, kind: Kind) -> Cell[Any]:
    (part,) = STATED_IN[kind]
    near = [row for row in rows if row.kind is kind and getattr(row, part) is not None]
    fitting = [row for row in near if fits(row, question)]
    if not fitting:
        return Cell(why_null=_why_not(near, part)) if near else NO_VALUE
    nearest = most_specific(nearest_of(fitting, question))
    nearer = [row for row in near if distance_to(row, question) < distance_to(nearest[0], question)]
    if any(not is_elsewhere(row, question) for row in nearer):
        return Cell(why_null=_why_not(near, part))
    if _is_priced_apart(near, nearest, question, part):
        return Cell(why_null=WhyNull.LIMITED_ROWS_ONLY)
    return _of_the_kind(rows, nearest, question, part) or agreed_cell(nearest, part, question.codes)


_TELEHEALTH = re.compile(r"\b(tele-?(health|medicine)|virtual|video)\b", re.IGNORECASE)


def _is_priced_apart(
    near: Iterable[Benefit], nearest: Sequence[Benefit], question: SharedCostQuestion, part: str
) -> bool:
    """Whether only a price for any visit is known beside another one whose words, which nobody reads, name the asked visit.

    They name telehealth, or the asked kind of provider.
    """
    words: list[re.Pattern[str]] = []
    if BenefitPlace.TELEHEALTH in question.places and not any(places(row) for row in nearest):
        words.append(_TELEHEALTH)
    if question.provider_kind is not None and all(row.provider_kind is None for row in nearest):
        words.append(KIND_IN_WORDS[question.provider_kind])
    known, distances = {getattr(row, part) for row in nearest}, (distance_to(nearest[0], question), OF_PHYSICIANS)
    return any(
        pattern.search(limit)
        for row in near
        if row.limited_to and getattr(row, part) not in known and distance_to(row, question) in distances
        for limit in row.limited_to
        for pattern in words
    )


def _of_the_kind(
    rows: Iterable[Benefit], nearest: Sequence[Benefit], question: SharedCostQuestion, part: str
) -> Cell[Any] | None:
    """If the payer prices the asked kind of physician apart from the visits that it states for any kind.

    A visit has that price; of a service that only may be paid as a visit it is not known whether it does.
    """
    of_any_kind = {
        getattr(row, part)
        for row in nearest
        if row.provider_kind is None and not VISITS.isdisjoint(row.service_type_codes)
    }
    apart = [
        row
        for row in rows
        if row.kind in SHARING and distance_to(row, question) == OF_PHYSICIANS and fits(row, question)
    ]
    if not of_any_kind or not apart:
        return None
    stating = most_specific([row for row in apart if getattr(row, part) is not None])
    if distance_to(nearest[0], question) == 0:
        return agreed_cell(stating, part, question.codes) if stating else NO_VALUE
    if {getattr(row, part) for row in stating} == of_any_kind:
        return None
    return Cell(why_null=WhyNull.SEVERAL_SHARES)


def _why_not(near: Sequence[Benefit], part: str) -> WhyNull:
    """Several that only place or provider tell apart, of which the inquiry chooses none; or nothing but narrower rows."""
    told_apart = {getattr(row, part) for row in near if not row.limited_to and not row.facility}
    return WhyNull.SEVERAL_SHARES if len(told_apart) > 1 else WhyNull.LIMITED_ROWS_ONLY


def _of_one_share(copay: Cell[Any], percent: Cell[Any], question: SharedCostQuestion) -> tuple[Cell[Any], Cell[Any]]:
    """A copay of the service and a coinsurance of the plan are not one share: the farther one is not the service's."""
    if not copay.rows or not percent.rows:
        return copay, percent
    near, far = distance_to(copay.rows[0], question), distance_to(percent.rows[0], question)
    if near < far:
        return copay, NO_VALUE
    return (NO_VALUE, percent) if far < near else (copay, percent)


def _deductible(chosen: Sequence[Benefit], about: Sequence[Benefit], question: SharedCostQuestion) -> Cell[bool]:
    """By the share itself; else by a row on the same codes: one that waives it, or a deductible of zero for them."""
    if (applies := deductible_applies(chosen)) is not None:
        return Cell(applies, tuple(row for row in chosen if row.deductible_waived is not None))
    near = nearest_of(chosen or about, question)
    distance = distance_to(near[0], question) if near else OF_SOMETHING_ELSE
    alike = [row for row in about if distance_to(row, question) == distance]
    waiving = [row for row in alike if row.deductible_waived is not None]
    if waiving:
        waiving = most_specific(waiving)
        if (applies := deductible_applies(waiving)) is not None:
            return Cell(applies, tuple(waiving))
        return Cell(why_null=WhyNull.SEVERAL_SHARES)
    own = most_specific([row for row in alike if row.kind is Kind.DEDUCTIBLE and row.total is not None])
    if own and all(row.total == 0 for row in own):
        return Cell(False, tuple(own))
    return NO_VALUE


def _visits(rows: Iterable[Benefit], question: SharedCostQuestion) -> Cell[Quantity]:
    counted = [
        row
        for row in rows
        if row.kind not in SHARING
        and row.quantity is not None
        and row.quantity.unit is Unit.VISITS
        and distance_to(row, question) < OF_THE_PLAN
        and fits(row, question)
    ]
    if not counted:
        return NO_VALUE
    nearest = nearest_of(counted, question)
    # So many a day are beside those of the year, not instead of them.
    nearest = [row for row in nearest if row.period in YEARLY] or nearest
    quantities = {row.quantity.model_dump_json(): row.quantity for row in nearest if row.quantity is not None}
    if len(quantities) > 1:
        return Cell(rows=tuple(nearest), why_null=WhyNull.SEVERAL_SHARES)
    return Cell(next(iter(quantities.values())), tuple(nearest))


def _sources(rows: Iterable[Benefit], name: str, *fields: str) -> Sources:
    """By the first of the fields that has any."""
    rows = list(rows)
    return next((found for field in fields if (found := sources_of(rows, {name: field}))), {})


def _matched_by(rows: Sequence[Benefit], question: SharedCostQuestion) -> MatchedBy | None:
    if not rows:
        return None
    farthest = max(distance_to(row, question) for row in rows)
    if farthest >= OF_THE_PLAN:
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
