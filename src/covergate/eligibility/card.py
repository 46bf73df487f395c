"""A result as a front desk reads it, each value with the places in the raw replies that it came from.

Pure: of the result with every key, as JSON (`stored.with_every_key`). Nothing is concluded here that the result does not say, but
what is left of an amount whose total and use are stated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from covergate.eligibility.answers.page import AUTHORIZATION_WORDS
from covergate.eligibility.answers.result_reading import left_of
from covergate.eligibility.plain_words import plain
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import BillToReason, Kind, Level, Network, WhyNull

_Row = Mapping[str, Any]

WHY_WORDS: dict[str, str] = {
    WhyNull.NOT_STATED: "not stated",
    WhyNull.SEVERAL_SHARES: "several amounts, each under a condition",
    WhyNull.LIMITED_ROWS_ONLY: "stated only for something narrower than this visit",
    WhyNull.CONFLICT: "the payer states different amounts",
}
_NETWORK_WORDS = {"in": "in network", "out": "out of network", "unknown": "network not said"}
LEVEL_WORDS = {"individual": "individual", "family": "family", "unknown_level": "level not said"}
ACCUMULATOR_WORDS = {
    Kind.DEDUCTIBLE.value: "Deductible",
    Kind.OUT_OF_POCKET_MAX.value: "Out-of-pocket maximum",
}
_LEVELS: dict[str, frozenset[str]] = {
    "individual": frozenset({Level.INDIVIDUAL.value}),
    "family": frozenset({Level.FAMILY.value}),
    "unknown_level": frozenset({Level.UNKNOWN.value}),
}
BILL_TO_WORDS: dict[str, str] = {
    BillToReason.THIS_PAYER: "no other payer is said to pay first",
    BillToReason.MEDICARE_ADVANTAGE: "a Medicare Advantage plan pays instead of Medicare",
    BillToReason.MANAGED_CARE: "a managed care plan pays instead of the payer that was asked",
    BillToReason.CARVE_OUT: "another payer pays for this service",
    BillToReason.MSP: "another insurance pays before Medicare",
    BillToReason.OTHER_PRIMARY: "another insurance pays first",
    BillToReason.TPA: "an administrator settles claims for the payer",
}
_FEEDING: dict[str, frozenset[str]] = {
    Network.IN.value: frozenset({Network.IN.value, Network.BOTH.value}),
    Network.OUT.value: frozenset({Network.OUT.value, Network.BOTH.value}),
    Network.UNKNOWN.value: frozenset({Network.UNKNOWN.value}),
}
"""Network of the summary → networks of the rows that feed it."""


@dataclass(frozen=True, slots=True)
class CardValue:
    """A value in words. `words` None: there is none, and `why` says for which reason."""

    name: str
    words: str | None
    sources: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True)
class AccumulatorFigures:
    """A deductible or a maximum. `why`: of one of which nothing is known."""

    left: CardValue | None
    total: CardValue | None
    used: CardValue | None
    is_met: bool
    is_unlimited: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class AccumulatorLine:
    name: str
    level: str
    cells: list[AccumulatorFigures]
    """One for each network of the card."""


@dataclass(frozen=True, slots=True)
class Card:
    """`networks` are the columns; the lines of `shares` are by network, too."""

    networks: list[str]
    accumulators: list[AccumulatorLine]
    shares: list[tuple[str, list[CardValue]]]
    service: list[CardValue]
    facts: list[CardValue]
    bill_to: list[CardValue]
    plans: list[list[CardValue]]
    other_coverage: list[list[CardValue]]
    warnings: list[CardValue]


def card_of(result: _Row) -> Card:
    summary = result["summary"]
    networks = [name for name in ("in", "out", "unknown") if name != "unknown" or summary["unknown"]]
    return Card(
        networks=[_NETWORK_WORDS[name] for name in networks],
        accumulators=[
            AccumulatorLine(words, LEVEL_WORDS[level], [_accumulator(result, name, kind, level) for name in networks])
            for kind, words in ACCUMULATOR_WORDS.items()
            for level in LEVEL_WORDS
            if level != "unknown_level" or _any_has(summary, networks, kind, level)
        ],
        shares=[(words, [_share(result, name, field) for name in networks]) for field, (words, _) in _SHARES.items()],
        service=_service(summary),
        facts=_facts(result),
        bill_to=_bill_to(result),
        plans=[_plan(plan) for plan in result["plans"]],
        other_coverage=[_other(other) for other in result["other_coverage"]],
        warnings=[
            CardValue(warning["code"], plain(warning["message"]), tuple(warning["sources"]))
            for warning in result["warnings"]
        ],
    )


# --- amounts by network ----------------------------------------------------------------------------------------------


def _any_has(summary: _Row, networks: Iterable[str], kind: str, level: str) -> bool:
    return any(summary[name] and summary[name][kind][level] for name in networks)


def _accumulator(result: _Row, network: str, kind: str, level: str) -> AccumulatorFigures:
    part = result["summary"][network]
    cell = part and part[kind][level]
    if not cell:
        return AccumulatorFigures(None, None, None, False, False, _why(result, f"{network}.{kind}.{level}", network))
    figures = {
        field: _amount(field, cell[field], _stating(result, kind, network, level, field, cell[field]))
        for field in ("remaining", "total", "used")
    }
    left = left_of(cell)
    if figures["remaining"] is None and left is not None:
        parts = (figures["total"], figures["used"])
        figures["remaining"] = _amount("remaining", left, {at for one in parts if one for at in one.sources})
    is_met = left is not None and Decimal(left) == 0
    return AccumulatorFigures(
        figures["remaining"], figures["total"], figures["used"], is_met, bool(cell["unlimited"]), None
    )


def _amount(name: str, value: str | None, sources: Iterable[str]) -> CardValue | None:
    return None if value is None else CardValue(name, _dollars(value), tuple(sorted(sources)))


def _dollars(amount: str) -> str:
    return f"${Decimal(amount):,.2f}"


def _stating(result: _Row, kind: str, network: str, level: str, field: str, value: Any) -> set[str]:
    """Where rows that feed this cell state this value; of rows of another level only if none of its own does."""
    if value is None:
        return set()
    rows = [
        row
        for row in result["benefits"]
        if row["kind"] == kind and row["network"] in _FEEDING[network] and row[field] == value
    ]
    own = [row for row in rows if row["level"] in _LEVELS[level]]
    return {at for row in own or rows for at in pointers_at(row["sources"], field)}


def _why(result: _Row, path: str, *wider: str) -> str:
    """The reason for which this cell of the summary is null, or the whole that it is part of."""
    why_null = result["summary"]["why_null"]
    reason = next((why_null[name] for name in (path, *wider) if name in why_null), WhyNull.NOT_STATED)
    return WHY_WORDS.get(reason, reason)


_SHARES: dict[str, tuple[str, tuple[str, str]]] = {
    "copay": ("Copay", (Kind.COPAY.value, "amount")),
    "coinsurance_percent": ("Coinsurance", (Kind.COINSURANCE.value, "percent")),
    "authorization": ("Authorization", ("", "authorization")),
}
"""Field of a network's summary → its words, and the kind of row and the field that feed it."""


def _share(result: _Row, network: str, field: str) -> CardValue:
    words, (kind, of_row) = _SHARES[field]
    part = result["summary"][network]
    value = part[field] if part else None
    if value is None or value == "unknown":
        path = "authorization_required" if field == "authorization" else field
        return CardValue(words, None, (), _why(result, f"{network}.{path}", network))
    sources = {
        at
        for row in result["benefits"]
        if kind in ("", row["kind"])
        and row["network"] in _FEEDING[network]
        and value in (row[of_row], _need_of(row, kind))
        for name in (of_row, f"{of_row}_required")
        for at in pointers_at(row["sources"], name)
    }
    return CardValue(words, _share_words(field, value), tuple(sorted(sources)))


def _need_of(row: _Row, kind: str) -> str | None:
    """Whether a row says yes or no to an authorization, in the words of `authorization`."""
    required = None if kind else row["authorization_required"]
    return None if required is None else "required" if required else "not_required"


def _share_words(field: str, value: Any) -> str:
    if field == "copay":
        return _dollars(value)
    return f"{value} %" if field == "coinsurance_percent" else _needed(value)


def _needed(need: str) -> str:
    return {**AUTHORIZATION_WORDS, "required": "Required", "not_required": "Not required"}.get(need, need)


# --- the asked service -----------------------------------------------------------------------------------------------


def _service(summary: _Row) -> list[CardValue]:
    service, why_null = summary["service"], summary["why_null"]

    def figure(name: str, field: str, words: str | None) -> CardValue:
        why = None if words is not None else WHY_WORDS[why_null.get(f"service.{field}", WhyNull.NOT_STATED)]
        return CardValue(name, words, tuple(pointers_at(service["sources"], field)), why)

    need = service["authorization"]
    return [
        figure("Copay", "copay", None if service["copay"] is None else _dollars(service["copay"])),
        figure("Coinsurance", "coinsurance_percent", _percent(service["coinsurance_percent"])),
        figure("After the deductible", "deductible_applies", _yes_or_no(service["deductible_applies"])),
        figure("Visits left", "visits", _visits(service["visits"])),
        figure("Authorization", "authorization", None if need == "unknown" else _needed(need)),
    ]


def _percent(value: Any) -> str | None:
    return None if value is None else f"{value} %"


def _yes_or_no(value: bool | None) -> str | None:
    return None if value is None else "Yes" if value else "No"


def _visits(quantity: _Row | None) -> str | None:
    """`12 visits left of 20`; what is left is not counted here."""
    if quantity is None:
        return None
    left, used, total = (quantity[name] for name in ("remaining", "used", "total"))
    unit = quantity["unit"]
    if left is not None:
        return f"{left} {unit} left" + (f" of {total}" if total is not None else "")
    if used is not None:
        return f"{used} {unit} used" + (f" of {total}" if total is not None else "")
    return None if total is None else f"{total} {unit} in all"


# --- beside the amounts ----------------------------------------------------------------------------------------------


def _facts(result: _Row) -> list[CardValue]:
    sources = result["sources"]
    plan, covered = result["plan"], result["service_covered"]
    figures = [
        CardValue("Coverage", result["coverage"], tuple(_covering(result))),
        CardValue(
            "Service covered", _yes_or_no(covered), tuple(_confirming(result, covered)), WHY_WORDS[WhyNull.NOT_STATED]
        ),
        _stated("Provider in network", _yes_or_no(result["provider_in_network"]), sources, "provider_in_network"),
        _stated("Referral needed", _yes_or_no(result["referral_required"]), sources, "referral_required"),
        _stated("Plan", plan["name"] or plan["type_name"], plan["sources"], "name" if plan["name"] else "type_name"),
        _stated("Group", plan["group_name"] or plan["group_number"], plan["sources"], "group_name", "group_number"),
        _stated("Plan begins", plan["starts_on"], plan["sources"], "starts_on"),
        _stated("Plan ends", "no end" if plan["open_ended"] else plan["ends_on"], plan["sources"], "ends_on"),
        _stated("Premiums paid through", plan["paid_through"], plan["sources"], "paid_through"),
    ]
    may_be_left_out = {"Group", "Plan begins", "Plan ends", "Premiums paid through", "Plan"}
    return [one for one in figures if one.words is not None or one.name not in may_be_left_out]


def _covering(result: _Row) -> list[str]:
    """Where the vendor says whether the plan is active, else the codes of the rows that say it, or all of these rows."""
    if own := pointers_at(result["sources"], "coverage"):
        return own
    rows = [row["sources"] for row in result["benefits"] if row["kind"] == Kind.COVERAGE]
    codes = {at for row in rows for at in pointers_at(row, "code")}
    return sorted(codes or {at for row in rows for field in row for at in pointers_at(row, field)})


def _confirming(result: _Row, covered: bool | None) -> list[str]:
    """Where the vendor says of its own service that it is covered, else where it says it of the asked ones."""
    if own := pointers_at(result["sources"], "service_covered"):
        return own
    services = [one for one in result["services"] if covered is not None and one["covered"] is covered]
    return sorted({at for one in services for at in pointers_at(one["sources"], "covered")})


def _stated(name: str, words: str | None, sources: Mapping[str, Any], *fields: str) -> CardValue:
    places = tuple(sorted({at for field in fields for at in pointers_at(sources, field)}))
    return CardValue(name, words, places, None if words is not None else WHY_WORDS[WhyNull.NOT_STATED])


def _bill_to(result: _Row) -> list[CardValue]:
    bill_to = result["bill_to"]
    if bill_to is None:
        return []
    named = [
        _to_bill(result, name, field) for name, field in _PAYER_FIELDS.items() if bill_to["payer"][field] is not None
    ]
    because = BILL_TO_WORDS.get(bill_to["because"], bill_to["because"])
    return [*named, CardValue("Because", because, _all_of(bill_to["sources"]))]


_PAYER_FIELDS = {"Payer": "name", "Its id": "id", "Phone": "phone"}


def _to_bill(result: _Row, name: str, field: str) -> CardValue:
    """Of a payer that no reply names, the words say that it is the one that was asked."""
    bill_to, words = result["bill_to"], result["bill_to"]["payer"][field]
    named = [result["payer"], *result["related_entities"]]
    places = {at for one in named if one[field] == words for at in pointers_at(one["sources"], field)}
    others = [one for one in result["other_coverage"] if words in (one["payer"].get(field), one.get(field))]
    places |= {at for one in others for part in ("payer", field) for at in pointers_at(one["sources"], part)}
    sources = tuple(sorted(places)) or _all_of(bill_to["sources"])
    return CardValue(name, words if sources else f"{words} (as asked)", sources)


def _all_of(sources: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted({at for field in sources for at in pointers_at(sources, field)}))


def _plan(plan: _Row) -> list[CardValue]:
    until = "no end" if plan["open_ended"] else plan["ends_on"]
    figures = (
        _stated("Plan", plan["name"] or plan["type"], plan["sources"], "name" if plan["name"] else "type"),
        _stated("Program", _known(plan["program"]), plan["sources"], "program", "type"),
        _stated("Coverage", _known(plan["coverage"]), plan["sources"], "coverage"),
        _stated("From", plan["starts_on"], plan["sources"], "starts_on"),
        _stated("To", until, plan["sources"], "ends_on"),
        _stated("Group", plan["group_number"], plan["sources"], "group_number"),
    )
    return list(figures)


def _other(other: _Row) -> list[CardValue]:
    payer = other["payer"]
    figures = (
        _stated("Order", other["order"], other["sources"], "order"),
        _stated("Payer", payer["name"] or payer["id"], other["sources"], "payer", "name", "id"),
        _stated("Kind", _known(other["kind"]), other["sources"], "kind"),
        _stated("Member id", other["member_id"], other["sources"], "member_id"),
        _stated("Phone", other["phone"], other["sources"], "phone"),
    )
    return list(figures)


def _known(code: str) -> str | None:
    return None if code == "unknown" else code.replace("_", " ")
