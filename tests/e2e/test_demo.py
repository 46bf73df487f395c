"""`covergate demo` is what a newcomer sees first: it has to work, on its own, quickly, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

COVERGATE = Path(sys.executable).with_name("covergate")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty directory for temporary files; short, and open to the user that PostgreSQL runs as under root."""
    with tempfile.TemporaryDirectory(prefix="cg", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_the_demo_shows_every_vendor_and_leaves_nothing_behind(temporary: Path) -> None:
    # Variables that would spoil it if it read them.
    spoilt = {"COVERGATE_PORT": "1", "COVERGATE_INTEGREX_POLL_SECONDS": "900", "COVERGATE_SANDBOX_DELAY_SECONDS": "900"}
    began = time.monotonic()
    shown = subprocess.run(
        [COVERGATE, "demo"],
        cwd=temporary,
        env=os.environ | spoilt | {"TMPDIR": str(temporary), "COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert time.monotonic() - began < 60
    assert shown.stderr == ""
    for vendor in ("sohar", "integrex", "vsee", "healthie"):
        rows = [line for line in shown.stdout.splitlines() if line.startswith(f"{vendor} ")]
        assert len(rows) == 3
        assert all("verified" in row for row in rows)
        assert "eligible" in rows[0]
        assert "$30.00" in rows[0]
        assert "ineligible inactive" in rows[1]
        assert "member id invalid" in rows[2]
    assert list(temporary.iterdir()) == []
    assert [
        p.pid for p in psutil.process_iter(["cmdline"]) if str(temporary) in " ".join(p.info["cmdline"] or ())
    ] == []


def test_the_demo_stays_for_its_console(temporary: Path) -> None:
    with subprocess.Popen(
        [COVERGATE, "demo", "--stay"],
        cwd=temporary,
        env=os.environ | {"TMPDIR": str(temporary), "COLUMNS": "140", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        link = next(line.strip() for line in demo.stdout if "/console/enter#" in line)
        address, _, code = link.partition("#")
        with httpx.Client(follow_redirects=True) as client:
            page = client.post(address, data={"code": code})
            assert (page.status_code, "this machine" in page.text) == (200, True)
            assert client.post(address, data={"code": code}).status_code == 401
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    assert list(temporary.iterdir()) == []
