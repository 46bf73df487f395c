"""Idempotency keys of bulk jobs: the same order under the same key makes one job, for as long as a create's key is kept.

A key is of its tenant and mode, an operator's of the operator. A refused order uses no key up.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access.caller import Caller
from covergate.db.kept import Kept
from covergate.db.sealing import GATEWAY
from covergate.db.sql import Query
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.verifications.bulk_jobs import BulkOrder, make_job, read_job, stored_filters
from covergate.verifications.create import FORGOTTEN, IDEMPOTENCY_KEPT, key_reused

KEPT = (Kept("bulk_job_keys", "as long as a client may repeat an order", IDEMPOTENCY_KEPT),)

_USE = Query(f"""
INSERT INTO bulk_job_keys (asked_by, mode, key, owner, fingerprint, fingerprint_key_id, job_id)
VALUES (:asked_by, :mode, :key, :owner, :fingerprint, :key_id, :job_id)
ON CONFLICT (asked_by, mode, key) DO UPDATE
  SET owner = excluded.owner, fingerprint = excluded.fingerprint, fingerprint_key_id = excluded.fingerprint_key_id,
      job_id = excluded.job_id, created_at = clock_timestamp()
  WHERE bulk_job_keys.created_at < clock_timestamp() - interval '{IDEMPOTENCY_KEPT}'
RETURNING job_id""")
_USED = Query(f"""
SELECT job_id, fingerprint FROM bulk_job_keys WHERE asked_by = :asked_by AND mode = :mode AND key = :key
  AND created_at >= clock_timestamp() - interval '{IDEMPOTENCY_KEPT}'""")


class _Used(Exception):
    """Somebody else used the key at the same time."""


async def make_job_once(
    gateway: Gateway, caller: Caller, order: BulkOrder, *, dry_run: bool, key: str | None
) -> tuple[dict[str, Any], bool]:
    """The job, and whether the key had made it before. Raises Problem as `make_job` does, and `idempotency_key_reused`."""
    if key is None:
        return await make_job(gateway, caller, order, dry_run=dry_run), False
    owner, body = caller.within_tenant or GATEWAY, _body(caller, order, dry_run)
    await gateway.meet(owner)
    named = {"asked_by": caller.operator_id or caller.tenant_id, "mode": caller.within_mode or "", "key": key}
    if (before := await _made_before(gateway, caller, named, body)) is not None:
        return before, True
    sealer = gateway.sealer
    values = {
        **named,
        "owner": owner,
        "fingerprint": sealer.digest(owner, "idempotency", body),
        "key_id": sealer.current_key(owner).id,
    }
    try:
        return await make_job(gateway, caller, order, dry_run=dry_run, claim=partial(_use, values)), False
    except _Used:
        before = await _made_before(gateway, caller, named, body)
    if before is None:
        raise Problem("unavailable", "the idempotency key is being removed; send the request again", retry_after=1)
    return before, True


async def _use(values: dict[str, Any], db: AsyncConnection, job_id: str) -> None:
    if await _USE.scalar(db, {**values, "job_id": job_id}) is None:
        raise _Used


async def _made_before(gateway: Gateway, caller: Caller, named: dict[str, Any], body: str) -> dict[str, Any] | None:
    async with gateway.connection() as db:
        row = await _USED.one(db, named)
    if row is None:
        return None
    owner = caller.within_tenant or GATEWAY
    if row.fingerprint not in (FORGOTTEN, *gateway.sealer.digests(owner, "idempotency", body)):
        raise key_reused()
    return await read_job(gateway, caller, row.job_id)


def _body(caller: Caller, order: BulkOrder, dry_run: bool) -> str:
    """The order in one form."""
    body = {
        "within": [caller.within_tenant, caller.within_mode],
        "action": order.action,
        "filter": stored_filters(order.filters),
        "corrections": dict(order.corrections),
        "resolution": order.resolution,
        "again": order.again,
        "dry_run": dry_run,
    }
    # By Python's own JSON: whatever came as JSON can be told from other JSON, also if no request can hold it.
    return json.dumps(body, sort_keys=True)
