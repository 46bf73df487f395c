"""Which services the payer spoke of, and whether it covers them: one answer per service type and procedure of the EB rows.

Invariant: "not covered" comes only from a row that says so of this service (EB01 = I, or inactive with no active row beside
it); a copay on a service does not make it covered, and out-of-network exclusions do not make it uncovered
(docs/x12.md#covered-services).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from covergate.eligibility.result import AuthorizationByNetwork, ServiceAnswer
from covergate.eligibility.sourced import Sourced, pointers_of
from covergate.eligibility.terms import AuthorizationNeed, CodeType, Network
from covergate.eligibility.x12.codes import (
    ACTIVE,
    AUTHORIZATION,
    AUTHORIZATION_REQUIRED,
    EXCLUSION,
    INACTIVE,
    NETWORKS,
    NON_COVERED,
    PLAIN_ACTIVE,
    WHOLE_PLAN,
)
from covergate.eligibility.x12.names import EB03_NAMES
from covergate.eligibility.x12.rows import EbRow, texts

_OF_AUTHORIZATION = re.compile(
    r"\b(?:pre[ -]?auth|pre[ -]?cert|(?:re)?authori[sz]ation|(?:prior )?auth\b|certification\b)", re.IGNORECASE
)
"""Texts about authorization in payers' usual words (docs/x12.md#eb11); all others stay with their benefit."""

_Mention = tuple[EbRow, Sourced[str], list[Sourced[str]], AuthorizationNeed]
"""A row, the code by which it speaks of the service, its texts about authorization, and what its EB11 says."""


def authorization_of(row: EbRow) -> AuthorizationNeed:
    """What EB11 says. On the row of the plan itself "yes" says of no service that it needs one."""
    need = row.eb11.meaning(AUTHORIZATION, AuthorizationNeed.UNKNOWN)
    if need is AuthorizationNeed.REQUIRED and row.code == PLAIN_ACTIVE and WHOLE_PLAN in row.service_types:
        return AuthorizationNeed.MAY_APPLY
    return need


def services_of(rows: Sequence[EbRow], place_of_service: str | None) -> list[ServiceAnswer]:
    """Sorted by code. A row with procedure codes speaks of these alone, not of the service types beside them.

    `place_of_service` is the one asked about, None if it is not known where the service will be.
    """
    mentions: dict[tuple[CodeType, str], list[_Mention]] = {}
    of_authorization = {
        text for text in texts(msg for row in rows for msg in row.msgs) if _OF_AUTHORIZATION.search(text)
    }
    for row in rows:
        notes = [msg for msg in row.msgs if msg.value in of_authorization] if of_authorization else []
        kind, need = CodeType.PROCEDURE if row.procedures else CodeType.SERVICE_TYPE, authorization_of(row)
        for code in row.procedures or row.eb03:
            mentions.setdefault((kind, code.value or ""), []).append((row, code, notes, need))
    return [_answer(kind, code, mentions[kind, code], place_of_service) for kind, code in sorted(mentions)]


def _answer(kind: CodeType, code: str, mentions: list[_Mention], place_of_service: str | None) -> ServiceAnswer:
    covered, deciding = _covered([row for row, *_ in mentions], place_of_service)
    authorization, asking = _authorization([(row, need) for row, _, _, need in mentions if need in _KNOWN])
    needs = {need for need in (authorization.in_, authorization.out, authorization.unknown) if need in _KNOWN}
    required = AUTHORIZATION_REQUIRED.get(next(iter(needs))) if len(needs) == 1 else None
    notes = [msg for _, _, found, _ in mentions for msg in found]
    sources = {
        "code": [element for _, element, *_ in mentions],
        "covered": [row.eb01 for row in deciding],
        "authorization_required": [] if required is None else [row.eb11 for row in asking],
        "authorization": [row.eb11 for row in asking],
        "authorization_note": notes,
    }
    return ServiceAnswer(
        code=code,
        code_type=kind,
        name=EB03_NAMES.get(code) if kind is CodeType.SERVICE_TYPE else None,
        covered=covered,
        authorization_required=required,
        authorization=authorization,
        authorization_note=" ".join(texts(notes)) or None,
        sources={name: at for name, elements in sources.items() if (at := pointers_of(elements))},
    )


_KNOWN = frozenset(AuthorizationNeed) - {AuthorizationNeed.UNKNOWN}
_SPEAKS_OF: dict[Network, tuple[str, ...]] = {
    Network.IN: ("in_",),
    Network.OUT: ("out",),
    Network.BOTH: ("in_", "out"),
    Network.UNKNOWN: ("unknown",),
}


def _authorization(asking: list[tuple[EbRow, AuthorizationNeed]]) -> tuple[AuthorizationByNetwork, list[EbRow]]:
    """By network, and the rows that it rests on. If some rows of a network need one and others do not, one may apply."""
    needs: defaultdict[str, set[AuthorizationNeed]] = defaultdict(set)
    for row, need in asking:
        for name in _SPEAKS_OF[row.eb12.meaning(NETWORKS, Network.UNKNOWN)]:
            needs[name].add(need)
    return (
        AuthorizationByNetwork(
            **{name: found.pop() if len(found) == 1 else AuthorizationNeed.MAY_APPLY for name, found in needs.items()}
        ),
        [row for row, _ in asking],
    )


def _covered(rows: list[EbRow], place_of_service: str | None) -> tuple[bool | None, list[EbRow]]:
    """The answer and the rows that it rests on."""
    active = [row for row in rows if row.code in ACTIVE]
    excluded = [row for row in rows if _excludes(row) and not _only_out_of_network(row)]
    here = [row for row in excluded if not row.places or place_of_service in texts(row.places)]
    # Words on an exclusion beside a coverage of the same service exclude a part of it, nobody knows which.
    if active and here and all(row.msgs or row.limits for row in here):
        return None, []
    if here:
        return False, here
    if active:
        # An exclusion at some places of service is undecided if it is not known at which place the service will be.
        return (None, []) if excluded and place_of_service is None else (True, active)
    inactive = [row for row in rows if row.code in INACTIVE]
    return (False, inactive) if inactive else (None, [])


def _excludes(row: EbRow) -> bool:
    """An exclusion (E) is one of the service itself if nothing tells which part of it, or of the plan, is meant."""
    is_bare = not (row.msgs or row.limits or row.days or row.deliveries or WHOLE_PLAN in row.service_types)
    return row.code == NON_COVERED or (row.code == EXCLUSION and is_bare)


def _only_out_of_network(row: EbRow) -> bool:
    return row.eb12.meaning(NETWORKS, Network.UNKNOWN) is Network.OUT
