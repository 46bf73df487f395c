"""One step of a verification: read where it stands, ask the vendor, commit the report.

This is the only path: polling, vendor events, operators, the sweep and redelivered jobs all come through here, fenced by
`step`. Nothing here keeps state between steps, so a process may die at any instruction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import structlog

from covergate.db.group_commit import GroupCommit
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sql import Query
from covergate.eligibility.derive import derive
from covergate.eligibility.inquiry import Inquiry
from covergate.gateway import Gateway
from covergate.states import IS_OPEN, AttemptState, Status
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import Admission, CircuitBreakers, Verdict
from covergate.vendor_health.rate_limit import RateLimits
from covergate.vendors import VENDORS
from covergate.vendors.errors import VendorAuthFailed, VendorError, VendorRateLimited
from covergate.vendors.flow import Answered, Call, NotFound, NotYet, Pending, Question, Refused, Reply
from covergate.verifications import policy, store
from covergate.verifications.commit import commit
from covergate.verifications.conversation import SEND_WITHIN, Conversation, NotOurs
from covergate.verifications.model import (
    BeingSubmitted,
    DeadlineCame,
    Leader,
    NoLookUp,
    NotEnabled,
    NotItsTurn,
    OurFault,
    RefKnown,
    Report,
    Step,
    Submission,
    Unheard,
    Verification,
)
from covergate.verifications.store import Claimed

log = structlog.get_logger(__name__)

STEPS_IN_ROW = 5
"""A job makes so many steps that are due at once one after the other; then it is the turn of the others in its lane."""

PUT_ASIDE_SECONDS = 0.05
"""Held-back work is rescheduled one at a time, so a crowd of it cannot slow other vendors."""

_INTEND = Query(f"""
WITH a AS (
  UPDATE attempts a SET state = '{AttemptState.SUBMITTING}', intent_at = clock_timestamp(),
         lookup_after = clock_timestamp() + make_interval(secs => CAST(:grace AS double precision))
  FROM verifications v
  WHERE a.id = :attempt_id AND a.state = '{AttemptState.PREPARING}' AND v.id = a.verification_id AND v.attempt_id = a.id
    AND v.{IS_OPEN} AND v.step = :step
  RETURNING a.intent_at, a.verification_id
), v AS (
  UPDATE verifications SET status = '{Status.IN_PROGRESS}'
  WHERE status = '{Status.QUEUED}' AND id IN (SELECT verification_id FROM a)
)
SELECT intent_at FROM a""")

_CLAIM_PATIENT = Query(
    f"UPDATE attempts SET exclusive_key = :key WHERE id = :id AND state = '{AttemptState.PREPARING}'"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A report, and what the circuit breaker is to be told once it is committed."""

    report: Report
    admission: Admission | None = None
    error: VendorError | None = None


class Engine:
    """Makes the steps of verifications; one per worker process.

    While `draining` no submission begins. Its step stays due for another worker.
    """

    def __init__(
        self,
        gateway: Gateway,
        transport: Transport,
        breakers: CircuitBreakers,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.gateway = gateway
        self.transport = transport
        self.breakers = breakers
        self.rate_limits = RateLimits(gateway)
        self._commits = GroupCommit(partial(commit, gateway))
        self._putting_aside = asyncio.Lock()
        self._draining = draining
        self.submitting: dict[asyncio.Future[Any] | None, float] = {}
        """Tasks between the intent and the commit of what came back → the loop's time by which the call has ended."""

    async def advance(self, key: str) -> None:
        """`key` is a job's payload: `ver_…:<step>`, or `ver_…:late<tries>` to fetch an answer after the end."""
        verification_id, _, step = key.partition(":")
        with structlog.contextvars.bound_contextvars(verification_id=verification_id):
            await self._advance(verification_id, step)

    async def _advance(self, verification_id: str, step: str) -> None:
        claimed = await self._read(verification_id)
        if claimed is None:
            return
        if step.startswith("late"):
            await self._fetch_late(claimed, int(step.removeprefix("late")))
            return
        if not claimed.verification.open or claimed.verification.step != int(step):
            return
        for left in reversed(range(STEPS_IN_ROW)):
            following = await self._step(claimed, keeps=left > 0 and not self._draining())
            if following is None:
                return
            claimed = replace(claimed, verification=following)

    async def failed_inside(self, key: str) -> None:
        """Our own code failed on this step: back off, say so in the timeline, keep the verification."""
        verification_id, _, step = key.partition(":")
        claimed = await self._read(verification_id)
        if claimed is None:
            return
        v = claimed.verification
        if v.open and step == str(v.step):
            await self._commits.add(Report(v, OurFault()))

    async def _read(self, verification_id: str) -> Claimed | None:
        async with self.gateway.connection() as db:
            return await store.read_claimed(db, self.gateway.sealer, verification_id)

    async def _step(self, claimed: Claimed, *, keeps: bool) -> Verification | None:
        """The verification after this step if the next one is due at once and left to the caller, who `keeps` it."""
        try:
            return await self._step_to_its_commit(claimed, keeps=keeps)
        finally:
            self.submitting.pop(asyncio.current_task(), None)

    async def _step_to_its_commit(self, claimed: Claimed, *, keeps: bool) -> Verification | None:
        try:
            asked = await self._ask(claimed)
        except NotOurs:
            return None
        if isinstance(asked.report.outcome, Admission) and not self._goes_elsewhere(asked.report):
            async with self._putting_aside:
                await self._commits.add(asked.report)
                await asyncio.sleep(PUT_ASIDE_SECONDS)
            return None
        following = await self._commits.add(replace(asked.report, keeps=keeps))
        await self._conclude(asked)
        return following

    def _goes_elsewhere(self, report: Report) -> bool:
        return (
            isinstance(report.outcome, Admission)
            and report.outcome.verdict is Verdict.CIRCUIT
            and bool(report.seen.route)
        )

    async def _ask(self, claimed: Claimed) -> _Asked:
        """Asks whoever has to be asked in this state. Raises NotOurs."""
        v = claimed.verification
        if v.late:
            return _Asked(Report(v, DeadlineCame()))
        if v.follows is not None:
            return _Asked(Report(v, await self._leader(v.follows)))
        step = step_of(self.gateway, claimed)
        if step is None:
            return _Asked(Report(v, NotEnabled()))
        attempt = v.attempt
        match attempt.state:
            case AttemptState.PREPARING:
                return await self._submit(v, step)
            case AttemptState.SUBMITTING if attempt.vendor_ref is not None:
                return _Asked(Report(v, RefKnown(), step))
            case AttemptState.SUBMITTING if attempt.lookup_after is not None and attempt.lookup_after > v.now:
                return _Asked(Report(v, BeingSubmitted(), step))
            case AttemptState.SUBMITTING:
                return await self._look_up(v, step)
            case _ if step.vendor.check is None or attempt.vendor_ref is None:
                return await self._look_up(v, step)
            case _:
                return await self._check(v, step)

    async def _submit(self, v: Verification, step: Step) -> _Asked:
        if self._draining():
            raise NotOurs
        if not await self._claim_patient(v, step):
            return _Asked(Report(v, NotItsTurn(), step))
        return await self._drive(v, step, step.vendor.submit(step.question), submits=True)

    async def _check(self, v: Verification, step: Step) -> _Asked:
        assert step.vendor.check is not None
        assert v.attempt.vendor_ref is not None
        flow = step.vendor.check(step.question, v.attempt.vendor_ref)
        return await self._drive(v, step, flow, checked=True)

    async def _look_up(self, v: Verification, step: Step) -> _Asked:
        """Asks the vendor whether it has the submission."""
        if step.vendor.find is None:
            return _Asked(Report(v, NoLookUp(), step))
        return await self._drive(v, step, step.vendor.find(step.question), looked_up=True)

    async def _drive(
        self,
        v: Verification,
        step: Step,
        flow: Generator[Call, Reply, Any],
        *,
        submits: bool = False,
        checked: bool = False,
        looked_up: bool = False,
    ) -> _Asked:
        """Runs the flow if the vendor may be called now. Raises NotOurs."""
        admission = await self.breakers.admit(step.vendor.name, v.mode, v.now)
        report = Report(v, admission, step, checked=checked, looked_up=looked_up)
        if not admission.granted:
            flow.close()
            return _Asked(report)
        conversation, intent = self._conversation(v, step)
        try:
            with structlog.contextvars.bound_contextvars(attempt_id=v.attempt.id):
                outcome = await conversation.drive(flow)
        except NotOurs:
            await self._conclude(_Asked(report, admission), released=True)
            raise
        except VendorError as error:
            outcome = error
        # The intent's instant is the database's; that of the reply is this process's, whose clock may be anywhere.
        submitted_at = intent.at if conversation.replied else v.attempt.intent_at if looked_up else None
        report = replace(
            report,
            seen=intent.seen,
            outcome=outcome,
            conclusion=_concluded(step, outcome),
            exchanges=tuple(conversation.exchanges),
            submission=_submission(outcome, submitted_at, conversation),
            replied=conversation.replied
            or (submits and isinstance(outcome, VendorError) and not _in_doubt(outcome, conversation) and intent.made),
            maybe_submitted=conversation.maybe_submitted,
        )
        return _Asked(report, admission, outcome if isinstance(outcome, VendorError) else None)

    def _conversation(self, v: Verification, step: Step) -> tuple[Conversation, _Intent]:
        name, mode = step.vendor.name, v.mode
        intent = _Intent(self.gateway, v, step.vendor.find_delay.total_seconds())

        async def intend(call: Call) -> bool:
            if self._draining():
                return False
            ends_at = asyncio.get_running_loop().time() + SEND_WITHIN + call.timeout
            self.submitting[asyncio.current_task()] = ends_at
            return await intent.store(call)

        return Conversation(
            self.transport,
            step.vendor,
            mode,
            step.connection,
            intend,
            pace=lambda: self.rate_limits.take(name, mode, step.vendor.calls_per_second),
        ), intent

    async def _claim_patient(self, v: Verification, step: Step) -> bool:
        """Whether it is this check's turn, until its attempt ends, at a vendor that bears one open check of a patient."""
        if not step.vendor.exclusive_per_patient:
            return True
        async with self.gateway.connection() as db:
            try:
                await _CLAIM_PATIENT.run(db, {"id": v.attempt.id, "key": step.question.patient_key})
            except asyncpg.UniqueViolationError:
                return False
        return True

    async def _conclude(self, asked: _Asked, *, released: bool = False) -> None:
        """Tells the circuit breaker how its trial went, after the report is safe: a failure here costs only the trial."""
        if asked.admission is None or asked.admission.verdict is not Verdict.TRIAL:
            return
        v, error = asked.report.seen, asked.error
        ours = error is not None and (error.ours or (isinstance(error, VendorRateLimited) and error.reply is None))
        try:
            if released or ours:
                await self.breakers.release(v.attempt.vendor, v.mode, asked.admission)
            else:
                await self.breakers.conclude(v.attempt.vendor, v.mode, asked.admission, error)
        except DATABASE_ERRORS as failure:
            log.warning("trial_not_concluded", vendor=v.attempt.vendor, error=type(failure).__name__)

    async def _leader(self, leader_id: str) -> Leader:
        async with self.gateway.connection() as db:
            leader = await store.read_claimed(db, self.gateway.sealer, leader_id)
        if leader is None:
            return Leader(None)
        why = store.open_failure(self.gateway.sealer, leader_id, leader.failure_sealed)
        return Leader(leader.verification, leader.verification.result, why)

    async def _fetch_late(self, claimed: Claimed, tries: int) -> None:
        """A vendor event came after the end: ask for the answer once more, and keep it beside the end."""
        v, step = claimed.verification, step_of(self.gateway, claimed)
        if v.open or step is None or step.vendor.check is None or v.attempt.vendor_ref is None:
            return
        asked = await self._check(v, step)
        report = asked.report
        if isinstance(report.outcome, VendorError | Admission):
            again_in = policy.LATE_LOOK_PAUSE if tries + 1 < policy.LATE_LOOKS else None
            report = replace(report, outcome=Unheard(again_in, tries + 1))
        await self._commits.add(report)
        await self._conclude(asked)


@dataclass
class _Intent:
    """The intent of one committing call. `seen` is the verification with the intent that this step stored."""

    gateway: Gateway
    seen: Verification
    find_delay: float
    at: datetime | None = None

    @property
    def made(self) -> bool:
        return self.at is not None

    async def store(self, call: Call) -> bool:
        grace = SEND_WITHIN + call.timeout + self.find_delay
        async with self.gateway.connection() as db:
            values = {"attempt_id": self.seen.attempt.id, "step": self.seen.step, "grace": grace}
            self.at = await _INTEND.scalar(db, values)
        if self.at is not None:
            self.seen = replace(self.seen, attempt=replace(self.seen.attempt, intent_at=self.at))
        return self.made


def step_of(gateway: Gateway, claimed: Claimed) -> Step | None:
    """None if the attempt's vendor is not enabled (any more)."""
    v = claimed.verification
    vendor = VENDORS.get(v.attempt.vendor)
    account = gateway.account(v.mode, v.attempt.vendor)
    if vendor is None or account is None:
        return None
    asked = gateway.sealer.open_json("verifications", "inquiry", v.id, claimed.inquiry_sealed)
    question = Question(
        inquiry=Inquiry.model_validate(asked["inquiry"]),
        options=vendor.options.model_validate(asked["vendor_options"].get(vendor.name) or {}),
        connection=account,
        attempt_id=v.attempt.id,
        patient_key=asked["patient_key"],
        now=v.now,
        submitted_at=v.attempt.submitted_at or v.attempt.intent_at,
        checks=v.attempt.checks,
        payer_codes=asked["payer_codes"].get(vendor.name) or {},
    )
    return Step(vendor, account, question, vendor.asked_nothing_of(question.inquiry, question.today))


def _concluded(step: Step, outcome: object) -> Any:
    """The result is derived before the rows are locked: it is the largest piece of work of a step."""
    if not isinstance(outcome, Answered):
        return None
    return derive(outcome.answer, step.question.inquiry, step.not_asked, step.question.today)


def _submission(outcome: object, at: datetime | None, conversation: Conversation) -> Submission | None:
    """The outcome also tells that the submission was made; a refusal only if it came with a success."""
    if at is None or isinstance(outcome, VendorError | NotFound | NotYet):
        return None
    if isinstance(outcome, Refused) and not conversation.maybe_submitted:
        return None
    return Submission(outcome.ref if isinstance(outcome, Pending | Answered) else None, at)


def _in_doubt(error: VendorError, conversation: Conversation) -> bool:
    return conversation.maybe_submitted and not isinstance(error, VendorRateLimited | VendorAuthFailed)
