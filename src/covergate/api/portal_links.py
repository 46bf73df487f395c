"""`/v1/portal-links`: a one-time entry to the tenant's webhook pages, for a partner without an account."""

from __future__ import annotations

from fastapi import APIRouter, Response

from covergate.access.audit import actor_of
from covergate.access.portal_links import make_portal_link
from covergate.api import examples, schemas
from covergate.api.deps import GatewayOf, NoQuery, WebhookManager
from covergate.api.describe import Described, documented
from covergate.api.http import NoBody, json_answer
from covergate.timestamps import instant

router = APIRouter(tags=["Webhooks"])


@router.post(
    "/v1/portal-links",
    status_code=201,
    **documented(
        "create_portal_link",
        "Make a link to the webhook pages",
        "Lets one visitor in, once, within the gateway's `COVERGATE_PORTAL_LINK_MINUTES`: to the webhooks of the key's tenant"
        " in the key's mode, and nothing else. The link is a secret; it is shown only here.",
        answers={201: Described("Made", schemas.PortalLinkShown, examples.MADE_PORTAL_LINK)},
        problems=(413, 415, 422),
    ),
)
async def create_portal_link(gateway: GatewayOf, caller: WebhookManager, _: NoQuery, __: NoBody) -> Response:
    link = await make_portal_link(gateway, actor_of(caller))
    return json_answer({"object": "portal_link", "url": link.url, "expires_at": instant(link.expires_at)}, 201)
