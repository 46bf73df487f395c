"""The patient's record at Healthie: found again by a keyed digest, or made; Healthie never writes to the patient.

`record_identifier` holds a digest of tenant and patient, so that tenants never share a record. Name and birth date are
searched for together with it, so that the reply names no other patient. If that finds none in a tenant's own account, the
clinic's own record is searched for by name and birth date. Of a record that the options name, no more is read at first than
tells whose it is. Every reply about a record is told from one about somebody else (`about_patient`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.documents import CREATE_PATIENT, FIND_PATIENTS, IDENTIFY_PATIENT, READ_PATIENT
from covergate.vendors.healthie.graphql import operation, payload
from covergate.vendors.healthie.request import patient_fields, provider_of


def record_of_patient(question: Question) -> Generator[Call, Reply, Node | Failure]:
    """The patient's record, made if there is none and the options allow it."""
    existing = yield from existing_record(question)
    if existing is not None:
        return existing
    if question.options.policy_id is not None:
        # A policy cannot be of a record that is not there.
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="policy_id")
    if not question.options.create_patient:
        return failure(FailureCode.REQUEST_REJECTED, vendor_code="patient_not_found")
    reply = yield operation(CREATE_PATIENT, patient_fields(question), about=about_patient(question))
    created = payload(reply, "createClient", changes=True)
    if isinstance(created, Failure):
        return created
    if not is_patients(created.at("user"), question):
        raise VendorBroken("the reply holds another patient, or none", sent=True, reply=reply)
    return _with_id(created.at("user"), reply)


def existing_record(question: Question) -> Generator[Call, Reply, Node | Failure | None]:
    """The record named in the options, this gateway's own, or the clinic's own; None if there is none yet."""
    if question.options.user_id is not None:
        return (yield from _named_record(question))
    own = yield from _searched(question, question.person_key)
    if isinstance(own, Failure) or own:
        return own if isinstance(own, Failure) else own[0]
    if not question.account_is_own:
        return None
    clinics = yield from _searched(question)
    if isinstance(clinics, Failure):
        return clinics
    if len(clinics) > 1:
        # Which of them is the patient is not ours to guess: the clinic names the record (`user_id`).
        return failure(FailureCode.MEMBER_AMBIGUOUS, vendor_code="users")
    return clinics[0] if clinics else None


def _searched(question: Question, *identifier: str) -> Generator[Call, Reply, list[Node] | Failure]:
    """The patient's records that have the name, the birth date and, if it is given, our identifier."""
    patient = question.inquiry.patient
    born = patient.date_of_birth.isoformat()
    keywords = " ".join([*patient.first_name.split(), *patient.last_name.split(), born, *identifier])
    # Without it only patients of the key's own user would be found, and a record of another provider's be made again.
    provider = provider_of(question)
    searched = {"keywords": keywords} | ({} if provider is None else {"provider_id": provider})
    reply = yield operation(FIND_PATIENTS, searched, about=about_patient(question))
    users = payload(reply, "users")
    if isinstance(users, Failure):
        return users
    return [_with_id(row, reply) for row in users.objects() if is_patients(row, question)]


def _named_record(question: Question) -> Generator[Call, Reply, Node | Failure]:
    """Read in full only after the smallest reading has shown that it is the patient's, and then looked at again."""
    for document in (IDENTIFY_PATIENT, READ_PATIENT):
        reply = yield operation(document, {"id": question.options.user_id}, about=about_patient(question))
        user = payload(reply, "user")
        if isinstance(user, Failure):
            return user
        if not is_patients(user, question):
            return failure(FailureCode.REQUEST_REJECTED, vendor_code="user_id")
    return user


def about_patient(question: Question) -> Callable[[Reply], bool]:
    """Whether the users in a reply, if there are any, are the asked patient."""

    def told(reply: Reply) -> bool:
        if not isinstance(reply.body, dict):
            return False
        data = Node(reply.body, "").at("data")
        answers = [data.at(name) for name in data.value] if isinstance(data.value, dict) else []
        users = [
            user for answer in answers for user in ([answer.at("user")] if _is_payload(answer) else answer.objects())
        ]
        return all(is_patients(user, question) for user in users if user.value is not None)

    return told


def _is_payload(answer: Node) -> bool:
    """Whether it is what a mutation returns: the user beside the messages."""
    return isinstance(answer.value, dict) and "user" in answer.value


def is_patients(user: Node, question: Question) -> bool:
    """Whether the record is the asked patient's: by our own identifier, or by what it says of the patient.

    That counts in a tenant's own account, and of a record that the options name: the birth date and the name must be those asked
    about, of a named record the birth date and the name or a policy's member id. A wrong id must not bring one patient's
    insurance into another's record.
    """
    patient, named = question.inquiry.patient, question.options.user_id
    if named is None and user.text("record_identifier").value == question.person_key:
        return True
    if named is None and not question.account_is_own:
        return False
    if named is not None and user.text("id").value != named:
        return False
    if user.text("dob").value != patient.date_of_birth.isoformat():
        return False
    names = (("first_name", patient.first_name), ("last_name", patient.last_name))
    if all(_plain_name(user.text(field).value) == _plain_name(name) for field, name in names):
        return True
    if named is None:
        return False
    return any(
        plain_member_id(policy.text("num").value) == plain_member_id(patient.member_id)
        for policy in user.rows("policies")
    )


def plain_member_id(member_id: str | None) -> str:
    return "".join((member_id or "").split()).casefold()


def _plain_name(name: str | None) -> str:
    return " ".join((name or "").split()).casefold()


def _with_id(user: Node, reply: Reply) -> Node:
    if user.text("id").value is None:
        raise VendorBroken("the reply holds no patient", sent=True, reply=reply)
    return user
