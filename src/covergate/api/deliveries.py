"""`/v1/webhook-endpoints/{id}/deliveries` and `/v1/deliveries`: each delivery with its attempts, and redelivery by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, WebhookManager, limits_of
from covergate.api.describe import Described, documented
from covergate.api.events import KnownEventType
from covergate.api.http import NoBody, json_answer
from covergate.api.pages import PageQuery, listed, position
from covergate.api.validation import OneOf
from covergate.api.verifications import Moment
from covergate.states import DeliveryStatus
from covergate.webhooks import deliveries

router = APIRouter(tags=["Webhooks"])

KnownStatus = Annotated[str, OneOf(tuple(DeliveryStatus))]


class DeliveryQuery(PageQuery):
    """Filters of the list; instants are exclusive."""

    status: Annotated[list[KnownStatus], Field(max_length=3, description="May be given several times")] = Field(
        default_factory=list
    )
    event_type: Annotated[list[KnownEventType], Field(max_length=20, description="May be given several times")] = Field(
        default_factory=list
    )
    created_after: Moment | None = Field(default=None, description="Later than this")
    created_before: Moment | None = Field(default=None, description="Earlier than this")

    def filters(self) -> deliveries.DeliveryFilters:
        return deliveries.DeliveryFilters(self.status, self.event_type, self.created_after, self.created_before)


@router.get(
    "/v1/webhook-endpoints/{endpoint_id}/deliveries",
    **documented(
        "list_deliveries",
        "List an endpoint's deliveries",
        "Newest first, each with all its attempts.",
        answers={200: Described("A page", schemas.DeliveryList, examples.DELIVERY_PAGE)},
        problems=(400, 404, 422),
    ),
)
async def get_deliveries(
    gateway: GatewayOf, caller: WebhookManager, query: Annotated[DeliveryQuery, Query()], endpoint_id: str
) -> Response:
    after = position(query.after, _is_place)
    page = await deliveries.list_deliveries(gateway, caller, endpoint_id, query.filters(), after, query.limit)
    return json_answer(listed(page))


def _is_place(place: str) -> bool:
    try:
        deliveries.place_in_list(place)
    except ValueError:
        return False
    return True


@router.post(
    "/v1/deliveries/{delivery_id}/redeliver",
    status_code=202,
    **documented(
        "redeliver",
        "Deliver again",
        "Makes a new attempt at once, whatever the earlier ones came to, with the same `webhook-id`.",
        answers={202: Described("The delivery", schemas.Delivery, examples.PENDING_DELIVERY)},
        problems=(404, 409, 413, 415, 422),
    ),
)
async def post_redelivery(
    request: Request, gateway: GatewayOf, caller: WebhookManager, _: NoQuery, __: NoBody, delivery_id: str
) -> Response:
    limits_of(request).redelivery(caller.tenant_id)
    return json_answer(await deliveries.redeliver(gateway, caller, delivery_id), 202)
