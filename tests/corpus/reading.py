"""CoverGate's reading of a sample in the words in which the biller's is written, and the cells in which two readings differ.

    {
      "outcome": "eligible", "outcome_reason": null, "coverage": "active",
      "plan": {"name", "type", "starts_on", "ends_on", "open_ended", "group_number", "paid_through"},
      "plans": ["medical active OPEN CHOICE"],
      "bill_to": "this_payer: SAMPLE HEALTH",
      "in": {"covered", "copay", "coinsurance", "deductible individual": "1000.00 / - / 250.00", "out_of_pocket_max family", …},
      "out": {}, "unknown": {},
      "service": {"network", "copay", "coinsurance", "deductible_applies", "visits": "20 / 3 / 17 visits", "authorization"},
      "provider_in_network": null, "referral_required": null,
      "other_coverage": ["part_d: SAMPLE RX"],
      "warnings": {"expected": […], "forbidden": […]}
    }

An accumulator is total / used / remaining, `-` for what was not stated, `unlimited` for one that has no limit. What a network
or the service does not name is null, but for `covered`, `network` and `authorization`; any other key that the biller leaves out
is not compared. A refused inquiry has only `{"failure": code}`.
"""

from __future__ import annotations

from typing import Any

from covergate.eligibility.result import (
    Accumulator,
    BillTo,
    NetworkSummary,
    OtherCoverage,
    PlanPart,
    Quantity,
    Result,
    ServiceShare,
)
from tests.corpus.samples import Read

_Json = dict[str, Any]

NETWORKS = ("in", "out", "unknown")
ACCUMULATORS = ("deductible", "out_of_pocket_max")
LEVELS = ("individual", "family", "unknown_level")


def reading(of: Read) -> _Json:
    if of.failure is not None:
        return {"failure": of.failure.code.value}
    assert of.derived is not None
    result = of.derived.result
    summary = result.summary
    return {
        "outcome": of.derived.outcome.value,
        "outcome_reason": of.derived.reason.value if of.derived.reason else None,
        "coverage": result.coverage.value,
        "service_covered": result.service_covered,
        "plan": {
            **result.plan.model_dump(mode="json", exclude={"sources", "open_ended"}),
            "open_ended": result.plan.open_ended or None,
        },
        "plans": sorted(_plan(plan) for plan in result.plans),
        "bill_to": _bill_to(result.bill_to),
        "in": _network(summary.in_),
        "out": _network(summary.out),
        "unknown": _network(summary.unknown),
        "service": _service(summary.service),
        "provider_in_network": result.provider_in_network,
        "referral_required": result.referral_required,
        "other_coverage": sorted(_other(one) for one in result.other_coverage),
        "verification_number": result.references.verification_number,
        "warnings": sorted({one.code.value for one in result.warnings}),
    }


def _plan(plan: PlanPart) -> str:
    return " ".join(part for part in (plan.program.value, plan.coverage.value, plan.name) if part)


def _bill_to(bill_to: BillTo | None) -> str | None:
    return None if bill_to is None else f"{bill_to.because.value}: {bill_to.payer.name or '-'}"


def _other(other: OtherCoverage) -> str:
    kind = " ".join(part for part in (other.order, other.kind.value) if part)
    return f"{kind}: {other.payer.name or '-'}"


def _network(summary: NetworkSummary | None) -> _Json:
    if summary is None:
        return {}
    cells: _Json = {
        "covered": summary.covered,
        "copay": _amount(summary.copay),
        "coinsurance": _number(summary.coinsurance_percent),
    }
    for name in ACCUMULATORS:
        by_level = getattr(summary, name)
        cells |= {f"{name} {level}": _accumulator(getattr(by_level, level)) for level in LEVELS}
    return _stated(cells)


def _service(share: ServiceShare) -> _Json:
    cells = {
        "network": share.network.value if share.network.value != "unknown" else None,
        "copay": _amount(share.copay),
        "coinsurance": _number(share.coinsurance_percent),
        "deductible_applies": share.deductible_applies,
        "visits": _quantity(share.visits),
        "authorization": share.authorization.value if share.authorization.value != "unknown" else None,
    }
    # Of which network nothing was said is no reading.
    return {} if not _stated({**cells, "network": None}) else _stated(cells)


def _stated(cells: _Json) -> _Json:
    return {name: value for name, value in cells.items() if value is not None}


def _amount(value: Any) -> str | None:
    return None if value is None else f"{value:.2f}"


def _number(value: Any) -> str | None:
    return None if value is None else f"{value.normalize():f}"


def _accumulator(one: Accumulator | None) -> str | None:
    if one is None:
        return None
    if one.unlimited:
        return "unlimited"
    return " / ".join(_amount(value) or "-" for value in (one.total, one.used, one.remaining))


def _quantity(one: Quantity | None) -> str | None:
    if one is None:
        return None
    counts = " / ".join(_number(value) or "-" for value in (one.total, one.used, one.remaining))
    return f"{counts} {one.unit.value}"


_ONLY_IF_NAMED = frozenset({"covered", "network", "authorization"})
"""Cells that a biller need not name: what is not denied, and what follows from other rows than those on money."""


def differences(biller: _Json, ours: _Json) -> list[str]:
    """One line for each cell in which they differ: its path, the biller's value and ours."""
    found = []
    for path, expected, seen in _cells(biller, ours):
        if expected != seen:
            found.append(f"{path}: the biller reads {expected}, we say {seen}")
    return found


def _cells(biller: _Json, ours: _Json) -> list[tuple[str, Any, Any]]:
    if "failure" in biller or "failure" in ours:
        return [("failure", biller.get("failure"), ours.get("failure"))]
    cells: list[tuple[str, Any, Any]] = []
    for key, expected in biller.items():
        seen = ours[key]
        match key:
            case "warnings":
                cells += [(f"warnings {code}", True, code in seen) for code in expected["expected"]]
                cells += [(f"warnings {code}", False, code in seen) for code in expected["forbidden"]]
            case "in" | "out" | "unknown" | "service":
                names = [*expected, *(name for name in seen if name not in expected and name not in _ONLY_IF_NAMED)]
                cells += [(f"{key} {name}", expected.get(name), seen.get(name)) for name in names]
            case "plan":
                cells += [(f"plan {name}", value, seen[name]) for name, value in expected.items()]
            case "plans" | "other_coverage":
                cells.append((key, sorted(expected), seen))
            case _:
                cells.append((key, expected, seen))
    return cells


def null_cells(result: Result) -> list[str]:
    """The paths of the summary's cells that a reader looks for and that are null."""
    paths = []
    for network in NETWORKS:
        cells = getattr(result.summary, "in_" if network == "in" else network)
        if cells is None:
            continue
        paths += [f"{network}.{name}" for name in ("copay", "coinsurance_percent") if getattr(cells, name) is None]
        paths += [
            f"{network}.{name}.{level}"
            for name in ACCUMULATORS
            for level in ("individual", "family")
            if getattr(getattr(cells, name), level) is None and getattr(cells, name).unknown_level is None
        ]
    share = result.summary.service
    paths += [f"service.{name}" for name in ("copay", "coinsurance_percent") if getattr(share, name) is None]
    return paths
