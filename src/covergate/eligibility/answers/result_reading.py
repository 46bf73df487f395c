"""A result as the rules of the answers read it: JSON with every key, and what several rules need of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Network, WarningCode

ResultPartJson = Mapping[str, Any]


NO_FIELDS: ResultPartJson = {}


_COST = ("copay", "coinsurance_percent", "deductible_applies")


LEVELS_LEFT = ("individual", "family", "unknown_level")


class Found(NamedTuple):
    answer: Any
    sources: list[str]


NOTHING_FOUND = Found(None, [])


class ResultReading:
    """A result with every key, as JSON, and what several rules need of it."""

    def __init__(self, result: ResultPartJson, outcome: str | None, reason: str | None) -> None:
        self.result, self.outcome, self.reason = result, outcome, reason
        self.summary: ResultPartJson = result["summary"]
        self.service: ResultPartJson = self.summary["service"]
        self.why_null: ResultPartJson = self.summary["why_null"]
        self.provider_network = _network_of_provider(result)
        """`in` or `out`; None if nobody said."""
        self.network = self.provider_network or self._stated_network()
        """The network whose amounts are shown; None if there are none."""
        self.cell: ResultPartJson = self.summary[self.network] or NO_FIELDS if self.network else NO_FIELDS
        self.bill_to: ResultPartJson = result["bill_to"] or NO_FIELDS

    def _stated_network(self) -> str | None:
        if self.service["network"] in (Network.IN, Network.OUT):
            return str(self.service["network"])
        return next((name for name in (Network.IN, Network.UNKNOWN, Network.OUT) if self.summary[name]), None)

    def warned(self, code: WarningCode) -> list[str] | None:
        """The warning's sources; None if there is no such warning."""
        return next((warning["sources"] for warning in self.result["warnings"] if warning["code"] == code), None)

    def why(self, *paths: str) -> set[str]:
        """The reasons for which these cells of the summary, or those below them, are null."""
        return {
            reason
            for path, reason in self.why_null.items()
            if any(path == one or path.startswith(f"{one}.") for one in paths)
        }

    def rows(self, kind: str) -> Iterator[ResultPartJson]:
        """The benefits of a kind that feed the network whose amounts are shown."""
        networks = {self.network, Network.BOTH if self.network in (Network.IN, Network.OUT) else self.network}
        return (row for row in self.result["benefits"] if row["kind"] == kind and row["network"] in networks)

    @property
    def visit_cost(self) -> Found | None:
        """The share of the asked service; that of the network only if nothing was concluded of the service."""
        if self._states_cost(self.service):
            return Found(_cost(self.service, self.service["network"]), pointers_in(self.service, *_COST))
        if self.why("service") or not self._states_cost(self.cell):
            return None
        cost = {**self.cell, "deductible_applies": None}
        pointers = [
            *self.pointers("copay", "amount", self.cell["copay"]),
            *self.pointers("coinsurance", "percent", self.cell["coinsurance_percent"]),
        ]
        return Found(_cost(cost, self.network), sorted(pointers))

    @staticmethod
    def _states_cost(cell: ResultPartJson) -> bool:
        return bool(cell) and (cell["copay"] is not None or cell["coinsurance_percent"] is not None)

    def pointers(self, kind: str, field: str, value: Any) -> list[str]:
        """Where the benefits of a kind state this value."""
        found = [
            pointers_at(row["sources"], field) for row in self.rows(kind) if value is not None and row[field] == value
        ]
        return sorted({pointer for pointers in found for pointer in pointers})

    def left(self, kind: str) -> dict[str, str | None]:
        """Level → what is left of the accumulator in the network whose amounts are shown."""
        levels: ResultPartJson = self.cell.get(kind) or NO_FIELDS
        return {level: left_of(levels.get(level)) for level in LEVELS_LEFT}

    def effective_left(self, kind: str) -> str | None:
        """What this patient's bill can still meet, as far as it is stated."""
        levels, left = self.cell.get(kind) or NO_FIELDS, self.left(kind)
        if levels.get("effective_remaining") is not None:
            return str(levels["effective_remaining"])
        return min((amount for amount in left.values() if amount is not None), key=Decimal, default=None)


def _network_of_provider(result: ResultPartJson) -> str | None:
    named = result["summary"]["this_provider"]
    if named in (Network.IN, Network.OUT):
        return str(named)
    inside = result["provider_in_network"]
    return None if inside is None else Network.IN.value if inside else Network.OUT.value


def _cost(share: ResultPartJson, network: str | None) -> dict[str, Any]:
    return {
        "network": network or Network.UNKNOWN.value,
        "copay": share["copay"],
        "coinsurance_percent": share["coinsurance_percent"],
        "deductible_applies": share["deductible_applies"],
    }


def left_of(accumulator: ResultPartJson | None) -> str | None:
    """Of a deductible or a maximum: as stated, or the total less what is used, never below zero; nothing of a total of zero."""
    if accumulator is None or accumulator["remaining"] is not None:
        return None if accumulator is None else str(accumulator["remaining"])
    total, used = accumulator["total"], accumulator["used"]
    if total is None or (used is None and Decimal(total)):
        return None
    return f"{max(Decimal(total) - Decimal(used or 0), Decimal(0)):.2f}"


def pointers_in(row: ResultPartJson, *fields: str) -> list[str]:
    """Of these fields of a row, of all if none is named."""
    named = fields or tuple(row["sources"])
    return sorted({pointer for field in named for pointer in pointers_at(row["sources"], field)})
