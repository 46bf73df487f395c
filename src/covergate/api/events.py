"""`GET /v1/events`: events that a partner may have missed, oldest first.

Unlike the other lists, this one is read forward: `after` may be a cursor or the id of the last event that was received.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from covergate import ids, states
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, Reader
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer
from covergate.api.pages import PageQuery, listed, position_of
from covergate.api.validation import OneOf
from covergate.api.verifications import Moment
from covergate.webhooks.events import EventFilters, list_events

router = APIRouter(tags=["Webhooks"])

KnownEventType = Annotated[str, OneOf(tuple(states.EventType))]


class EventQuery(PageQuery):
    type: Annotated[list[KnownEventType], Field(max_length=20, description="May be given several times")] = Field(
        default_factory=list
    )
    created_after: Moment | None = Field(default=None, description="Later than this")
    created_before: Moment | None = Field(default=None, description="Earlier than this")

    def filters(self) -> EventFilters:
        return EventFilters(self.type, self.created_after, self.created_before)


@router.get(
    "/v1/events",
    **documented(
        "list_events",
        "List events",
        "Those of the last 30 days, oldest first, in an order that never changes: what comes later comes behind. `after` takes a"
        " `next_cursor` or an event's id (its `webhook-id`); on the last page continue from the last event's id. An id that is"
        " not kept any more means the oldest event.",
        answers={200: Described("A page", schemas.EventList, examples.EVENT_PAGE)},
        problems=(400, 422),
    ),
)
async def get_events(gateway: GatewayOf, caller: Reader, query: Annotated[EventQuery, Query()]) -> Response:
    after = query.after
    if after is None or not ids.is_id(ids.EVENT, after):
        after = position_of(ids.EVENT, after)
    return json_answer(listed(await list_events(gateway, caller, query.filters(), after, query.limit)))
