"""Integrex (IntegrexRCM): Enhanced Eligibility V2, a ticket that is polled until its flat answer is there.

Source: "Integrex Health Enhanced Eligibility V2" (PDF), as read in docs/vendors/integrex.md. It takes any service date and
one service type, and sends no events.
"""

from __future__ import annotations

from covergate.states import Environment
from covergate.vendors.integrex.connection import IntegrexConnection, authenticate
from covergate.vendors.integrex.flows import check, probe, submit
from covergate.vendors.integrex.options import IntegrexOptions
from covergate.vendors.integrex.request import not_asked_of
from covergate.vendors.vendor import AnswersBy, Capabilities, Required, ServiceDates, Vendor

VENDOR = Vendor(
    name="integrex",
    title="Integrex",
    docs_url="https://integrexrcm.com/api-documentation",
    capabilities=Capabilities(
        answers_by=(AnswersBy.POLL,),
        typical_wait_seconds=(15, 60),
        service_dates=ServiceDates.ANY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail="The plan's deductible and out-of-pocket maximum by level and network, coinsurance, copays",
    ),
    connection=IntegrexConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    options=IntegrexOptions,
    required=(Required("/provider/npi"),),
    asks=(
        "/payer/id",
        "/payer/name",
        "/patient/first_name",
        "/patient/last_name",
        "/patient/date_of_birth",
        "/patient/gender",
        "/patient/member_id",
        "/patient/ssn",
        "/patient/employer_name",
        "/subscriber/first_name",
        "/subscriber/last_name",
        "/subscriber/date_of_birth",
        "/subscriber/gender",
        "/subscriber/ssn",
        "/subscriber/employer_name",
        "/provider/npi",
        "/service/date",
        "/service/end_date",
        "/service/service_type_codes",
    ),
    not_asked_of=not_asked_of,
    probe=probe,
    # One address: `env` decides.
    base_urls={
        Environment.PRODUCTION: ("https://api.integrexrcm.com:53443",),
        Environment.SANDBOX: ("https://api.integrexrcm.com:53443",),
    },
)
