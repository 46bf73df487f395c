"""What a process does once it is up, whichever kind it is."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack

import pytest

from covergate import processes
from covergate.gateway import Gateway


async def test_a_process_that_is_up_leaves_what_it_has_loaded_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[bool] = []
    monkeypatch.setattr(processes, "collect_seldom", lambda: settled.append(True))
    async with AsyncExitStack() as stack:
        await processes.start_gateway(stack, gateway, None, worker=False)
    assert settled == [True]


def test_loaded_modules_are_looked_through_for_garbage_no_more() -> None:
    script = """
import gc
from covergate.processes import OBJECTS_BETWEEN_LOOKS, collect_seldom
collect_seldom()
print(gc.get_freeze_count() > 100_000, gc.get_threshold()[0] == OBJECTS_BETWEEN_LOOKS)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.stdout == "True True\n"
