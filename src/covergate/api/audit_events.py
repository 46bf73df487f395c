"""`GET /v1/audit-events`: what the audit has of the key's tenant, in the key's mode."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from covergate import ids
from covergate.access.audit import AuditFilters, list_own
from covergate.api import examples, schemas
from covergate.api.deps import AuditReader, GatewayOf
from covergate.api.describe import Described, documented
from covergate.api.http import json_answer
from covergate.api.pages import PageQuery, listed, position_of
from covergate.api.verifications import Moment
from covergate.eligibility.inquiry import Text
from covergate.states import AuditOutcome

router = APIRouter(tags=["Audit"])


class AuditQuery(PageQuery):
    action: Annotated[str, Text(60)] | None = Field(default=None, description="E.g. `verification.read`")
    actor: Annotated[str, Text(100)] | None = Field(default=None, description="The id of a key, operator or endpoint")
    subject: Annotated[str, Text(100)] | None = Field(default=None, description="The id of what it was done to")
    outcome: AuditOutcome | None = Field(default=None, description="What became of it")
    since: Moment | None = Field(default=None, description="At this instant or later")
    until: Moment | None = Field(default=None, description="Earlier than this")

    def filters(self) -> AuditFilters:
        return AuditFilters(**self.model_dump(exclude={"limit", "after"}))


@router.get(
    "/v1/audit-events",
    **documented(
        "list_audit_events",
        "List audit events",
        "Newest first, the tenant's own in the key's mode: reads of PHI, changes of who gets it, and what was refused. Ids"
        " only. Reading them is audited, too.",
        answers={200: Described("A page", schemas.AuditEventList, examples.AUDIT_EVENT_PAGE)},
        problems=(400, 422),
    ),
)
async def get_audit_events(gateway: GatewayOf, caller: AuditReader, query: Annotated[AuditQuery, Query()]) -> Response:
    after = position_of(ids.AUDIT_EVENT, query.after)
    return json_answer(listed(await list_own(gateway, caller, query.filters(), after, query.limit)))
