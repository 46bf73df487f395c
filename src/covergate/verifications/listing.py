"""Lists of verifications, newest first: filtered, one page at a time, without `inquiry` and `result`.

Ids sort by creation, so the page after an id is found by the id alone. Member ids and birth dates are compared by their keyed
digests, under every key of the ring; they come from a request's body, never from a URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.types import LargeBinary, Text

from covergate.access.caller import Caller
from covergate.db.page import Page, page
from covergate.gateway import Gateway
from covergate.verifications.create import birth_digest_parts, member_digest_parts
from covergate.verifications.read import audited
from covergate.verifications.view import ATTEMPTS, COLUMNS, list_view


@dataclass(frozen=True)
class Filters:
    """None and empty: not asked for. Instants are exclusive."""

    status: Sequence[str] = ()
    outcome: str | None = None
    vendor: str | None = None
    failure_code: str | None = None
    waiting_for: str | None = None
    payer_id: str | None = None
    external_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    member_id: str | None = None
    date_of_birth: date | None = None


_INSTANT = TIMESTAMP(timezone=True)
_CONDITIONS: dict[str, tuple[str, Any]] = {
    "status": ("v.status = ANY(:status)", ARRAY(Text)),
    "outcome": ("v.outcome = :outcome", Text),
    "vendor": ("v.vendor = :vendor", Text),
    "failure_code": ("v.failure_code = :failure_code", Text),
    "waiting_for": ("v.waiting_for = :waiting_for", Text),
    "payer_id": ("v.payer_id = :payer_id", Text),
    "external_id": ("v.external_id = :external_id", Text),
    "created_after": ("v.created_at > :created_after", _INSTANT),
    "created_before": ("v.created_at < :created_before", _INSTANT),
    "completed_after": ("v.completed_at > :completed_after", _INSTANT),
    "member_id": ("v.member_digest = ANY(:member_id)", ARRAY(LargeBinary)),
    "date_of_birth": ("v.birth_digest = ANY(:date_of_birth)", ARRAY(LargeBinary)),
}


async def list_verifications(
    gateway: Gateway, caller: Caller, filters: Filters, after: str | None, limit: int, action: str, request_id: str
) -> Page:
    """The rows older than the verification `after`. `action` is what the audit calls this read.

    A search by member id or birth date tells something of every verification it finds; a list opens PHI only where
    there is a failure in the vendor's words or a late result.
    """
    wanted = _wanted(gateway, caller, filters)
    conditions = ["v.tenant_id = :tenant_id", "v.mode = :mode", *(_CONDITIONS[name][0] for name in wanted)]
    if after is not None:
        conditions.append("v.id < :after")
        wanted["after"] = after
    statement = text(
        f"SELECT {COLUMNS}, late_result_sealed, failure_sealed, {ATTEMPTS} FROM verifications v"
        f" WHERE {' AND '.join(conditions)} ORDER BY v.id DESC LIMIT :limit"
    ).bindparams(*(bindparam(name, type_=_CONDITIONS[name][1]) for name in wanted if name in _CONDITIONS))
    values = {"tenant_id": caller.tenant_id, "mode": caller.mode, "limit": limit + 1, **wanted}
    async with gateway.connection() as db:
        rows = (await db.execute(statement, values)).mappings().all()
        searched = filters.member_id is not None or filters.date_of_birth is not None
        read = [row["id"] for row in rows[:limit] if searched or row["late_result_sealed"] or row["failure_sealed"]]
        await audited(db, caller, action, read, request_id)
    return page(rows, limit, lambda row: str(row["id"]), lambda row: list_view(gateway.sealer, dict(row)))


def _wanted(gateway: Gateway, caller: Caller, filters: Filters) -> dict[str, Any]:
    wanted = {name: value for name in _CONDITIONS if (value := getattr(filters, name)) is not None and value != ()}
    if filters.status:
        wanted["status"] = list(filters.status)
    if filters.member_id is not None:
        wanted["member_id"] = gateway.sealer.digests("member", *member_digest_parts(caller, filters.member_id))
    if filters.date_of_birth is not None:
        wanted["date_of_birth"] = gateway.sealer.digests("birth", *birth_digest_parts(caller, filters.date_of_birth))
    return wanted
