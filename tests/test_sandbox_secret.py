"""The sandbox's secret: random, the same for all processes on one data directory, and never a known one in the open."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covergate.errors import ConfigurationError
from covergate.sandbox_secret import SECRET_FILE, SHORTEST, refuse_known_secret, sandbox_secret
from covergate.settings import Settings
from tests.support.commands import Commands, bare_environment

RANDOM = "5f0c2c7d9a1e4b685f0c2c7d9a1e4b68"


def settings(data_dir: Path, **given: str) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, **given)  # type: ignore[arg-type]


def test_one_is_made_at_the_first_start_and_kept(data_dir: Path) -> None:
    data_dir = data_dir / "data"
    with ThreadPoolExecutor(8) as processes:
        found = set(processes.map(lambda _: sandbox_secret(settings(data_dir)), range(8)))
    assert len(found) == 1
    assert len(found.pop()) == 64
    assert stat.S_IMODE((data_dir / SECRET_FILE).stat().st_mode) == 0o600
    assert [path.name for path in data_dir.iterdir()] == [SECRET_FILE]
    assert sandbox_secret(settings(data_dir)) != sandbox_secret(settings(data_dir.with_name("other")))


def test_the_one_in_the_settings_is_used(tmp_path: Path) -> None:
    assert sandbox_secret(settings(tmp_path / "data", sandbox_secret=RANDOM)) == RANDOM
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", ["", "short\n", "\xff" * 40])
def test_a_file_without_a_secret_is_told(tmp_path: Path, content: str) -> None:
    data_dir = tmp_path / "data"
    sandbox_secret(settings(data_dir))
    (data_dir / SECRET_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=SECRET_FILE) as told:
        sandbox_secret(settings(data_dir))
    assert "\n" not in str(told.value) and "short" not in str(told.value)


def test_with_a_database_of_ones_own_it_has_to_be_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^COVERGATE_SANDBOX_SECRET must be set"):
        sandbox_secret(settings(tmp_path / "data", database_url="postgresql://u@h/d"))


@pytest.mark.parametrize("secret", ["sandbox", "", "x" * (SHORTEST - 1)], ids=["known", "empty", "short"])
def test_a_known_secret_is_for_this_machine_only(secret: str) -> None:
    for host, public_url in (("0.0.0.0", ""), ("::", ""), ("10.1.2.3", ""), ("127.0.0.1", "https://gateway.example")):
        with pytest.raises(ConfigurationError, match=r"^COVERGATE_SANDBOX_SECRET must be one that nobody knows"):
            refuse_known_secret(secret, host=host, public_url=public_url)
        refuse_known_secret(RANDOM, host=host, public_url=public_url)
    for host in ("127.0.0.1", "::1", "localhost"):
        refuse_known_secret(secret, host=host, public_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("command", [["up", "--sandbox"], ["serve"], ["sandbox"]], ids=lambda command: command[0])
@pytest.mark.parametrize("secret", ["sandbox", "shorter"])
def test_a_process_that_others_can_reach_does_not_start_with_a_known_secret(
    covergate: Commands, tmp_path: Path, command: list[str], secret: str
) -> None:
    environment = bare_environment() | {
        "COVERGATE_DATA_DIR": str(tmp_path / "data"),
        "COVERGATE_HOST": "0.0.0.0",
        "COVERGATE_PORT": "0",
        "COVERGATE_SANDBOX_HOST": "0.0.0.0",
        "COVERGATE_SANDBOX_PORT": "0",
        "COVERGATE_SANDBOX_URL": "http://127.0.0.1:9",
        "COVERGATE_SANDBOX_SECRET": secret,
    }
    ended = covergate(*command, directory=tmp_path, environment=environment)
    assert ended.returncode == 2
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("covergate: COVERGATE_SANDBOX_SECRET must be one that nobody knows")
    assert not (tmp_path / "data" / "postgres").exists()
