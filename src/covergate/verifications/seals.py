"""The sealed values of a verification: inquiry, result, late result, failure. Result and failure hold the end that the row tells.

`status`, `outcome` and their like are plain columns, for filters. The seal of a result or a failure repeats them, so a column
that somebody changed is noticed when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from covergate.db.sealing import NEW_VERSIONS, Place, Sealer, SealError

log = structlog.get_logger(__name__)

STAMPED = ("status", "outcome", "outcome_reason", "failure_code", "reused_from")
"""The columns that stand inside the seal of an end."""


class EndMismatch(SealError):
    """The columns of an end are not those that were sealed with it. `document` is what was sealed."""

    def __init__(self, place: Place, columns: list[str], document: bytes) -> None:
        super().__init__(f"{place} was sealed with another {', '.join(columns)}")
        self.columns = columns
        self.document = document


def place_in_verification(tenant_id: str, mode: str, verification_id: str, column: str) -> Place:
    return Place(tenant_id, mode, "verifications", column, verification_id, verification_id)


def seal_end(sealer: Sealer, place: Place, end: Mapping[str, Any], document: bytes) -> bytes:
    """`document`: the JSON of a result or a failure. `end` has the columns that it belongs to."""
    return sealer.seal(place, _stamp(end) + b"\n" + document, packed=True)


def open_end(sealer: Sealer, place: Place, end: Mapping[str, Any], sealed: bytes) -> bytes:
    """The document. `end` is what the row tells. Raises SealError, and EndMismatch if the row tells something else."""
    opened = sealer.open(place, sealed)
    if sealed[0] not in NEW_VERSIONS:
        return opened
    stamp, _, document = opened.partition(b"\n")
    if stamp != _stamp(end):
        sealed_end = orjson.loads(stamp)
        columns = [name for name in STAMPED if sealed_end.get(name) != end[name]]
        log.error("seal_mismatch", verification_id=place.verification_id, columns=columns)
        raise EndMismatch(place, columns, document)
    return document


def _stamp(end: Mapping[str, Any]) -> bytes:
    return orjson.dumps({name: end[name] for name in STAMPED})
