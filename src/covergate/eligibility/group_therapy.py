"""Rows on therapy of one person or of a group, told apart by messages (docs/x12.md#phrases): which the asked procedures are.

Psychotherapy is that of one person unless all asked procedures are group therapy. The book of phrases narrows the rows on
groups; here those on groups and on one person change places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from covergate.eligibility.result import Benefit
from covergate.eligibility.sourced import pointers_at

GROUP_THERAPY = frozenset({"90849", "90853"})
"""CPT: multiple-family group psychotherapy, and group psychotherapy."""

_OF_A_GROUP = re.compile(r"\bgroup (visits?|therapy|sessions?|psychotherapy)\b")
_OF_ONE = re.compile(r"\bindividual (visits?|therapy|sessions?|psychotherapy)\b")


def of_the_session(benefits: Sequence[Benefit], procedure_codes: Sequence[str]) -> list[Benefit]:
    if not procedure_codes or not set(procedure_codes) <= GROUP_THERAPY:
        return list(benefits)
    return [_of_a_group(row) if row.notes else row for row in benefits]


def _of_a_group(row: Benefit) -> Benefit:
    of_one = {note for note in row.notes if _OF_ONE.search(note.casefold())}
    of_a_group = {note for note in row.limited_to if _OF_A_GROUP.search(note.casefold())}
    if not (of_one or of_a_group):
        return row
    limited = sorted({*row.limited_to, *of_one} - of_a_group)
    pointers = pointers_at(row.sources, "limited_to") or pointers_at(row.sources, "notes")
    sources = {name: at for name, at in row.sources.items() if name != "limited_to"}
    if limited and pointers:
        sources["limited_to"] = pointers
    return row.model_copy(update={"limited_to": limited, "sources": sources})
