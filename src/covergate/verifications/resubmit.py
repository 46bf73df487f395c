"""Asking again: a new verification made here from what an ended one asked, with corrections.

The sealed inquiry and what was sent beside it are put together to the request as it came; corrections are JSON pointers into
that. Then it goes the way of every other request (`checks.py`, `create.py`). Nothing of the original changes, and `retry_of`
leads back to it.

A caller that may not see PHI learns none by correcting: no value is ever repeated, payers that a name resembles are left out,
and dates, which are compared with each other, may only be emptied.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access.caller import Caller
from covergate.db.sealing import SealError
from covergate.db.sql import Query, Record
from covergate.eligibility.sourced import pointer
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.states import IS_OPEN
from covergate.vendors import VENDORS
from covergate.verifications.checks import CANDIDATE, LONGEST_DEADLINE, SHORTEST_DEADLINE
from covergate.verifications.create import Acceptance, Again, Created
from covergate.verifications.queries import no_such_verification
from covergate.verifications.request import CreateVerification
from covergate.verifications.seals import place_in_verification
from covergate.verifications.ssn import removed_from
from covergate.verifications.view import WITHIN

LONGEST_POINTER = 200
_SOON = timedelta(seconds=1)
"""The deadline is judged a moment later than it is made."""

_FIND = Query(
    f"""
SELECT v.id, v.tenant_id, v.mode, v.external_id, v.metadata, v.vendor, v.inquiry_sealed, v.erased_at, v.{IS_OPEN} AS open,
  v.deadline - v.created_at AS span, clock_timestamp() AS now
FROM verifications v WHERE v.id = ANY(CAST(:ids AS text[])) AND {WITHIN}""",
    tenant_id="text",
    mode="text",
)

_LOCK = Query("SELECT id FROM verifications WHERE id = :id FOR NO KEY UPDATE")
_RETRIES = Query("SELECT count(*) FROM verifications WHERE retry_of = :id")

_DATES = ("/patient/date_of_birth", "/subscriber/date_of_birth", "/service/date", "/service/end_date")
"""What is compared with each other: who may set one of them learns something of the others."""


async def resubmit(
    acceptance: Acceptance,
    payers: DirectoryCache,
    caller: Caller,
    verification_id: str,
    corrections: Mapping[str, Any],
    *,
    read: Callable[[bytes], CreateVerification],
    key: str | None = None,
    claim: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    insert: Callable[[Caller, dict[str, Any]], Awaitable[Record | None]] | None = None,
    original: Record | None = None,
) -> Created:
    """The new verification. `read` makes a request of a body, and raises what it will if that is none.

    `claim`, `insert`: see `Again`. `original`: of `find_originals`, if it was found already. Raises Problem: `not_found`,
    `not_ended`, `inquiry_erased`, and whatever a create may.
    """
    row = original or (await find_originals(acceptance.gateway, caller, [verification_id])).get(verification_id)
    if row is None:
        raise no_such_verification()
    caller = replace(caller, within_tenant=row.tenant_id, within_mode=row.mode)
    # By Python's own JSON: whatever came as JSON can be told from other JSON, also if no request can hold it.
    body = json.dumps({"resubmit": verification_id, "corrections": dict(corrections)}, sort_keys=True)
    await acceptance.gateway.meet(row.tenant_id)
    if key is not None and (replay := await acceptance.replay(caller, body, key)):
        return replay
    if row.open:
        raise Problem("not_ended", "it is still open: its answer may come; cancel it first, or wait for its end")
    asked, removed = await _asked(acceptance.gateway, row)
    request = read(orjson.dumps(corrected(asked, corrections, phi=caller.sees_phi)))
    again = Again(verification_id, body, tuple(at for at in removed if _has_none(request, at)), claim, insert)
    payer = await payers.named(caller.mode, request.payer)
    try:
        return await acceptance.create(caller, request, key, payer, again)
    except Problem as problem:
        if not caller.sees_phi:
            problem.errors = tuple(error for error in problem.errors if error.code != CANDIDATE)
        raise


def unless_retried(verification_id: str, known: int) -> Callable[[AsyncConnection], Awaitable[None]]:
    """A `claim`: raises Problem `already_retried` if it was asked again more often than the caller knew."""

    async def claim(db: AsyncConnection) -> None:
        await _LOCK.run(db, {"id": verification_id})
        if await _RETRIES.scalar(db, {"id": verification_id}) > known:
            raise Problem("already_retried", "it was asked again meanwhile")

    return claim


async def find_originals(gateway: Gateway, caller: Caller, verification_ids: Sequence[str]) -> dict[str, Record]:
    """Those of the caller's, by their ids, with what `resubmit` needs of them."""
    known = [one for one in verification_ids if ids.is_id(ids.VERIFICATION, one)]
    if not known:
        return {}
    values = {"ids": known, "tenant_id": caller.within_tenant, "mode": caller.within_mode}
    async with gateway.connection() as db:
        return {row.id: row for row in await _FIND.all(db, values)}


async def _asked(gateway: Gateway, row: Record) -> tuple[dict[str, Any], list[str]]:
    """The request as it came, with a deadline as far ahead as it was then; and pointers to the SSNs that are not kept."""
    if row.erased_at is not None or row.inquiry_sealed is None:
        raise Problem("inquiry_erased", "what it asked was erased: send the request anew")
    await gateway.meet(row.tenant_id, sealed=[row.inquiry_sealed])
    try:
        opened = gateway.sealer.open_json(
            place_in_verification(row.tenant_id, row.mode, row.id, "inquiry"), row.inquiry_sealed
        )
    except SealError:
        raise Problem("inquiry_erased", "what it asked cannot be opened any more: send the request anew") from None
    # One that was accepted before the rest was kept goes to the vendor that was asked last.
    beside = opened.get("request", {"vendor": row.vendor, "has_deadline": True})
    asked = {
        **opened["inquiry"],
        "vendor_options": {name: options for name, options in opened["vendor_options"].items() if name in VENDORS},
        "external_id": row.external_id,
        "metadata": row.metadata,
        **{name: beside[name] for name in ("vendor", "routing", "max_age", "payer") if name in beside},
        "retry_of": row.id,
    }
    if "undated" in beside:
        asked["service"] = {**asked["service"], "date": None}
    if "has_deadline" in beside:
        asked["deadline"] = _deadline(row.now, row.span).isoformat()
    return asked, removed_from(opened)


def _deadline(now: datetime, span: timedelta) -> datetime:
    return now + min(max(span, SHORTEST_DEADLINE + _SOON), LONGEST_DEADLINE)


def _has_none(request: CreateVerification, at: str) -> bool:
    person = getattr(request, at.split("/")[1])
    return person is None or person.ssn is None


def corrected(asked: Mapping[str, Any], corrections: Mapping[str, Any], *, phi: bool) -> dict[str, Any]:
    """The request with each value at its pointer, what lies on the way made if it is null; `/-` adds to a list.

    Raises Problem for pointers that lead nowhere, and for what the caller may not set.
    """
    request = copy.deepcopy(dict(asked))
    errors: list[FieldError] = []
    for at, value in sorted(corrections.items(), key=lambda one: one[0].count("/")):
        where = pointer("/corrections", at[:LONGEST_POINTER])
        if not phi and _is_compared(at, value):
            message = "must be left out, or null: it is compared with what this credential may not see"
            errors.append(FieldError("not_allowed", message, pointer=where))
        elif at == "/retry_of":
            errors.append(FieldError("not_allowed", "must be left out: it is the original's id", pointer=where))
        elif not _put(request, at, value):
            message = "must be a JSON pointer to a field of the request, e.g. /patient/member_id"
            errors.append(FieldError("invalid_pointer", message, pointer=where))
    try:
        orjson.dumps(request)
    except TypeError:
        errors.append(FieldError("invalid_value", "must have values that fit the request", pointer="/corrections"))
    if errors:
        raise Problem("invalid_request", "errors lists everything that is wrong", errors)
    return request


def _is_compared(at: str, value: Any) -> bool:
    return value is not None and any(date == at or date.startswith(f"{at}/") for date in _DATES)


def _put(document: dict[str, Any], at: str, value: Any) -> bool:
    """Whether the pointer leads anywhere."""
    if not at.startswith("/"):
        return False
    *way, last = (name.replace("~1", "/").replace("~0", "~") for name in at[1:].split("/"))
    node: Any = document
    for name in way:
        if isinstance(node, dict):
            if node.get(name) is None:
                node[name] = {}
            node = node[name]
        elif isinstance(node, list) and _is_index(name, node):
            node = node[int(name)]
        else:
            return False
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and last == "-":
        node.append(value)
    elif isinstance(node, list) and _is_index(last, node):
        node[int(last)] = value
    else:
        return False
    return True


def _is_index(name: str, among: list[Any]) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(among)
