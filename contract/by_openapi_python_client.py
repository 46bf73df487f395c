"""A client made by openapi-python-client verifies a patient."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from opc_client import AuthenticatedClient, models
from opc_client.api.payers import list_payers
from opc_client.api.vendors import list_vendors
from opc_client.api.verifications import create_verification, list_verifications, read_verification
from opc_client.api.verifications import read_verification_timeline as read_timeline
from opc_client.api.webhooks import create_webhook_endpoint, delete_webhook_endpoint, list_events

document = json.loads(Path(os.environ["COVERGATE_DOCUMENT"]).read_text())
create = document["paths"]["/v1/verifications"]["post"]["requestBody"]["content"]["application/json"]
body = models.CreateVerification.from_dict(create["example"])
gateway = AuthenticatedClient(
    os.environ["COVERGATE_URL"], token=os.environ["COVERGATE_API_KEY"], raise_on_unexpected_status=True, timeout=60
)
with gateway as client:
    made = create_verification.sync(client=client, body=body, prefer="wait=30", idempotency_key="by-opc-1")
    assert isinstance(made, models.Verification), made
    assert (made.status, made.outcome) == ("completed", models.Outcome.ELIGIBLE)
    assert isinstance(made.result, models.Result) and isinstance(made.result.summary.in_, models.NetworkSummary)
    assert made.result.summary.in_.copay == "30.00" and made.result.benefits[0].sources

    assert read_verification.sync(made.id, client=client) == made
    page = list_verifications.sync(client=client, outcome=models.Outcome.ELIGIBLE, limit=5)
    assert isinstance(page, models.VerificationList) and made.id in [row.id for row in page.data]
    timeline = read_timeline.sync(made.id, client=client)
    assert isinstance(timeline, models.Timeline) and timeline.data[-1].type_ == "completed"
    events = list_events.sync(client=client)
    assert isinstance(events, models.EventList) and isinstance(events.data[-1], models.VerificationCompletedEvent)
    assert isinstance(events.data[-1].data, models.ThinData)
    vendors = list_vendors.sync(client=client)
    assert isinstance(vendors, models.VendorList) and len(vendors.data) == 5
    payers = list_payers.sync(client=client, q="aetna")
    assert isinstance(payers, models.PayerList) and payers.data[0].name == "Aetna"
    endpoint = create_webhook_endpoint.sync(
        client=client, body=models.CreateWebhookEndpoint(url="https://intake.example.com/covergate")
    )
    assert isinstance(endpoint, models.WebhookEndpointWithSecret) and endpoint.secret.startswith("whsec_")
    assert delete_webhook_endpoint.sync_detailed(endpoint.id, client=client).status_code == 204

    body.service = models.Service()
    problem = create_verification.sync(client=client, body=body)
    assert isinstance(problem, models.ProblemDetails) and problem.code == "missing_for_vendor"
    assert {error.pointer for error in problem.errors} == {"/service/place_of_service_code", "/service/specialty"}


def instants(value: Any) -> Any:
    """The same with every instant in one spelling."""
    if isinstance(value, dict):
        return {name: instants(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [instants(inner) for inner in value]
    is_instant = isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}T.+", value)
    return datetime.fromisoformat(value).timestamp() if is_instant else value


# Every example of an answer, a problem and a webhook is the same after the way through its class.
operations = [one for methods in document["paths"].values() for one in methods.values()]
contents = [answer.get("content", {}) for one in operations for answer in one["responses"].values()]
contents += [row["post"]["requestBody"]["content"] for row in document["components"]["pathItems"].values()]
described = [row for content in contents for media_type, row in content.items() if not media_type.startswith("text/")]
for row in described:
    model = getattr(models, row["schema"]["$ref"].rsplit("/", 1)[1])
    assert instants(model.from_dict(row["example"]).to_dict()) == instants(row["example"]), model
assert len(described) > 100, len(described)
