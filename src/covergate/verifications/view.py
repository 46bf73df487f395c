"""The verification as the API shows it (docs/api.md#3-the-verification), from rows.

Opening a sealed value is reading PHI: callers audit it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sealing import Sealer, SealError
from covergate.db.sql import Query
from covergate.eligibility.answers.given import answers_of, no_answers
from covergate.eligibility.failure import FailureCode, failure
from covergate.eligibility.inquiry import Inquiry, inquiry_without_ssn
from covergate.eligibility.next_steps import (
    second_request,
    shown_steps,
    steps_by_end,
    steps_by_result,
    steps_of_late_news,
)
from covergate.eligibility.stored import with_every_key
from covergate.states import AttemptState, Status, WaitingFor
from covergate.timestamps import instant
from covergate.verifications.seals import EndMismatch, open_end, place_in_verification

log = structlog.get_logger(__name__)

NOT_TAKEN_SECONDS = 30
"""A verification that is due for longer and was never taken waits for a worker: a living one's sweep would move it on."""
_NOT_TAKEN = (
    f"w.status = '{Status.QUEUED}' AND w.waiting_for IS NULL"
    f" AND w.due_at < now() - interval '{NOT_TAKEN_SECONDS} seconds'"
)
WAITING_FOR = f"CASE WHEN {_NOT_TAKEN} THEN '{WaitingFor.WORKER}' ELSE w.waiting_for END"
WAITING_SINCE = f"CASE WHEN {_NOT_TAKEN} THEN w.next_check_at ELSE w.waiting_since END"
CURRENT_STATUS = "coalesce(v.status, w.status)"
CURRENT_VENDOR = "coalesce(w.vendor, v.vendor)"
JOINED = (
    "verifications v LEFT JOIN work w ON w.verification_id = v.id AND w.late_tries IS NULL"
    " LEFT JOIN results r ON r.verification_id = v.id LEFT JOIN readings n ON n.verification_id = v.id"
)
"""Expressions and columns are over these tables."""


WITHIN = "(:tenant_id IS NULL OR v.tenant_id = :tenant_id) AND (:mode IS NULL OR v.mode = :mode)"
"""What the caller may see: an operator who names no tenant or mode sees all."""

COLUMNS = (
    f"v.id, v.mode, v.external_id, v.retry_of, v.reused_from, {CURRENT_STATUS} AS status, v.outcome, v.outcome_reason,"
    f" v.failure_code, {CURRENT_VENDOR} AS vendor, {WAITING_FOR} AS waiting_for,"
    f" {WAITING_SINCE} AS waiting_since, w.next_check_at,"
    " v.created_at, v.completed_at, v.deadline, v.erased_at, coalesce(w.not_asked, v.not_asked) AS not_asked, v.metadata"
)


SEALED = (
    "v.inquiry_sealed, r.sealed AS result_sealed, v.late_result_sealed, v.late_failure_sealed, v.failure_sealed,"
    " n.sealed AS reading_sealed,"
    " n.mapping_version AS reading_rules, n.at AS reading_at"
)


ATTEMPTS = """(
  SELECT jsonb_agg(jsonb_build_object('id', a.id, 'vendor', a.vendor, 'vendor_ref', a.vendor_ref, 'state', a.state,
           'submitted_at', a.submitted_at, 'ended_at', a.ended_at,
           'failure_code', a.failure_code) ORDER BY a.id)
  FROM (SELECT id, vendor, vendor_ref, state, submitted_at, ended_at, failure_code
        FROM attempts WHERE verification_id = v.id
        UNION ALL
        SELECT w.attempt_id, w.vendor, w.vendor_ref, w.state, w.submitted_at, NULL, NULL
        WHERE w.verification_id IS NOT NULL) AS a) AS attempts"""


_READ = Query(
    f"""
SELECT {COLUMNS}, v.tenant_id, {SEALED}, {ATTEMPTS}
FROM {JOINED} WHERE v.id = :id AND {WITHIN}""",
    tenant_id="text",
    mode="text",
)


_READ_SOME = Query(f"SELECT {COLUMNS}, {SEALED}, {ATTEMPTS} FROM {JOINED} WHERE v.id = ANY(CAST(:ids AS text[]))")


def open_view(row: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What needs no key to be shown."""
    waiting = row.get("waiting_for")
    return {
        "id": row["id"],
        "object": "verification",
        "mode": row["mode"],
        "external_id": row["external_id"],
        "retry_of": row["retry_of"],
        "reused_from": row.get("reused_from"),
        "status": row.get("status", Status.QUEUED),
        "outcome": row.get("outcome"),
        "outcome_reason": row.get("outcome_reason"),
        "vendor": row["vendor"],
        "waiting_for": None if waiting is None else {"kind": waiting, "since": instant(row["waiting_since"])},
        "next_check_at": instant(row.get("next_check_at")),
        "created_at": instant(row["created_at"]),
        "completed_at": instant(row.get("completed_at")),
        "deadline": instant(row["deadline"]),
        "erased_at": instant(row.get("erased_at")),
        "attempts": [_attempt_view(attempt) for attempt in attempts],
        "next_steps": shown_steps(steps_by_end(row.get("outcome"), row.get("outcome_reason"), row.get("failure_code"))),
        "not_asked": list(row["not_asked"]),
        "metadata": row["metadata"],
    }


def _attempt_view(attempt: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: attempt[name] for name in ("id", "vendor", "vendor_ref", "state")}
    # The contract has `expires_at`; no vendor tells how long it keeps an answer.
    shown |= {"submitted_at": instant(attempt["submitted_at"]), "expires_at": None}
    return {**shown, "ended_at": instant(attempt["ended_at"]), "failure_code": attempt["failure_code"]}


def created_view(row: Mapping[str, Any], *, phi: bool) -> dict[str, Any]:
    """A verification right after it was accepted, without reading it back."""
    attempt = dict.fromkeys(("vendor_ref", "submitted_at", "ended_at", "failure_code"))
    attempt |= {"id": row["attempt_id"], "vendor": row["vendor"], "state": AttemptState.PREPARING}
    shown = open_view({**row, "next_check_at": row["created_at"]}, [attempt])
    return {
        **shown,
        "inquiry": inquiry_without_ssn(row["inquiry"]) if phi else None,
        "result": None,
        "late_result": None,
        "late_failure": None,
        "renormalized": None,
        "failure": None,
        "unreadable": [],
    }


class _Opening:
    """Opens a row's values for a tenant. What does not open is null, and `unreadable` names it."""

    def __init__(self, sealer: Sealer, tenant_id: str, row: Mapping[str, Any]) -> None:
        self._sealer, self._tenant_id, self._row = sealer, tenant_id, row
        self.unreadable: list[str] = []

    def document(self, column: str, *, ends: bool = False) -> bytes | None:
        """As JSON. `ends`: the row's end stands inside of it."""
        sealed = self._row[f"{column}_sealed"]
        if sealed is None:
            return None
        place = place_in_verification(self._tenant_id, self._row["mode"], self._row["id"], column)
        try:
            return open_end(self._sealer, place, self._row, sealed) if ends else self._sealer.open(place, sealed)
        except EndMismatch as mismatch:
            self._note("outcome")
            return mismatch.document
        except SealError as error:
            log.error("value_not_opened", verification_id=self._row["id"], column=column, reason=str(error))
            self._note(column)
            return None

    def value(self, column: str, *, ends: bool = False) -> Any:
        document = self.document(column, ends=ends)
        return None if document is None else orjson.loads(document)

    def result(self, column: str, *, ends: bool = False) -> dict[str, Any] | None:
        """With the keys of today, whichever version stored it."""
        stored = self.value(column, ends=ends)
        return None if stored is None else with_every_key(stored)

    def shown(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """These values, with the row's plain columns."""
        shown = {**open_view(self._row, self._row["attempts"] or ()), **values, "unreadable": self.unreadable}
        if "outcome" in self.unreadable:
            shown |= {"outcome": None, "outcome_reason": None, "next_steps": []}
        return shown

    def _note(self, name: str) -> None:
        name = "renormalized" if name == "reading" else name
        if name not in self.unreadable:
            self.unreadable.append(name)


def hidden_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A verification without its PHI, for callers that may know of it but not read it. Nothing sealed is opened."""
    return {
        **open_view(row, row["attempts"] or ()),
        "inquiry": None,
        "result": None,
        "late_result": None,
        "late_failure": None,
        "renormalized": None,
        "failure": _bare_failure(row),
        "unreadable": [],
    }


def list_view(sealer: Sealer, tenant_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a list: the verification without `inquiry` and `result`. The result is opened to be compared with the row."""
    opening = _Opening(sealer, tenant_id, row)
    opening.document("result", ends=True)
    return opening.shown({**_late(opening), "failure": _failure(opening, row)})


def full_view(sealer: Sealer, tenant_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """For the tenant that reads it, or that it is sent to."""
    opening = _Opening(sealer, tenant_id, row)
    asked = opening.value("inquiry")
    result = opening.result("result", ends=True)
    late = _late(opening)
    inquiry = None if asked is None else Inquiry.model_validate(asked["inquiry"]).without_ssn()
    failed = _failure(opening, row)
    shown = opening.shown(
        {
            **late,
            "renormalized": _reading(opening, row),
            "failure": failed,
            "inquiry": inquiry,
            "result": result,
        }
    )
    if result is not None:
        return {**shown, "next_steps": _next_steps(shown)}
    late_steps = steps_of_late_news(late["late_result"], late["late_failure"]) if failed is not None else []
    return {**shown, "next_steps": shown_steps(late_steps)} if late_steps else shown


def _late(opening: _Opening) -> dict[str, Any]:
    return {"late_result": opening.result("late_result"), "late_failure": opening.value("late_failure")}


def _reading(opening: _Opening, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What later rules read in the same replies, if that is something else."""
    reading = opening.value("reading")
    if reading is None:
        return None
    return {
        "mapping_version": row["reading_rules"],
        "at": instant(row["reading_at"]),
        **{name: reading[name] for name in ("outcome", "outcome_reason")},
        "result": with_every_key(reading["result"]),
    }


def _next_steps(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a verification with a result, which tells more than the end alone."""
    outcome, reason, result, inquiry = (shown[name] for name in ("outcome", "outcome_reason", "result", "inquiry"))
    steps = steps_by_result(outcome, reason, result, answers_of(result, outcome, reason))
    return shown_steps(steps, None if inquiry is None else second_request(result, inquiry))


def answers_view(shown: Mapping[str, Any], *, phi: bool) -> dict[str, Any]:
    """The fixed questions, answered from a verification as it is shown; not answered for a caller that may not see PHI."""
    result, outcome, reason = shown["result"], shown["outcome"], shown["outcome_reason"]
    if result is None:
        answers = no_answers(shown["status"], answered_late=shown["late_result"] is not None)
    else:
        answers = answers_of(result, outcome, reason)
    return {
        "object": "answers",
        "verification_id": shown["id"],
        "status": shown["status"],
        "outcome": outcome,
        "outcome_reason": reason,
        **{name: None if result is None else result[name] for name in ("as_of", "answered_at", "mapping_version")},
        "answers": [answer.shown() for answer in answers] if phi else None,
        "next_steps": shown["next_steps"],
    }


def _failure(opening: _Opening, row: Mapping[str, Any]) -> Any:
    return opening.value("failure", ends=True) if row["erased_at"] is None else _bare_failure(row)


def _bare_failure(row: Mapping[str, Any]) -> Any:
    """What its code alone says, without the vendor's words."""
    code = row.get("failure_code")
    return None if code is None else failure(FailureCode(code)).model_dump(mode="json")


def sealed_in(rows: Iterable[Mapping[str, Any]]) -> list[bytes | None]:
    """What `Sealer.meet` is to be shown before these rows are."""
    sealed = ("inquiry", "result", "late_result", "late_failure", "failure", "reading")
    return [row.get(f"{name}_sealed") for row in rows for name in sealed]


async def find_row(
    db: AsyncConnection, tenant_id: str | None, mode: str | None, verification_id: str
) -> dict[str, Any] | None:
    """What the views show. None for the tenant or the mode: of any."""
    row = await _READ.one(db, {"id": verification_id, "tenant_id": tenant_id, "mode": mode})
    return None if row is None else dict(row)


async def opened_view(db: AsyncConnection, sealer: Sealer, row: Mapping[str, Any]) -> dict[str, Any]:
    """Of what `find_row` found, opened for the tenant whose it is."""
    await sealer.meet(db, [row["tenant_id"]], sealed_in([row]))
    return full_view(sealer, row["tenant_id"], row)


async def read_views(db: AsyncConnection, sealer: Sealer, tenants: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Verification → the tenant that it is sent to. They are known to be there."""
    rows = await _READ_SOME.all(db, {"ids": list(tenants)})
    await sealer.meet(db, set(tenants.values()), sealed_in(rows))
    return {row["id"]: full_view(sealer, tenants[row["id"]], dict(row)) for row in rows}
