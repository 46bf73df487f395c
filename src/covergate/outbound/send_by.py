"""The moment past which a request must not leave any more, by two clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


class TooLate(Exception):
    """The request was not sent because its time to leave had passed."""


@dataclass(frozen=True, slots=True)
class SendBy:
    """Past when either clock has passed it.

    The loop's clock stands still while a virtual machine is paused, the wall clock may be set back: each sees what the
    other misses. A wall clock set forward only makes the request late, which is harmless.
    """

    loop_time: float
    wall_time: float
    wall_clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)

    @classmethod
    def within(cls, seconds: float, *, wall_clock: Callable[[], float] = time.time) -> SendBy:
        """`seconds` from now."""
        return cls(asyncio.get_running_loop().time() + seconds, wall_clock() + seconds, wall_clock)

    @classmethod
    def at_loop_time(cls, loop_time: float) -> SendBy:
        """Counts on both clocks from now on; a pause before this call goes unseen."""
        return cls.within(loop_time - asyncio.get_running_loop().time())

    @property
    def seconds_left(self) -> float:
        """Not above zero: too late."""
        by_loop = self.loop_time - asyncio.get_running_loop().time()
        by_wall = self.wall_time - self.wall_clock()
        return min(by_loop, by_wall)


def earliest(moments: Iterable[SendBy | None]) -> SendBy | None:
    """The moment by which all of them may leave together; None if any time will do."""
    return min(
        (moment for moment in moments if moment is not None), key=lambda moment: moment.seconds_left, default=None
    )
