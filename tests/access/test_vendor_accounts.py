"""What a tenant may put in: the vendor's own fields, an address that is the vendor's, and nothing of our environment."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from covergate.access.vendor_accounts import Owner, put_account
from covergate.access.vendor_credentials import checked
from covergate.db.database import Database
from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.states import Environment
from covergate.vendors import VENDORS
from covergate.vendors.account import account_fields, connection_of_account, secret_fields
from tests.support.gateways import TENANT, make_gateway

GIVEN: dict[str, dict[str, str]] = {
    "sohar": {"client_id": "id", "client_secret": "secret"},
    "integrex": {"client_id": "id", "client_secret": "secret"},
    "health_harbor": {"username": "id", "password": "secret"},
    "vsee": {
        "base_url": "https://api.vsee.me/api_v3",
        "account_code": "clinic",
        "api_key": "key",
        "api_secret": "secret",
        "api_token": "token",
    },
    "healthie": {"api_key": "key"},
}


def errors_of(gateway: Gateway, vendor: str, mode: str = "live", **given: str) -> list[FieldError]:
    try:
        checked(gateway, VENDORS[vendor], mode, None, GIVEN[vendor] | given)
    except Problem as problem:
        return list(problem.errors)
    return []


@pytest.mark.parametrize("vendor", GIVEN)
def test_the_documented_fields_are_enough(gateway: Gateway, vendor: str) -> None:
    assert errors_of(gateway, vendor) == []
    for name in VENDORS[vendor].connection.required:
        assert [error.pointer for error in errors_of(gateway, vendor, **{name: ""})] == [f"/credentials/{name}"]
    assert set(secret_fields(VENDORS[vendor].connection)) < set(account_fields(VENDORS[vendor].connection))


OPERATORS = {
    "base_url": "https://operators.example",
    "callback_token": secrets.token_hex(32),
    "benefits_query": "TRIAL",
    "accepted_only": "true",
}


@pytest.mark.parametrize("vendor", GIVEN)
def test_nothing_of_the_process_is_in_a_tenants_connection(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    kind = VENDORS[vendor].connection
    prefix = kind.model_config["env_prefix"]
    for name in account_fields(kind):
        if name != "auth":
            monkeypatch.setenv(f"{prefix}{name.upper()}", OPERATORS.get(name, "the-operators"))
    monkeypatch.setenv(f"{prefix}POLL_SECONDS", "77")
    operators = kind()
    for environment in Environment:
        connection = connection_of_account(VENDORS[vendor], environment, {}, operators)
        shown = repr(connection) + repr(connection.model_dump())
        assert not any(value in shown for value in ("operators", *OPERATORS.values()))
        assert not connection.complete
        assert getattr(connection, "poll_seconds", 77) == 77
    assert "the-operators" in repr(operators.model_dump())


@pytest.mark.parametrize("name", ["poll_seconds", "shared", "insurances_path", "env", "nonsense"])
def test_what_is_the_operators_to_choose_is_no_field(gateway: Gateway, name: str) -> None:
    for vendor in GIVEN:
        assert [error.code for error in errors_of(gateway, vendor, **{name: "1"})] == ["unknown_field"]


def test_the_mode_decides_the_environment(gateway: Gateway) -> None:
    for mode, wrong in (("test", "production"), ("live", "sandbox")):
        with pytest.raises(Problem) as caught:
            checked(gateway, VENDORS["sohar"], mode, wrong, GIVEN["sohar"])
        assert [error.pointer for error in caught.value.errors] == ["/environment"]
    operators = VENDORS["integrex"].connection()
    for environment, env in ((Environment.SANDBOX, "T"), (Environment.PRODUCTION, "")):
        connection: Any = connection_of_account(VENDORS["integrex"], environment, GIVEN["integrex"], operators)
        assert connection.env == env


@pytest.mark.parametrize("value", ["a\nb", "a\r\nX-Evil: 1", " a", "a ", "é", "\x7f", "a" * 1001])
def test_a_value_that_could_change_a_request_is_refused(gateway: Gateway, value: str) -> None:
    for vendor, name in (("vsee", "account_code"), ("healthie", "shard"), ("sohar", "client_secret")):
        [error] = errors_of(gateway, vendor, **{name: value})
        assert (error.pointer, error.code) == (f"/credentials/{name}", "invalid_text")
        assert "Evil" not in error.message


ELSEWHERE = [
    "https://evil.example",
    "http://api.soharhealth.com",
    "https://api.soharhealth.com:8443",
    "https://api.soharhealth.com.evil.example",
    "https://evil.example/api.soharhealth.com",
    "https://api.soharhealth.com@evil.example",
    "https://evil.example#@api.soharhealth.com",
    "https://evil.example?x=api.soharhealth.com",
    "https://evil.example\\@api.soharhealth.com",
    "https://api.soharhealth.com/a/../../x?y",
    "https://api.soharhealth.com/../x",
    "https://127.0.0.1",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]",
    "https://2130706433",
    "https://localhost",
    "ftp://api.soharhealth.com",
    "//api.soharhealth.com",
    "api.soharhealth.com",
    "file:///etc/passwd",
    "https://xn--api.soharhealth.com",
    "https://api.soharhealth.com:99999",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_an_account_leads_nowhere_but_to_its_vendor(gateway: Gateway, url: str) -> None:
    [error] = errors_of(gateway, "sohar", base_url=url)
    assert error.pointer == "/credentials/base_url"
    assert url not in error.message


@pytest.mark.parametrize(
    ("vendor", "mode", "url", "is_allowed"),
    [
        ("healthie", "live", "https://api.gethealthie.com/graphql", True),
        ("healthie", "live", "https://staging-api.gethealthie.com", False),
        ("healthie", "test", "https://staging-api.gethealthie.com", True),
        ("healthie", "test", "https://api.gethealthie.com", False),
        ("vsee", "live", "https://api-vclinic.vsee.me/api_v3", True),
        ("vsee", "live", "https://a.b.vsee.me/api_v3", False),
        ("vsee", "live", "https://evil-vsee.me/api_v3", False),
        ("vsee", "test", "https://api.vseepreview.com/vc/next/api_v3", True),
        ("vsee", "test", "https://api.vsee.me/api_v3", False),
        ("integrex", "live", "https://api.integrexrcm.com", False),
        ("health_harbor", "test", "https://healthharbor.co", False),
    ],
)
def test_each_environment_has_its_own_addresses(
    gateway: Gateway, vendor: str, mode: str, url: str, *, is_allowed: bool
) -> None:
    assert (errors_of(gateway, vendor, mode, base_url=url) == []) is is_allowed


def test_where_no_address_is_documented_one_must_be_named(gateway: Gateway) -> None:
    assert [error.pointer for error in errors_of(gateway, "vsee", "live", base_url="")] == ["/credentials/base_url"]
    assert [error.pointer for error in errors_of(gateway, "health_harbor", "test")] == ["/credentials/base_url"]


async def test_the_operator_may_allow_others(database: Database) -> None:
    gateway = await make_gateway(database, vendor_account_urls="https://test.harbor.example/v0, http://10.0.0.5:9000")
    assert errors_of(gateway, "health_harbor", "test", base_url="https://test.harbor.example/v0") == []
    assert errors_of(gateway, "health_harbor", "test", base_url="https://test.harbor.example/v0/x") == []
    for url in ("https://test.harbor.example", "https://test.harbor.example/v01", "http://10.0.0.5:9000"):
        assert [error.code for error in errors_of(gateway, "health_harbor", "test", base_url=url)] == [
            "address_not_allowed"
        ]


async def test_what_is_shown_of_credentials_is_their_end_and_a_digest(gateway: Gateway) -> None:
    owner = Owner(TENANT, "live", "sohar")

    async def put(secret: str, client: str = "id") -> tuple[str, str]:
        shown, _ = await put_account(gateway, owner, None, {"client_id": client, "client_secret": secret})
        assert secret not in repr(shown)
        return shown["hint"], shown["fingerprint"]

    hint, first = await put("a-long-secret-8c1f")
    assert hint == "8c1f" and len(first) == 16
    assert await put("a-long-secret-8c1f") == ("8c1f", first)
    assert (await put("short8c1f"))[0] == ""
    assert (await put("a-long-secret-8c1f", "another"))[1] != first
    assert "8c1f" not in repr(gateway.accounts.owned_by(TENANT, "live", "sohar"))
