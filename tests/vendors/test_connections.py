"""How Sohar and Integrex are reached: what makes a connection complete, and the one of test mode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from covergate.sandbox.sohar import sohar_webhook_secret
from covergate.vendors.integrex.connection import IntegrexConnection
from covergate.vendors.integrex.connection import authenticate as authenticate_integrex
from covergate.vendors.sohar.connection import SoharConnection
from covergate.vendors.vendor import Connection


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own settings: no variables, no `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("COVERGATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("kind", "base_url"),
    [(SoharConnection, "https://api.soharhealth.com"), (IntegrexConnection, "https://api.integrexrcm.com:53443")],
)
def test_connection_is_complete_with_its_credentials(kind: type[Connection], base_url: str) -> None:
    assert kind().base_url == base_url
    assert not kind().complete
    assert not kind(client_id="id").complete
    assert kind(client_id="id", client_secret="secret").complete


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERGATE_SOHAR_CLIENT_ID", "id")
    monkeypatch.setenv("COVERGATE_SOHAR_POLL_SECONDS", "0")
    monkeypatch.setenv("COVERGATE_INTEGREX_ENV", "T")
    assert SoharConnection().client_id == "id"
    assert SoharConnection().poll_seconds == 0
    assert IntegrexConnection().env == "T"
    assert IntegrexConnection().poll_seconds == 15


@pytest.mark.parametrize("kind", [SoharConnection, IntegrexConnection])
def test_secrets_are_not_shown(kind: type[Connection]) -> None:
    assert "s3cret" not in repr(kind(client_secret="s3cret", webhook_secret="s3cret"))


def test_sandbox_of_sohar() -> None:
    connection = SoharConnection.sandbox("http://127.0.0.1:8090", "s3cret")
    assert (connection.base_url, connection.client_id) == ("http://127.0.0.1:8090/sohar", "sandbox")
    assert connection.client_secret == "s3cret"
    assert connection.webhook_secret == sohar_webhook_secret("s3cret")


def test_sandbox_of_integrex_is_asked_more_often_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = IntegrexConnection.sandbox("http://127.0.0.1:8090", "s3cret")
    assert (connection.base_url, connection.client_id) == ("http://127.0.0.1:8090/integrex", "sandbox")
    assert (connection.client_secret, connection.env) == ("s3cret", "T")
    assert connection.poll_seconds == 1
    monkeypatch.setenv("COVERGATE_INTEGREX_POLL_SECONDS", "15")
    assert IntegrexConnection.sandbox("http://127.0.0.1:8090", "s3cret").poll_seconds == 15


def test_integrex_takes_402_for_a_bad_token() -> None:
    assert authenticate_integrex(IntegrexConnection()).refused == {401, 402, 403}
