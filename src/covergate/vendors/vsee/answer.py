"""From a finished check to an `Answer`, or to the reason for none: the raw 271, and VSee's text if the 271 is silent.

Source: VSee's "Insurance API (Draft)", Raw Data in user_datas. Invariant: `eligibility_response` never makes anyone eligible;
"Success" says only that no reject reason was given.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.eligibility.result import Member, PayerAnswer, PayerStatus, PostalAddress, References, Warning_
from covergate.eligibility.sourced import NOT_STATED, Sourced
from covergate.eligibility.terms import Coverage, PatientRelationship, WarningCode
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.codes import RELATIONSHIPS, aaa_code_of_text, aaa_failure
from covergate.eligibility.x12.plan_numbers import plan_numbers
from covergate.eligibility.x12.reader import Reading, read_271
from covergate.vendors.document import Node, row, token
from covergate.vendors.flow import Reply
from covergate.vendors.vsee.advancedmd import InsuredPerson, Response, birth_date, read_response
from covergate.vendors.vsee.codes import CHECKED_SERVICE_TYPE


def answer_of(section: Node, inquiry: Inquiry, eligibility_id: str, received_at: datetime) -> Answer | Failure:
    """`section` is `insurance.primary` (or the like) of the user's record."""
    text, words = section.text("eligibility_response"), section.text("eligibility_text").value
    message = " ".join(dict.fromkeys(part for part in (text.value, words) if part)) or None
    raw = section.at("raw_response")
    response = read_response(raw.value, raw.pointer, inquiry.patient)
    if response.is_ambiguous:
        return failure(FailureCode.MEMBER_AMBIGUOUS, vendor_message=message)
    answered_at = section.read("last_checked", _instant).value or received_at
    reading = read_271(
        response.rows,
        inquiry.service,
        response.aaas,
        plan_days=response.plan_days,
        answered_on=today_eastern(answered_at),
        asking_npi=inquiry.provider.npi,
        answering_payer=(response.payer_id, response.payer_name),
        vendor_message=message,
    )
    if isinstance(reading, Reading) and _says_nothing_of_coverage(reading):
        code = aaa_code_of_text(text.value) if text.value else None
        if code is not None:
            reading = aaa_failure([Aaa(code=code, sources=list(text.pointers))], vendor_message=message)
    if isinstance(reading, Failure):
        return reading
    warnings = [*reading.warnings, *_unknown_relationship(response)]
    if response.is_empty:
        warnings.append(warning(WarningCode.RAW_UNPARSABLE, *([raw.pointer] if _is_there(section) else [])))
    return Answer(
        coverage=reading.coverage,
        service_covered=False if _denies_what_was_asked(reading, inquiry) else None,
        as_of=today_eastern(answered_at),
        answered_at=answered_at,
        services=reading.services,
        plan=_plan(reading, response),
        payer=_payer(response),
        patient=_patient(response, inquiry),
        subscriber=_member(response.subscriber) if response.dependent and response.subscriber else None,
        benefits=reading.benefits,
        other_coverage=reading.other_coverage,
        related_entities=reading.related_entities,
        authorizations=reading.authorizations,
        referral_required=reading.referral.value,
        sources=row(referral_required=reading.referral)["sources"],
        references=References(
            vendor_id=eligibility_id,
            trace_number=response.trace_number.value,
            verification_number=response.verification_number.value,
        ),
        payer_status=PayerStatus(text=text.value),
        notes=[*reading.notes, *(note.value for note in response.notes if note.value), *([words] if words else [])],
        warnings=warnings,
    )


def rejection_of(reply: Reply) -> Failure:
    """The reason in a 4xx, `{"code", "message"}`; the error of a check itself is not documented."""
    body = Node(reply.body, reply.body_pointer)
    return failure(
        FailureCode.REQUEST_REJECTED,
        vendor_code=body.read("code", token).value or str(reply.status),
        vendor_message=body.text("message").value,
    )


def _says_nothing_of_coverage(reading: Reading) -> bool:
    return reading.coverage is Coverage.UNKNOWN and not any(service.covered is False for service in reading.services)


def _denies_what_was_asked(reading: Reading, inquiry: Inquiry) -> bool:
    """A check always asks for service type 30; a "not covered" for another service that the partner named counts all the same."""
    codes = {CHECKED_SERVICE_TYPE, *inquiry.service.service_type_codes, *inquiry.service.procedure_codes}
    return any(service.covered is False and service.code in codes for service in reading.services)


def _is_there(section: Node) -> bool:
    return isinstance(section.value, dict) and "raw_response" in section.value


def _plan(reading: Reading, response: Response) -> Any:
    stated = row(**plan_numbers(response.rows, response.references))
    return reading.plan.model_copy(update={**stated, "sources": reading.plan.sources | stated["sources"]})


def _payer(response: Response) -> PayerAnswer:
    return PayerAnswer(**row(id=response.payer_id, name=response.payer_name))


def _patient(response: Response, inquiry: Inquiry) -> Member:
    """If the answer names no dependent, the patient is the subscriber, provided that is how it was asked."""
    if response.dependent is not None:
        code = response.dependent.relationship
        return _member(response.dependent, code.meaning(RELATIONSHIPS, PatientRelationship.UNKNOWN))
    relationship = PatientRelationship.SELF if inquiry.subscriber is None else PatientRelationship.UNKNOWN
    return _member(response.subscriber, relationship) if response.subscriber else Member()


def _member(person: InsuredPerson, relationship: PatientRelationship = PatientRelationship.UNKNOWN) -> Member:
    parts = {"line1": person.street, "city": person.city, "state": person.state, "zip": person.zip}
    lines = {name: part.value for name, part in parts.items() if part}
    address = Sourced(
        PostalAddress(**lines) if lines else None,
        tuple(pointer for part in parts.values() if part for pointer in part.pointers),
    )
    stated = row(
        last_name=person.last_name,
        first_name=person.first_name,
        middle_name=person.middle_name,
        member_id=person.member_id,
        gender=person.gender,
        relationship=person.relationship,
        date_of_birth=Sourced(birth_date(person), (person.born.at,)) if person.born else NOT_STATED,
        address=address,
    )
    return Member(**{**stated, "relationship": relationship})


def _unknown_relationship(response: Response) -> list[Warning_]:
    code = response.dependent.relationship if response.dependent else None
    if code is None or code.value is None or code.value in RELATIONSHIPS:
        return []
    return [warning(WarningCode.UNKNOWN_CODE, *code.pointers, detail="INS02")]


def _instant(seconds: Any) -> datetime | None:
    """Unix seconds, as a number or in digits."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
