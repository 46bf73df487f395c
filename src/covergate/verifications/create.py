"""Accepting a verification: validated, routed and committed as due work in one statement, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import crash_points, ids, instruments
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.group_commit import GroupCommit
from covergate.db.queue import announce
from covergate.db.sealing import GATEWAY, Sealer
from covergate.db.sql import Query, Record
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.payers.directory import Named
from covergate.states import AttemptState, AuditOutcome, Status, SubjectKind, TimelineType
from covergate.vendors.flow import Question
from covergate.verifications import reuse
from covergate.verifications.checks import Intake, candidate, errors_of, naming_records, warnings_of
from covergate.verifications.digests import digests_of, person_keys, question_text
from covergate.verifications.history import entries_of
from covergate.verifications.lanes import share_of
from covergate.verifications.model import TimelineRow
from covergate.verifications.request import DEFAULT_DEADLINE, CreateVerification, beside_inquiry
from covergate.verifications.routing import Route, route_of
from covergate.verifications.seals import place_in_verification
from covergate.verifications.store import WORK, array

IDEMPOTENCY_KEPT = "24 hours"
FORGOTTEN = b""
"""The fingerprint of a body whose key was destroyed: any body is taken for the one that was sent."""


@dataclass(frozen=True, slots=True)
class Created:
    """`row` holds what the view of a verification needs (see `view.py`); for a replay only the id is known."""

    id: str
    replayed: bool
    row: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """What is asked once more: the verification that asked it first.

    `body` is what came, in one form: what an idempotency key is compared by. `removed`: pointers to the SSNs that are not
    asked again because they are not kept. `claim`, in the transaction that creates, raises if it may not be done any more.
    `insert` is given what needs no transaction of its own: it claims and writes the row, and its audit.
    """

    of: str
    body: str
    removed: tuple[str, ...] = ()
    claim: Callable[[AsyncConnection], Awaitable[None]] | None = None
    insert: Callable[[Caller, dict[str, Any]], Awaitable[Record | None]] | None = None


_COLUMNS = {
    "key": "text",
    "fingerprint": "bytea",
    "key_id": "text",
    "not_asked": "text",  # these two: PostgreSQL arrays as text
    "route": "text",
    "allow_second_submission": "boolean",
    "payer_retries": "int",
    "entries": "text",
    "follows": "text",
    "metadata": "text",
    "deadline": "timestamptz",
    "deadline_in": "int",
    "external_id": "text",
    "retry_of": "text",
    "payer_id": "text",
    "payer": "text",
    "id": "text",
    "tenant_id": "text",
    "mode": "text",
    "vendor": "text",
    "attempt_id": "text",
    "account": "text",
    "member_digest": "bytea",
    "birth_digest": "bytea",
    "inquiry_digest": "bytea",
    "inquiry_sealed": "bytea",
    "holds_ssn": "boolean",
    **dict.fromkeys(audit.IN_STATEMENT, "text"),
}
_UNNESTED = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in _COLUMNS.items())
_CREATE = Query(f"""
WITH r AS MATERIALIZED (
  SELECT *, clock_timestamp() AS at FROM unnest({_UNNESTED}) AS r({", ".join(_COLUMNS)})
  WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = r.tenant_id AND t.erased_at IS NOT NULL)
), i AS (
  INSERT INTO idempotency_keys (tenant_id, mode, key, fingerprint, fingerprint_key_id, verification_id)
  SELECT tenant_id, mode, key, fingerprint, key_id, id FROM r WHERE key IS NOT NULL ORDER BY tenant_id, mode, key
  ON CONFLICT (tenant_id, mode, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, fingerprint_key_id = excluded.fingerprint_key_id,
        verification_id = excluded.verification_id, created_at = clock_timestamp()
    WHERE idempotency_keys.created_at < clock_timestamp() - interval '{IDEMPOTENCY_KEPT}'
  RETURNING verification_id
), v AS (
  INSERT INTO verifications (id, tenant_id, mode, external_id, retry_of, vendor, payer_id, deadline, created_at, not_asked,
                             metadata, member_digest, birth_digest, inquiry_digest, digest_key_id, inquiry_sealed)
  SELECT id, tenant_id, mode, external_id, retry_of, vendor, payer_id,
         greatest(at, coalesce(deadline, at + make_interval(secs => deadline_in))), at,
         CAST(not_asked AS text[]), CAST(metadata AS jsonb), member_digest, birth_digest, inquiry_digest, key_id,
         inquiry_sealed
  FROM r WHERE key IS NULL OR id IN (SELECT verification_id FROM i)
  RETURNING id, created_at, deadline, not_asked
), w AS (
  INSERT INTO work (verification_id, vendor, mode, payer, due_at, next_check_at, deadline, status, route, not_asked,
                    allow_second_submission, payer_retries, follows, history_count, attempt_id, account, state,
                    attempt_created_at, holds_ssn)
  SELECT id, vendor, mode, payer, at, at, v.deadline, '{Status.QUEUED}', CAST(route AS text[]), v.not_asked,
         allow_second_submission, payer_retries, follows, 1, attempt_id, account, '{AttemptState.PREPARING}', at,
         holds_ssn
  FROM r JOIN v USING (id)
), h AS (
  INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries)
  SELECT id, 0, at, attempt_id, vendor, CAST(entries AS jsonb) FROM r JOIN v USING (id)
), a AS (
  INSERT INTO audit_events (id, at, tenant_id, mode, action, actor_kind, actor_id, acting_user, address, request_id,
                            subject_kind, subject_id, outcome)
  SELECT audit_id, at, tenant_id, mode, 'verification.create', actor_kind, actor_id, acting_user, address, request_id,
         '{SubjectKind.VERIFICATION}', id, '{AuditOutcome.ALLOWED}'
  FROM r JOIN v USING (id)
)
SELECT id, created_at, deadline FROM v""")


_REPLAY = Query(
    "SELECT verification_id, fingerprint FROM idempotency_keys WHERE tenant_id = :tenant_id AND mode = :mode AND key = :key"
    f" AND created_at >= clock_timestamp() - interval '{IDEMPOTENCY_KEPT}'"
)


_CLOCK = Query("SELECT clock_timestamp()")


_EXISTS = Query("SELECT true FROM verifications WHERE id = :id AND tenant_id = :tenant_id AND mode = :mode")


class Acceptance:
    """Accepts verifications; one per API process. Those that come together are committed together."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._inserts = GroupCommit(self._insert_together, key=_key)

    async def create(
        self,
        caller: Caller,
        request: CreateVerification,
        idempotency_key: str | None,
        payer: Named | None = None,
        again: Again | None = None,
    ) -> Created:
        """`payer` is what the payer directory made of the request's payer; None if it was not asked.

        Raises Problem for what cannot be accepted; a 4xx uses no idempotency key up.
        """
        await self.gateway.meet(caller.tenant_id, GATEWAY)
        if not self.gateway.sealer.can_seal(caller.tenant_id):
            raise Problem("unavailable", "the tenant has no data key: it was erased", retry_after=60)
        # A deadline is kept by the database's clock, so it is judged by that one: ours may be minutes apart from it.
        now = await _clock(self.gateway) if request.deadline is not None else datetime.now(UTC)
        intake = Intake.of(caller, request, payer, now)
        try:
            return await self._create(intake, idempotency_key, again)
        except Problem:
            # What was accepted under the key before is told again, whatever has become impossible meanwhile.
            replay = None
            if idempotency_key is not None:
                replay = await self.replay(caller, _body(intake, again), idempotency_key)
            if replay is None:
                raise
            return replay

    async def _create(self, intake: Intake, idempotency_key: str | None, again: Again | None) -> Created:
        gateway, caller, request = self.gateway, intake.caller, intake.request
        retry_of_exists = (
            request.retry_of is None or again is not None or await _exists(gateway, caller, request.retry_of)
        )
        shared = [
            name
            for name in naming_records(request)
            if await gateway.account_is_shared(caller.tenant_id, caller.mode, name)
        ]
        if errors := errors_of(intake, shared=shared, retry_of_exists=retry_of_exists):
            raise Problem("invalid_request", "errors lists everything that is wrong", errors)
        if intake.payer.candidates:
            raise Problem(
                "payer_ambiguous",
                "no single payer goes by exactly this name: give the right one's directory_id, or its electronic id as payer.id",
                [candidate(payer) for payer in intake.payer.candidates],
            )
        await gateway.know_tenants()
        values = _values(gateway, intake, route_of(gateway, intake), again)
        values |= {"key": idempotency_key, "fingerprint": None}
        if idempotency_key is not None:
            # Compared by the body as it was sent, whatever the directory has learned since.
            values["fingerprint"] = gateway.sealer.digest(caller.tenant_id, "idempotency", _body(intake, again))
        if request.max_age is None and again is None:
            row = await self._inserts.add(values)
        elif request.max_age is None and again is not None and again.insert is not None:
            row = await again.insert(caller, values)
        else:
            row = await self._insert_alone(intake, values, again)
        if row is None:
            replay = await self.replay(caller, _body(intake, again), idempotency_key or "")
            if replay is None:
                # Or the tenant was erased, and this process has not heard yet that its keys were revoked.
                said = "the idempotency key is being removed; send the request again"
                raise Problem("unavailable", said, retry_after=1)
            return replay
        instruments.count_accepted(caller.mode, values["vendor"])
        values |= {"metadata": request.metadata, "inquiry": intake.stated}
        return Created(values["id"], replayed=False, row={**values, **row})

    async def _insert_together(self, rows: Sequence[dict[str, Any]]) -> list[Record | None]:
        crash_points.point("before_accepts")
        async with self.gateway.connection() as db:
            inserted = await insert_all(db, rows)
        crash_points.point("after_accepts")
        return [inserted.get(row["id"]) for row in rows]

    async def _insert_alone(self, intake: Intake, values: dict[str, Any], again: Again | None) -> Record | None:
        """In a transaction of its own: with `max_age`, or asked again."""
        gateway, caller, request = self.gateway, intake.caller, intake.request
        async with gateway.transaction() as db:
            if again is not None and again.claim is not None:
                await again.claim(db)
            if request.max_age is not None:
                values["follows"] = await self._leader(db, intake, values, request.max_age)
            row = (await insert_all(db, [values])).get(values["id"])
            if row is not None and again is not None:
                await audit.record(db, caller, "verification.retry", SubjectKind.VERIFICATION, [again.of])
            return row

    async def _leader(self, db: AsyncConnection, intake: Intake, values: Mapping[str, Any], max_age: int) -> str | None:
        """A verification to follow, under a lock on the question."""
        caller, sealer = intake.caller, self.gateway.sealer
        question = question_text(intake.stated, intake.request.vendor_options)
        return await reuse.find_leader(
            db,
            tenant_id=caller.tenant_id,
            mode=caller.mode,
            question=sealer.name(caller.tenant_id, "question", caller.mode, question),
            digests=sealer.digests(caller.tenant_id, "inquiry", caller.tenant_id, caller.mode, question),
            vendors=[values["vendor"], *values["route"]],
            deadline=values["deadline"],
            deadline_in=values["deadline_in"],
            max_age=max_age,
        )

    async def replay(self, caller: Caller, body: str, key: str) -> Created | None:
        """What was accepted under the key before; None if nothing was. Raises Problem if it came with another body."""
        values = {"tenant_id": caller.tenant_id, "mode": caller.mode, "key": key}
        async with self.gateway.connection() as db:
            row = await _REPLAY.one(db, values)
        if row is None:
            return None
        fingerprints = self.gateway.sealer.digests(caller.tenant_id, "idempotency", body)
        if row.fingerprint not in (FORGOTTEN, *fingerprints):
            raise key_reused()
        return Created(row.verification_id, replayed=True)


def key_reused() -> Problem:
    return Problem(
        "idempotency_key_reused",
        "this Idempotency-Key was used with another body within the last 24 hours",
        [FieldError("reused", "use a new key for a new request", parameter="Idempotency-Key")],
    )


def _key(row: dict[str, Any]) -> object:
    """Of two rows with one idempotency key the second finds the first's."""
    return row["id"] if row["key"] is None else (row["tenant_id"], row["mode"], row["key"])


async def insert_all(db: AsyncConnection, rows: Sequence[dict[str, Any]]) -> dict[str, Record]:
    """id → its row; an id is missing if its idempotency key was used before, or if its tenant was erased."""
    values = {name: [row[name] for row in rows] for name in _COLUMNS}
    values |= {name: [array(row[name]) for row in rows] for name in ("route", "not_asked")}
    created = await _CREATE.all(db, values)
    if created:
        announce(db, WORK)
    return {row.id: row for row in created}


async def _clock(gateway: Gateway) -> datetime:
    async with gateway.connection() as db:
        now: datetime = await _CLOCK.scalar(db)
        return now


async def _exists(gateway: Gateway, caller: Caller, verification_id: str) -> bool:
    values = {"id": verification_id, "tenant_id": caller.tenant_id, "mode": caller.mode}
    async with gateway.connection() as db:
        return bool(await _EXISTS.scalar(db, values))


def _body(intake: Intake, again: Again | None) -> str:
    """What came, in one form."""
    return again.body if again is not None else orjson.dumps(intake.body, option=orjson.OPT_SORT_KEYS).decode()


def _named_payer(sealer: Sealer, inquiry: Inquiry) -> str:
    """Whose share of a lane it is, of a payer without an electronic id. Digested: anything may stand in a name."""
    payer = inquiry.payer
    return sealer.name(GATEWAY, "payer", payer.directory_id or (payer.name or "").casefold())[:8].hex()


def _values(gateway: Gateway, intake: Intake, route: Route, again: Again | None) -> dict[str, Any]:
    caller, request, inquiry, now = intake.caller, intake.request, intake.inquiry, intake.now
    sealer, tenant_id, vendor = gateway.sealer, caller.tenant_id, route.vendors[0]
    account = gateway.account(tenant_id, caller.mode, vendor.name)
    assert account is not None, "a route has vendors that the tenant can ask"
    verification_id, attempt_id = ids.new(ids.VERIFICATION), ids.new(ids.ATTEMPT)
    key = sealer.current_key(tenant_id)
    patient_key, person_key = person_keys(key, caller.mode, intake.stated)
    asked = {
        "inquiry": intake.stated,
        "vendor_options": intake.body["vendor_options"],
        "payer_codes": {name: dict(codes) for name, codes in intake.payer.codes.items()},
        "patient_key": patient_key,
        "person_key": person_key,
        "warnings": [[code.value, detail] for code, detail in warnings_of(intake)],
        "request": beside_inquiry(intake.sent, intake.request),
    }
    deadline = request.deadline
    if deadline is None and vendor.default_deadline is not None:
        deadline = vendor.default_deadline(
            Question(
                inquiry=inquiry,
                options=request.options_of(vendor.name),
                connection=account.connection,
                attempt_id=attempt_id,
                patient_key=patient_key,
                person_key=person_key,
                now=now,
            )
        )
    return {
        "id": verification_id,
        "tenant_id": tenant_id,
        "mode": caller.mode,
        "external_id": request.external_id,
        "retry_of": request.retry_of,
        "vendor": vendor.name,
        "payer_id": inquiry.payer.id,
        "payer": share_of(account.id, inquiry.payer.id or _named_payer(sealer, inquiry)),
        "attempt_id": attempt_id,
        "account": account.id,
        "route": [later.name for later in route.vendors[1:]],
        "allow_second_submission": request.routing.allow_second_submission,
        "payer_retries": request.routing.payer_retries,
        "follows": None,
        "entries": entries_of([TimelineRow(TimelineType.CREATED, f"accepted; {route.decision}{_of_before(again)}")]),
        "deadline": deadline,
        "deadline_in": int(DEFAULT_DEADLINE.total_seconds()),
        "not_asked": sorted({*vendor.asked_nothing_of(inquiry, today_eastern(now)), *(again.removed if again else ())}),
        "metadata": orjson.dumps(request.metadata).decode(),
        **digests_of(key, caller.mode, intake.stated, request.vendor_options),
        "key_id": key.id,
        "inquiry_sealed": sealer.seal_json(
            place_in_verification(tenant_id, caller.mode, verification_id, "inquiry"), asked
        ),
        "holds_ssn": inquiry.has_ssn,
        **audit.columns_of(caller),
    }


def _of_before(again: Again | None) -> str:
    if again is None:
        return ""
    without = ", without the SSN: it is not kept once it was submitted" if again.removed else ""
    return f"; asks {again.of} again{without}"
