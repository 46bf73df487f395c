"""Which services the payer spoke of, and whether it covers them: one answer per service type and procedure of the EB rows.

Invariant: "not covered" comes only from a row that says so of this service (EB01 = I, or inactive with no active row beside
it); a copay on a service does not make it covered, and out-of-network exclusions do not make it uncovered
(docs/x12.md#covered-services).
"""

from __future__ import annotations

from collections.abc import Sequence

from covergate.eligibility.result import ServiceAnswer
from covergate.eligibility.sourced import Sourced, pointers_of
from covergate.eligibility.terms import CodeType, Network
from covergate.eligibility.x12.codes import ACTIVE, AUTHORIZATION, INACTIVE, NETWORKS, NON_COVERED
from covergate.eligibility.x12.names import EB03_NAMES
from covergate.eligibility.x12.rows import EbRow, texts


def services_of(rows: Sequence[EbRow], place_of_service: str | None) -> list[ServiceAnswer]:
    """Sorted by code. A row with procedure codes speaks of these alone, not of the service types beside them.

    `place_of_service` is the one asked about, None if it is not known where the service will be.
    """
    mentions: dict[tuple[CodeType, str], list[tuple[EbRow, Sourced[str]]]] = {}
    for row in rows:
        kind = CodeType.PROCEDURE if row.procedures else CodeType.SERVICE_TYPE
        for code in row.procedures or row.eb03:
            mentions.setdefault((kind, code.value or ""), []).append((row, code))
    return [_answer(kind, code, mentions[kind, code], place_of_service) for kind, code in sorted(mentions)]


def _answer(
    kind: CodeType, code: str, mentions: list[tuple[EbRow, Sourced[str]]], place_of_service: str | None
) -> ServiceAnswer:
    rows = [row for row, _ in mentions]
    covered, deciding = _covered(rows, place_of_service)
    with_authorization = [row for row in rows if row.eb11.meaning(AUTHORIZATION, None) is not None]
    required = {row.eb11.meaning(AUTHORIZATION, None) for row in with_authorization}
    if len(required) != 1:
        required, with_authorization = {None}, []
    notes = [msg for row in with_authorization for msg in row.msgs]
    sources = {
        "code": [element for _, element in mentions],
        "covered": [row.eb01 for row in deciding],
        "authorization_required": [row.eb11 for row in with_authorization],
        "authorization_note": notes,
    }
    return ServiceAnswer(
        code=code,
        code_type=kind,
        name=EB03_NAMES.get(code) if kind is CodeType.SERVICE_TYPE else None,
        covered=covered,
        authorization_required=required.pop(),
        authorization_note=" ".join(texts(notes)) or None,
        sources={name: at for name, elements in sources.items() if (at := pointers_of(elements))},
    )


def _covered(rows: list[EbRow], place_of_service: str | None) -> tuple[bool | None, list[EbRow]]:
    """The answer and the rows that it rests on."""
    active = [row for row in rows if row.code in ACTIVE]
    excluded = [row for row in rows if row.code == NON_COVERED and not _only_out_of_network(row)]
    here = [row for row in excluded if not row.places or place_of_service in texts(row.places)]
    if here:
        return False, here
    if active:
        # An exclusion at some places of service is undecided if it is not known at which place the service will be.
        return (None, []) if excluded and place_of_service is None else (True, active)
    inactive = [row for row in rows if row.code in INACTIVE]
    return (False, inactive) if inactive else (None, [])


def _only_out_of_network(row: EbRow) -> bool:
    return row.eb12.meaning(NETWORKS, Network.UNKNOWN) is Network.OUT
