"""Vendors fail, hang, cut, talk nonsense; one payer of a vendor hangs."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

from tests.chaos.experiment import Stage
from tests.chaos.faults.entry import fault
from tests.chaos.ledger import partner_lines

HUNG_PAYER = {"id": "87726", "name": "UnitedHealthcare"}
HUNG, HUNG_ON_THE_LINE = 150, 20
"""Verifications for it, of which a payer's share of the lane is on the line at once."""
OTHERS = 60
OTHERS_SECONDS = 5.0
"""The longest that a hanging payer may keep the others of its vendor, from acceptance to webhook."""


def _vendor(name: str, text: str, seconds: float = 8, **facts: Any) -> Callable[..., None]:
    def enter(**behaviour: Any) -> None:
        async def inject(stage: Stage) -> None:
            await stage.cluster.trouble(vendor=behaviour)
            await asyncio.sleep(seconds)
            done = (await stage.cluster.proxy_state())["done"]
            await stage.cluster.trouble()
            stage.notes.append(f"done {done}")
            if not done:
                stage.problems.append("the fault met no call")

        inject.__name__ = name
        fault(text, **{"seconds": seconds, **facts})(inject)

    return enter


_vendor("vendors_500", "vendors answer 500, the work undone")(mode="status", status=500, share=70)
_vendor("vendors_500_after_work", "vendors answer 500, the work done")(
    mode="status", status=500, share=70, after_work=True
)
_vendor("vendors_429", "vendors answer 429 without Retry-After")(mode="status", status=429, share=70)
_vendor("vendors_429_retry_after", "vendors answer 429 with Retry-After: 3")(
    mode="status", status=429, share=70, headers={"Retry-After": "3"}
)
_vendor("vendors_hang", "vendors hang for 35 s, then cut the connection", seconds=35)(mode="hang", share=70)
_vendor("vendors_cut", "vendors cut the connection in the middle of a reply")(mode="cut", share=60)
_vendor("vendors_garbage", "vendors reply garbage with a 200")(mode="garbage", share=40)
_vendor("tokens_expire", "vendors refuse a token after sixty calls", quiet=True)(mode="expire", uses=60)
_vendor("events_overtake", "events come before the answer to their submission", quiet=True)(
    mode="hold_submissions", seconds=2
)


@fault(
    "one payer of a vendor hangs, with more due for it than the vendor's lane holds",
    vendors=("integrex",),
    prepares=True,
)
async def payer_hangs(stage: Stage) -> None:
    """How long the vendor's other payers take meanwhile is measured."""
    cluster = stage.cluster
    await cluster.trouble(vendor={"mode": "hang", "containing": HUNG_PAYER["id"]})
    hung = asyncio.create_task(stage.clients.post_fresh(HUNG, HUNG_PAYER))
    await stage.until_on_the_line(HUNG_ON_THE_LINE)
    others = []
    for _ in stage.turns(OTHERS):
        others.append(asyncio.create_task(stage.clients.post_fresh(1)))
        await asyncio.sleep(0.1)
    await hung
    ids = {asked.id: asked.accepted_at for [asked] in await asyncio.gather(*others)}
    await asyncio.sleep(OTHERS_SECONDS)
    told = {line["verification"]: line["at"] for line in partner_lines(cluster) if line["path"] == stage.path()}
    await cluster.trouble()
    seconds = sorted(told.get(id_, float("inf")) - at for id_, at in ids.items())
    stage.notes.append(f"the others took p50 {statistics.median(seconds):.1f} s, max {seconds[-1]:.1f} s")
    if seconds[-1] > OTHERS_SECONDS:
        stage.problems.append(f"a payer that hangs cost another one {seconds[-1]:.1f} s")
