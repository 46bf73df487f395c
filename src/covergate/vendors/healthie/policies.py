"""The patient's policy at Healthie, which a check is run on: the one that fits the inquiry, or a new one.

There is no mutation that makes a policy: one is written through `updateClient`. A policy of a record that is not the
gateway's own is used as it is, never overwritten.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import CoverageOrder
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.codes import GENDERS, HOLDER_RELATIONSHIPS, PRIORITIES, SELF
from covergate.vendors.healthie.documents import READ_PATIENT, WRITE_POLICY
from covergate.vendors.healthie.operation import operation, payload
from covergate.vendors.healthie.plans import Plan


def policy_id(question: Question, user: Node, plan: Plan) -> Generator[Call, Reply, str | Failure]:
    """The id of the policy to check, after writing what is not there yet."""
    fitting = policies_for(question, user, plan)
    if question.options.policy_id is not None and not fitting:
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="policy_id")
    wanted = _wanted(question, plan)
    if fitting:
        kept = fitting[0]
        is_own = user.text("record_identifier").value == question.patient_key
        if not is_own or question.options.policy_id is not None or _holds(kept, wanted):
            return _id(kept)
        written = {"id": _id(kept), **wanted}
    else:
        written = {**wanted, "insurance_plan_id": plan.id, "priority_type": _priority(question, user)}
    before = _ids(user)
    reply = yield operation(WRITE_POLICY, {"id": user.text("id").value, "policies": [written]})
    updated = payload(reply, "updateClient")
    if isinstance(updated, Failure):
        # "only one policy can be Primary": a worker whose job was taken up twice, or the clinic itself, was faster.
        reply = yield operation(READ_PATIENT, {"id": user.text("id").value})
        now = payload(reply, "user")
        if isinstance(now, Failure) or _ids(now) <= before:
            return updated
        return (yield from policy_id(question, now, plan))
    if fitting:
        return _id(fitting[0])
    after = policies_for(question, updated.at("user"), plan)
    new = [policy for policy in after if policy.text("id").value not in before]
    if not new:
        raise VendorBroken("the written policy is not in the reply", sent=True, reply=reply)
    return _id(new[0])


def policies_for(question: Question, user: Node, plan: Plan) -> list[Node]:
    """Those with the asked member id and payer, the one last checked first; or the one that the options name."""
    policies = [policy for policy in user.rows("policies") if policy.text("id").value is not None]
    if question.options.policy_id is not None:
        return [policy for policy in policies if policy.text("id").value == question.options.policy_id]
    member_id = _plain(question.inquiry.patient.member_id)
    fitting = [policy for policy in policies if _plain(policy.text("num").value) == member_id and plan.is_of(policy)]
    return sorted(fitting, key=_last_checked, reverse=True)


def _ids(user: Node) -> set[str | None]:
    return {policy.text("id").value for policy in user.rows("policies")}


def _last_checked(policy: Node) -> str:
    return policy.at("latest_eligibility_check").text("created_at").value or ""


def _id(policy: Node) -> str:
    return str(policy.value["id"])


def _plain(member_id: str | None) -> str:
    return "".join((member_id or "").split()).casefold()


def _wanted(question: Question, plan: Plan) -> dict[str, Any]:
    """The fields of `ClientPolicyInput` that the inquiry states; the holder is the subscriber."""
    inquiry = question.inquiry
    holder, subscriber = inquiry.insured, inquiry.subscriber
    fields = {
        "num": inquiry.patient.member_id,
        "group_num": inquiry.patient.group_number,
        "holder_first": holder.first_name,
        "holder_mi": holder.middle_name[:1] if holder.middle_name else None,
        "holder_last": holder.last_name,
        "holder_dob": holder.date_of_birth.isoformat(),
        "holder_gender": GENDERS[holder.gender],
        "holder_relationship": SELF if subscriber is None else HOLDER_RELATIONSHIPS[subscriber.patient_relationship],
        "holder_phone": subscriber.phone if subscriber is not None else None,
        "holder_location": _location(question),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _location(question: Question) -> dict[str, str] | None:
    subscriber = question.inquiry.subscriber
    if subscriber is None or subscriber.address is None:
        return None
    return {name: value for name, value in subscriber.address.model_dump().items() if value is not None} or None


def _holds(policy: Node, wanted: dict[str, Any]) -> bool:
    """Whether the policy says all of it already; the location is not read back."""
    return all(policy.text(name).value == value for name, value in wanted.items() if name != "holder_location")


def _priority(question: Question, user: Node) -> str:
    """As asked, but never a second Primary: Healthie refuses that."""
    taken = any(policy.text("priority_type").value == "Primary" for policy in user.rows("policies"))
    order = CoverageOrder.SECONDARY if taken else question.inquiry.coverage_order
    return PRIORITIES[order]
