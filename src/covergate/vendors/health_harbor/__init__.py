"""Health Harbor: people who call the payer and ask. One inquiry is one phone call; answers take hours to days.

Sources: its OpenAPI document and docs.healthharbor.co, as read in docs/vendors/health_harbor.md.
"""

from __future__ import annotations

from datetime import timedelta

from covergate.states import Environment
from covergate.vendors.health_harbor.batch import BATCHING
from covergate.vendors.health_harbor.connection import HealthHarborConnection, authenticate
from covergate.vendors.health_harbor.events import read_event, verify_event
from covergate.vendors.health_harbor.flows import check, find, probe, submit
from covergate.vendors.health_harbor.options import HealthHarborOptions
from covergate.vendors.health_harbor.request import (
    default_deadline,
    lacks_codes,
    lacks_payer,
    lacks_query,
    not_asked_of,
)
from covergate.vendors.vendor import AnswersBy, Capabilities, Required, ServiceDates, Vendor

_OPTIONS = "/vendor_options/health_harbor"

VENDOR = Vendor(
    name="health_harbor",
    title="Health Harbor",
    docs_url="https://docs.healthharbor.co",
    capabilities=Capabilities(
        answers_by=(AnswersBy.PHONE_CALL, AnswersBy.EVENT, AnswersBy.POLL),
        typical_wait_seconds=(4 * 3600, 2 * 24 * 3600),
        service_dates=ServiceDates.TODAY,
        dependents=True,
        secondary_coverage=False,
        benefits_detail=(
            "Plan information, deductibles and out-of-pocket maximums with what is used, and per procedure code coverage, "
            "copay, coinsurance, prior authorization and limits; what the representative said"
        ),
    ),
    connection=HealthHarborConnection,
    authenticate=authenticate,
    submit=submit,
    check=check,
    find=find,
    find_delay=timedelta(seconds=20),
    options=HealthHarborOptions,
    required=(
        Required("/provider/tax_id"),
        Required("/payer/name", lacks_payer, "must be given unless payer.id is", is_listed=False),
        Required(
            f"{_OPTIONS}/benefits_query",
            lacks_query,
            "must have a query unless call_script_id is given",
            is_listed=False,
        ),
        Required(
            f"{_OPTIONS}/benefits_codes",
            lacks_codes,
            "must have a code, or service.procedure_codes must: CODE_LOOKUP queries are about codes",
            is_listed=False,
        ),
    ),
    # Service type codes only choose the questions: the answers are given by procedure code.
    asks=(
        "/payer/id",
        "/payer/name",
        "/patient/first_name",
        "/patient/last_name",
        "/patient/date_of_birth",
        "/patient/member_id",
        "/patient/group_number",
        "/provider/npi",
        "/provider/rendering_npi",
        "/provider/tax_id",
        "/provider/in_network",
        "/provider/address",
        "/service/procedure_codes",
        "/service/diagnosis_codes",
        "/service/place_of_service_code",
    ),
    not_asked_of=not_asked_of,
    default_deadline=default_deadline,
    verify_event=verify_event,
    read_event=read_event,
    batching=BATCHING,
    probe=probe,
    # No other address is known for tests.
    base_urls={Environment.PRODUCTION: ("https://healthharbor.co",)},
)
