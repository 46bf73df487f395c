"""Moving the clock: what would be due within so many minutes is due now. Rows are rewound; no process is told.

What rests with a circuit is left to it: a rest is a matter of seconds. The look-up of a submission whose reply was lost is
moved only where no call can be under way any more, and no reply in hand: looking while one is would be a mistake of the test,
not of the gateway.
"""

from __future__ import annotations

from tests.chaos import books
from tests.chaos.cluster import Cluster

WRITTEN_SECONDS = 5
"""A reply that came so long ago is on disk: no fault is at work when the clock is moved."""
SEND_WITHIN_SECONDS = 6
"""An intent older than this was sent, or never will be (the engine's own limit is five)."""


async def move(cluster: Cluster, minutes: int) -> None:
    line = await cluster.proxy_state()
    if line["in_flight"] == 0 and line["quiet_for"] > WRITTEN_SECONDS:
        await books.hasten_look_ups(cluster, minutes, sent_within_seconds=SEND_WITHIN_SECONDS)
        await books.end_leases(cluster)
    await books.hasten_steps(cluster, minutes)
    await books.hasten_deliveries(cluster, minutes)
