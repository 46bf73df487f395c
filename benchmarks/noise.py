"""Who else uses the machine while it is measured: CPU time of processes that are not ours, and what the hypervisor takes.

Linux only; elsewhere nothing is known and the page says so. A process is ours if it descends from this one or from the
PostgreSQL that was started here. The kernel's own threads are left out: most of what they do is done for us.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
KERNEL = 2
"""The parent of all kernel threads."""
EVERY_SECONDS = 2.0
QUIET = 0.1
"""Cores that others may use before a measurement is not to be trusted."""


@dataclass(frozen=True)
class Share:
    """Cores, as averages over `seconds`: 0.5 is half of one core. `who`: the busiest of the others, by name."""

    seconds: float
    others: float
    stolen: float
    who: str

    @property
    def noisy(self) -> bool:
        return self.others + self.stolen > QUIET


@dataclass(frozen=True)
class _Process:
    name: str
    parent: int
    own: int
    with_ended_children: int


@dataclass
class Watch:
    """A context manager: looks every two seconds, from a thread of its own, for as long as the block runs."""

    roots: set[int] = field(default_factory=lambda: {os.getpid()})
    shares: list[Share] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    """The load average of the minute before."""
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            if (share := observe(EVERY_SECONDS, self.roots, self._ended)) is not None:
                self.shares.append(share)

    @property
    def others(self) -> float:
        return _average(self.shares, [share.others for share in self.shares])

    @property
    def stolen(self) -> float:
        return _average(self.shares, [share.stolen for share in self.shares])

    @property
    def noisy_share(self) -> float:
        """The part of the time in which others used more than `QUIET`."""
        return _average(self.shares, [float(share.noisy) for share in self.shares])

    @property
    def worst(self) -> Share | None:
        return max(self.shares, key=lambda share: share.others + share.stolen, default=None)


def observe(seconds: float, roots: Iterable[int] = (), ended: threading.Event | None = None) -> Share | None:
    """None where the system does not tell."""
    if not (PROC / "stat").exists():
        (ended or threading.Event()).wait(seconds)
        return None
    roots = {os.getpid(), *roots}
    started, before, stolen = time.monotonic(), _others(roots), _stolen()
    (ended or threading.Event()).wait(seconds)
    after, passed = _others(roots), max(time.monotonic() - started, 0.01)
    # A child's time moves to its parent when it has ended, so that the sum over all of them only grows.
    used = sum(one.with_ended_children for one in after.values()) - sum(
        one.with_ended_children for one in before.values()
    )
    own = {pid: one.own - (before[pid].own if pid in before else 0) for pid, one in after.items()}
    busiest = max(own, key=lambda pid: own[pid], default=None)
    who = "" if busiest is None or not own[busiest] else f"{after[busiest].name} ({busiest})"
    return Share(passed, max(used, 0) / TICKS / passed, (_stolen() - stolen) / TICKS / passed, who)


def _average(shares: list[Share], values: list[float]) -> float:
    seconds = sum(share.seconds for share in shares)
    return sum(share.seconds * value for share, value in zip(shares, values, strict=True)) / seconds if seconds else 0.0


def _others(roots: set[int]) -> dict[int, _Process]:
    every = _processes()
    return {
        pid: one for pid, one in every.items() if not _descends(pid, every, roots) and KERNEL not in (pid, one.parent)
    }


def _descends(pid: int, every: dict[int, _Process], roots: set[int]) -> bool:
    while pid in every:
        if pid in roots:
            return True
        pid = every[pid].parent
    return False


def _processes() -> dict[int, _Process]:
    found = {}
    for directory in PROC.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            name, _, rest = (directory / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        values = rest.split()
        user, system, children_user, children_system = (int(value) for value in values[11:15])
        own = user + system
        found[int(directory.name)] = _Process(name, int(values[1]), own, own + children_user + children_system)
    return found


def _stolen() -> int:
    return int((PROC / "stat").read_text().split("\n", 1)[0].split()[8])
