"""Forks worker processes on demand. Importing the gateway takes seconds; a fork of a process that has done so does not.

One order per line on stdin, one JSON answer per line on stdout: `{"start": {environment}, "log": path}` answers the new
worker's pid, `{"poll": pid}` null while it lives, else its exit code, or minus the signal that ended it. At the end of
stdin, and for `{"kill": "all"}`, all workers are killed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

from covergate import cli, faults, processes, startup

IMPORTED = (processes, startup)
"""What the command itself imports only when it is needed."""


def start(environment: dict[str, str], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.environ.update(environment)
        importlib.reload(faults)  # it reads the environment when it is imported
        with Path(os.devnull).open() as nothing, Path(log).open("a") as out:
            os.dup2(nothing.fileno(), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        sys.argv = ["covergate", "worker"]
        cli.main()
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


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
    alive: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None = None
        if "start" in order:
            answer = start(order["start"], order["log"])
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
