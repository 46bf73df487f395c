"""Forks `covergate` processes on demand. Importing the gateway takes seconds; a fork of a process that has done so does not.

One order per line on stdin, one JSON answer per line on stdout: `{"arguments", "environment", "directory", "stdin", "stdout",
"stderr"}`, the last three of them files, answers the new process's pid, `{"poll": pid}` null while it lives, else its exit
code, or minus the signal that ended it. At the end of stdin, and for `{"kill": "all"}`, all processes are killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer._adapters
from anyio._backends import _asyncio

from covergate import crash_points, logs, processes, reseal, startup
from covergate.access import tenants
from covergate.cli import verify
from covergate.cli.main import main as run_command
from covergate.payers import candidates, sync

IMPORTED = (processes, startup, verify, candidates, sync, reseal, tenants, typer._adapters, _asyncio)
"""What the command itself imports only when it is needed."""


def start(order: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _command(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        logs.drain()
        os._exit(code)


def _command(order: Mapping[str, Any]) -> int:
    """As the script `covergate` would run; its exit code."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "a"), ("stderr", "a"))):
        with Path(order[name]).open(mode) as file:
            os.dup2(file.fileno(), number)
    sys.stdin = os.fdopen(0)  # the old one may have read ahead
    sys.argv = ["covergate", *order["arguments"]]
    importlib.reload(crash_points)  # it reads the environment when it is imported
    try:
        run_command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def poll(pid: int, alive: set[int], ended: dict[int, int], options: int = os.WNOHANG) -> int | None:
    if pid in alive:
        gone, status = os.waitpid(pid, options)
        if gone:
            alive.discard(pid)
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended.get(pid)


def kill_all(alive: set[int], ended: dict[int, int]) -> None:
    for pid in sorted(alive):
        os.kill(pid, signal.SIGKILL)
        poll(pid, alive, ended, 0)


def main() -> None:
    gc.collect()
    gc.freeze()  # else each process that collects has a copy of every page made for it
    alive: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None = None
        if "arguments" in order:
            answer = start(order)
            alive.add(answer)
        elif "poll" in order:
            answer = poll(order["poll"], alive, ended)
        else:
            kill_all(alive, ended)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    kill_all(alive, ended)


if __name__ == "__main__":
    main()
