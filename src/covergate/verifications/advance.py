"""One step of a verification: read where it stands, run the vendor's flow that comes next, record what it brought.

This is the only path: polling, vendor events, operators, the sweep and redelivered jobs all come through here, fenced by
`step`. Nothing here keeps state between steps, so a process may die at any instruction.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from covergate import ids, jobs
from covergate.db.statement import Statement
from covergate.eligibility.conclusion import conclude
from covergate.eligibility.failure import Failure, FailureCode
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited, VendorUnavailable
from covergate.gateway import Gateway
from covergate.standing.circuits import Admission, Circuits, Verdict
from covergate.standing.rates import Rates
from covergate.vendors import VENDORS
from covergate.vendors.base import Answered, Call, Connection, NotFound, Pending, Progress, Question, Refused, Vendor
from covergate.vendors.transport import Transport
from covergate.verifications import transitions
from covergate.verifications.record import (
    Submission,
    answer_late,
    complete,
    fail,
    record,
    refuse,
    time_out,
)
from covergate.verifications.remedies import Remedy, remedy
from covergate.verifications.reuse import follow
from covergate.verifications.run import SEND_WITHIN, NotOurs, Run
from covergate.verifications.state import Change, State, Successor, read

log = structlog.get_logger(__name__)

PAYER_REST = timedelta(minutes=1)
"""Before a submission is made again because the payer could not respond."""

FAILURE_OF: dict[type[VendorError], FailureCode] = {
    VendorRateLimited: FailureCode.VENDOR_RATE_LIMITED,
    VendorAuthFailed: FailureCode.VENDOR_AUTH_FAILED,
    VendorBroken: FailureCode.VENDOR_PROTOCOL_ERROR,
    VendorUnavailable: FailureCode.VENDOR_UNAVAILABLE,
}

CIRCUIT_SPREAD = timedelta(seconds=2)
"""What waits for a circuit comes back spread over as long as it rested, and at least so long: a crowd of thousands must not
come all at once. When the circuit closes, the sweep wakes them all the same."""

PUT_ASIDE_SECONDS = 0.02
"""What waits for a circuit or a hold is put aside one after the other: there is no hurry, and thousands at once would slow the
other vendors."""

LATE_TRIES = 3
"""How often an answer that came after the end is asked for before it is left alone."""

_INTEND = Statement("""
WITH a AS (
  UPDATE attempts a SET state = 'submitting', intent_at = clock_timestamp(),
         lookup_after = clock_timestamp() + make_interval(secs => CAST(:grace AS double precision))
  FROM verifications v
  WHERE a.id = :attempt_id AND a.state = 'preparing' AND v.id = a.verification_id AND v.attempt_id = a.id
    AND v.status IN ('queued', 'in_progress') AND v.step = :step
  RETURNING a.intent_at, a.verification_id
), v AS (
  UPDATE verifications SET status = 'in_progress' WHERE status = 'queued' AND id IN (SELECT verification_id FROM a)
)
SELECT intent_at FROM a""")


_CLAIM = text("UPDATE attempts SET exclusive_key = :key WHERE id = :id AND state = 'preparing'")


@dataclass(frozen=True, slots=True)
class Step:
    """Everything one step works with."""

    seen: State
    vendor: Vendor
    connection: Connection
    question: Question
    not_asked: frozenset[str]


class NotAdmitted(Exception):
    """The vendor may not be called now."""

    def __init__(self, admission: Admission) -> None:
        super().__init__(admission.verdict)
        self.admission = admission


class Advancer:
    """Advances verifications; one per worker process."""

    def __init__(self, gateway: Gateway, transport: Transport) -> None:
        self.gateway = gateway
        self.transport = transport
        self.circuits = Circuits(gateway)
        self.rates = Rates(gateway)
        self._putting_aside = asyncio.Lock()

    async def advance(self, key: str) -> None:
        """`key` is a job's payload: `ver_…:<step>`, or `ver_…:late<tries>` to fetch an answer after the end."""
        verification_id, _, step = key.partition(":")
        async with self.gateway.autocommit.connect() as db:
            seen = await read(db, verification_id)
        if seen is None:
            return
        if step.startswith("late"):
            await self._fetch_late(seen, int(step.removeprefix("late")))
        elif seen.open and seen.step == int(step):
            await self._advance(seen)

    async def _advance(self, seen: State) -> None:
        if seen.late:
            await record(self.gateway, seen, lambda state: time_out(self.gateway.sealer, state))
            return
        if seen.follows is not None:
            await follow(self.gateway, seen)
            return
        step = self._step(seen)
        if step is None:
            await self._not_enabled(seen)
            return
        try:
            await self._next(step)
        except NotAdmitted as refused:
            await self._held_back(step, refused.admission)

    async def _next(self, step: Step) -> None:
        seen = step.seen
        if seen.attempt.state == "preparing":
            await self._submit(step)
        elif seen.attempt.state == "submitting":
            await self._settle(step)
        elif step.vendor.check is None or seen.attempt.vendor_ref is None:
            await self._look_up(step)
        else:
            await self._check(step, step.vendor.check(step.question, seen.attempt.vendor_ref))

    def _step(self, seen: State) -> Step | None:
        vendor = VENDORS.get(seen.attempt.vendor)
        connection = self.gateway.connection(seen.mode, seen.attempt.vendor)
        if vendor is None or connection is None:
            return None
        asked = self.gateway.sealer.open_json("verifications", "inquiry", seen.id, seen.inquiry_sealed)
        inquiry = Inquiry.model_validate(asked["inquiry"])
        question = Question(
            inquiry=inquiry,
            options=vendor.options.model_validate(asked["vendor_options"].get(vendor.name) or {}),
            connection=connection,
            attempt_id=seen.attempt.id,
            patient_key=asked["patient_key"],
            now=seen.now,
            submitted_at=seen.attempt.submitted_at or seen.attempt.intent_at,
            checks=seen.attempt.checks,
            payer_codes=asked["payer_codes"].get(vendor.name) or {},
        )
        return Step(seen, vendor, connection, question, vendor.asked_nothing_of(inquiry, today_eastern(seen.now)))

    def _run(self, step: Step) -> Run:
        async def intent(call: Call) -> bool:
            grace = SEND_WITHIN + call.timeout + step.vendor.find_delay.total_seconds()
            async with self.gateway.autocommit.connect() as db:
                values = {"attempt_id": step.seen.attempt.id, "step": step.seen.step, "grace": grace}
                intended = await _INTEND.one(db, values)
            if intended is not None:
                step.seen.attempt.intent_at = intended["intent_at"]
            return intended is not None

        name, mode = step.vendor.name, step.seen.mode
        return Run(
            self.transport,
            step.vendor,
            mode,
            step.connection,
            intent,
            pace=lambda: self.rates.take(name, mode, step.vendor.calls_per_second),
            count=lambda error: self.circuits.count(name, mode, error),
        )

    async def _drive(self, step: Step, run: Run, flow: Any) -> Any:
        """Run the flow if the vendor may be called now. Raises NotAdmitted, NotOurs and VendorError."""
        name, mode = step.vendor.name, step.seen.mode
        admission = await self.circuits.admit(name, mode, step.seen.now)
        if not admission.granted:
            flow.close()
            raise NotAdmitted(admission)
        try:
            progress = await run.drive(flow)
        except NotOurs:
            await self.circuits.release(name, mode, admission)
            raise
        except VendorError as error:
            if isinstance(error, VendorRateLimited) and error.reply is None:
                await self.circuits.release(name, mode, admission)  # our own limit: the vendor was not asked
            else:
                await self.circuits.conclude(name, mode, admission, error)
            raise
        await self.circuits.conclude(name, mode, admission, None)
        return progress

    async def _held_back(self, step: Step, admission: Admission) -> None:
        """An open circuit sends what was not submitted yet to the next vendor; everything else waits."""

        def decide(state: State) -> Change:
            if (
                admission.verdict is Verdict.CIRCUIT
                and state.attempt.state == "preparing"
                and remedy(FailureCode.VENDOR_UNAVAILABLE, state, submitted=False) is Remedy.NEXT
            ):
                return self._next_vendor(step, state, FailureCode.VENDOR_UNAVAILABLE)
            until = admission.until
            if until is not None:
                until += max(until - state.now, CIRCUIT_SPREAD) * random.uniform(0, 1)
            return transitions.held_back(state, admission.verdict.value, until)

        if step.seen.route and admission.verdict is Verdict.CIRCUIT:
            await record(self.gateway, step.seen, decide)
            return
        async with self._putting_aside:
            await record(self.gateway, step.seen, decide)
            await asyncio.sleep(PUT_ASIDE_SECONDS)

    async def _claim(self, step: Step) -> bool:
        """Where the vendor can bear one open check of a patient: whether it is this one's turn, until its attempt ends."""
        if not step.vendor.exclusive_per_patient:
            return True
        async with self.gateway.autocommit.connect() as db:
            try:
                await db.execute(_CLAIM, {"id": step.seen.attempt.id, "key": step.question.patient_key})
            except IntegrityError:
                return False
        return True

    async def _submit(self, step: Step) -> None:
        if not await self._claim(step):
            await record(self.gateway, step.seen, transitions.wait_for_turn)
            return
        run = self._run(step)
        try:
            progress = await self._drive(step, run, step.vendor.submit(step.question))
        except NotOurs:
            return
        except VendorError as error:
            await self._submission_failed(step, run, error)
            return
        # The intent's instant is the database's; that of the reply is this process's, whose clock may be anywhere.
        await self._progress(step, run, progress, submitted_at=step.seen.attempt.intent_at if run.replied else None)

    async def _submission_failed(self, step: Step, run: Run, error: VendorError) -> None:
        if run.maybe_submitted and not isinstance(error, VendorRateLimited | VendorAuthFailed):
            await record(
                self.gateway,
                step.seen,
                lambda state: transitions.not_known_whether_submitted(state, error.reason, step.vendor.find_delay),
                exchanges=run.exchanges,
            )
        else:
            await self._technical_error(step, run, error, submitted=False)

    async def _check(self, step: Step, flow: Any) -> None:
        run = self._run(step)
        try:
            progress = await self._drive(step, run, flow)
        except VendorError as error:
            await self._technical_error(step, run, error, submitted=True)
            return
        if isinstance(progress, NotFound):
            await self._fate_unknown(step, run)
            return
        await self._progress(step, run, progress, checked=True)

    async def _settle(self, step: Step) -> None:
        """The attempt is `submitting`: another worker is sending, or the fate of the submission is not known."""
        seen = step.seen
        if seen.attempt.vendor_ref is not None:
            await record(self.gateway, seen, transitions.go_on_waiting)
        elif seen.attempt.lookup_after is not None and seen.attempt.lookup_after > seen.now:
            await record(self.gateway, seen, transitions.wait_for_lookup)
        else:
            await self._look_up(step)

    async def _look_up(self, step: Step) -> None:
        """Ask the vendor whether it has the submission; where nothing can tell, a person decides."""
        if step.vendor.find is None:
            await self._fate_unknown(step, None)
            return
        run = self._run(step)
        try:
            found = await self._drive(step, run, step.vendor.find(step.question))
        except VendorError as error:
            await self._look_up_failed(step, run, error)
            return
        if not isinstance(found, NotFound):
            await self._progress(step, run, found, submitted_at=step.seen.attempt.intent_at)
        elif step.vendor.find_is_authoritative and step.seen.attempt.state == "submitting":
            await record(
                self.gateway,
                step.seen,
                lambda state: self._again(
                    step,
                    state,
                    FailureCode.SUBMISSION_UNKNOWN,
                    "the vendor has no trace of the submission; it is made again",
                ),
                exchanges=run.exchanges,
            )
        else:
            await self._fate_unknown(step, run)

    async def _look_up_failed(self, step: Step, run: Run, error: VendorError) -> None:
        """Whatever it was, nothing is known yet: again on the schedule, or after a while the next vendor if it may be paid."""

        def decide(state: State) -> Change:
            if remedy(FailureCode.VENDOR_UNAVAILABLE, state, submitted=True) is Remedy.NEXT_IF_ALLOWED:
                return self._next_vendor(step, state, FailureCode.SUBMISSION_UNKNOWN)
            return transitions.try_again(state, f"look-up: {error.reason}", "vendor_retry", nothing_submitted=False)

        await record(self.gateway, step.seen, decide, exchanges=run.exchanges)

    async def _fate_unknown(self, step: Step, run: Run | None) -> None:
        def decide(state: State) -> Change:
            if remedy(FailureCode.SUBMISSION_UNKNOWN, state, submitted=True) is Remedy.NEXT_IF_ALLOWED:
                return self._next_vendor(step, state, FailureCode.SUBMISSION_UNKNOWN)
            return transitions.wait_for_operator(state)

        await record(self.gateway, step.seen, decide, exchanges=run.exchanges if run is not None else [])

    async def _progress(
        self, step: Step, run: Run, progress: Progress, *, submitted_at: datetime | None = None, checked: bool = False
    ) -> None:
        """Record what a flow returned. `submitted_at`: it also tells that the submission was made."""
        decide = self._decision(step, run, progress, checked)
        ref = progress.ref if isinstance(progress, Pending | Answered) else None
        submission = None
        if submitted_at is not None and not (isinstance(progress, Refused) and not run.maybe_submitted):
            submission = Submission(ref, submitted_at)
        await record(
            self.gateway,
            step.seen,
            decide,
            exchanges=run.exchanges,
            submission=submission,
            answers=run.replied,
            otherwise=self._late(step, run, progress),
        )

    def _decision(self, step: Step, run: Run, progress: Progress, checked: bool) -> Callable[[State], Change]:
        sealer = self.gateway.sealer
        if isinstance(progress, Pending):
            return lambda state: (
                fail(sealer, state, FailureCode.DEADLINE_EXCEEDED, "the vendor no longer keeps the answer")
                if transitions.answer_is_gone(state)
                else transitions.pending(state, progress.again_in, progress.expires_in, checked=checked)
            )
        if isinstance(progress, Refused):
            submitted = checked or run.maybe_submitted
            return lambda state: self._refused(step, state, progress.failure, run, submitted)
        conclusion = conclude(progress.statement, step.question.inquiry, step.not_asked, step.question.today)
        return lambda state: complete(sealer, state, conclusion, run.exchanges)

    def _refused(self, step: Step, state: State, why: Failure, run: Run, submitted: bool) -> Change:
        way = remedy(why.code, state, submitted=submitted)
        if way in (Remedy.NEXT, Remedy.NEXT_IF_ALLOWED):
            return self._next_vendor(step, state, why.code)
        if way is Remedy.RESUBMIT_IF_ALLOWED:
            state.payer_retries -= 1
            return self._again(step, state, why.code, "the payer could not respond; submitted again", PAYER_REST)
        return refuse(self.gateway.sealer, state, why, run.exchanges)

    def _next_vendor(self, step: Step, state: State, reason: FailureCode) -> Change:
        vendor = VENDORS[state.route.pop(0)]
        not_asked = sorted(vendor.asked_nothing_of(step.question.inquiry, step.question.today))
        successor = Successor(ids.new(ids.ATTEMPT), vendor.name, not_asked)
        message = f"{reason.value} at {state.attempt.vendor}; asking {vendor.name}"
        return transitions.next_attempt(state, successor, reason, timedelta(0), message)

    def _again(
        self, step: Step, state: State, reason: FailureCode, message: str, after: timedelta = timedelta(0)
    ) -> Change:
        """Another attempt at the same vendor: with a name of its own, so that the vendor can tell it from the first."""
        successor = Successor(ids.new(ids.ATTEMPT), step.vendor.name, sorted(step.not_asked))
        return transitions.next_attempt(state, successor, reason, after, message)

    def _late(self, step: Step, run: Run, progress: Progress) -> Callable[[State], Change] | None:
        if not isinstance(progress, Answered):
            return None

        def after_the_end(state: State) -> Change:
            if state.open:
                return Change()
            conclusion = conclude(progress.statement, step.question.inquiry, step.not_asked, step.question.today)
            return answer_late(self.gateway.sealer, state, conclusion, run.exchanges)

        return after_the_end

    async def _technical_error(self, step: Step, run: Run, error: VendorError, *, submitted: bool) -> None:
        code = next(code for kind, code in FAILURE_OF.items() if isinstance(error, kind))
        limited = isinstance(error, VendorRateLimited)

        def decide(state: State) -> Change:
            way = remedy(code, state, submitted=submitted)
            if way in (Remedy.NEXT, Remedy.NEXT_IF_ALLOWED):
                return self._next_vendor(step, state, code)
            if way is Remedy.STOP:
                return fail(self.gateway.sealer, state, code, error.reason)
            return transitions.try_again(
                state,
                error.reason,
                "rate_limit" if limited else "vendor_retry",
                error.retry_after if isinstance(error, VendorRateLimited) else None,
                nothing_submitted=not submitted,
            )

        # That our own committing call had no effect is as certain as a reply to it, and nobody else can find it out.
        certain = not submitted and step.seen.attempt.intent_at is not None
        await record(self.gateway, step.seen, decide, exchanges=run.exchanges, answers=certain)

    async def _not_enabled(self, seen: State) -> None:
        """The vendor was taken out of service after the verification was accepted: it waits for it to come back."""
        await self._try_again(seen, None, "the vendor is not enabled", nothing_submitted=False)

    async def _try_again(self, seen: State, run: Run | None, reason: str, *, nothing_submitted: bool) -> None:
        await record(
            self.gateway,
            seen,
            lambda state: transitions.try_again(state, reason, "vendor_retry", nothing_submitted=nothing_submitted),
            exchanges=run.exchanges if run is not None else [],
        )

    async def failed_inside(self, key: str) -> None:
        """Our own code failed on this step: back off, say so in the timeline, keep the verification."""
        verification_id, _, step = key.partition(":")
        async with self.gateway.autocommit.connect() as db:
            seen = await read(db, verification_id)
        if seen is not None and seen.open and step == str(seen.step):
            await self._try_again(seen, None, "internal_error", nothing_submitted=False)

    async def _fetch_late(self, seen: State, tries: int) -> None:
        """A vendor event came after the end: ask for the answer once more, and keep it beside the end."""
        step = self._step(seen)
        if seen.open or step is None or step.vendor.check is None or seen.attempt.vendor_ref is None:
            return
        run = self._run(step)
        again: list[jobs.Job] = []
        progress: Progress | NotFound | None = None
        try:
            progress = await self._drive(step, run, step.vendor.check(step.question, seen.attempt.vendor_ref))
        except (VendorError, NotAdmitted):
            if tries + 1 < LATE_TRIES:
                again = [jobs.advance_late(seen.attempt.vendor, seen.id, tries + 1, timedelta(seconds=30))]
        late = self._late(step, run, progress) if isinstance(progress, Answered) else None
        await record(
            self.gateway,
            seen,
            lambda state: Change(),
            exchanges=run.exchanges,
            otherwise=late or (lambda state: Change(jobs=again)),
        )
