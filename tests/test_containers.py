"""The containers: nothing of theirs may do more than it must. Read as data: there is no Docker where the tests run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = [name for name, service in COMPOSE["services"].items() if service.get("image") == "covergate"]
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_is_locked_down(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if name in OURS:
        assert "cap_add" not in service and "user" not in service


def test_every_secret_is_a_file_and_each_service_has_those_it_needs() -> None:
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    named = {
        name: {one if isinstance(one, str) else one["source"] for one in service["secrets"]}
        for name, service in COMPOSE["services"].items()
    }
    assert named["postgres"] == {"postgres_password", "runtime_password"}
    assert named["api"] == named["worker"]
    assert set().union(*named.values()) == set(COMPOSE["secrets"])


def test_nothing_but_the_api_is_reached_from_outside_and_that_on_this_machine_only() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:8000:8000"]}


def test_no_secret_stands_in_an_environment() -> None:
    variables = {
        name: value
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|KEYS|DATABASE_URL", name)
    }
    assert variables == {"POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password"} | {
        name: value
        for name, value in variables.items()
        if name in ("COVERGATE_SECRETS_DIR", "COVERGATE_ALLOW_UNVERIFIED_DATABASE")
    }
    assert not any("env_file" in service for service in COMPOSE["services"].values())


def test_the_sandbox_knows_its_own_secret_only() -> None:
    assert COMPOSE["services"]["sandbox"]["secrets"] == ["covergate_sandbox_secret"]


def test_only_the_migration_has_the_owners_address() -> None:
    knows = [name for name in OURS if "covergate_database_url_of_owner" in str(COMPOSE["services"][name]["secrets"])]
    assert knows == ["migrate"]


def test_every_image_of_others_is_named_by_digest() -> None:
    images = [service["image"] for service in COMPOSE["services"].values() if service["image"] != "covergate"]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert images
    assert not [image for image in images if not DIGEST.search(image)]


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    assert re.search(r"^USER [1-9][0-9]*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
