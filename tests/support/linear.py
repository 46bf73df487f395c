"""Measures that a reading takes time in proportion to what is read: twice as much takes at most 2.6 times as long.

Measured is CPU time of this thread over two doublings. What looks slow is measured again, the best of several runs, so that a
busy machine changes little. What stays below some milliseconds at the largest size was refused, or harms nobody.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

MOST_GROWTH = 2.6
LEAST_SECONDS = 0.005
FACTORS = (1, 2, 4)
RUNS = (1, 3, 5, 9)
"""How often each size is measured, in the first look and in those that follow if it looked slow."""
LARGER = 4
CERTAIN_SECONDS = 0.5
"""What grows but is quicker is measured once more at larger sizes: from some size on fresh memory costs more, once."""

TEXTS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n,
    "blanks": lambda n: " " * n,
    "blanks and a letter": lambda n: "a" + " " * n + "a",
    "commas": lambda n: "," * n,
    "semicolons": lambda n: ";" * n,
    "quotes": lambda n: '"' * n,
    "escaped quotes": lambda n: '"' + '\\"' * (n // 2),
    "escaped quotes, then a backslash": lambda n: '"' + '\\"' * (n // 2) + "\\",
    "backslashes": lambda n: "\\" * n,
    "zeros": lambda n: "wait=" + "0" * n + "x",
    "digits": lambda n: "9" * n,
    "equals signs": lambda n: "=" * n,
    "dashes": lambda n: "00-" + "a" * 32 + "-" + "b" * 16 + "-01" + "-" * n + "\x7f",
    "dots": lambda n: "1." * (n // 2),
    "colons": lambda n: ":" * n,
    "signatures": lambda n: "v1,AAAA " * (n // 8),
    "keys": lambda n: "Bearer cg_test_" + "x" * n,
    "percent signs": lambda n: "%41" * (n // 3),
}


def grows(times: list[float]) -> bool:
    return times[-1] > LEAST_SECONDS and times[-1] > MOST_GROWTH ** (len(times) - 1) * times[0]


def check_linear(run: Callable[[int], Callable[[], object]], size: int) -> None:
    """`run` prepares for a size; what it returns is measured."""
    times: list[float] = []
    for runs in RUNS:
        times = [best_of(run(size * factor), runs) for factor in FACTORS]
        if not grows(times):
            return
    if times[-1] < CERTAIN_SECONDS:
        times = [best_of(run(size * factor * LARGER), RUNS[-1]) for factor in FACTORS]
        if not grows(times):
            return
    pytest.fail(f"twice as much takes more than {MOST_GROWTH} times as long: {times}")


def best_of(call: Callable[[], object], runs: int) -> float:
    best = float("inf")
    with no_garbage():
        for _ in range(runs):
            started = time.thread_time()
            call()
            best = min(best, time.thread_time() - started)
    return best


@contextmanager
def no_garbage() -> Iterator[None]:
    """No collection falls into what is measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
