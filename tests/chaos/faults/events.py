"""What vendors send by themselves comes twice, late, in the wrong order, forged, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.chaos.experiment import Stage
from tests.chaos.faults.entry import fault


def _events(name: str, text: str, seconds: float = 8, **facts: Any) -> Callable[..., None]:
    def enter(**behaviour: Any) -> None:
        async def inject(stage: Stage) -> None:
            await stage.cluster.trouble(events=behaviour)
            await asyncio.sleep(seconds)
            done = (await stage.cluster.proxy_state())["done"]
            await stage.cluster.trouble()
            stage.notes.append(f"done {done}")
            stage.problems += [f"{times} {what}" for what, times in done.items() if what.startswith("forged_accepted")]
            if not done:
                stage.problems.append("the fault met no event")

        inject.__name__ = name
        fault(text, **{"seconds": seconds, "quiet": True, **facts})(inject)

    return enter


_events("events_twice", "events come three times, at the same moment")(mode="twice")
_events("events_late", "events come 5 s late")(mode="late", seconds=5)
_events("events_reversed", "events come out of order, the last first", mix=("SLOW", "ELIGIBLE", "INACTIVE"))(
    mode="reversed", seconds=2
)
_events("events_forged", "each event comes with three forged ones")(mode="forged")
_events("events_never", "no event comes")(mode="never")
