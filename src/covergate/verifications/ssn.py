"""The SSN in a sealed inquiry: it leaves as soon as the gateway itself can submit nothing more.

While a route, `allow_second_submission` or `payer_retries` may bring another submission, it stays for that; at the end it leaves
in any case. Only an operator can have something submitted after it left: then it is submitted without it, and says so.
"""

from __future__ import annotations

from typing import Any

import orjson
import structlog

from covergate.db.sealing import Sealer, SealError
from covergate.verifications.model import Change, Verification
from covergate.verifications.seals import place_in_verification

log = structlog.get_logger(__name__)

_HOLDERS = ("patient", "subscriber")
REMOVED = "ssn_removed"
"""In a sealed inquiry: pointers to the SSNs that were in it."""


def leaves(change: Change) -> bool:
    """Whether nothing can be submitted any more after this change of an open verification, except by an operator's word."""
    v = change.verification
    if change.ended:
        return True
    if change.successor is not None or v.attempt.submitted_at is None:
        return False
    return v.payer_retries == 0 and not (v.allow_second_submission and v.route)


def seal_without(sealer: Sealer, v: Verification) -> bytes | None:
    """The inquiry sealed anew without the SSN; None if there is none in it, or if it does not open: then nobody reads one."""
    if v.inquiry_with_ssn is None:
        return None
    place = place_in_verification(v.tenant_id, v.mode, v.id, "inquiry")
    try:
        opened = sealer.open_json(place, v.inquiry_with_ssn)
    except SealError as error:
        # The end must come all the same, for this one and for those that are written with it.
        log.error("value_not_opened", verification_id=v.id, column="inquiry", reason=str(error))
        return None
    given = [person for person in _HOLDERS if (opened["inquiry"].get(person) or {}).get("ssn") is not None]
    if not given:
        return None
    for person in given:
        opened["inquiry"][person]["ssn"] = None
    opened[REMOVED] = [f"/{person}/ssn" for person in given]
    return sealer.seal_json(place, orjson.dumps(opened))


def removed_from(opened: dict[str, Any]) -> list[str]:
    """Pointers to the SSNs that have left an opened inquiry."""
    removed: list[str] = opened.get(REMOVED, [])
    return removed
