"""The short reading of the benefits: per network one copay, coinsurance, deductible and out-of-pocket maximum.

Rules of api.md section 4 and vendors.md 6.7: `both` feeds `in` and `out`; an unstated network feeds only `unknown`, an unstated
level only `unknown_level`; rows on the asked codes are preferred, then service type 30, then plan-wide rows. Where distinct
amounts or tiers are left the value is null and a `conflicting_amounts` warning says so: nothing is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from covergate.eligibility.result import Accumulator, Benefit, ByLevel, NetworkSummary, Summary, Warning_
from covergate.eligibility.terms import AppliesTo, CodeType, Kind, Level, Network, WarningCode

Codes = frozenset[tuple[CodeType, str]]

FEEDS: dict[Network, tuple[Network, ...]] = {
    Network.IN: (Network.IN,),
    Network.OUT: (Network.OUT,),
    Network.BOTH: (Network.IN, Network.OUT),
    Network.UNKNOWN: (Network.UNKNOWN,),
}
LEVELS: dict[str, Level] = {
    "individual": Level.INDIVIDUAL,
    "family": Level.FAMILY,
    "unknown_level": Level.UNKNOWN,
}
STATED_IN: dict[Kind | None, tuple[str, ...]] = {
    Kind.COPAY: ("amount",),
    Kind.COINSURANCE: ("percent",),
    Kind.DEDUCTIBLE: ("total", "used", "remaining"),
    Kind.OUT_OF_POCKET_MAX: ("total", "used", "remaining"),
    None: ("authorization_required",),
}
"""The fields of a benefit that hold what the summary shows of a kind; None is what any kind can state."""
CONFLICT = "Several different values were stated for {field} ({network} network); see benefits."


def summarize(benefits: list[Benefit], asked: Codes) -> tuple[Summary, list[Warning_]]:
    warnings: list[Warning_] = []
    parts = {
        network: _of_network([row for row in benefits if network in FEEDS[row.network]], asked, network, warnings)
        for network in (Network.IN, Network.OUT, Network.UNKNOWN)
    }
    return Summary.model_validate({network.value: part for network, part in parts.items()}), warnings


def _of_network(rows: list[Benefit], asked: Codes, network: Network, warnings: list[Warning_]) -> NetworkSummary | None:
    def one(kind: Kind | None, field: str, value: Callable[[Benefit], Any], among: Iterable[Benefit] = rows) -> Any:
        return _single(kind, field, value, among, asked, network, warnings)

    def by_level(kind: Kind) -> ByLevel:
        return ByLevel(
            **{
                name: one(kind, f"{kind.value}.{name}", _accumulator, [row for row in rows if row.level is level])
                for name, level in LEVELS.items()
            }
        )

    found = NetworkSummary(
        copay=one(Kind.COPAY, "copay", lambda row: row.amount),
        coinsurance_percent=one(Kind.COINSURANCE, "coinsurance", lambda row: row.percent),
        deductible=by_level(Kind.DEDUCTIBLE),
        out_of_pocket_max=by_level(Kind.OUT_OF_POCKET_MAX),
        authorization_required=one(None, "authorization_required", lambda row: row.authorization_required),
    )
    stated = any(row.kind in (Kind.COPAY, Kind.COINSURANCE, Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX) for row in rows)
    return found if stated or found.authorization_required is not None else None


def _accumulator(row: Benefit) -> Accumulator | None:
    if row.total is None and row.used is None and row.remaining is None:
        return None
    return Accumulator(total=row.total, used=row.used, remaining=row.remaining)


def _single(
    kind: Kind | None,
    field: str,
    value: Callable[[Benefit], Any],
    rows: Iterable[Benefit],
    asked: Codes,
    network: Network,
    warnings: list[Warning_],
) -> Any:
    """The one value of the nearest rows that state one, or None with a warning where they differ."""
    candidates = [row for row in rows if (kind is None or row.kind is kind) and value(row) is not None]
    if not candidates:
        return None
    nearest = min(_distance(row, asked) for row in candidates)
    if nearest == NOT_ABOUT_THE_QUESTION:
        return None
    candidates = [row for row in candidates if _distance(row, asked) == nearest]
    values = {(row.tier, *_key(value(row))): value(row) for row in candidates}
    if len(values) == 1:
        return next(iter(values.values()))
    sources = sorted(
        {pointer for row in candidates for name in STATED_IN[kind] for pointer in row.sources.get(name, [])}
    )
    warnings.append(
        Warning_(
            code=WarningCode.CONFLICTING_AMOUNTS,
            message=CONFLICT.format(field=field, network=network.value),
            sources=sources,
        )
    )
    return None


NOT_ABOUT_THE_QUESTION = 3


def _distance(row: Benefit, asked: Codes) -> int:
    """0 on the asked codes (or the vendor's notion of the service), 1 service type 30, 2 plan-wide, 3 something else."""
    codes = {(CodeType.PROCEDURE, code) for code in row.procedure_codes}
    codes |= {(CodeType.SERVICE_TYPE, code) for code in row.service_type_codes}
    if row.applies_to is AppliesTo.ASKED_SERVICE or codes & asked:
        return 0
    if (CodeType.SERVICE_TYPE, "30") in codes:
        return 1
    return NOT_ABOUT_THE_QUESTION if codes else 2


def _key(value: Any) -> tuple[Decimal | bool | None, ...]:
    return (value.total, value.used, value.remaining) if isinstance(value, Accumulator) else (value,)
