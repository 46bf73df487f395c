"""From a check to an `Answer`, the JSON inside `response` read as EB rows, or to the reason why there is none.

`sources` enter the string with `#`. A string that cannot be read is kept in raw and the answer is unknown: never a crash, never
"inactive". The organization's acceptance of the plan is a note; it says nothing of this provider's network.
"""

from __future__ import annotations

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.eligibility.members import asked_about
from covergate.eligibility.result import Member, PayerAnswer, References
from covergate.eligibility.sourced import NOT_STATED
from covergate.eligibility.terms import PatientRelationship, WarningCode
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.plan_numbers import plan_numbers
from covergate.eligibility.x12.reader import read_271
from covergate.vendors.document import Node, iso_instant, row
from covergate.vendors.flow import Question, Reply
from covergate.vendors.healthie.change_healthcare import change_healthcare
from covergate.vendors.healthie.check_response import CheckResponse, sort_errors
from covergate.vendors.healthie.claim_md import claim_md
from covergate.vendors.healthie.codes import CLAIM_MD_ERRORS

_ACCEPTED: dict[bool, str] = {
    True: "Healthie lists the insurance plan as accepted by the organization.",
    False: "Healthie lists the insurance plan as not accepted by the organization.",
}

_PLAN_FIELDS = ("number", "description", "group_number", "group_name", "network_id")
_PAYER_FIELDS = ("id", "name", "phone", "fax", "website", "address")


def answer_of(question: Question, check: Node, reply: Reply) -> Answer | Failure:
    """`check` is an `EligibilityCheck`."""
    response = _response(check.at("response"))
    if response is None or response.is_empty:
        errors = check.at("policy").rows("claim_eligibility_check_errors")
        aaas, others = sort_errors(errors, "code", "description")
        message = next((words for error in errors if (words := error.text("description").value)), None)
        response = CheckResponse(aaas=aaas, errors=others, message=message) if errors else response
    if response is not None and (refusal := _refusal(response)):
        return refusal
    return _stated(question, check, response or CheckResponse(), reply, unreadable=response is None)


def _response(response: Node) -> CheckResponse | None:
    if not isinstance(response.value, str):
        return None
    try:
        document = Node(orjson.loads(response.value), f"{response.pointer}#")
    except orjson.JSONDecodeError:
        return None
    return claim_md(document) or change_healthcare(document)


def _refusal(response: CheckResponse) -> Failure | None:
    """An error of Claim.MD's own, if no row and no AAA says more."""
    if response.rows or response.aaas or not response.errors:
        return None
    code, words = next((error for error in response.errors if error[0] in CLAIM_MD_ERRORS), response.errors[0])
    return failure(
        CLAIM_MD_ERRORS.get(code or "", FailureCode.REQUEST_REJECTED), vendor_code=code, vendor_message=words
    )


def _stated(
    question: Question, check: Node, response: CheckResponse, reply: Reply, *, unreadable: bool
) -> Answer | Failure:
    inquiry = question.inquiry
    plan = check.at("policy").at("insurance_plan")
    answered_at = iso_instant(check.text("created_at").value, reply.at)
    today = today_eastern(answered_at)
    reading = read_271(
        response.rows,
        inquiry.service,
        response.aaas,
        plan_days=response.plan_days,
        answered_on=today,
        asking_npi=inquiry.provider.npi,
        answering_payer=(
            response.payer.get("id", NOT_STATED) | plan.text("payer_id"),
            response.payer.get("name", NOT_STATED) | plan.text("payer_name"),
        ),
        vendor_message=response.message,
    )
    if isinstance(reading, Failure):
        return reading
    if response.dependents and _dependent_asked_about(response, inquiry) is None:
        return failure(FailureCode.MEMBER_AMBIGUOUS, vendor_message=response.message)
    error_texts = [words for _, words in response.errors if words]
    accepted = plan.read("is_accepted", lambda value: _ACCEPTED[value] if isinstance(value, bool) else None).value
    warnings = [*reading.warnings]
    if unreadable:
        place = check.at("response") if "response" in check.value else check
        warnings.append(warning(WarningCode.RAW_UNPARSABLE, place.pointer))
    of_rows = plan_numbers(response.rows)
    own = row(**{name: response.plan.get(name) or of_rows.get(name, NOT_STATED) for name in _PLAN_FIELDS})
    sources = {**reading.plan.sources, **own.pop("sources")}
    asked = {"id": plan.text("payer_id"), "name": plan.text("payer_name")}
    payer = {name: response.payer.get(name) or asked.get(name, NOT_STATED) for name in _PAYER_FIELDS}
    return Answer(
        coverage=reading.coverage,
        as_of=min(response.answered_on or today, today),
        answered_at=answered_at,
        services=reading.services,
        plan=reading.plan.model_copy(update={**own, "sources": sources}),
        payer=PayerAnswer(**row(**payer)),
        patient=_patient(response, inquiry),
        subscriber=response.insured if inquiry.subscriber or response.dependents else None,
        benefits=reading.benefits,
        other_coverage=reading.other_coverage,
        related_entities=reading.related_entities,
        authorizations=reading.authorizations,
        referral_required=reading.referral.value,
        sources=row(referral_required=reading.referral)["sources"],
        references=References(vendor_id=check.text("id").value, trace_number=response.trace_number),
        notes=[*reading.notes, *error_texts, *([accepted] if accepted else [])],
        warnings=warnings,
    )


def _dependent_asked_about(response: CheckResponse, inquiry: Inquiry) -> int | None:
    dependents = {place: (one.date_of_birth, one.first_name) for place, one in enumerate(response.dependents)}
    return 0 if len(dependents) == 1 else asked_about(dependents, inquiry.patient)


def _patient(response: CheckResponse, inquiry: Inquiry) -> Member:
    """The dependent that the answer names; if it names none, the insured person, provided that is how it was asked."""
    if response.dependents:
        return response.dependents[_dependent_asked_about(response, inquiry) or 0]
    if inquiry.subscriber or response.insured is None:
        return Member()
    return response.insured.model_copy(update={"relationship": PatientRelationship.SELF})
