"""Tries a wheel as a stranger would: an empty environment, outside any checkout, every way to start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.contents import ROOT

UV = ROOT / ".venv" / "bin" / "uv"
EXAMPLE = ROOT / "examples" / "verification.json"
WAIT_SECONDS = 30


def install(wheel: Path, environment: Path) -> Path:
    """The command of the installed wheel; its dependencies are those of uv.lock."""
    _run(UV, "venv", "--quiet", environment)
    locked = environment / "locked.txt"
    _run(UV, "export", "--quiet", "--locked", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file", locked)
    _run(UV, "pip", "install", "--quiet", "--python", environment, "--constraint", locked, wheel)
    return environment / "bin" / "covergate"


def try_out(command: Path) -> None:
    """Raises if something does not do what it should."""
    # Directly below the system's: as root the embedded server runs as a user who enters no closed directory.
    with tempfile.TemporaryDirectory(prefix="cg") as data:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("COVERGATE_")}
        variables |= {"COVERGATE_DATA_DIR": data, "COVERGATE_PORT": "0", "COVERGATE_SANDBOX_PORT": "0"}
        variables |= {"COVERGATE_LOG_FORMAT": "json"}
        print(_run(command, "--version", env=variables, cwd=data).strip())
        _run(command, "migrate", env=variables, cwd=data)
        print("migrate: done")
        with _up(command, data, variables) as url:
            key = _run(command, "keys", "create", "--tenant", "trial", "--mode", "test", env=variables, cwd=data)
            print(f"up --sandbox: {_verify(url, key.strip())}")
    _run(command, "demo", cwd="/")
    print("demo: done")


@contextmanager
def _up(command: Path, data: str, variables: dict[str, str]) -> Iterator[str]:
    """The address of the gateway; it has to end with 0."""
    process = subprocess.Popen(
        [command, "up", "--sandbox"], cwd=data, env=variables, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stderr is not None
    try:
        events = (json.loads(line) for line in process.stderr)
        yield next(event["url"] for event in events if event["event"] == "ready")
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=WAIT_SECONDS)
        if process.returncode != 0:
            raise RuntimeError(f"covergate up ended with {process.returncode}: {rest}")
    finally:
        process.kill()


def _verify(url: str, key: str) -> str:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Prefer": f"wait={WAIT_SECONDS}"}
    request = urllib.request.Request(f"{url}/v1/verifications", EXAMPLE.read_bytes(), headers)
    with urllib.request.urlopen(request, timeout=2 * WAIT_SECONDS) as reply:
        verification: dict[str, Any] = json.load(reply)
    if verification["outcome"] != "eligible":
        raise RuntimeError(f"the verification is {verification['status']}, {verification['outcome']}")
    return f"{verification['vendor']} says {verification['outcome']}"


def _run(*command: str | Path, cwd: Path | str = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
