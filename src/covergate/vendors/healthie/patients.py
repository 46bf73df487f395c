"""The patient's record at Healthie: found again by a keyed digest, or made; Healthie never writes to the patient.

`record_identifier` holds a digest of tenant and patient, so that tenants never share a record. Name and birth date are
searched for together with it, so that the reply names no other patient.
"""

from __future__ import annotations

from collections.abc import Generator

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.documents import CREATE_PATIENT, FIND_PATIENTS, READ_PATIENT
from covergate.vendors.healthie.graphql import operation, payload
from covergate.vendors.healthie.request import patient_fields


def record_of_patient(question: Question) -> Generator[Call, Reply, Node | Failure]:
    """The patient's record, made if there is none and the options allow it."""
    existing = yield from existing_record(question)
    if existing is not None:
        return existing
    if not question.options.create_patient:
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="patient_not_found")
    reply = yield operation(CREATE_PATIENT, patient_fields(question))
    created = payload(reply, "createClient")
    return created if isinstance(created, Failure) else _with_id(created.at("user"), reply)


def existing_record(question: Question) -> Generator[Call, Reply, Node | Failure | None]:
    """The record named in the options, or this gateway's own; None if there is none yet."""
    patient = question.inquiry.patient
    if question.options.user_id is not None:
        reply = yield operation(READ_PATIENT, {"id": question.options.user_id})
        named = payload(reply, "user")
        if isinstance(named, Failure):
            return named
        return (
            named if _is_the_patient(named, question) else failure(FailureCode.REQUEST_REJECTED, vendor_code="user_id")
        )
    born = patient.date_of_birth.isoformat()
    keywords = " ".join([*patient.first_name.split(), *patient.last_name.split(), born, question.patient_key])
    reply = yield operation(FIND_PATIENTS, {"keywords": keywords})
    users = payload(reply, "users")
    if isinstance(users, Failure):
        return users
    own = [row for row in users.objects() if row.text("record_identifier").value == question.patient_key]
    return _with_id(own[0], reply) if own else None


def _with_id(user: Node, reply: Reply) -> Node:
    if user.text("id").value is None:
        raise VendorBroken("the reply holds no patient", sent=True, reply=reply)
    return user


def _is_the_patient(user: Node, question: Question) -> bool:
    """A wrong id must not bring one patient's insurance into another's record."""
    patient = question.inquiry.patient
    born, name = user.text("dob").value, user.text("last_name").value
    return born in (None, patient.date_of_birth.isoformat()) and (name or "").casefold() == patient.last_name.casefold()
