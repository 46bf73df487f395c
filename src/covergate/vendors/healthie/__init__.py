"""Healthie: an EHR with a GraphQL API. A check is run on a patient's policy there and answers in one request.

Sources: Healthie's guide, its reference and the types of its schema, as read in docs/vendors/healthie.md.
"""

from __future__ import annotations

import re

from covergate.states import Environment
from covergate.vendors.healthie.connection import HealthieConnection, authenticate
from covergate.vendors.healthie.events import read_event, verify_event
from covergate.vendors.healthie.flows import check, find, list_payers, probe, submit
from covergate.vendors.healthie.options import HealthieOptions
from covergate.vendors.healthie.request import lacks_plan, not_asked_of
from covergate.vendors.vendor import AnswersBy, Capabilities, Required, ServiceDates, Vendor

VENDOR = Vendor(
    name="healthie",
    title="Healthie",
    docs_url="https://docs.gethealthie.com",
    capabilities=Capabilities(
        answers_by=(AnswersBy.AT_ONCE,),
        typical_wait_seconds=(5, 60),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=True,
        benefits_detail="What the payer's 271 says: coverage, benefits by service type, network and level, notes",
    ),
    connection=HealthieConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    ref_shape=re.compile(r"[0-9]{1,20}"),
    ref_words="the policy's id, digits",
    find=find,
    record_of=lambda question: question.person_key,
    calls_per_second=250.0,
    options=HealthieOptions,
    required=(
        Required(
            "/payer/id",
            lacks_plan,
            "must be given, or payer.name, so that it leads to one insurance plan at Healthie",
            words="a payer that leads to one insurance plan, or vendor_options.healthie.insurance_plan_id or policy_id",
        ),
    ),
    # The patient's e-mail and phone are kept from Healthie, so that it cannot write to the patient.
    asks=(
        "/payer/id",
        "/payer/name",
        "/patient/first_name",
        "/patient/middle_name",
        "/patient/last_name",
        "/patient/date_of_birth",
        "/patient/gender",
        "/patient/member_id",
        "/patient/group_number",
        "/subscriber/patient_relationship",
        "/subscriber/first_name",
        "/subscriber/middle_name",
        "/subscriber/last_name",
        "/subscriber/date_of_birth",
        "/subscriber/gender",
        "/subscriber/address",
        "/subscriber/phone",
        "/coverage_order",
        "/service/service_type_codes",
    ),
    not_asked_of=not_asked_of,
    verify_event=verify_event,
    read_event=read_event,
    list_payers=list_payers,
    probe=probe,
    keeps_patients=True,
    base_urls={
        Environment.PRODUCTION: ("https://api.gethealthie.com",),
        Environment.SANDBOX: ("https://staging-api.gethealthie.com",),
    },
)
