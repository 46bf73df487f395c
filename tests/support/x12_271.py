"""A 271 as its segments (`EB*1**30`), and the JSON in which AdvancedMD hands it to VSee.

The tree is that of `covergate.sandbox.vsee_271`: what stands there is in VSee's page, the rest follows its pattern. As in any
XML turned into JSON, one child is an object and several are a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_Json = dict[str, Any]
_Segment = list[str]

_LEVELS = {"20": "InformationSource", "21": "InformationReceiver", "22": "Subscriber", "23": "Dependent"}
_PLACES = {
    "N3": "Address",
    "N4": "Address",
    "PER": "ContactInformation",
    "REF": "AdditionalIdentification",
    "DMG": "DemographicInformation",
    "INS": "Relationship",
    "DTP": "Dates",
    "MSG": "MessageTexts",
    "AAA": "RequestValidations",
    "III": "AdditionalInformation",
    "HSD": "HealthCareServicesDelivery",
    "TRN": "TraceNumbers",
}
"""The element around segments of a kind."""


def advancedmd(segments: Sequence[str]) -> _Json:
    """The `raw_response` that holds these segments; the envelope (ISA to BHT, SE to IEA) tells nothing and is left out."""
    transaction: _Json = {}
    for loop in _starting_with("HL", [segment.split("*") for segment in segments]):
        level = _LEVELS[loop[0][3]]
        is_insured = level in ("Subscriber", "Dependent")
        detail = {
            "HierarchicalLevel" if is_insured else f"{level}Level": _element(loop[0]),
            "Name" if is_insured else f"{level}Name": _party(loop[1:]),
        }
        details = [*_as_list(transaction.get(f"{level}Detail", [])), detail]
        transaction[f"{level}Detail"] = _one_or_list(details)
    return {"PPMDResults": {"Results": {"Edi271": {"TransactionSets": {"TransactionSet": transaction}}}}}


def benefit_loops(segments: Sequence[str]) -> list[list[str]]:
    """Each EB segment with those that belong to it."""
    return [["*".join(segment) for segment in loop] for loop in _starting_with("EB", [s.split("*") for s in segments])]


def _starting_with(name: str, segments: Sequence[_Segment]) -> Iterator[list[_Segment]]:
    loop: list[_Segment] = []
    for segment in segments:
        if segment[0] in ("SE", "GE", "IEA"):
            break
        if segment[0] == name:
            if loop:
                yield loop
            loop = [segment]
        elif loop:
            loop.append(segment)
    if loop:
        yield loop


def _party(segments: list[_Segment]) -> _Json:
    first = next((index for index, segment in enumerate(segments) if segment[0] == "EB"), len(segments))
    party: _Json = {}
    for segment in segments[:first]:
        _add(party, segment)
    rows = [_benefit(loop) for loop in _starting_with("EB", segments[first:])]
    if rows:
        party["EligibilityOrBenefitInformation"] = {"EligibilityOrBenefitInformation": _one_or_list(rows)}
    return party


def _benefit(loop: list[_Segment]) -> _Json:
    benefit: _Json = {"EligibilityOrBenefitInformation": _element(loop[0])}
    entities: list[_Json] = []
    for segment in loop[1:]:
        if segment[0] == "NM1":
            entities.append({})
        if segment[0] not in ("LS", "LE"):
            _add(entities[-1] if entities else benefit, segment)
    if entities:
        benefit["BenefitRelatedEntity"] = _one_or_list(entities)
    return benefit


def _add(parent: _Json, segment: _Segment) -> None:
    if segment[0] == "NM1":
        parent["Name"] = _element(segment)
        return
    place = parent.setdefault(_PLACES[segment[0]], {})
    name = f"{segment[0]}Segment"
    place[name] = _one_or_list([*_as_list(place.get(name, [])), _element(segment)])


def _element(segment: _Segment) -> _Json:
    return {f"@{segment[0]}{number:02d}_": text for number, text in enumerate(segment[1:], start=1) if text}


def _one_or_list(children: list[Any]) -> Any:
    return children[0] if len(children) == 1 else children


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
