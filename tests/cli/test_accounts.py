"""`covergate accounts`: credentials from a file or stdin; what is listed of them is their end."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Commands, bare_environment

KEYS = "k1:" + base64.b64encode(bytes(range(32))).decode()
SECRET = "a-long-secret-8c1f"
WHO = ("--tenant", "clinic", "--vendor", "sohar", "--mode", "test")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(covergate: Commands, tmp_path: Path, database_url: str) -> Run:
    settings = {"COVERGATE_DATABASE_URL": database_url, "COVERGATE_ENCRYPTION_KEYS": KEYS}

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return covergate(*arguments, directory=tmp_path, environment=bare_environment() | settings, input=input)

    assert run("keys", "create", "--tenant", "clinic", "--mode", "test").returncode == 0
    return run


def test_an_account_is_added_listed_and_removed(run: Run, tmp_path: Path) -> None:
    credentials = json.dumps({"client_id": "north", "client_secret": SECRET})
    added = run("accounts", "add", *WHO, "--file", "-", input=credentials)
    assert added.returncode == 0, added.stderr
    vendor, mode, environment, hint, fingerprint, state, tested, url = added.stdout.rstrip("\n").split("\t")
    assert (vendor, mode, environment, hint, state, tested) == ("sohar", "test", "sandbox", "8c1f", "untested", "")
    assert "/v1/vendor-events/sohar/acc_" in url
    (tmp_path / "credentials.json").write_text(credentials)
    assert run("accounts", "add", *WHO, "--file", "credentials.json").stdout == added.stdout
    listed = run("accounts", "list", "--tenant", "clinic")
    assert listed.stdout == added.stdout
    assert SECRET not in added.stdout + added.stderr + listed.stdout + listed.stderr
    assert fingerprint in listed.stdout
    assert run("accounts", "remove", *WHO).returncode == 0
    assert run("accounts", "list", "--tenant", "clinic").stdout == ""
    gone = run("accounts", "remove", *WHO)
    assert (gone.returncode, gone.stdout) == (2, "")


@pytest.mark.parametrize(
    "given", ["", "[]", "not json " + SECRET, '{"client_id": 1}', '{"nonsense": "' + SECRET + '"}']
)
def test_what_cannot_be_credentials_is_one_line_without_them(run: Run, given: str) -> None:
    told = run("accounts", "add", *WHO, "--file", "-", input=given)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.strip().splitlines()[-1].startswith("covergate: ")
    assert SECRET not in told.stderr and "Traceback" not in told.stderr


def test_without_a_terminal_it_asks_nothing(run: Run) -> None:
    told = run("accounts", "add", *WHO)
    assert told.returncode == 2 and "--file" in told.stderr


def test_an_unknown_tenant_is_told(run: Run) -> None:
    told = run("accounts", "list", "--tenant", "nobody")
    assert told.returncode == 2 and "no such tenant" in told.stderr
