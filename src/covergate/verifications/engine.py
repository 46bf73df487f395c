"""One step of a verification: read where it stands, ask the vendor, commit the report.

This is the only path: polling, vendor events, operators and the sweep make a verification due, and its claimer comes
through here, fenced by `step`. Nothing here keeps state between steps, so a process may die at any instruction.
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

from covergate.access.vendor_accounts import refresh_accounts
from covergate.db.group_commit import GroupCommit
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sealing import SealError
from covergate.db.sql import Query
from covergate.eligibility.derive import derive
from covergate.eligibility.failure import FailureCode, failure
from covergate.eligibility.terms import WarningCode
from covergate.eligibility.warning import request_warning
from covergate.gateway import Gateway
from covergate.states import AttemptState, WaitingFor
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import Admission, CircuitBreakers, Verdict
from covergate.vendor_health.rate_limit import RateLimits
from covergate.vendors import VENDORS
from covergate.vendors.account import SHARED
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited
from covergate.vendors.flow import Answered, Call, NotFound, NotYet, Pending, Question, Refused, Reply
from covergate.verifications import policy, store
from covergate.verifications.checks import is_unlisted
from covergate.verifications.commit import PERSEVERANCE_SECONDS, commit, commit_alone, reported_on
from covergate.verifications.conversation import SEND_WITHIN, Conversation, NotInterpreted, NotOurs, VendorHeld, replay
from covergate.verifications.history import stored_replies
from covergate.verifications.intents import Intent, Intents
from covergate.verifications.lanes import release
from covergate.verifications.model import (
    AccountRemoved,
    BeingSubmitted,
    DeadlineCame,
    InquiryUnreadable,
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
from covergate.verifications.store import Claimed, asked_of
from covergate.webhooks.events import Desk

log = structlog.get_logger(__name__)

STEPS_IN_ROW = 5
"""A claimer makes so many steps that are due at once one after the other; then it is the turn of the others in its lane."""

PUT_ASIDE_SECONDS = 0.05
"""Held-back work is rescheduled one at a time, so a crowd of it cannot slow other vendors."""

_CLAIM_PATIENT = Query(
    "UPDATE work SET exclusive_key = :key WHERE verification_id = :id AND attempt_id = :attempt_id"
    f" AND state = '{AttemptState.PREPARING}' AND late_tries IS NULL"
)

_OTHER_CHECK = Query(
    "SELECT waiting_for, waiting_since FROM work WHERE vendor = :vendor AND exclusive_key = :key",
    vendor="text",
    key="text",
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A report, and what the circuit breaker is to be told once it is committed."""

    report: Report
    admission: Admission | None = None
    error: VendorError | None = None
    made: bool = True
    """The call of a trial was made."""
    credentials_taken: bool = False
    """Refused was one record: the vendor takes the credentials for a harmless call."""


class Engine:
    """Makes the steps of verifications; one per worker process.

    The `desk` posts webhooks of what ends here. While `draining` no submission begins; its step stays due for another worker.
    """

    def __init__(
        self,
        gateway: Gateway,
        transport: Transport,
        breakers: CircuitBreakers,
        desk: Desk | None = None,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.gateway = gateway
        self.transport = transport
        self.breakers = breakers
        self.rate_limits = RateLimits(gateway)
        self._commits = GroupCommit(
            partial(commit, gateway, desk), key=reported_on, alone=partial(commit_alone, gateway, desk)
        )
        self._intents = Intents(gateway)
        self._writing: set[asyncio.Task[Verification | None]] = set()
        self._putting_aside = asyncio.Lock()
        self._draining = draining
        self.submitting: dict[asyncio.Future[Any] | None, float] = {}
        """Tasks between the intent and the commit of what came back → the loop's time by which the call has ended."""

    async def advance(self, claimed: Claimed) -> None:
        """Makes the step that is due, and those after it that are due at once."""
        with structlog.contextvars.bound_contextvars(verification_id=claimed.key):
            if claimed.verification.late_tries is not None:
                await self._fetch_late(claimed)
                return
            for left in reversed(range(STEPS_IN_ROW)):
                following = await self._step(claimed, keeps=left > 0 and not self._draining())
                if following is None:
                    return
                claimed.verification = following

    async def failed_inside(self, claimed: Claimed) -> None:
        """Our own code failed on this step: back off, say so in the timeline, keep the verification."""
        v = claimed.verification
        await self._write(Report(v, OurFault() if v.late_tries is None else _unheard(OurFault(), v)))

    async def drain(self) -> None:
        """Returns when no report is held any more. Those of steps that were canceled are written, too: a reply may be paid."""
        if self._writing:
            log.warning("holding_reports", reports=len(self._writing))
            await asyncio.wait(self._writing)

    async def _write(self, report: Report) -> Verification | None:
        writing = asyncio.create_task(self._commits.add(report))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        return await asyncio.shield(writing)

    def _written(self, writing: asyncio.Task[Verification | None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # whoever waits for it gets it; a step that was canceled does not

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
            if self._draining():
                async with self.gateway.connection() as db:
                    await release(db, claimed)
            return None
        if isinstance(asked.report.outcome, Admission) and not self._goes_elsewhere(asked.report):
            async with self._putting_aside:
                await self._write(asked.report)
                await asyncio.sleep(PUT_ASIDE_SECONDS)
            return None
        following = await self._write(replace(asked.report, keeps=keeps))
        await self._conclude(asked)
        return following

    def _goes_elsewhere(self, report: Report) -> bool:
        return (
            isinstance(report.outcome, Admission)
            and report.outcome.verdict in (Verdict.CIRCUIT, Verdict.CREDENTIALS)
            and bool(report.seen.route)
        )

    async def _ask(self, claimed: Claimed) -> _Asked:
        """Asks whoever has to be asked in this state. Raises NotOurs."""
        v = claimed.verification
        if v.late:
            return _Asked(Report(v, DeadlineCame()))
        if v.follows is not None:
            return _Asked(Report(v, await self._leader(v.follows)))
        await self.gateway.meet(v.tenant_id, sealed=(claimed.inquiry_sealed,))
        try:
            step = await self._step_of(claimed)
            if step is None:
                inquiry = asked_of(self.gateway.sealer, claimed).inquiry
                gone = v.attempt.account != SHARED and not self.gateway.accounts.knows(v.attempt.account)
                return _Asked(Report(v, AccountRemoved(inquiry) if gone else NotEnabled(inquiry)))
        except SealError as error:
            log.error("value_not_opened", verification_id=v.id, column="inquiry", reason=str(error))
            return _Asked(Report(v, InquiryUnreadable()))
        attempt = v.attempt
        if attempt.intent_at is not None and attempt.vendor_ref is None:
            replayed = await self._replay(v, step, attempt.intent_at)
            if replayed is not None:
                return _Asked(replayed)
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

    async def _step_of(self, claimed: Claimed) -> Step | None:
        """None if the attempt's account is not there any more, or was never the tenant's to begin with.

        An account that is new may not have been heard of here.
        """
        v, account = claimed.verification, claimed.verification.attempt.account
        if not self.gateway.accounts.loaded:
            await refresh_accounts(self.gateway)
        await self.gateway.know_tenants()
        begins_shared = account == SHARED and v.attempt.state is AttemptState.PREPARING
        if begins_shared and not self.gateway.may_use_shared(v.tenant_id, v.mode, v.attempt.vendor):
            # The account was kept from the tenants since; or it stands for that of a tenant that has none.
            return None
        step = step_of(self.gateway, claimed)
        if step is None and account != SHARED and self.gateway.accounts.by_id(account) is None:
            await refresh_accounts(self.gateway)
            step = step_of(self.gateway, claimed)
        return step

    async def _submit(self, v: Verification, step: Step) -> _Asked:
        if self._draining():
            raise NotOurs
        other = await self._claim_patient(v, step)
        if other is not None:
            refused = other.waiting_for is WaitingFor.CREDENTIALS
            if refused and await self.breakers.credentials.refuses(step.account):
                # Not in a queue behind it, which is looked at every few seconds: the same waits for both.
                return _Asked(Report(v, Admission(Verdict.CREDENTIALS), step))
            return _Asked(Report(v, other, step))
        return await self._drive(v, step, step.vendor.submit(step.question), submits=True)

    async def _check(self, v: Verification, step: Step) -> _Asked:
        assert step.vendor.check is not None
        assert v.attempt.vendor_ref is not None
        flow = step.vendor.check(step.question, v.attempt.vendor_ref)
        return await self._drive(v, step, flow, checked=True)

    async def _replay(self, v: Verification, step: Step, intent_at: datetime) -> Report | None:
        """Interprets the stored reply to the committing call again, if there is one that our code failed on."""
        try:
            async with self.gateway.connection() as db:
                stored = await stored_replies(db, self.gateway.sealer, v)
        except SealError as error:
            log.error("value_not_opened", verification_id=v.id, column="exchanges", reason=str(error))
            return None
        # As it was when the call was made.
        then = replace(step, question=replace(step.question, now=intent_at, submitted_at=None))
        report = Report(v, OurFault(), step, submission=Submission(None, intent_at), maybe_submitted=True)
        try:
            progress = replay(lambda: step.vendor.submit(then.question), stored)
            if progress is None:
                return None
            conclusion = _concluded(then, progress)
        except NotInterpreted as error:
            return replace(report, outcome=_not_interpreted(v, error))
        ref = None if isinstance(progress, Refused) else progress.ref
        submission = Submission(ref, intent_at)
        return replace(report, outcome=progress, conclusion=conclusion, submission=submission)

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
        refusal = await self._not_theirs_to_name(step)
        if refusal is not None:
            flow.close()
            return _Asked(Report(v, refusal, step, checked=checked, looked_up=looked_up))
        admission = await self._admit(v, step)
        report = Report(v, admission, step, checked=checked, looked_up=looked_up)
        if not admission.granted:
            flow.close()
            return _Asked(report)
        conversation, intent = self._conversation(v, step)
        conclusion = None
        try:
            with structlog.contextvars.bound_contextvars(attempt_id=v.attempt.id):
                outcome = await conversation.drive(flow)
            conclusion = _concluded(step, outcome)
        except NotOurs:
            await self._conclude(_Asked(report, admission, made=False), released=True)
            raise
        except VendorHeld:
            await self._conclude(_Asked(report, admission, made=False), released=True)
            exchanges = tuple(conversation.exchanges)
            return _Asked(replace(report, outcome=Admission(Verdict.HOLD), exchanges=exchanges))
        except VendorError as error:
            outcome = error
        except NotInterpreted as error:
            outcome = _not_interpreted(v, error)
        refused = isinstance(outcome, VendorAuthFailed)
        names_record = checked or looked_up or bool(step.question.options.named_records)
        taken = refused and names_record and await self._takes_credentials(step)
        account_held = refused and not taken and await self._hold_account(step, admission)
        # The intent's instant is the database's; that of the reply is this process's, whose clock may be anywhere.
        submitted_at = intent.at if conversation.replied else v.attempt.intent_at if looked_up else None
        report = replace(
            report,
            seen=intent.seen,
            outcome=outcome,
            conclusion=conclusion,
            exchanges=tuple(conversation.exchanges),
            submission=_submission(outcome, submitted_at, conversation),
            replied=conversation.replied
            or (submits and isinstance(outcome, VendorError) and not _in_doubt(outcome, conversation) and intent.made),
            maybe_submitted=conversation.maybe_submitted,
            account_held=account_held,
        )
        failed = outcome if isinstance(outcome, VendorError) else None
        return _Asked(report, admission, failed, credentials_taken=taken)

    async def _admit(self, v: Verification, step: Step) -> Admission:
        vendor, account = step.vendor.name, step.account
        admission = await self.breakers.admit(vendor, v.mode, v.now, account.id)
        if not admission.granted:
            return admission
        credentials = await self.breakers.credentials.admit(account, v.now)
        if credentials.granted:
            return replace(admission, credentials_until=credentials.trial_until)
        await self.breakers.release(vendor, v.mode, admission, account.id)
        return Admission(Verdict.CREDENTIALS)

    async def _hold_account(self, step: Step, admission: Admission) -> bool:
        """Nothing more is sent with these credentials. False if others took their place, or it could not be written down."""
        try:
            return await self.breakers.credentials.refuse(step.account, admission.credentials_until)
        except DATABASE_ERRORS as error:
            log.warning("account_not_held", vendor=step.vendor.name, error=type(error).__name__)
            return False

    async def _takes_credentials(self, step: Step) -> bool:
        """Whether the vendor takes the credentials for a harmless call: then what it refuses is the record that the step names,
        and one verification must not stop all the others.
        """
        probe, account = step.vendor.probe, step.account
        if probe is None:
            return False
        try:
            flow = probe(account.connection)
            await self.transport.run(step.vendor, account.mode, account.connection, flow, account.id)
        except VendorError:
            return False
        return True

    async def _not_theirs_to_name(self, step: Step) -> Refused | None:
        """An account may have become shared since the verification was accepted.

        The attempt's own account counts: the tenant may have another one by now, or none.
        """
        named = step.question.options.named_records
        if not named or not await self.gateway.is_used_by_several(step.account):
            return None
        return Refused(failure(FailureCode.REQUEST_REJECTED, vendor_code=", ".join(named)))

    def _conversation(self, v: Verification, step: Step) -> tuple[Conversation, Intent]:
        name, mode = step.vendor.name, v.mode
        find_delay = step.vendor.find_delay.total_seconds()
        if step.vendor.find is None:
            # Then only the worker that made the call can tell; it may hold the reply while the database is away.
            find_delay += PERSEVERANCE_SECONDS
        intent = Intent(self._intents, v, find_delay)

        async def intend(call: Call) -> bool:
            if self._draining():
                return False
            ends_at = asyncio.get_running_loop().time() + SEND_WITHIN + call.timeout
            self.submitting[asyncio.current_task()] = ends_at
            return await intent.store(call)

        return Conversation(
            self.transport,
            step.vendor,
            step.account,
            v.tenant_id,
            intend,
            pace=lambda: self.rate_limits.take(name, mode, step.vendor.calls_per_second, step.account.id),
        ), intent

    async def _claim_patient(self, v: Verification, step: Step) -> NotItsTurn | None:
        """None if it is this check's turn, until its attempt ends, at a vendor that bears one open check of a patient."""
        if step.vendor.record_of is None:
            return None
        key = step.vendor.record_of(step.question)
        async with self.gateway.connection() as db:
            try:
                await _CLAIM_PATIENT.run(db, {"id": v.id, "attempt_id": v.attempt.id, "key": key})
            except asyncpg.UniqueViolationError:
                other = await _OTHER_CHECK.one(db, {"vendor": step.vendor.name, "key": key})
                if other is None or other["waiting_for"] is None:
                    return NotItsTurn()
                return NotItsTurn(WaitingFor(other["waiting_for"]), other["waiting_since"])
        return None

    async def _conclude(self, asked: _Asked, *, released: bool = False) -> None:
        """Tells the circuit breaker how its trials went, after the report is safe: a failure here costs only the trials."""
        admission = asked.admission
        if admission is None or (admission.verdict is not Verdict.TRIAL and admission.credentials_until is None):
            return
        v, error = asked.report.seen, asked.error
        ours = error is not None and (error.ours or (isinstance(error, VendorRateLimited) and error.reply is None))
        try:
            await self._conclude_credentials(asked)
            if admission.verdict is not Verdict.TRIAL:
                return
            if released or ours:
                await self.breakers.release(v.attempt.vendor, v.mode, admission, v.attempt.account)
            else:
                await self.breakers.conclude(v.attempt.vendor, v.mode, admission, error, v.attempt.account)
        except DATABASE_ERRORS as failure:
            log.warning("trial_not_concluded", vendor=v.attempt.vendor, error=type(failure).__name__)

    async def _conclude_credentials(self, asked: _Asked) -> None:
        """A refusal was told before, see `_hold_account`."""
        admission, step, error = asked.admission, asked.report.step, asked.error
        if admission is None or admission.credentials_until is None or asked.report.account_held:
            return
        assert step is not None
        account, trial, credentials = step.account, admission.credentials_until, self.breakers.credentials
        understood = error is None or (isinstance(error, VendorBroken) and error.sent)
        if asked.credentials_taken or (asked.made and understood):
            await credentials.accept(account, trial)
        else:
            await credentials.release(account, trial, made=asked.made)

    async def _leader(self, leader_id: str) -> Leader:
        async with self.gateway.connection() as db:
            leader = await store.read_claimed(db, self.gateway.sealer, leader_id)
        if leader is None:
            return Leader(None)
        why = store.open_failure(self.gateway.sealer, leader.verification, leader.failure_sealed)
        return Leader(leader.verification, leader.verification.result, why)

    async def _fetch_late(self, claimed: Claimed) -> None:
        """A vendor event came after the end: ask for the answer once more, and keep it beside the end."""
        v = claimed.verification
        await self.gateway.meet(v.tenant_id, sealed=(claimed.inquiry_sealed,))
        try:
            step = await self._step_of(claimed)
        except SealError as error:
            log.error("value_not_opened", verification_id=v.id, column="inquiry", reason=str(error))
            step = None
        if step is None or step.vendor.check is None or v.attempt.vendor_ref is None:
            await self._write(Report(v, Unheard(None, v.late_tries or 0)))
            return
        asked = await self._check(v, step)
        report = asked.report
        if isinstance(report.outcome, VendorError | Admission | OurFault):
            report = replace(report, outcome=_unheard(report.outcome, v, account_held=report.account_held))
        await self._write(report)
        await self._conclude(asked)


_WAITS = {
    Verdict.HOLD: WaitingFor.HOLD,
    Verdict.CIRCUIT: WaitingFor.CIRCUIT,
    Verdict.CREDENTIALS: WaitingFor.CREDENTIALS,
}


def _unheard(outcome: object, v: Verification, *, account_held: bool = False) -> Unheard:
    """A late answer could not be fetched. A vendor that may not be called is waited for: that is no try."""
    tries = v.late_tries or 0
    if account_held:
        outcome = Admission(Verdict.CREDENTIALS)
    if isinstance(outcome, Admission):
        waits_for = _WAITS[outcome.verdict]
        return Unheard(outcome.until - v.now if outcome.until else policy.LATE_HOLD_PAUSE, tries, waits_for)
    return Unheard(policy.LATE_LOOK_PAUSE if tries + 1 < policy.LATE_LOOKS else None, tries + 1)


def step_of(gateway: Gateway, claimed: Claimed) -> Step | None:
    """None if the attempt's vendor is not enabled any more, or its account is not there."""
    v = claimed.verification
    vendor = VENDORS.get(v.attempt.vendor)
    account = gateway.bound_account(v.tenant_id, v.mode, v.attempt.vendor, v.attempt.account)
    if vendor is None or account is None:
        return None
    asked = asked_of(gateway.sealer, claimed)
    question = Question(
        inquiry=asked.inquiry,
        options=vendor.options.model_validate(asked.vendor_options.get(vendor.name) or {}),
        connection=account.connection,
        attempt_id=v.attempt.id,
        patient_key=asked.patient_key,
        person_key=asked.person_key,
        now=v.now,
        account_is_own=account.id != SHARED,
        submitted_at=v.attempt.submitted_at or v.attempt.intent_at,
        checks=v.attempt.checks,
        look_ups=v.attempt.look_ups,
        payer_codes=asked.payer_codes.get(vendor.name) or {},
    )
    warnings = tuple(request_warning(WarningCode(code), detail) for code, detail in asked.warnings)
    if is_unlisted(vendor, asked.payer_codes):
        warnings += (request_warning(WarningCode.PAYER_NOT_IN_DIRECTORY, f"not among the payers of {vendor.title}"),)
    return Step(vendor, account, question, vendor.asked_nothing_of(question.inquiry, question.today), warnings)


def _concluded(step: Step, outcome: object) -> Any:
    """The result is derived before the rows are locked: it is the largest piece of work of a step. Raises NotInterpreted."""
    if not isinstance(outcome, Answered):
        return None
    try:
        return derive(outcome.answer, step.question.inquiry, step.not_asked, step.question.today, step.warnings)
    # Broad on purpose: whatever is wrong with our code, the reply was paid for.
    except Exception as error:
        raise NotInterpreted from error


def _not_interpreted(v: Verification, error: NotInterpreted) -> OurFault:
    log.error("reply_not_interpreted", verification_id=v.id, vendor=v.attempt.vendor, exc_info=error)
    return OurFault()


def _submission(outcome: object, at: datetime | None, conversation: Conversation) -> Submission | None:
    """The outcome also tells that the submission was made; a refusal, or a fault of ours, only if it came with a success."""
    if at is None or isinstance(outcome, VendorError | NotFound | NotYet):
        return None
    if isinstance(outcome, Refused | OurFault) and not conversation.maybe_submitted:
        return None
    return Submission(outcome.ref if isinstance(outcome, Pending | Answered) else None, at)


def _in_doubt(error: VendorError, conversation: Conversation) -> bool:
    return conversation.maybe_submitted and not isinstance(error, VendorRateLimited | VendorAuthFailed)
