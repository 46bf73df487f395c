"""`covergate up --sandbox` as a newcomer runs it: one process, asked over HTTP and through `covergate verify`, then ended."""

from __future__ import annotations

import hashlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest

from tests.support.commands import Commands, bare_environment

COVERGATE = Path(sys.executable).with_name("covergate")
EXAMPLE = Path(__file__).parents[2] / "examples" / "verification.json"


@dataclass
class Up:
    process: subprocess.Popen[str]
    url: str
    worker_url: str
    key: str
    environment: dict[str, str]
    log: queue.Queue[str]
    directory: Path
    covergate: Commands

    def verify(self, **patient: str) -> subprocess.CompletedProcess[str]:
        body = json.loads(EXAMPLE.read_text())
        body["patient"] |= patient
        return self.run("verify", "-", "--url", self.url, input=json.dumps(body), COVERGATE_API_KEY=self.key)

    def run(self, *arguments: str, input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command, on the same data."""
        return self.covergate(
            *arguments, directory=self.directory, environment=self.environment | environment, input=input
        )


@pytest.fixture
def up(covergate: Commands, data_dir: Path, tmp_path: Path) -> Iterator[Up]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        worker_port = free.getsockname()[1]
    environment = bare_environment() | {
        "COVERGATE_DATA_DIR": str(data_dir),
        "COVERGATE_PORT": "0",
        "COVERGATE_SANDBOX_PORT": "0",
        "COVERGATE_WORKER_PORT": str(worker_port),
    }
    environment |= {"COVERGATE_SANDBOX_DELAY_SECONDS": "0.2", "COLUMNS": "120"}
    process = subprocess.Popen(
        [COVERGATE, "up", "--sandbox"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    log: queue.Queue[str] = queue.Queue()
    assert process.stderr is not None
    reader = threading.Thread(target=_pass_on, args=(process.stderr, log))
    reader.start()
    try:
        url = _line(log, "ready")["url"]
        started = Up(process, url, f"http://127.0.0.1:{worker_port}", "", environment, log, tmp_path, covergate)
        made = started.run("keys", "create", "--tenant", "demo", "--mode", "test")
        assert made.returncode == 0, made.stderr
        started.key = made.stdout.strip()
        yield started
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
        # Had the test failed, the embedded server would still be there.
        for left in _using(data_dir):
            left.kill()


def test_it_answers_and_ends_with_nothing_left_running(up: Up, data_dir: Path) -> None:
    assert httpx.get(f"{up.url}/healthz").status_code == 200
    assert httpx.get(f"{up.url}/docs").status_code == 200
    known = hashlib.sha256(b"sandbox:vsee").hexdigest()
    assert httpx.post(f"{up.url}/v1/vendor-events/vsee?token={known}", json={}).status_code == 401

    eligible = up.verify()
    assert eligible.returncode == 0, eligible.stderr
    assert "eligible" in eligible.stdout
    assert "copay $30.00" in eligible.stdout

    readiness = httpx.get(f"{up.worker_url}/readyz")
    assert (readiness.status_code, set(readiness.json()["checks"].values())) == (200, {"ok"})
    assert "covergate_workers 1.0" in httpx.get(f"{up.worker_url}/metrics").text

    refused = up.verify(member_id="BADMEMBER001")
    assert refused.returncode == 1, refused.stderr
    assert "member_id_invalid" in refused.stdout

    rejected = up.verify(date_of_birth="2190-01-01")
    assert (rejected.returncode, rejected.stdout) == (2, "")
    assert "/patient/date_of_birth" in rejected.stderr

    # One that waits for an end which does not come is answered when the process is told to stop.
    body = json.loads(EXAMPLE.read_text())
    body["patient"]["member_id"] = "NEVER001"
    headers = {"Authorization": f"Bearer {up.key}", "Prefer": "wait=60"}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(httpx.post, f"{up.url}/v1/verifications", json=body, headers=headers, timeout=60)
        _wait_until_in_progress(up, headers)
        told = time.monotonic()
        up.process.send_signal(signal.SIGTERM)
        assert waiting.result().status_code == 202
        assert up.process.wait(30) == 0
    assert time.monotonic() - told < 30
    assert _line(up.log, "stopped")
    assert _using(data_dir) == []


def test_its_database_is_started_again_when_it_is_killed(up: Up, data_dir: Path) -> None:
    killed = _postmaster(data_dir)
    psutil.Process(killed).kill()
    until = time.monotonic() + 10
    while _postmaster(data_dir) in (None, killed) or httpx.get(f"{up.url}/readyz").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert up.verify().returncode == 0
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    assert _using(data_dir) == []


def _postmaster(data_dir: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    return None


def test_a_second_signal_ends_it_at_once_and_its_database_is_found_again(up: Up, data_dir: Path) -> None:
    url = httpx.URL(up.url)
    with socket.create_connection((url.host, url.port or 0)) as slow:
        # A request whose body never comes keeps the server draining.
        head = f"POST /v1/verifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {up.key}\r\nContent-Length: 9\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 100")
        up.process.send_signal(signal.SIGTERM)
        _line(up.log, "stopping")
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(10) == 128 + signal.SIGTERM
    listed = up.run("keys", "list")
    assert listed.returncode == 0, listed.stderr
    assert up.key[-4:] in listed.stdout
    assert _using(data_dir) == []


def _pass_on(lines: IO[str], log: queue.Queue[str]) -> None:
    for line in lines:
        log.put(line)


def _line(log: queue.Queue[str], event: str) -> dict[str, Any]:
    """The next log line of that event, at most 60 seconds away."""
    seen = []
    deadline = time.monotonic() + 60
    while True:
        try:
            seen.append(log.get(timeout=max(deadline - time.monotonic(), 0)))
        except queue.Empty:
            raise AssertionError(f"no {event}: {seen}") from None
        assert seen[-1].startswith("{"), seen
        line: dict[str, Any] = json.loads(seen[-1])
        if line["event"] == event:
            return line


def _wait_until_in_progress(up: Up, headers: dict[str, str]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = httpx.get(f"{up.url}/v1/verifications", params={"status": "in_progress"}, headers=headers).json()
        if found["data"]:
            return
        time.sleep(0.1)
    raise AssertionError("the verification was not begun")


def _using(directory: Path) -> list[psutil.Process]:
    """Processes whose command line names the directory, such as its PostgreSQL."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(p.info["cmdline"] or ())]
