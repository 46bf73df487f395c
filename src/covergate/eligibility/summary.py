"""The short reading of the benefits: per network one copay, coinsurance, deductible and out-of-pocket maximum.

Rules (docs/api.md#4-the-result, docs/x12.md#choosing-an-amount): `both` feeds `in` and `out`; an unstated network feeds only
`unknown`, an unstated level only `unknown_level`; rows on the asked codes are preferred, then service type 30, then plan-wide
rows. If distinct amounts or tiers are left, the value is null and a `conflicting_amounts` warning says so: nothing is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from covergate.eligibility.result import Accumulator, Benefit, ByLevel, NetworkSummary, Summary, Warning_
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import AppliesTo, CodeType, Kind, Level, Network, WarningCode

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
_STATED_IN: dict[Kind | None, tuple[str, ...]] = {
    Kind.COPAY: ("amount",),
    Kind.COINSURANCE: ("percent",),
    Kind.DEDUCTIBLE: ("total", "used", "remaining"),
    Kind.OUT_OF_POCKET_MAX: ("total", "used", "remaining"),
    None: ("authorization_required",),
}
"""The fields of a benefit that hold the summary's values, by kind; any kind can state those of None."""
_SUMMARIZED = frozenset({Kind.COPAY, Kind.COINSURANCE, Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX})
_CONFLICT = "Several different values were stated for {field} ({network} network); see benefits."
_ABOUT_SOMETHING_ELSE = 3


def summarize(benefits: list[Benefit], asked: ServiceCodes) -> tuple[Summary, list[Warning_]]:
    warnings: list[Warning_] = []
    networks = {
        network: _of_network([row for row in benefits if network in _FEEDS[row.network]], asked, network, warnings)
        for network in (Network.IN, Network.OUT, Network.UNKNOWN)
    }
    return Summary.model_validate({network.value: summary for network, summary in networks.items()}), warnings


def _of_network(
    rows: list[Benefit], asked: ServiceCodes, network: Network, warnings: list[Warning_]
) -> NetworkSummary | None:
    rows = [row for row in rows if row.kind in _SUMMARIZED or row.authorization_required is not None]
    if not rows:
        return None

    def one(kind: Kind | None, field: str, value: Callable[[Benefit], Any], among: Iterable[Benefit] = rows) -> Any:
        return _single(kind, field, value, among, asked, network, warnings)

    def by_level(kind: Kind) -> ByLevel:
        return ByLevel(
            **{
                name: one(kind, f"{kind.value}.{name}", _accumulator, [row for row in rows if row.level is level])
                for level, name in _LEVELS.items()
            }
        )

    summary = NetworkSummary(
        copay=one(Kind.COPAY, "copay", lambda row: row.amount),
        coinsurance_percent=one(Kind.COINSURANCE, "coinsurance", lambda row: row.percent),
        deductible=by_level(Kind.DEDUCTIBLE),
        out_of_pocket_max=by_level(Kind.OUT_OF_POCKET_MAX),
        authorization_required=one(None, "authorization_required", lambda row: row.authorization_required),
    )
    is_stated = any(row.kind in _SUMMARIZED for row in rows)
    return summary if is_stated or summary.authorization_required is not None else None


def _accumulator(row: Benefit) -> Accumulator | None:
    if row.total is None and row.used is None and row.remaining is None:
        return None
    return Accumulator(total=row.total, used=row.used, remaining=row.remaining)


def _single(
    kind: Kind | None,
    field: str,
    value: Callable[[Benefit], Any],
    rows: Iterable[Benefit],
    asked: ServiceCodes,
    network: Network,
    warnings: list[Warning_],
) -> Any:
    """The one value of the nearest rows that state one, or None with a warning if they differ."""
    stating = [
        (row, stated) for row in rows if (kind is None or row.kind is kind) and (stated := value(row)) is not None
    ]
    if not stating:
        return None
    distances = [_distance(row, asked) for row, _ in stating]
    nearest = min(distances)
    if nearest == _ABOUT_SOMETHING_ELSE:
        return None
    candidates = [one for one, distance in zip(stating, distances, strict=True) if distance == nearest]
    values = {(row.tier, *_key(stated)): stated for row, stated in candidates}
    if len(values) == 1:
        return next(iter(values.values()))
    sources = {
        pointer for row, _ in candidates for name in _STATED_IN[kind] for pointer in pointers_at(row.sources, name)
    }
    warnings.append(
        Warning_(
            code=WarningCode.CONFLICTING_AMOUNTS,
            message=_CONFLICT.format(field=field, network=network.value),
            sources=sorted(sources),
        )
    )
    return None


def _distance(row: Benefit, asked: ServiceCodes) -> int:
    """0 on the asked codes (or the vendor's notion of the service), 1 service type 30, 2 plan-wide, 3 something else."""
    if row.applies_to is AppliesTo.ASKED_SERVICE:
        return 0
    if not row.procedure_codes and not row.service_type_codes:
        return 2
    codes = {(CodeType.PROCEDURE, code) for code in row.procedure_codes}
    codes |= {(CodeType.SERVICE_TYPE, code) for code in row.service_type_codes}
    if codes & asked:
        return 0
    return 1 if (CodeType.SERVICE_TYPE, "30") in codes else _ABOUT_SOMETHING_ELSE


def _key(value: Any) -> tuple[Decimal | bool | None, ...]:
    return (value.total, value.used, value.remaining) if isinstance(value, Accumulator) else (value,)
