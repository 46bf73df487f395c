"""Which services the payer spoke of, and whether it covers them: one answer per service type and procedure of the EB rows.

Invariant: "not covered" comes only from a row that says so of this service (EB01 = I, or inactive with no active row beside
it); a copay on a service does not make it covered, and out-of-network exclusions do not make it uncovered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.result import ServiceAnswer
from covergate.eligibility.terms import CodeType, Network
from covergate.eligibility.x12.codes import ACTIVE, AUTHORIZATION, INACTIVE, NETWORKS, NON_COVERED
from covergate.eligibility.x12.names import EB03_NAMES
from covergate.eligibility.x12.rows import EbRow, Element


@dataclass(frozen=True, slots=True)
class Asked:
    """What the partner wants to know of, whether or not the vendor had a place for it."""

    service_types: frozenset[str] = frozenset()
    procedures: frozenset[str] = frozenset()
    place_of_service: str | None = None

    @classmethod
    def of(cls, inquiry: Inquiry) -> Asked:
        service = inquiry.service
        return cls(
            frozenset(service.service_type_codes), frozenset(service.procedure_codes), service.place_of_service_code
        )


def services_of(rows: Sequence[EbRow], asked: Asked) -> list[ServiceAnswer]:
    """Sorted by code. A row with procedure codes speaks of these alone, not of the service types beside them."""
    spoken: dict[tuple[CodeType, str], list[tuple[EbRow, Element]]] = {}
    for row in rows:
        kind = CodeType.PROCEDURE if row.procedures else CodeType.SERVICE_TYPE
        for code in row.procedures or row.eb03:
            spoken.setdefault((kind, code.text), []).append((row, code))
    return [_answer(kind, code, spoken[kind, code], asked) for kind, code in sorted(spoken)]


def _answer(kind: CodeType, code: str, said: list[tuple[EbRow, Element]], asked: Asked) -> ServiceAnswer:
    rows = [row for row, _ in said]
    covered, deciding = _covered(rows, asked)
    authorization = {AUTHORIZATION.get(row.eb11.text) for row in rows if row.eb11} - {None}
    required = authorization.pop() if len(authorization) == 1 else None
    with_note = [row for row in rows if row.eb11 and AUTHORIZATION.get(row.eb11.text) is not None]
    notes = sorted({msg.text for row in with_note for msg in row.msgs}) if required is not None else []
    sources = {
        "code": {element.at for _, element in said},
        "covered": {row.eb01.at for row in deciding if row.eb01},
        "authorization_required": {row.eb11.at for row in with_note if row.eb11} if required is not None else set(),
        "authorization_note": {msg.at for row in with_note for msg in row.msgs} if notes else set(),
    }
    return ServiceAnswer(
        code=code,
        code_type=kind,
        name=EB03_NAMES.get(code) if kind is CodeType.SERVICE_TYPE else None,
        covered=covered,
        authorization_required=required,
        authorization_note=" ".join(notes) or None,
        sources={name: sorted(at) for name, at in sources.items() if at},
    )


def _covered(rows: list[EbRow], asked: Asked) -> tuple[bool | None, list[EbRow]]:
    """The answer and the rows that it rests on."""
    active = [row for row in rows if row.code in ACTIVE]
    excluded = [row for row in rows if row.code == NON_COVERED and not _only_out_of_network(row)]
    here = [row for row in excluded if not row.places or asked.place_of_service in {place.text for place in row.places}]
    if here:
        return False, here
    if active:
        # An exclusion at some places of service is undecided where it is not known at which place the service will be.
        return (None, []) if excluded and asked.place_of_service is None else (True, active)
    inactive = [row for row in rows if row.code in INACTIVE]
    return (False, inactive) if inactive else (None, [])


def _only_out_of_network(row: EbRow) -> bool:
    return row.eb12 is not None and NETWORKS.get(row.eb12.text) is Network.OUT
