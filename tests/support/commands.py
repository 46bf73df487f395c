"""`covergate` as it is typed: a process with its own environment, its exit code, its stdout and its stderr.

The process comes from `nursery.py`, so that it need not import everything again; that the installed script starts is shown by
tests/e2e/test_up.py and tests/e2e/test_demo.py.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NURSERY = Path(__file__).with_name("nursery.py")
SECONDS = 60


def bare_environment() -> dict[str, str]:
    """With no COVERGATE_ variable of whoever runs this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERGATE_")}


class Commands:
    """Runs `covergate` with these arguments to its end."""

    def __init__(self, nursery: subprocess.Popen[str], directory: Path) -> None:
        self._nursery = nursery
        self._directory = directory
        self._numbers = itertools.count()

    def __call__(
        self, *arguments: str, directory: Path, environment: Mapping[str, str], input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        number = next(self._numbers)
        files = {name: self._directory / f"{number}.{name}" for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(input)
        order = {"arguments": arguments, "environment": dict(environment), "directory": str(directory)}
        pid = self._ask(order | {name: str(path) for name, path in files.items()})
        ends = time.monotonic() + SECONDS
        while (code := self._ask({"poll": pid})) is None:
            if time.monotonic() > ends:
                self._ask({"kill": "all"})
                raise AssertionError(f"{arguments}: not within {SECONDS} s; {files['stderr'].read_text()}")
            time.sleep(0.01)
        return subprocess.CompletedProcess(arguments, code, files["stdout"].read_text(), files["stderr"].read_text())

    def _ask(self, order: Mapping[str, Any]) -> Any:
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        return json.loads(self._nursery.stdout.readline())


@contextmanager
def running_nursery() -> Iterator[Commands]:
    with (
        tempfile.TemporaryDirectory(prefix="cg") as directory,
        subprocess.Popen(
            [sys.executable, NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
            env=bare_environment(),
        ) as nursery,
    ):
        yield Commands(nursery, Path(directory))
