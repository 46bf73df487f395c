"""The calls to Healthie: plan, patient, policy, and then the check, which answers in its own reply.

After a lost reply the check is never run again: the policy's latest check is read. A check takes as long as the payer does,
so one that is newer than the submission is looked for a little longer, and then an operator decides.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from covergate.eligibility.failure import Failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import (
    Answered,
    CheckFlow,
    FindFlow,
    Flow,
    ListedPayer,
    NotFound,
    PayersFlow,
    Pending,
    ProbeFlow,
    Progress,
    Question,
    Refused,
    Reply,
    ended,
)
from covergate.vendors.healthie.answer import answer_of
from covergate.vendors.healthie.documents import READ_POLICY, RUN_CHECK
from covergate.vendors.healthie.graphql import operation, payload
from covergate.vendors.healthie.patients import existing_record, plain_member_id, record_of_patient
from covergate.vendors.healthie.plans import InsurancePlan, asked_plan, page_of_plans, plans_of, resolved_plan
from covergate.vendors.healthie.policies import policies_for, policy_id
from covergate.vendors.pace import Pace

_CHECK_TIMEOUT = 60.0
"""Seconds. Healthie asks the payer while we wait."""

_CLOCK_SLACK = timedelta(seconds=5)
"""By how much Healthie's clock may be behind ours."""

_LOOKS = 10
_FIRST_WAIT = 2.0
_PACE = Pace(multiples=(1, 2, 4, 8, 16, 32, 60))
"""Waits double from 2 seconds to two minutes. After `_LOOKS` looks, about ten minutes, an operator decides."""

_LONGEST_LIST = 1000
"""Pages of insurance plans."""


def submit(question: Question) -> Flow:
    if question.options.policy_id is None:
        plan = yield from resolved_plan(question)
        if isinstance(plan, Failure):
            return Refused(plan)
    else:
        plan = InsurancePlan()
    user = yield from record_of_patient(question)
    if isinstance(user, Failure):
        return Refused(user)
    policy = yield from policy_id(question, user, plan)
    if isinstance(policy, Failure):
        return Refused(policy)
    checked = {"id": policy, "service_codes": list(question.inquiry.service.service_type_codes)}
    about = partial(_is_check_of, policy)
    reply = yield operation(RUN_CHECK, checked, about=about, commits=True, timeout=_CHECK_TIMEOUT)
    mutation = payload(reply, "runEligibilityCheck", changes=True)
    if isinstance(mutation, Failure):
        return Refused(mutation)
    new = mutation.at("eligibility_check")
    if not isinstance(new.value, dict):
        raise VendorBroken("the reply holds no check", sent=True, reply=reply)
    if not _is_check_of(policy, reply):
        raise VendorBroken("the check is another policy's", sent=True, reply=reply)
    return _ended(question, new, reply)


def find(question: Question) -> FindFlow:
    """The latest check of the policy that the submission was for.

    Without such a patient or policy no check was run, unless the clinic has changed the record since: not proven.
    """
    user = yield from existing_record(question)
    if user is None or isinstance(user, Failure):
        return NotFound()
    policies = policies_for(question, user, asked_plan(question))
    if not policies:
        return NotFound()
    ref = str(policies[0].value["id"])
    reply = yield operation(READ_POLICY, {"id": ref}, about=partial(_is_policy, question, ref))
    return _latest(question, ref, reply) or Pending(ref=ref, again_in=_PACE.wait(0, _FIRST_WAIT))


def check(question: Question, ref: str) -> CheckFlow:
    """`ref` is the policy's id. Only a lost reply leads here."""
    reply = yield operation(READ_POLICY, {"id": ref}, about=partial(_is_policy, question, ref))
    outcome = _latest(question, ref, reply)
    if outcome is not None:
        return outcome
    if question.checks >= _LOOKS:
        return NotFound()
    return Pending(ref=ref, again_in=_PACE.wait(question.checks + 1, _FIRST_WAIT))


def list_payers(connection: Any) -> PayersFlow:
    """The plans that the organization accepts; any other is found by its payer id when it is asked for."""
    listed: list[ListedPayer] = []
    for page in range(_LONGEST_LIST):
        reply = yield page_of_plans(page, is_accepted=True)
        rows = plans_of(reply)
        if isinstance(rows, Failure):
            raise VendorBroken("the list of plans was refused", sent=True, reply=reply)
        for row in rows:
            plan_id, payer_id = row.text("id").value, row.text("payer_id").value
            name = row.text("payer_name").value
            if plan_id and payer_id and name:
                codes = {"insurance_plan_id": plan_id, "payer_id": payer_id}
                listed.append(ListedPayer(name=name, codes=codes, electronic_id=payer_id))
        if not rows:
            break
    return listed


def probe(connection: Any) -> ProbeFlow:
    """One page of insurance plans: nobody's record."""
    reply = yield page_of_plans(0, is_accepted=True)
    if isinstance(plans_of(reply), Failure):
        raise VendorBroken("the list of plans was refused", sent=True, reply=reply)


def _ended(question: Question, eligibility_check: Node, reply: Reply) -> Answered | Refused:
    """The reference is the id of the check's policy, which is what Healthie's events name."""
    return ended(answer_of(question, eligibility_check, reply), eligibility_check.at("policy").text("id").value)


def _latest(question: Question, ref: str, reply: Reply) -> Progress | None:
    """The outcome of the policy's latest check, None unless it was run for this submission."""
    policy = payload(reply, "policy")
    if isinstance(policy, Failure) or policy.value is None or not _is_policy(question, ref, reply):
        raise VendorBroken("the reply is not the policy asked for", sent=True, reply=reply)
    latest = policy.at("latest_eligibility_check")
    if not isinstance(latest.value, dict) or not _is_newer(latest, question):
        return None
    return _ended(question, latest, reply)


def _is_check_of(policy: str, reply: Reply) -> bool:
    """Whether the reply is about a check of this policy; one that names none is about the one that was asked for."""
    new = Node(reply.body, "").at("data").at("runEligibilityCheck").at("eligibility_check")
    return isinstance(reply.body, dict) and new.at("policy").text("id").value in (None, policy)


def _is_policy(question: Question, ref: str, reply: Reply) -> bool:
    """Whether the reply is about this policy, and the policy has the asked member id; a refusal is about nobody."""
    policy = Node(reply.body, "").at("data").at("policy")
    if policy.value is None:
        return isinstance(reply.body, dict)
    member_id = plain_member_id(question.inquiry.patient.member_id)
    return policy.text("id").value == ref and plain_member_id(policy.text("num").value) == member_id


def _is_newer(latest: Node, question: Question) -> bool:
    try:
        created = datetime.fromisoformat(latest.text("created_at").value or "")
    except ValueError:
        return False
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    return question.submitted_at is not None and created >= question.submitted_at - _CLOCK_SLACK
