from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from covergate import settings
from covergate.db.connect import unverified_hosts
from covergate.db.database import Database
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway, connections_of
from covergate.startup import opened, warn_of_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.env` but the test's own."""
    for name in [name for name in os.environ if name.startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    loaded = settings.load()
    assert loaded.database_url is None
    assert loaded.data_dir.is_absolute()
    assert loaded.allow_private_network is False
    assert loaded.sandbox_url is None


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("COVERGATE_PORT=9001\nCOVERGATE_HOST=0.0.0.0\nCOVERGATE_SOHAR_CLIENT_ID=other\n")
    monkeypatch.setenv("COVERGATE_PORT", "9002")
    loaded = settings.load()
    assert (loaded.host, loaded.port) == ("0.0.0.0", 9002)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_DATABASE_URL", "")
    monkeypatch.setenv("COVERGATE_PORT", "")
    assert settings.load().database_url is None
    assert settings.load().port == 8000


def test_values_are_brought_to_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_PUBLIC_URL", "https://gateway.example/")
    monkeypatch.setenv("COVERGATE_LOG_LEVEL", "INFO")
    monkeypatch.setenv("COVERGATE_DATA_DIR", "~/covergate")
    loaded = settings.load()
    assert loaded.public_url == "https://gateway.example"
    assert loaded.log_level == "info"
    assert loaded.data_dir == Path.home() / "covergate"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PORT", SECRET, "a port number"),
        ("PORT", "70000", "a port number"),
        ("LOG_FORMAT", SECRET, "json"),
        ("DATABASE_URL", f"mysql://user:{SECRET}@host/db", "postgresql://"),
        ("DATABASE_URL", SECRET, "postgresql://"),
        ("PUBLIC_URL", f"ftp://{SECRET}", "http"),
        ("PUBLIC_URL", f"http://[{SECRET}", "http"),
        ("SANDBOX_URL", SECRET, "http"),
        ("ALLOW_PRIVATE_NETWORK", SECRET, "true or false"),
        ("WORKER_TASKS", "0", "1 or more"),
    ],
)
def test_the_error_names_the_variable_and_never_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"COVERGATE_{variable}", value)
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    message = str(caught.value)
    assert message.startswith(f"COVERGATE_{variable} must be ")
    assert told in message
    assert SECRET not in message
    assert "\n" not in message


def test_one_line_tells_everything_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_PORT", "x")
    monkeypatch.setenv("COVERGATE_LOG_LEVEL", "x")
    with pytest.raises(ConfigurationError, match=r"COVERGATE_PORT must .*; COVERGATE_LOG_LEVEL must "):
        settings.load()


def test_an_unreadable_file_is_told() -> None:
    Path(".env").write_bytes(b"COVERGATE_HOST=\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"^the file \.env "):
        settings.load()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_DATABASE_URL", f"postgresql://user:{SECRET}@host/db")
    monkeypatch.setenv("COVERGATE_ENCRYPTION_KEYS", f"k1:{SECRET}")
    monkeypatch.setenv("COVERGATE_SANDBOX_SECRET", SECRET)
    assert SECRET not in repr(settings.load())


def test_every_setting_says_what_it_takes() -> None:
    assert all(field.description for field in settings.Settings.model_fields.values())


@pytest.fixture
async def started(database: Database) -> Callable[[], list[MutableMapping[str, Any]]]:
    """The warnings of a process that starts with the test's variables."""

    def warnings() -> list[MutableMapping[str, Any]]:
        loaded = settings.load()
        with capture_logs() as logged:
            warn_of_settings(Gateway(loaded, database, connections_of(loaded)))
        return logged

    return warnings


def test_a_misspelt_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, started: Callable[[], list[MutableMapping[str, Any]]]
) -> None:
    Path(".env").write_text("COVERGATE_SOHAR_CLIENT_IDENTITY=x\nPATH_OF_OTHERS=x\n")
    monkeypatch.setenv("COVERGATE_WORKERS", SECRET)
    monkeypatch.setenv("COVERGATE_PORT", "9000")
    monkeypatch.setenv("COVERGATE_SANDBOX_PORT", "9001")
    monkeypatch.setenv("COVERGATE_API_KEY", SECRET)
    (warning,) = started()
    assert warning["event"] == "settings_unknown"
    assert warning["names"] == ["COVERGATE_SOHAR_CLIENT_IDENTITY", "COVERGATE_WORKERS"]
    assert SECRET not in str(warning)


def test_a_vendor_that_is_half_configured_is_named(
    monkeypatch: pytest.MonkeyPatch, started: Callable[[], list[MutableMapping[str, Any]]]
) -> None:
    assert started() == []
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_ID", SECRET)
    (warning,) = started()
    assert (warning["event"], warning["vendor"]) == ("vendor_incomplete", "sohar")
    assert warning["missing"] == ["COVERGATE_SOHAR_CLIENT_SECRET"]
    assert SECRET not in str(warning)


def test_an_address_that_a_live_vendor_cannot_reach_is_told(
    monkeypatch: pytest.MonkeyPatch, started: Callable[[], list[MutableMapping[str, Any]]]
) -> None:
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_ID", SECRET)
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_SECRET", SECRET)
    for url in ("", "http://localhost:8000", "http://[::1]:8000"):
        monkeypatch.setenv("COVERGATE_PUBLIC_URL", url)
        (warning,) = started()
        assert (warning["event"], warning["vendors"]) == ("public_url_is_loopback", ["sohar"])
    monkeypatch.setenv("COVERGATE_PUBLIC_URL", "https://gateway.example")
    assert started() == []


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (
            {"DATABASE_URL": f"postgresql://user:{SECRET}@db.example/covergate"},
            "COVERGATE_DATABASE_URL leads to db.example",
        ),
        ({"DATABASE_URL": "postgresql://user@10.0.0.7:6432/covergate?sslmode=require"}, "leads to 10.0.0.7 without"),
        ({"DATABASE_URL": "postgresql://user@127.0.0.1,two.example:5432/covergate"}, "leads to two.example without"),
        ({"DATABASE_URL": "postgresql:///covergate?host=db.example"}, "leads to db.example without"),
        ({"SOHAR_BASE_URL": "http://sohar.example"}, "COVERGATE_SOHAR_BASE_URL must begin with https://"),
    ],
)
async def test_what_would_leave_the_machine_unprotected_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_ID", "id")
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_SECRET", SECRET)
    for name, value in variables.items():
        monkeypatch.setenv(f"COVERGATE_{name}", value)
    with pytest.raises(ConfigurationError, match=named) as caught:
        async with opened(settings.load(), 1, "tests", migrate=False):
            pass
    assert SECRET not in str(caught.value)
    assert "=true allows it" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user@127.0.0.1/covergate",
        "postgresql://user@[::1]:5432/covergate",
        "postgresql://user@localhost/covergate",
        "postgresql:///covergate?host=/run/postgresql",
        "postgresql://user@db.example/covergate?sslmode=verify-full",
        "postgresql://user@one.example,two.example/covergate?sslmode=verify-full",
    ],
)
def test_a_database_on_this_machine_or_with_a_checked_certificate_is_not(url: str) -> None:
    assert unverified_hosts(url) == []


def test_a_secret_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "covergate_database_url").write_text(f"postgresql://user:{SECRET}@127.0.0.1/covergate\n")
    (tmp_path / "covergate_sohar_client_secret").write_text(SECRET)
    monkeypatch.setenv("COVERGATE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_ID", "id")
    loaded = settings.load()
    assert loaded.database_url == f"postgresql://user:{SECRET}@127.0.0.1/covergate"
    assert ("live", "sohar") in connections_of(loaded)


def test_a_directory_of_secrets_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_SECRETS_DIR", "/nowhere")
    with pytest.raises(ConfigurationError, match="COVERGATE_SECRETS_DIR must be"):
        settings.load()
