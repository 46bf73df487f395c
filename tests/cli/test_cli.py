"""The command as it is typed: a process with its own environment, its exit code, its stdout and its stderr."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import asyncpg
import pytest

from tests.support.commands import Commands, bare_environment

KEYS = "k1:" + base64.b64encode(bytes(range(32))).decode()

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(covergate: Commands, tmp_path: Path) -> Run:
    """Runs the command in an empty directory, with no COVERGATE_ variable but those given."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {f"COVERGATE_{name}": value for name, value in variables.items()}
        return covergate(*arguments, directory=tmp_path, environment=bare_environment() | given)

    return run


def test_it_says_its_version(run: Run) -> None:
    told = run("--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"covergate {version('covergate')}\n", "")


def test_a_key_is_made_alone_on_stdout_listed_and_revoked(run: Run, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEYS}
    made = run("keys", "create", "--tenant", "clinic", "--mode", "test", "--scope", "verifications:read", **settings)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"cg_test_\S{20,}\n", made.stdout)
    key = made.stdout.strip()

    listed = run("keys", "list", **settings)
    assert listed.returncode == 0
    key_id, tenant, mode, ending, state, _, scopes, *others = listed.stdout.strip().split("\t")
    assert (tenant, mode, ending, state, scopes) == ("clinic", "test", f"…{key[-4:]}", "valid", "verifications:read")
    assert others == ["–", "–", "–", "anywhere"]
    assert key not in listed.stdout

    assert run("keys", "revoke", key_id, **settings).returncode == 0
    assert "\trevoked\t" in run("keys", "list", "--tenant", "clinic", **settings).stdout
    again = run("keys", "revoke", key_id, **settings)
    assert (again.returncode, again.stdout) == (1, "")
    assert "no such key" in again.stderr


def test_a_key_has_a_name_an_end_and_addresses(run: Run, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEYS}
    of_key = (
        "--name",
        "Intake",
        "--expires",
        "2099-01-01",
        "--allow-from",
        "192.0.2.0/24",
        "--allow-from",
        "2001:db8::1",
    )
    made = run("keys", "create", "--tenant", "clinic", "--mode", "live", *of_key, **settings)
    assert made.returncode == 0, made.stderr
    *_, scopes, name, expires, used, addresses = run("keys", "list", **settings).stdout.strip().split("\t")
    assert scopes == "verifications:write verifications:read webhooks:manage"
    assert (name, expires, used, addresses) == ("Intake", "2099-01-01 00:00", "–", "192.0.2.0/24 2001:db8::1/128")
    for wrong in (("--expires", "yesterday"), ("--allow-from", "192.0.2.1/24")):
        refused = run("keys", "create", "--tenant", "clinic", "--mode", "live", *wrong, **settings)
        assert (refused.returncode, refused.stdout) == (2, "")


def test_revoking_a_key_lists_the_endpoints_that_it_made(run: Run, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEYS}
    run("keys", "create", "--tenant", "clinic", "--mode", "test", **settings)
    key_id, *_ = run("keys", "list", **settings).stdout.split("\t")

    async def make_endpoint() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed, made_by)"
            " SELECT 'whe_1', tenant_id, mode, 'https://a.example.com', '{*}', 'full', 'enabled', '', id FROM api_keys"
        )
        await connection.close()

    asyncio.run(make_endpoint())
    revoked = run("keys", "revoke", key_id, **settings)
    assert revoked.returncode == 0
    endpoint_id, status, payload, _, url = revoked.stdout.strip().split("\t")
    assert (endpoint_id, status, payload, url) == ("whe_1", "enabled", "full", "https://a.example.com")
    assert "go on receiving events" in _only_line(revoked.stderr)


def test_an_operator_is_made_alone_on_stdout_listed_and_revoked(run: Run, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEYS}
    made = run("operators", "create", "--name", "Night shift", "--role", "operations", "--role", "phi", **settings)
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"cg_op_\S{20,}\n", made.stdout)

    listed = run("operators", "list", **settings)
    operator_id, name, ending, state, roles, _, expires, used = listed.stdout.strip().split("\t")
    assert (name, ending, state) == ("Night shift", f"…{made.stdout.strip()[-4:]}", "valid")
    assert (roles, expires, used) == ("operations phi", "–", "–")

    assert run("operators", "revoke", operator_id, **settings).returncode == 0
    again = run("operators", "revoke", operator_id, **settings)
    assert (again.returncode, again.stdout) == (1, "") and "no such operator" in again.stderr
    wrong = run("operators", "create", "--name", "x", "--role", "everything", **settings)
    assert (wrong.returncode, wrong.stdout) == (2, "") and "operations, phi" in _only_line(wrong.stderr)


def test_an_unknown_scope_is_told_with_those_there_are(run: Run, database_url: str) -> None:
    made = run(
        *("keys", "create", "--tenant", "clinic", "--mode", "live", "--scope", "everything"),
        DATABASE_URL=database_url,
        ENCRYPTION_KEYS=KEYS,
    )
    assert (made.returncode, made.stdout) == (2, "")
    assert "verifications:read" in _only_line(made.stderr)


def test_migrate_prepares_a_database_and_may_be_repeated(run: Run, empty_database_url: str) -> None:
    settings = {"DATABASE_URL": empty_database_url, "ENCRYPTION_KEYS": KEYS}
    early = run("keys", "list", **settings)
    assert early.returncode == 2
    assert "run `covergate migrate`" in _only_line(early.stderr)
    for _ in range(2):
        migrated = run("migrate", **settings)
        assert (migrated.returncode, migrated.stdout) == (0, ""), migrated.stderr
    assert run("keys", "list", **settings).returncode == 0


def test_a_named_database_cannot_be_upgraded_as_the_embedded_one(run: Run) -> None:
    upgraded = run("migrate", "--upgrade-embedded", DATABASE_URL="postgresql://localhost/x", ENCRYPTION_KEYS=KEYS)
    assert upgraded.returncode == 2
    assert "COVERGATE_DATABASE_URL" in _only_line(upgraded.stderr)


@pytest.mark.parametrize("command", ["up", "serve", "sandbox"])
def test_a_port_in_use_is_one_line_before_anything_is_started(run: Run, command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        started = run(command, PORT=port, SANDBOX_PORT=port, DATA_DIR=str(tmp_path / "data"))
    assert started.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use" in _only_line(started.stderr)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PORT": "hunter2"}, "COVERGATE_PORT must be"),
        ({"HOST": "no.such.host.invalid"}, "COVERGATE_HOST"),
        ({"SOHAR_POLL_SECONDS": "hunter2"}, "COVERGATE_SOHAR_POLL_SECONDS"),
        (
            {"DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/x", "ENCRYPTION_KEYS": KEYS},
            "cannot use the database",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_that_never_shows_the_value(run: Run, variables: dict[str, str], told: str) -> None:
    started = run("serve", **{"PORT": "0"} | variables)
    assert started.returncode == 2
    assert told in _only_line(started.stderr)
    assert "hunter2" not in started.stderr


@pytest.mark.parametrize(
    "arguments",
    [["keys", "create", "--tenant", "x", "--mode", "both"], ["keys", "create"], ["nonsense"], ["up", "--what"]],
)
def test_a_wrong_command_line_ends_with_2(run: Run, arguments: list[str]) -> None:
    tried = run(*arguments)
    assert (tried.returncode, tried.stdout) == (2, "")
    assert "Traceback" not in tried.stderr


@pytest.mark.parametrize(
    ("content", "variables", "told"),
    [
        (None, {"API_KEY": "cg_test_x"}, "cannot be read"),
        ("{not json", {"API_KEY": "cg_test_x"}, "is not JSON"),
        ("{}", {}, "COVERGATE_API_KEY"),
        ("{}", {"API_KEY": "cg_test_x", "URL": "nonsense"}, "not an http(s) URL"),
        ("{}", {"API_KEY": "cg_test_x", "URL": "http://127.0.0.1:1"}, "is the gateway running?"),
    ],
)
def test_what_verify_cannot_even_send_ends_with_2(
    run: Run, tmp_path: Path, content: str | None, variables: dict[str, str], told: str
) -> None:
    if content is not None:
        (tmp_path / "verification.json").write_text(content)
    tried = run("verify", "verification.json", **variables)
    assert (tried.returncode, tried.stdout) == (2, "")
    assert told in _only_line(tried.stderr)


def _only_line(text: str) -> str:
    """The error without the log's lines; no traceback."""
    lines = [line for line in text.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, text
    assert lines[0].startswith("covergate: ")
    return lines[0]
