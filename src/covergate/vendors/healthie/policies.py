"""The patient's policy at Healthie, on which a check is run: the one that fits the inquiry, or a new one.

No mutation makes a policy: one is written through `updateClient`. A policy of a record that is not the gateway's own is
used as it is, never overwritten.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import CoverageOrder
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.codes import PRIORITY_TYPES
from covergate.vendors.healthie.documents import READ_PATIENT, WRITE_POLICY
from covergate.vendors.healthie.graphql import operation, payload
from covergate.vendors.healthie.patients import about_patient, is_patients, plain_member_id
from covergate.vendors.healthie.plans import InsurancePlan
from covergate.vendors.healthie.request import policy_fields


def policy_id(question: Question, user: Node, plan: InsurancePlan) -> Generator[Call, Reply, str | Failure]:
    """The id of the policy to check, written first if it is not there or not up to date."""
    fitting = policies_for(question, user, plan)
    if question.options.policy_id is not None and not fitting:
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="policy_id")
    wanted = policy_fields(question)
    if fitting:
        kept = fitting[0]
        is_own = user.text("record_identifier").value == question.person_key
        if not is_own or question.options.policy_id is not None or _holds(kept, wanted):
            return _id(kept)
        written = {"id": _id(kept), **wanted}
    else:
        written = {**wanted, "insurance_plan_id": plan.id, "priority_type": _priority(question, user)}
    before = _ids(user)
    written_to = {"id": user.text("id").value, "policies": [written]}
    reply = yield operation(WRITE_POLICY, written_to, about=about_patient(question))
    updated = payload(reply, "updateClient", changes=True)
    if isinstance(updated, Failure):
        # "only one policy can be Primary": another worker at the same step, or the clinic itself, was faster.
        reply = yield operation(READ_PATIENT, {"id": user.text("id").value}, about=about_patient(question))
        now = payload(reply, "user")
        if isinstance(now, Failure) or not is_patients(now, question) or _ids(now) <= before:
            return updated
        return (yield from policy_id(question, now, plan))
    if not is_patients(updated.at("user"), question):
        raise VendorBroken("the reply holds another patient, or none", sent=True, reply=reply)
    if fitting:
        return _id(fitting[0])
    after = policies_for(question, updated.at("user"), plan)
    new = [policy for policy in after if policy.text("id").value not in before]
    if not new:
        raise VendorBroken("the written policy is not in the reply", sent=True, reply=reply)
    return _id(new[0])


def policies_for(question: Question, user: Node, plan: InsurancePlan) -> list[Node]:
    """The policies with the inquiry's member id and payer, the one last checked first; if the options name one, that one, with
    the inquiry's member id.
    """
    member_id = plain_member_id(question.inquiry.patient.member_id)
    policies = [
        policy
        for policy in user.rows("policies")
        if policy.text("id").value is not None and plain_member_id(policy.text("num").value) == member_id
    ]
    if question.options.policy_id is not None:
        return [policy for policy in policies if policy.text("id").value == question.options.policy_id]
    return sorted((policy for policy in policies if plan.is_of(policy)), key=_last_checked, reverse=True)


def _ids(user: Node) -> set[str | None]:
    return {policy.text("id").value for policy in user.rows("policies")}


def _last_checked(policy: Node) -> str:
    return policy.at("latest_eligibility_check").text("created_at").value or ""


def _id(policy: Node) -> str:
    return str(policy.value["id"])


def _holds(policy: Node, wanted: dict[str, Any]) -> bool:
    """Whether the policy has all of it already; the location is not read back."""
    return all(policy.text(name).value == value for name, value in wanted.items() if name != "holder_location")


def _priority(question: Question, user: Node) -> str:
    """As asked, but never a second Primary: Healthie refuses that."""
    taken = any(policy.text("priority_type").value == "Primary" for policy in user.rows("policies"))
    order = CoverageOrder.SECONDARY if taken else question.inquiry.coverage_order
    return PRIORITY_TYPES[order]
