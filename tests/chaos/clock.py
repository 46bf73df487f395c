"""Moving the clock: what would be due within so many minutes is due now. Rows are rewound; no process is told.

What rests with a circuit is left to it: a rest is a matter of seconds. The look-up of a submission whose reply was lost is
moved only where no call can be under way any more: looking while one is would be a mistake of the test, not of the gateway.
"""

from __future__ import annotations

from tests.chaos.cluster import Cluster
from tests.support.due import NEAR, Due

SEND_WITHIN_SECONDS = 6
"""An intent older than this was sent, or never will be (the engine's own limit is five)."""

_VERIFICATIONS = f"""
UPDATE verifications v SET next_check_at = clock_timestamp() - interval '20 seconds'
WHERE status IN ('queued', 'in_progress') AND NOT {NEAR} AND waiting_for IN ('vendor', 'vendor_retry', 'rate_limit')
  AND next_check_at BETWEEN clock_timestamp() + interval '2 seconds' AND clock_timestamp() + make_interval(mins => $1)"""
_LOOK_UPS = f"""
UPDATE attempts a SET lookup_after = clock_timestamp() FROM verifications v
WHERE v.attempt_id = a.id AND NOT {NEAR} AND a.intent_at < $2
  AND a.lookup_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)"""
_DELIVERIES = """
UPDATE deliveries SET next_attempt_at = clock_timestamp() - interval '60 seconds'
WHERE status = 'pending' AND next_attempt_at BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)"""
_DEADLINES = """
UPDATE verifications SET deadline = clock_timestamp() + interval '2 seconds',
                         next_check_at = clock_timestamp() + interval '2 seconds'
WHERE tenant_id = $1 AND status IN ('queued', 'in_progress') AND deadline > clock_timestamp() + interval '2 seconds'"""


async def move(cluster: Cluster, minutes: int) -> None:
    before = await cluster.scalar(f"SELECT clock_timestamp() - interval '{SEND_WITHIN_SECONDS} seconds'")
    if (await cluster.proxy_state())["in_flight"] == 0:
        await cluster.rows(_LOOK_UPS, minutes, before)
    await cluster.rows(_VERIFICATIONS, minutes)
    await move_deliveries(cluster, minutes)


async def move_deliveries(cluster: Cluster, minutes: int) -> None:
    await cluster.rows(_DELIVERIES, minutes)
    await Due(cluster.rows).hasten_within(minutes, late=True)


async def bring_deadlines(cluster: Cluster, tenant_id: str) -> None:
    """The day on which the verifications of this tenant were due has come."""
    await cluster.rows(_DEADLINES, tenant_id)


async def miss_heartbeats(cluster: Cluster) -> None:
    """All jobs under way look abandoned: they are taken up again, those of the living too."""
    await Due(cluster.rows).lose_heartbeats()
