"""Processes of a measurement: started on a free port, awaited, their CPU time and memory read, ended by their id."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

START_SECONDS = 30.0
STOP_SECONDS = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(process: psutil.Process) -> float:
    """Of the process and everything under it, ended children included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_megabytes(pid: int) -> float:
    """The most memory the process ever held; where the system does not tell (not Linux), what it holds now."""
    status = Path(f"/proc/{pid}/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1]) / 1024
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def private_megabytes(process: psutil.Process) -> float:
    """What it holds now and shares with nobody."""
    try:
        held = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return float(held.rss - getattr(held, "shared", 0)) / 2**20


def flushes(directory: Path, seconds: float) -> list[float]:
    """Seconds of each flush of 8 kB to the disk, fifty a second, with nothing else to do: no commit is faster."""
    taken, until = list[float](), time.monotonic() + seconds
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        while time.monotonic() < until:
            os.pwrite(file.fileno(), bytes(8192), 8192 * (len(taken) % 2000))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
            time.sleep(0.02)
    return taken


@dataclass
class Child:
    """One process of ours; its log goes to `<name>.log`. A context manager: it runs inside the block."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    port: int | None = None

    def __enter__(self) -> Child:
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self._popen = subprocess.Popen(
                list(self.command), env={**os.environ, **self.environment}, stdout=log, stderr=log, cwd=self.directory
            )
        if self.port is not None:
            self._await_port(self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._popen.pid)

    def _await_port(self, port: int) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._popen.poll() is not None:
                raise RuntimeError(f"{self.name} ended: see {self.directory / self.name}.log")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not listen: see {self.directory / self.name}.log")


def module(name: str, *arguments: str) -> list[str]:
    """The command for one of the benchmark's own programs."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def environment() -> dict[str, str]:
    """For our own programs, which run in the scratch directory."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))}
