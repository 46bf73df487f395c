"""`covergate vendors status|hold|resume` and `covergate top`."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Commands, bare_environment

KEYS = "k1:" + base64.b64encode(bytes(range(32))).decode()

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(covergate: Commands, tmp_path: Path, database_url: str) -> Run:
    settings = {"COVERGATE_DATABASE_URL": database_url, "COVERGATE_ENCRYPTION_KEYS": KEYS}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return covergate(*arguments, directory=tmp_path, environment=bare_environment() | settings)

    return run


def status(run: Run, *arguments: str) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    told = run("vendors", "status", "--json", *arguments)
    return told.returncode, {(row["vendor"], row["mode"]): row for row in json.loads(told.stdout)}


def test_held_shown_and_resumed(run: Run) -> None:
    code, shown = status(run)
    assert code == 0 and {row["state"] for row in shown.values()} == {"ok"} and len(shown) == 10
    held = run("vendors", "hold", "sohar", "--mode", "live", "--reason", "their window", "--until", "4h")
    assert (held.returncode, held.stdout) == (0, ""), held.stderr
    code, shown = status(run, "--mode", "live")
    assert (code, len(shown), shown["sohar", "live"]["state"]) == (1, 5, "held")
    assert shown["sohar", "live"]["why"].startswith("their window; until 20")
    assert status(run, "--mode", "test")[0] == 0
    lines = run("vendors", "status", "--mode", "live").stdout.splitlines()
    assert [line.split("\t")[:3] for line in lines if "held" in line] == [["sohar", "live", "held"]]
    assert [run("vendors", "resume", "sohar").returncode for _ in range(2)] == [0, 1]
    assert status(run)[0] == 0
    audited = run("audit", "list").stdout
    assert "vendor.hold" in audited and "vendor.resume" in audited


@pytest.mark.parametrize(
    "arguments",
    [
        ("hold", "nobody"),
        ("resume", "nobody"),
        ("hold", "sohar", "--mode", "both"),
        ("hold", "sohar", "--until", "yesterday"),
        ("hold", "sohar", "--until", "2020-01-01"),
        ("hold", "sohar", "--until", "91d"),
        ("status", "--mode", "prod"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    told = run("vendors", *arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.strip().splitlines()[-1].startswith("covergate: ")


def test_one_picture(run: Run) -> None:
    told = run("top", "--once", "--json")
    assert told.returncode == 0, told.stderr
    shown = json.loads(told.stdout)
    assert (shown["workers"], shown["open"], shown["oldest"], len(shown["vendors"])) == (0, None, [], 10)
    drawn = run("top", "--once", "--mode", "live")
    assert drawn.returncode == 0 and "NO WORKER" in drawn.stdout and "health_harbor" in drawn.stdout
    assert run("top", "--mode", "prod").returncode == 2


def test_help_has_examples(run: Run) -> None:
    for command in (("vendors", "status"), ("vendors", "hold"), ("vendors", "resume"), ("top",)):
        assert "Example: covergate" in run(*command, "--help").stdout
