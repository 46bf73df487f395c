"""One action on many verifications, as a job: what matched when it was ordered, how far it is, and what became of each.

The verifications are written down with the job (`bulk_items`), so what was counted is what is done: none that comes later is
taken in. A worker does them, some at a time (`bulk_work.py`). Invariant: what a job did to a verification and the note of it
are one transaction, so none is done twice, whatever dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller, CallerKind
from covergate.db.connect import STATEMENT_SECONDS
from covergate.db.kept import Kept
from covergate.db.page import Page, page
from covergate.db.queue import announce
from covergate.db.sealing import GATEWAY, Place
from covergate.db.sql import Query, Record
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.states import BulkAction, BulkOutcome, BulkStatus, SubjectKind, WaitingFor
from covergate.timestamps import instant
from covergate.verifications.operator import Resolution
from covergate.verifications.queries import FACTS, Filters, fact_of, matching, within_time
from covergate.verifications.resubmit import corrected
from covergate.verifications.view import JOINED

_OF_TENANTS = (CallerKind.KEY, CallerKind.USER)

BULK_JOBS = "covergate_bulk"
"""The channel on which due jobs are announced."""
MOST_MATCHED = 500_000
"""Verifications of one job."""
SAMPLE, REPORTED = 10, 100
"""Verifications that a dry run shows, and that a report names for each reason."""

KEPT = (
    Kept("bulk_jobs", "as long as one asks what became of it", "30 days", "ended_at"),
    Kept("bulk_items", "deleted with their job"),
)

NOT_RETRIED = "NOT EXISTS (SELECT FROM verifications n WHERE n.retry_of = v.id)"
_CAN_BE: dict[BulkAction, str] = {
    BulkAction.RESUBMIT: "v.completed_at IS NOT NULL AND v.erased_at IS NULL",
    BulkAction.CANCEL: "v.completed_at IS NULL",
    BulkAction.RESOLVE: f"w.waiting_for = '{WaitingFor.OPERATOR}'",
    BulkAction.REDELIVER: "EXISTS (SELECT FROM events e JOIN deliveries d ON d.event_id = e.id WHERE e.verification_id = v.id)",
}
"""To which of the verifications that match the action can be done at all."""

_SAMPLED = Query(
    f"SELECT {FACTS} FROM {JOINED} JOIN tenants t ON t.id = v.tenant_id WHERE v.id = ANY(CAST(:ids AS text[]))"
    " ORDER BY v.id DESC"
)
_MAKE = Query(
    f"""
INSERT INTO bulk_jobs (id, tenant_id, mode, action, filter, resolution, again, corrections_sealed, status, matched, sample,
  due_at, created_at, ended_at, actor_kind, actor_id, acting_user, address, request_id, sees_phi)
SELECT :id, :tenant_id, :mode, :action, :filter, :resolution, :again, :corrections, :status, 0, '{{}}',
  CASE WHEN :status <> '{BulkStatus.COUNTED}' THEN at END, at, CASE WHEN :status = '{BulkStatus.COUNTED}' THEN at END,
  :actor_kind, :actor_id, :acting_user, :address, :request_id, :sees_phi
FROM (SELECT clock_timestamp() AS at) AS now""",
    tenant_id="text",
    mode="text",
    filter="jsonb",
    resolution="text",
    corrections="bytea",
    status="text",
)
_MATCHED = Query(
    "UPDATE bulk_jobs SET matched = :matched, sample = :sample WHERE id = :id", matched="int", sample="text[]"
)
_COLUMNS = (
    "id, tenant_id, mode, action, filter, resolution, again, status, matched, sample, created_at, started_at, ended_at,"
    " actor_kind, actor_id"
)
_WITHIN = (
    "(:tenant_id IS NULL OR tenant_id = :tenant_id) AND (:mode IS NULL OR mode = :mode)"
    " AND (:kinds IS NULL OR actor_kind = ANY(:kinds))"
)
_BOUNDS = {"tenant_id": "text", "mode": "text", "kinds": "text[]"}
_READ = Query(f"SELECT {_COLUMNS} FROM bulk_jobs WHERE id = :id AND {_WITHIN}", **_BOUNDS)
_LIST = Query(
    f"SELECT {_COLUMNS} FROM bulk_jobs WHERE (:after IS NULL OR id < :after) AND {_WITHIN} ORDER BY id DESC LIMIT :limit",
    after="text",
    **_BOUNDS,
)
_STOP = Query(
    f"""
UPDATE bulk_jobs SET status = '{BulkStatus.CANCELED}', ended_at = clock_timestamp(), due_at = NULL, step = step + 1,
  corrections_sealed = NULL
WHERE id = :id AND {_WITHIN} AND due_at IS NOT NULL""",
    **_BOUNDS,
)
_USE_UP = Query(
    f"DELETE FROM bulk_jobs WHERE id = :id AND {_WITHIN} AND status = '{BulkStatus.COUNTED}' RETURNING matched",
    **_BOUNDS,
)
_COUNTS = Query("""
SELECT outcome, reason, count(*) AS number FROM bulk_items WHERE job_id = :id AND outcome IS NOT NULL
GROUP BY outcome, reason ORDER BY number DESC, reason""")
_REPORTED = Query(f"""
SELECT g.outcome, g.reason, ARRAY(
  SELECT verification_id FROM bulk_items i WHERE i.job_id = :id AND i.outcome = g.outcome AND i.reason = g.reason
  LIMIT {REPORTED}) AS ids
FROM unnest(CAST(:outcomes AS text[]), CAST(:reasons AS text[])) AS g(outcome, reason)""")


@dataclass(frozen=True, slots=True)
class BulkOrder:
    """What is to be done to the verifications that match. `again`: also to what was asked again before."""

    action: BulkAction
    filters: Filters
    corrections: Mapping[str, Any] = field(default_factory=dict, repr=False)
    resolution: Resolution | None = None
    again: bool = False


def stored_filters(filters: Filters) -> dict[str, Any]:
    """As JSON, without what was not asked for. A job's filters hold no PHI."""
    given = {name: value for name, value in asdict(filters).items() if value is not None and value != ()}
    assert not given.keys() & {"member_id", "date_of_birth"}, "these would be PHI"
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}


def read_filters(stored: Mapping[str, Any]) -> Filters:
    given: dict[str, Any] = dict(stored)
    for name in ("created_after", "created_before", "completed_after"):
        if name in given:
            given[name] = datetime.fromisoformat(given[name])
    return Filters(**given)


async def make_job(
    gateway: Gateway,
    caller: Caller,
    order: BulkOrder,
    *,
    dry_run: bool,
    counted: str | None = None,
    claim: Callable[[AsyncConnection, str], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """The job as it is shown: for a dry run only counted. Raises Problem for an order that cannot be.

    `counted` is the dry run that somebody looked at before: it is used up, so that it is ordered once, and more than it
    counted are not done (`too_many_matched`). `claim`, in the transaction that makes it, raises if it may not be made.
    """
    if errors := _errors(caller, order):
        raise Problem("invalid_request", "errors lists everything that is wrong", errors)
    job_id, owner = ids.new(ids.BULK_JOB), caller.within_tenant or GATEWAY
    await gateway.meet(owner)
    sealed = None
    if order.corrections and not dry_run:
        place = place_of_corrections(caller.within_tenant, caller.within_mode, job_id)
        sealed = gateway.sealer.seal_json(place, dict(order.corrections))
    values = {
        "id": job_id,
        "tenant_id": caller.within_tenant,
        "mode": caller.within_mode,
        "action": order.action,
        "filter": stored_filters(order.filters),
        "resolution": order.resolution,
        "again": order.again,
        "corrections": sealed,
        "status": BulkStatus.COUNTED if dry_run else BulkStatus.QUEUED,
        "sees_phi": caller.sees_phi,
        **{name: value for name, value in audit.columns_of(caller).items() if name != "audit_id"},
    }
    async with within_time(gateway, STATEMENT_SECONDS) as db:
        most = MOST_MATCHED
        if counted is not None:
            most = await _USE_UP.scalar(db, {"id": counted, **_bounds(caller)})
            if most is None:
                raise _no_such_job()
        await _MAKE.run(db, values)
        if claim is not None:
            await claim(db, job_id)
        matched, sample = await _match(db, gateway, caller, order, None if dry_run else job_id)
        if matched > MOST_MATCHED:
            raise Problem("too_many_matched", f"more than {MOST_MATCHED:,} verifications match: narrow the filter")
        if matched > most:
            raise Problem("too_many_matched", f"{matched:,} match now, more than were counted: count them again")
        await _MATCHED.run(db, {"id": job_id, "matched": matched, "sample": sample})
        action = "bulk_job.count" if dry_run else f"bulk_job.{order.action}"
        await audit.record(db, caller, action, SubjectKind.JOB, [job_id])
        if not dry_run:
            announce(db, BULK_JOBS)
    return await read_job(gateway, caller, job_id)


def _errors(caller: Caller, order: BulkOrder) -> list[FieldError]:
    errors: list[FieldError] = []
    if not stored_filters(order.filters):
        errors.append(FieldError("required", "must have at least one condition", pointer="/filter"))
    resolves = order.action is BulkAction.RESOLVE
    if resolves and order.resolution not in (Resolution.RESUBMIT, Resolution.GIVE_UP):
        errors.append(FieldError("required", "must be resubmit or give_up", pointer="/resolution"))
    if not resolves and order.resolution is not None:
        errors.append(FieldError("not_allowed", "must be left out: it is for resolve", pointer="/resolution"))
    if order.action is not BulkAction.RESUBMIT:
        given = {"corrections": bool(order.corrections), "again": order.again}
        message = "must be left out: it is for resubmit"
        errors += [
            FieldError("not_allowed", message, pointer=f"/{name}") for name, is_given in given.items() if is_given
        ]
    try:
        corrected({}, order.corrections, phi=caller.sees_phi)
    except Problem as problem:
        errors += problem.errors
    return errors


def require_power(caller: Caller, action: BulkAction) -> None:
    """What the single action needs. Raises Problem `insufficient_scope`."""
    needed = {BulkAction.RESOLVE: "operations", BulkAction.REDELIVER: "webhooks:manage"}.get(action)
    if caller.kind in _OF_TENANTS and needed is not None and needed not in caller.scopes:
        operators = action is BulkAction.RESOLVE
        raise Problem("insufficient_scope", "this needs an operator" if operators else f"this needs the scope {needed}")


def place_of_corrections(tenant_id: str | None, mode: str | None, job_id: str) -> Place:
    return Place(tenant_id or GATEWAY, mode or "", "bulk_jobs", "corrections", job_id)


async def _match(
    db: AsyncConnection, gateway: Gateway, caller: Caller, order: BulkOrder, job_id: str | None
) -> tuple[int, list[str]]:
    """How many match, and some of them; written down for the job, if there is one."""
    conditions, values, types = matching(gateway, caller, order.filters)
    conditions.append(_CAN_BE[order.action])
    if order.action is BulkAction.RESUBMIT and not order.again:
        conditions.append(NOT_RETRIED)
    keep = ""
    if job_id is not None:
        keep = ", i AS (INSERT INTO bulk_items (job_id, verification_id) SELECT CAST(:job_id AS text), id FROM m)"
        values["job_id"] = job_id
    query = Query(
        f"WITH m AS MATERIALIZED (SELECT v.id FROM {JOINED} WHERE {' AND '.join(conditions)} LIMIT {MOST_MATCHED + 1}){keep}"
        f" SELECT (SELECT count(*) FROM m) AS matched, ARRAY(SELECT id FROM m ORDER BY id DESC LIMIT {SAMPLE}) AS sample",
        **types,
    )
    row = await query.one(db, values)
    assert row is not None, "counts are one row"
    return row.matched, row.sample


def _bounds(caller: Caller) -> dict[str, Any]:
    """A tenant sees the jobs of its keys and people; what operators ordered is theirs."""
    kinds = list(_OF_TENANTS) if caller.kind in _OF_TENANTS else None
    return {"tenant_id": caller.within_tenant, "mode": caller.within_mode, "kinds": kinds}


async def read_job(gateway: Gateway, caller: Caller, job_id: str) -> dict[str, Any]:
    """With its report so far. Raises Problem `not_found`."""
    row = None
    async with gateway.connection() as db:
        if ids.is_id(ids.BULK_JOB, job_id):
            row = await _READ.one(db, {"id": job_id, **_bounds(caller)})
        if row is None:
            raise _no_such_job()
        counts = await _COUNTS.all(db, {"id": job_id})
        told = [one for one in counts if one.reason is not None]
        named = {
            (one.outcome, one.reason): one.ids
            for one in await _REPORTED.all(
                db, {"id": job_id, "outcomes": [one.outcome for one in told], "reasons": [one.reason for one in told]}
            )
        }
        sample = await _SAMPLED.all(db, {"ids": row.sample})
    numbers: defaultdict[str, int] = defaultdict(int)
    for one in counts:
        numbers[one.outcome] += one.number
    left = 0 if row.status == BulkStatus.COUNTED else row.matched - sum(numbers.values())
    reports = {
        outcome: {
            "count": numbers[outcome],
            "reasons": [
                {"reason": one.reason, "count": one.number, "sample": named[one.outcome, one.reason]}
                for one in told
                if one.outcome == outcome
            ],
        }
        for outcome in (BulkOutcome.SKIPPED, BulkOutcome.FAILED)
    }
    return {
        **_view(row),
        "sample": [fact_of(one) for one in sample],
        "left": left,
        "done": numbers[BulkOutcome.DONE],
        **{outcome.value: report for outcome, report in reports.items()},
    }


async def list_jobs(gateway: Gateway, caller: Caller, after: str | None, limit: int) -> Page:
    """Newest first, without reports."""
    async with gateway.connection() as db:
        rows = await _LIST.all(db, {"after": after, "limit": limit + 1, **_bounds(caller)})
    return page(rows, limit, lambda row: str(row.id), _view)


async def stop_job(gateway: Gateway, caller: Caller, job_id: str) -> dict[str, Any]:
    """At once, but for a verification that is being done just now. Again, or after its end, changes nothing."""
    await read_job(gateway, caller, job_id)
    async with gateway.transaction() as db:
        if await _STOP.run(db, {"id": job_id, **_bounds(caller)}):
            await audit.record(db, caller, "bulk_job.stop", SubjectKind.JOB, [job_id])
    return await read_job(gateway, caller, job_id)


def _no_such_job() -> Problem:
    return Problem("not_found", "there is no such job")


def _view(row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "bulk_job",
        "action": row.action,
        "filter": row.filter,
        "resolution": row.resolution,
        "again": row.again,
        "dry_run": row.status == BulkStatus.COUNTED,
        "status": row.status,
        "tenant_id": row.tenant_id,
        "mode": row.mode,
        "ordered_by": {"kind": row.actor_kind, "id": row.actor_id},
        "matched": row.matched,
        **{name: instant(row[name]) for name in ("created_at", "started_at", "ended_at")},
    }
