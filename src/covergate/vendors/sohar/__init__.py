"""Sohar: behavioral-health eligibility in seconds, announced by a signed event or found by polling.

Sources: "Patient Intake" and the reference pages of docs.soharhealth.com, as read in docs/vendors/sohar.md. Sohar answers for
its own notion of the service (specialty and place of service), for today, and from the account's own NPI.
"""

from __future__ import annotations

from covergate.states import Environment
from covergate.vendors.sohar.connection import SoharConnection, authenticate
from covergate.vendors.sohar.events import read_event, verify_event
from covergate.vendors.sohar.flows import check, list_payers, probe, submit
from covergate.vendors.sohar.request import default_deadline, sohar_payer_id
from covergate.vendors.vendor import AnswersBy, Capabilities, Required, ServiceDates, Vendor

VENDOR = Vendor(
    name="sohar",
    title="Sohar",
    docs_url="https://docs.soharhealth.com",
    capabilities=Capabilities(
        answers_by=(AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(6, 30),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail="Copay, coinsurance, deductible, out-of-pocket maximum of the asked service by network and tier",
    ),
    connection=SoharConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    required=(
        Required("/payer/id", lambda inquiry, options, codes: sohar_payer_id(inquiry, codes) is None),
        Required("/patient/address/state"),
        Required("/service/place_of_service_code"),
        Required("/service/specialty"),
    ),
    asks=(
        "/payer/id",
        "/patient/first_name",
        "/patient/last_name",
        "/patient/date_of_birth",
        "/patient/member_id",
        "/patient/address/state",
        "/subscriber/first_name",
        "/subscriber/last_name",
        "/subscriber/date_of_birth",
        "/service/place_of_service_code",
        "/service/specialty",
    ),
    default_deadline=default_deadline,
    verify_event=verify_event,
    read_event=read_event,
    list_payers=list_payers,
    probe=probe,
    # One address: the credentials decide between Sohar's own sandbox and production.
    base_urls={
        Environment.PRODUCTION: ("https://api.soharhealth.com",),
        Environment.SANDBOX: ("https://api.soharhealth.com",),
    },
)
