"""One step of a verification: read where it stands, run the vendor's flow that comes next, record what it brought.

This is the only path: polling, vendor events, operators, the sweep and redelivered jobs all come through here, fenced by
`step`. Nothing here keeps state between steps, so a process may die at any instruction.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from covergate.db import jobs
from covergate.db.sql import Query
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import Admission, CircuitBreakers, Verdict
from covergate.vendor_health.rate_limit import RateLimits
from covergate.vendors.errors import VendorAuthFailed, VendorError, VendorRateLimited
from covergate.vendors.flow import Answered, Call, NotFound, NotYet, Pending, Progress, Refused
from covergate.verifications import decisions, transitions
from covergate.verifications.record import Submission, record, time_out
from covergate.verifications.reuse import follow
from covergate.verifications.run import SEND_WITHIN, NotOurs, Run
from covergate.verifications.state import Change, State, read
from covergate.verifications.step import Step, step_of

STEPS_IN_ROW = 5
"""A job makes so many steps where each is due when the one before is done; then it is the turn of the others in its lane."""

PUT_ASIDE_SECONDS = 0.05
"""What waits for a circuit or a hold is put aside one after the other: there is no hurry, and thousands at once would slow the
other vendors."""

LATE_TRIES = 3
"""How often an answer that came after the end is asked for before it is left alone."""

_INTEND = Query("""
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
        self.circuits = CircuitBreakers(gateway)
        transport.ended = self.circuits.count
        self.rates = RateLimits(gateway)
        self._putting_aside = asyncio.Lock()

    async def advance(self, key: str) -> None:
        """`key` is a job's payload: `ver_…:<step>`, or `ver_…:late<tries>` to fetch an answer after the end."""
        verification_id, _, step = key.partition(":")
        async with self.gateway.connection() as db:
            seen = await read(db, verification_id)
        if seen is None:
            return
        if step.startswith("late"):
            await self._fetch_late(seen, int(step.removeprefix("late")))
        elif seen.open and seen.step == int(step):
            following: State | None = seen
            left = STEPS_IN_ROW
            while following is not None:
                left -= 1
                following = await self._advance(following, may_go_on=left > 0)

    async def _advance(self, seen: State, *, may_go_on: bool) -> State | None:
        """The state after this step if the next one is due already and left to the caller, who `may_go_on`."""
        if seen.late:
            await record(self.gateway, seen, lambda state: time_out(self.gateway.sealer, state))
            return None
        if seen.follows is not None:
            await follow(self.gateway, seen)
            return None
        step = step_of(self.gateway, seen, may_go_on=may_go_on)
        if step is None:
            await self._try_again(seen, FailureCode.VENDOR_UNAVAILABLE, "the vendor is not enabled")
            return None
        try:
            return await self._next(step)
        except NotAdmitted as refused:
            await self._hold_back(step, refused.admission)
            return None

    async def _next(self, step: Step) -> State | None:
        seen = step.seen
        if seen.attempt.state == "preparing":
            return await self._submit(step)
        if seen.attempt.state == "submitting":
            return await self._settle(step)
        if step.vendor.check is None or seen.attempt.vendor_ref is None:
            return await self._look_up(step)
        return await self._check(step, step.vendor.check(step.question, seen.attempt.vendor_ref))

    def _run(self, step: Step) -> Run:
        async def intent(call: Call) -> bool:
            grace = SEND_WITHIN + call.timeout + step.vendor.find_delay.total_seconds()
            async with self.gateway.connection() as db:
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

    async def _hold_back(self, step: Step, admission: Admission) -> None:
        decision = decisions.not_admitted(step, admission)
        if step.seen.route and admission.verdict is Verdict.CIRCUIT:
            await record(self.gateway, step.seen, decision)
            return
        async with self._putting_aside:
            await record(self.gateway, step.seen, decision)
            await asyncio.sleep(PUT_ASIDE_SECONDS)

    async def _claim(self, step: Step) -> bool:
        """Where the vendor can bear one open check of a patient: whether it is this one's turn, until its attempt ends."""
        if not step.vendor.exclusive_per_patient:
            return True
        async with self.gateway.connection() as db:
            try:
                await db.execute(_CLAIM, {"id": step.seen.attempt.id, "key": step.question.patient_key})
            except IntegrityError:
                return False
        return True

    async def _submit(self, step: Step) -> State | None:
        if not await self._claim(step):
            await record(self.gateway, step.seen, transitions.wait_for_turn)
            return None
        run = self._run(step)
        try:
            progress = await self._drive(step, run, step.vendor.submit(step.question))
        except NotOurs:
            return None
        except VendorError as error:
            await self._submission_failed(step, run, error)
            return None
        # The intent's instant is the database's; that of the reply is this process's, whose clock may be anywhere.
        return await self._progress(
            step, run, progress, submitted_at=step.seen.attempt.intent_at if run.replied else None
        )

    async def _submission_failed(self, step: Step, run: Run, error: VendorError) -> None:
        if run.maybe_submitted and not isinstance(error, VendorRateLimited | VendorAuthFailed):
            await record(self.gateway, step.seen, decisions.after_lost_reply(step, error), exchanges=run.exchanges)
            return
        # That our own committing call had no effect is as certain as a reply to it, and nobody else can find it out.
        certain = step.seen.attempt.intent_at is not None
        decision = decisions.after_error(step, error, submitted=False)
        await record(self.gateway, step.seen, decision, exchanges=run.exchanges, answers=certain)

    async def _check(self, step: Step, flow: Any) -> State | None:
        run = self._run(step)
        try:
            progress = await self._drive(step, run, flow)
        except VendorError as error:
            decision = decisions.after_error(step, error, submitted=True)
            await record(self.gateway, step.seen, decision, exchanges=run.exchanges)
            return None
        if isinstance(progress, NotFound):
            await record(self.gateway, step.seen, decisions.fate_unknown(step), exchanges=run.exchanges)
            return None
        return await self._progress(step, run, progress, checked=True)

    async def _settle(self, step: Step) -> State | None:
        """The attempt is `submitting`: another worker is sending, or the fate of the submission is not known."""
        seen = step.seen
        if seen.attempt.vendor_ref is not None:
            return await record(self.gateway, seen, transitions.go_on_waiting, goes_on=step.may_go_on)
        if seen.attempt.lookup_after is not None and seen.attempt.lookup_after > seen.now:
            await record(self.gateway, seen, transitions.wait_for_lookup)
            return None
        return await self._look_up(step)

    async def _look_up(self, step: Step) -> State | None:
        """Ask the vendor whether it has the submission; where nothing can tell, a person decides."""
        if step.vendor.find is None:
            await record(self.gateway, step.seen, decisions.fate_unknown(step))
            return None
        run = self._run(step)
        try:
            found = await self._drive(step, run, step.vendor.find(step.question))
        except VendorError as error:
            decision = decisions.after_failed_look_up(step, error)
        else:
            if isinstance(found, NotYet):
                decision = partial(transitions.look_again, again_in=found.again_in)
            elif not isinstance(found, NotFound):
                return await self._progress(step, run, found, submitted_at=step.seen.attempt.intent_at)
            elif found.proven and step.seen.attempt.state == "submitting":
                decision = decisions.submit_again(step)
            else:
                decision = decisions.fate_unknown(step)
        await record(self.gateway, step.seen, decision, exchanges=run.exchanges)
        return None

    async def _progress(
        self, step: Step, run: Run, progress: Progress, *, submitted_at: datetime | None = None, checked: bool = False
    ) -> State | None:
        """Record what a flow returned. `submitted_at`: it also tells that the submission was made."""
        ref = progress.ref if isinstance(progress, Pending | Answered) else None
        submission = None
        if submitted_at is not None and not (isinstance(progress, Refused) and not run.maybe_submitted):
            submission = Submission(ref, submitted_at)
        return await record(
            self.gateway,
            step.seen,
            decisions.after_progress(step, run, progress, checked=checked),
            exchanges=run.exchanges,
            submission=submission,
            answers=run.replied,
            otherwise=decisions.after_the_end(step, run, progress),
            goes_on=step.may_go_on,
        )

    async def _try_again(self, seen: State, code: FailureCode, reason: str) -> None:
        await record(
            self.gateway,
            seen,
            lambda state: transitions.try_again(state, code, reason, nothing_submitted=False),
        )

    async def failed_inside(self, key: str) -> None:
        """Our own code failed on this step: back off, say so in the timeline, keep the verification."""
        verification_id, _, step = key.partition(":")
        async with self.gateway.connection() as db:
            seen = await read(db, verification_id)
        if seen is not None and seen.open and step == str(seen.step):
            await self._try_again(seen, FailureCode.INTERNAL_ERROR, "internal_error")

    async def _fetch_late(self, seen: State, tries: int) -> None:
        """A vendor event came after the end: ask for the answer once more, and keep it beside the end."""
        step = step_of(self.gateway, seen, may_go_on=False)
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
        late = decisions.after_the_end(step, run, progress)
        await record(
            self.gateway,
            seen,
            lambda state: Change(),
            exchanges=run.exchanges,
            otherwise=late or (lambda state: Change(jobs=again)),
        )
