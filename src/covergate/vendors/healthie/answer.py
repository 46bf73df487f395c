"""From a check to an `Answer`, the JSON inside `response` read as EB rows, or to the reason why there is none.

`sources` enter the string with `#`. A string that cannot be read is kept in raw and the answer is unknown: never a crash, never
"inactive". The organization's acceptance of the plan is a note; it says nothing of this provider's network.
"""

from __future__ import annotations

from datetime import date, datetime

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import warning
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import today_eastern
from covergate.eligibility.result import Member, PayerAnswer, PostalAddress, References
from covergate.eligibility.sourced import Sourced
from covergate.eligibility.terms import PatientRelationship, WarningCode
from covergate.eligibility.x12.reader import read_271
from covergate.vendors.document import Node, iso_instant, row
from covergate.vendors.flow import Question, Reply
from covergate.vendors.healthie.change_healthcare import change_healthcare
from covergate.vendors.healthie.claim_md import CheckResponse, claim_md, sort_errors
from covergate.vendors.healthie.codes import CLAIM_MD_ERRORS

_ACCEPTED: dict[bool, str] = {
    True: "Healthie lists the insurance plan as accepted by the organization.",
    False: "Healthie lists the insurance plan as not accepted by the organization.",
}


def answer_of(question: Question, check: Node, reply: Reply) -> Answer | Failure:
    """`check` is an `EligibilityCheck`."""
    response = _response(check.at("response"))
    if response is None or not (response.rows or response.aaas or response.errors or response.insured):
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
        answering_payer=(plan.text("payer_id"), plan.text("payer_name")),
        vendor_message=response.message,
    )
    if isinstance(reading, Failure):
        return reading
    insured = response.insured or Node(None, check.pointer)
    error_texts = [words for _, words in response.errors if words]
    accepted = plan.read("is_accepted", lambda value: _ACCEPTED[value] if isinstance(value, bool) else None).value
    warnings = [*reading.warnings]
    if unreadable:
        place = check.at("response") if "response" in check.value else check
        warnings.append(warning(WarningCode.RAW_UNPARSABLE, place.pointer))
    own = row(number=insured.text("plan_number"), group_number=insured.text("group_number"))
    sources = {**reading.plan.sources, **own.pop("sources")}
    member = _member(insured)
    return Answer(
        coverage=reading.coverage,
        as_of=min(insured.read("elig_result_date", _day).value or today, today),
        answered_at=answered_at,
        services=reading.services,
        plan=reading.plan.model_copy(update={**own, "sources": sources}),
        payer=PayerAnswer(**row(id=plan.text("payer_id"), name=plan.text("payer_name"))),
        patient=Member()
        if inquiry.subscriber
        else member.model_copy(update={"relationship": PatientRelationship.SELF}),
        subscriber=member if inquiry.subscriber else None,
        benefits=reading.benefits,
        other_coverage=reading.other_coverage,
        related_entities=reading.related_entities,
        references=References(vendor_id=check.text("id").value, trace_number=insured.text("eligid").value),
        notes=[*reading.notes, *error_texts, *([accepted] if accepted else [])],
        warnings=warnings,
    )


def _member(insured: Node) -> Member:
    parts = {
        "line1": insured.text("ins_addr_1"),
        "line2": insured.text("ins_addr_2"),
        "city": insured.text("ins_city"),
        "state": insured.text("ins_state"),
        "zip": insured.text("ins_zip"),
    }
    stated = {name: part.value for name, part in parts.items() if part}
    address = Sourced(
        PostalAddress(**stated) if stated else None,
        tuple(place for part in parts.values() if part for place in part.pointers),
    )
    return Member(
        **row(
            first_name=insured.text("ins_name_f"),
            middle_name=insured.text("ins_name_m"),
            last_name=insured.text("ins_name_l"),
            date_of_birth=insured.read("ins_dob", _day),
            gender=insured.text("ins_sex"),
            member_id=insured.text("ins_number"),
            address=address,
        )
    )


def _day(value: object) -> date | None:
    """`yyyymmdd`."""
    try:
        return datetime.strptime(value, "%Y%m%d").date() if isinstance(value, str) else None
    except ValueError:
        return None
