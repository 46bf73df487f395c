"""`/v1/webhook-endpoints`: where events are sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from covergate import ids
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, WebhookManager, limits_of
from covergate.api.describe import Described, documented
from covergate.api.events import KnownEventType
from covergate.api.http import NoBody, json_answer, json_body
from covergate.api.pages import PageQuery, listed, position_of
from covergate.api.verifications import Moment
from covergate.eligibility.inquiry import Text, today_eastern
from covergate.states import EventType
from covergate.timestamps import instant
from covergate.webhooks import deliveries, endpoints, recovery

router = APIRouter(tags=["Webhooks"])

EventTypes = Annotated[tuple[Annotated[str, Text(60)], ...], Field(min_length=1, max_length=50)]
Payload = Literal["thin", "full"]
Description = Annotated[str, Text(200)]
Url = Annotated[str, Text(2048)]


class CreateWebhookEndpoint(BaseModel):
    """`payload` "full" sends the whole verification, PHI included, and needs the scope `verifications:read`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Url
    event_types: EventTypes = ("*",)
    payload: Payload = "thin"
    description: Description | None = None


def _without_default(schema: dict[str, Any]) -> None:
    """A field that is left out stays as it is: the default is only pydantic's."""
    schema.pop("default", None)


class UpdateWebhookEndpoint(BaseModel):
    """The fields to change; `description` null removes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Url = Field(default="", json_schema_extra=_without_default)
    event_types: EventTypes = Field(default=(), json_schema_extra=_without_default)
    payload: Payload = Field(default="thin", json_schema_extra=_without_default)
    description: Description | None = Field(default=None, json_schema_extra=_without_default)
    status: Literal["enabled", "disabled"] = Field(default="enabled", json_schema_extra=_without_default)


class SendTestEvent(BaseModel):
    """The type of the event that is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    event_type: KnownEventType = "endpoint.test"


class RecoverWebhookEndpoint(BaseModel):
    """What the endpoint missed: deliveries made at `since` or later that are `exhausted`, wait for a later try, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    since: Moment
    status: recovery.Missed = "exhausted"


@router.post(
    "/v1/webhook-endpoints",
    status_code=201,
    **documented(
        "create_webhook_endpoint",
        "Create a webhook endpoint",
        "The secret is shown only here and at rotation.",
        body=(CreateWebhookEndpoint, examples.CREATE_WEBHOOK_ENDPOINT),
        answers={
            201: Described("Created", schemas.WebhookEndpointWithSecret, examples.NEW_WEBHOOK_ENDPOINT, ("Location",))
        },
        problems=(409, 413, 415, 422),
    ),
)
async def create_webhook_endpoint(
    gateway: GatewayOf,
    caller: WebhookManager,
    _: NoQuery,
    body: Annotated[CreateWebhookEndpoint, Depends(json_body(CreateWebhookEndpoint))],
) -> Response:
    wanted = endpoints.NewEndpoint(body.url, body.event_types, body.payload, body.description)
    made = await endpoints.create_endpoint(gateway, caller, wanted)
    return json_answer(made, 201, {"location": f"/v1/webhook-endpoints/{made['id']}"})


@router.get(
    "/v1/webhook-endpoints",
    **documented(
        "list_webhook_endpoints",
        "List webhook endpoints",
        "Newest first.",
        answers={200: Described("A page", schemas.WebhookEndpointList, examples.WEBHOOK_ENDPOINT_PAGE)},
        problems=(400, 422),
    ),
)
async def get_webhook_endpoints(
    gateway: GatewayOf, caller: WebhookManager, query: Annotated[PageQuery, Query()]
) -> Response:
    after = position_of(ids.ENDPOINT, query.after)
    return json_answer(listed(await endpoints.list_endpoints(gateway, caller, after, query.limit)))


@router.get(
    "/v1/webhook-endpoints/{endpoint_id}",
    **documented(
        "read_webhook_endpoint",
        "Read a webhook endpoint",
        "Without its secret.",
        answers={200: Described("The endpoint", schemas.WebhookEndpoint, examples.WEBHOOK_ENDPOINT)},
        problems=(404, 422),
    ),
)
async def read_webhook_endpoint(gateway: GatewayOf, caller: WebhookManager, _: NoQuery, endpoint_id: str) -> Response:
    return json_answer(await endpoints.read_endpoint(gateway, caller, endpoint_id))


@router.patch(
    "/v1/webhook-endpoints/{endpoint_id}",
    **documented(
        "update_webhook_endpoint",
        "Change a webhook endpoint",
        "Changes only the given fields. Setting `status` to `enabled` brings back an endpoint that answered 410.",
        body=(UpdateWebhookEndpoint, examples.UPDATE_WEBHOOK_ENDPOINT),
        answers={200: Described("The endpoint", schemas.WebhookEndpoint, examples.WEBHOOK_ENDPOINT)},
        problems=(404, 413, 415, 422),
    ),
)
async def update_webhook_endpoint(
    gateway: GatewayOf,
    caller: WebhookManager,
    _: NoQuery,
    body: Annotated[UpdateWebhookEndpoint, Depends(json_body(UpdateWebhookEndpoint))],
    endpoint_id: str,
) -> Response:
    changes = body.model_dump(include=body.model_fields_set)
    return json_answer(await endpoints.update_endpoint(gateway, caller, endpoint_id, changes))


@router.delete(
    "/v1/webhook-endpoints/{endpoint_id}",
    status_code=204,
    **documented(
        "delete_webhook_endpoint",
        "Delete a webhook endpoint",
        "Its pending deliveries end `exhausted`.",
        answers={204: Described("Deleted")},
        problems=(404, 413, 415, 422),
    ),
)
async def delete_webhook_endpoint(
    gateway: GatewayOf, caller: WebhookManager, _: NoQuery, __: NoBody, endpoint_id: str
) -> Response:
    await endpoints.delete_endpoint(gateway, caller, endpoint_id)
    return Response(status_code=204)


@router.post(
    "/v1/webhook-endpoints/{endpoint_id}/test",
    status_code=202,
    **documented(
        "send_test_event",
        "Send a test event",
        "Sends `endpoint.test`, or a sample of the named type, to this endpoint alone, whatever it subscribes to. A sample"
        ' is synthetic, has `"test": true` in its `data`, and is full if the endpoint\'s payload is.',
        body=(SendTestEvent, examples.SEND_TEST_EVENT),
        body_required=False,
        answers={202: Described("The delivery that was started", schemas.Delivery, examples.PENDING_DELIVERY)},
        problems=(404, 409, 413, 415, 422),
    ),
)
async def send_test_event(
    request: Request,
    gateway: GatewayOf,
    caller: WebhookManager,
    _: NoQuery,
    body: Annotated[SendTestEvent, Depends(json_body(SendTestEvent, may_be_empty=True))],
    endpoint_id: str,
) -> Response:
    limits_of(request).test_event(caller.tenant_id)
    type_ = EventType(body.event_type)
    full = examples.full_sample(type_, today_eastern(datetime.now(UTC)))
    delivery_id = await endpoints.send_test(gateway, caller, endpoint_id, type_, full)
    async with gateway.connection() as db:
        return json_answer(await deliveries.read_delivery(db, delivery_id), 202)


@router.post(
    "/v1/webhook-endpoints/{endpoint_id}/rotate-secret",
    **documented(
        "rotate_webhook_secret",
        "Rotate a webhook endpoint's secret",
        "The new secret is shown only here; each old one signs beside it for 24 hours after its"
        " rotation, four at most.",
        answers={
            200: Described("With the new secret", schemas.WebhookEndpointWithSecret, examples.NEW_WEBHOOK_ENDPOINT)
        },
        problems=(404, 413, 415, 422),
    ),
)
async def rotate_webhook_secret(
    gateway: GatewayOf, caller: WebhookManager, _: NoQuery, __: NoBody, endpoint_id: str
) -> Response:
    return json_answer(await endpoints.rotate_secret(gateway, caller, endpoint_id))


@router.post(
    "/v1/webhook-endpoints/{endpoint_id}/recover",
    status_code=202,
    **documented(
        "recover_webhook_endpoint",
        "Deliver what an endpoint missed",
        'Each delivery made at `since` or later that is `exhausted`, or with `status` "pending" waits for a later try, or'
        ' either ("all"), is due at once, oldest first, with its `webhook-id` and the whole schedule. Sent twice, it'
        " counts nothing twice.",
        body=(RecoverWebhookEndpoint, examples.RECOVER_WEBHOOK_ENDPOINT),
        answers={202: Described("How many are delivered anew", schemas.EndpointRecovery, examples.RECOVERY)},
        problems=(404, 409, 413, 415, 422),
    ),
)
async def recover_webhook_endpoint(
    request: Request,
    gateway: GatewayOf,
    caller: WebhookManager,
    _: NoQuery,
    body: Annotated[RecoverWebhookEndpoint, Depends(json_body(RecoverWebhookEndpoint))],
    endpoint_id: str,
) -> Response:
    limits_of(request).redelivery(caller.tenant_id)
    count = await recovery.recover(gateway, caller, endpoint_id, body.since, body.status)
    shown = {"object": "recovery", "endpoint_id": endpoint_id, "since": instant(body.since), "status": body.status}
    return json_answer({**shown, "count": count}, 202)
