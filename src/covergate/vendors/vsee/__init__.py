"""VSee Clinic: the patient is a user of VSee, whose insurance AdvancedMD checks; the payer's own 271 is handed on.

Source: VSee's wiki, "Insurance API (Draft)" and the pages around it, as read in docs/vendors/vsee.md. Only the 271 is
believed; see `answer.py`.
"""

from __future__ import annotations

import re
from datetime import timedelta

from covergate.states import Environment
from covergate.vendors.vendor import AnswersBy, Capabilities, Required, ServiceDates, Vendor
from covergate.vendors.vsee.connection import VSeeConnection, authenticate
from covergate.vendors.vsee.events import read_event, verify_event
from covergate.vendors.vsee.flows import check, find, list_payers, probe, submit
from covergate.vendors.vsee.options import VSeeOptions
from covergate.vendors.vsee.request import (
    ADDRESS_PARTS,
    lacks_carrier_code,
    lacks_gender,
    lacks_subscriber,
    not_asked_of,
)

VENDOR = Vendor(
    name="vsee",
    title="VSee Clinic (AdvancedMD)",
    docs_url="https://vsee.atlassian.net/wiki/spaces/VD/pages/55083127",
    capabilities=Capabilities(
        answers_by=(AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(15, 60),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=True,
        benefits_detail="All that the payer's X12 271 states for service type 30, MSG texts included",
    ),
    connection=VSeeConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    ref_shape=re.compile(r"[!-9;-~]{1,100}:[!-9;-~]{1,100}"),
    ref_words="the user's id and the eligibility's id with a colon between them",
    find=find,
    record_of=lambda question: question.patient_key,
    find_delay=timedelta(seconds=10),
    options=VSeeOptions,
    required=(
        Required("/patient/gender", lacks_gender, "must be M or F: VSee has no other"),
        *(Required(f"/patient/address/{part}") for part in ADDRESS_PARTS),
        *(
            Required(
                f"/subscriber/address/{part}",
                lacks_subscriber(part),
                words="/subscriber/address if there is a subscriber",
            )
            for part in ADDRESS_PARTS
        ),
        Required(
            "/vendor_options/vsee/carrier_code",
            lacks_carrier_code,
            "must be given: the payer directory has no carrier code of VSee's for this payer",
            words="/vendor_options/vsee/carrier_code unless the payer directory has it",
        ),
    ),
    asks=(
        "/payer/id",
        "/payer/name",
        "/patient/first_name",
        "/patient/last_name",
        "/patient/date_of_birth",
        "/patient/gender",
        "/patient/member_id",
        "/patient/group_number",
        "/patient/address",
        "/subscriber/patient_relationship",
        "/subscriber/member_id",
        "/subscriber/first_name",
        "/subscriber/last_name",
        "/subscriber/date_of_birth",
        "/subscriber/address",
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
        # Which one, VSee says to each clinic.
        Environment.PRODUCTION: ("https://*.vsee.me",),
        Environment.SANDBOX: ("https://*.vseepreview.com",),
    },
)
