"""Forks worker processes on demand. Importing the gateway takes seconds; a fork of a process that has done so does not.

One order per line on stdin, one JSON answer per line on stdout: `{"start": {environment}, "log": path}` answers the new
worker's pid, `{"poll": pid}` null while it lives, else its exit code, or minus the signal that ended it. At the end of
stdin all workers are killed.
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


def main() -> None:
    alive: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer: int | None = start(order["start"], order["log"])
            alive.add(answer)
        else:
            pid = order["poll"]
            if pid in alive:
                gone, status = os.waitpid(pid, os.WNOHANG)
                if gone:
                    alive.discard(pid)
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
