"""The calls to Healthie: plan, patient, policy, and then the check, which answers in its own reply.

After a lost reply the check is never run again: the policy's latest check is read. A check can take as long as the payer
does, so while none newer than the submission is there it is looked for a little longer, and then a person decides.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from covergate.eligibility.failure import Failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import CheckFlow, FindFlow, Flow, NotFound, Pending, Progress, Question, Refused, Reply
from covergate.vendors.healthie.documents import READ_POLICY, RUN_CHECK
from covergate.vendors.healthie.operation import operation, payload
from covergate.vendors.healthie.patients import existing_patient, patient
from covergate.vendors.healthie.plans import Plan, asked_plan, resolved_plan
from covergate.vendors.healthie.policies import policies_for, policy_id
from covergate.vendors.healthie.statement import outcome_of

CHECK_TIMEOUT = 60.0
"""Seconds. Healthie asks the payer while we wait."""

CLOCKS_APART = timedelta(seconds=5)
"""By how much Healthie's clock may be behind ours."""

LOOKS = 10
FIRST_WAIT, LONGEST_WAIT = 2.0, 120.0
"""Seconds; waits double: 2, 4, 8, … After `LOOKS` looks, about ten minutes, it is left to a person."""


def submit(question: Question) -> Flow:
    if question.options.policy_id is None:
        plan = yield from resolved_plan(question)
        if isinstance(plan, Failure):
            return Refused(plan)
    else:
        plan = Plan()
    user = yield from patient(question)
    if isinstance(user, Failure):
        return Refused(user)
    policy = yield from policy_id(question, user, plan)
    if isinstance(policy, Failure):
        return Refused(policy)
    codes = list(question.inquiry.service.service_type_codes)
    reply = yield operation(RUN_CHECK, {"id": policy, "service_codes": codes}, commits=True, timeout=CHECK_TIMEOUT)
    ran = payload(reply, "runEligibilityCheck")
    if isinstance(ran, Failure):
        return Refused(ran)
    made = ran.at("eligibility_check")
    if not isinstance(made.value, dict):
        raise VendorBroken("the reply holds no check", sent=True, reply=reply)
    return outcome_of(question, made, reply)


def find(question: Question) -> FindFlow:
    """The latest check of the policy that the submission was for.

    No such patient or policy: no check was run, but somebody at the clinic may have changed the record since.
    """
    user = yield from existing_patient(question)
    if user is None or isinstance(user, Failure):
        return NotFound()
    policies = policies_for(question, user, asked_plan(question))
    if not policies:
        return NotFound()
    ref = str(policies[0].value["id"])
    reply = yield operation(READ_POLICY, {"id": ref})
    return _latest(question, ref, reply) or Pending(ref=ref, again_in=timedelta(seconds=FIRST_WAIT))


def check(question: Question, ref: str) -> CheckFlow:
    """`ref` is the policy's id. Only a lost reply leads here."""
    reply = yield operation(READ_POLICY, {"id": ref})
    found = _latest(question, ref, reply)
    if found is not None:
        return found
    if question.checks >= LOOKS:
        return NotFound()
    wait = min(FIRST_WAIT * 2 ** (question.checks + 1), LONGEST_WAIT)
    return Pending(ref=ref, again_in=timedelta(seconds=wait))


def _latest(question: Question, ref: str, reply: Reply) -> Progress | None:
    """What the policy's latest check says, if it was run for this submission."""
    policy = payload(reply, "policy")
    if isinstance(policy, Failure) or policy.text("id").value != ref:
        raise VendorBroken("the reply is not the policy asked for", sent=True, reply=reply)
    latest = policy.at("latest_eligibility_check")
    if not isinstance(latest.value, dict) or not _is_newer(latest, question):
        return None
    return outcome_of(question, latest, reply)


def _is_newer(latest: Node, question: Question) -> bool:
    try:
        made = datetime.fromisoformat(latest.text("created_at").value or "")
    except ValueError:
        return False
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    return question.submitted_at is not None and made >= question.submitted_at - CLOCKS_APART
