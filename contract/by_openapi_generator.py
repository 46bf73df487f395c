"""A client made by openapi-generator verifies a patient."""

from __future__ import annotations

import os
from datetime import date

from oag_client import ApiClient, Configuration, PayersApi, VendorsApi, VerificationsApi, WebhooksApi, models
from oag_client.exceptions import UnprocessableEntityException

body = models.CreateVerification(
    vendor="sohar",
    payer=models.AskedPayer(id="60054"),
    patient=models.Patient(
        first_name="Jane",
        last_name="Sample",
        date_of_birth=date(1990, 9, 20),
        member_id="ELIGIBLE-0002",
        address=models.Address(state="CA"),
    ),
    service=models.Service(place_of_service_code="10", specialty=models.Specialty.PSY, procedure_codes=["90837"]),
)
configuration = Configuration(host=os.environ["COVERGATE_URL"], access_token=os.environ["COVERGATE_API_KEY"])
with ApiClient(configuration) as client:
    verifications, webhooks = VerificationsApi(client), WebhooksApi(client)
    made = verifications.create_verification(body, prefer="wait=30", idempotency_key="by-oag-1")
    assert (made.status, made.outcome) == ("completed", models.Outcome.ELIGIBLE)
    assert made.result.summary.var_in.copay == "30.00" and made.result.benefits[0].sources

    assert verifications.read_verification(made.id) == made
    page = verifications.list_verifications(outcome=models.Outcome.ELIGIBLE, limit=5)
    assert made.id in [row.id for row in page.data]
    assert verifications.read_verification_timeline(made.id).data[-1].type == "completed"
    event = webhooks.list_events().data[-1].actual_instance
    assert isinstance(event, models.VerificationCompletedEvent) and isinstance(event.data, models.ThinData)
    assert len(VendorsApi(client).list_vendors().data) == 5
    assert PayersApi(client).list_payers(q="aetna").data[0].name == "Aetna"
    endpoint = webhooks.create_webhook_endpoint(
        models.CreateWebhookEndpoint(url="https://intake.example.com/covergate")
    )
    assert endpoint.secret.startswith("whsec_")
    webhooks.delete_webhook_endpoint(endpoint.id)

    body.service = models.Service()
    try:
        verifications.create_verification(body)
    except UnprocessableEntityException as error:
        assert isinstance(error.data, models.ProblemDetails) and error.data.code == "missing_for_vendor"
        pointers = {row.pointer for row in error.data.errors}
        assert pointers == {"/service/place_of_service_code", "/service/specialty"}
    else:
        raise AssertionError("a request that lacks something was accepted")
