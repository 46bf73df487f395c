"""Refused and fruitless requests in the audit: wrong keys, lacking scopes, ids that are not the caller's.

A caller with a valid key leaves a row for each. Wrong keys come from anybody and cost nothing, so those of one address are summed
up: the first is written at once, the others of the same minute as one row with their number. Invariant: whoever guesses, and
from however many addresses, a process writes at most `MOST_SOURCES` × 2 + 1 rows a minute for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog
from fastapi import Request

from covergate import ids
from covergate.access import audit
from covergate.access.audit import Actor, Deed
from covergate.access.caller import Caller, Origin
from covergate.db.outage import DATABASE_ERRORS
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.http_bounds import source_of
from covergate.states import ActorKind, AuditOutcome, SubjectKind
from covergate.vendors import VENDORS

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 60.0
MOST_SOURCES = 32
"""Addresses that are told apart in one window; the rest is summed up without an address."""
ELSEWHERE = None
EVENTS = "vendor_event.receive"
"""A vendor's events come faster than they are taken: that is no guess."""

ACTIONS: dict[str, str] = {
    "create_verification": "verification.create",
    "list_verifications": "verification.list",
    "search_verifications": "verification.search",
    "read_verification": "verification.read",
    "cancel_verification": "verification.cancel",
    "resolve_verification": "verification.resolve",
    "resubmit_verification": "verification.retry",
    "read_verification_timeline": "verification.timeline",
    "read_verification_raw": "verification.raw",
    "read_verification_answers": "verification.answers",
    "order_bulk_job": "bulk_job.order",
    "list_bulk_jobs": "bulk_job.list",
    "read_bulk_job": "bulk_job.read",
    "cancel_bulk_job": "bulk_job.stop",
    "list_vendors": "vendor.list",
    "hold_vendor": "vendor.hold",
    "resume_vendor": "vendor.resume",
    "receive_vendor_event": EVENTS,
    "receive_account_event": EVENTS,
    "list_payers": "payer.list",
    "create_webhook_endpoint": "endpoint.create",
    "list_webhook_endpoints": "endpoint.list",
    "read_webhook_endpoint": "endpoint.read",
    "update_webhook_endpoint": "endpoint.update",
    "delete_webhook_endpoint": "endpoint.delete",
    "send_test_event": "endpoint.test",
    "rotate_webhook_secret": "endpoint.rotate_secret",
    "recover_webhook_endpoint": "endpoint.recover",
    "create_portal_link": "portal_link.create",
    "list_deliveries": "delivery.list",
    "redeliver": "delivery.redeliver",
    "list_events": "event.list",
    "list_audit_events": "audit.list",
    "list_vendor_accounts": "account.list",
    "read_vendor_account": "account.read",
    "put_vendor_account": "account.put",
    "remove_vendor_account": "account.remove",
    "test_vendor_account": "account.test",
    "erase_patient": "patient.erase",
}
"""Operation id → what the audit calls it."""

SUBJECTS: dict[str, tuple[SubjectKind, str]] = {
    "verification_id": (SubjectKind.VERIFICATION, ids.VERIFICATION),
    "endpoint_id": (SubjectKind.ENDPOINT, ids.ENDPOINT),
    "delivery_id": (SubjectKind.DELIVERY, ids.DELIVERY),
    "job_id": (SubjectKind.JOB, ids.BULK_JOB),
}
"""Path parameter → what it names, and the prefix of its ids. Anything else that is sent there is not written down."""


class Refusals:
    """One per API process. `run` writes the sums until it is canceled; `flush` writes them at once."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sources: Counter[str | None] = Counter()
        """Address → wrong keys of this window that are not written yet."""

    async def note(self, request: Request, problem: Problem) -> None:
        """Returns when it is written, or summed up. Problems that have nothing to do with access are none of it."""
        caller: Caller | None = getattr(request.state, "caller", None)
        action = _action(request)
        if caller is None and (problem.code == "unauthorized" or (problem.code == "rate_limited" and action != EVENTS)):
            await self._wrong_key(origin_of(request), action)
        elif caller is not None and problem.code in ("insufficient_scope", "not_found"):
            outcome = AuditOutcome.REFUSED if problem.code == "insufficient_scope" else AuditOutcome.NOT_FOUND
            await audit.record_together(
                self._gateway, [Deed(audit.actor_of(caller), action, *_subject(request), outcome)]
            )

    async def _wrong_key(self, origin: Origin, action: str) -> None:
        source = source_of(origin.address or "") or origin.address
        if source in self._sources:
            self._sources[source] += 1
        elif len(self._sources) >= MOST_SOURCES:
            self._sources[ELSEWHERE] += 1
        else:
            self._sources[source] = 0
            deed = Deed(Actor(ActorKind.KEY, None, origin=origin), action, outcome=AuditOutcome.REFUSED)
            await audit.record_together(self._gateway, [deed])

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Ends the window. What cannot be written is added to the next one."""
        sums, self._sources = self._sources, Counter()
        rows = [
            Deed(
                Actor(ActorKind.KEY, None, origin=Origin(address=source)),
                "key.wrong",
                outcome=AuditOutcome.REFUSED,
                count=number,
            )
            for source, number in sums.items()
            if number
        ]
        if not rows:
            return
        try:
            await audit.record_together(self._gateway, rows)
        except DATABASE_ERRORS as error:
            log.warning("wrong_keys_not_written", error=type(error).__name__)
            self._sources.update({source: number for source, number in sums.items() if number})


def origin_of(request: Request, acting_user: str | None = None) -> Origin:
    address = None if request.client is None else request.client.host
    return Origin(request.state.request_id, address, acting_user)


def _action(request: Request) -> str:
    operation = getattr(request.scope.get("route"), "operation_id", None) or "unknown"
    return ACTIONS.get(operation, operation)


def _subject(request: Request) -> tuple[SubjectKind | None, str | None]:
    """What the path names; an id only if it has the shape of one, and so holds nothing else."""
    for parameter, value in request.path_params.items():
        if parameter in SUBJECTS:
            kind, prefix = SUBJECTS[parameter]
            return kind, value if ids.is_id(prefix, value) else None
        if parameter == "vendor":
            return SubjectKind.VENDOR, value if value in VENDORS else None
    return None, None
