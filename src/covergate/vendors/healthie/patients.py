"""The patient's record at Healthie: found again by a keyed digest, or made; Healthie never writes to the patient.

`record_identifier` holds a digest of tenant and patient, so that patients of different tenants never meet there. Name and
birth date are searched for together with it, so that the reply names nobody else.
"""

from __future__ import annotations

from collections.abc import Generator

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.codes import GENDERS
from covergate.vendors.healthie.documents import CREATE_PATIENT, FIND_PATIENTS, READ_PATIENT
from covergate.vendors.healthie.operation import elements, operation, payload


def patient(question: Question) -> Generator[Call, Reply, Node | Failure]:
    """The patient's record, made if need be and allowed."""
    found = yield from existing_patient(question)
    if found is not None:
        return found
    if not question.options.create_patient:
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="patient_not_found")
    asked = question.inquiry.patient
    reply = yield operation(
        CREATE_PATIENT,
        {
            "first_name": asked.first_name,
            "last_name": asked.last_name,
            "dob": asked.date_of_birth.isoformat(),
            "gender": GENDERS[asked.gender],
            "dietitian_id": question.options.dietitian_id or question.connection.provider_id or None,
            "record_identifier": question.patient_key,
        },
    )
    created = payload(reply, "createClient")
    return created if isinstance(created, Failure) else with_id(created.at("user"), reply)


def existing_patient(question: Question) -> Generator[Call, Reply, Node | Failure | None]:
    """The record named in the options, or this gateway's own; None where there is none yet."""
    asked = question.inquiry.patient
    if question.options.user_id is not None:
        reply = yield operation(READ_PATIENT, {"id": question.options.user_id})
        named = payload(reply, "user")
        if isinstance(named, Failure):
            return named
        return (
            named if _is_the_patient(named, question) else failure(FailureCode.REQUEST_REJECTED, vendor_code="user_id")
        )
    born = asked.date_of_birth.isoformat()
    keywords = " ".join([*asked.first_name.split(), *asked.last_name.split(), born, question.patient_key])
    reply = yield operation(FIND_PATIENTS, {"keywords": keywords})
    users = payload(reply, "users")
    if isinstance(users, Failure):
        return users
    own = [row for row in elements(users) if row.text("record_identifier").value == question.patient_key]
    return with_id(own[0], reply) if own else None


def with_id(user: Node, reply: Reply) -> Node:
    if user.text("id").value is None:
        raise VendorBroken("the reply holds no patient", sent=True, reply=reply)
    return user


def _is_the_patient(user: Node, question: Question) -> bool:
    """A wrong id must not bring one patient's insurance into another's record."""
    asked = question.inquiry.patient
    born, name = user.text("dob").value, user.text("last_name").value
    return born in (None, asked.date_of_birth.isoformat()) and (name or "").casefold() == asked.last_name.casefold()
