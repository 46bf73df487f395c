"""docs/api.md says what the code does: its tables against the OpenAPI document and the vocabularies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from covergate.eligibility.failure import MEANINGS
from covergate.eligibility.terms import WarningCode
from covergate.errors import PROBLEMS
from covergate.sandbox.scenarios import Scenario
from covergate.verifications.request import CreateVerification

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
WITHOUT_KEY = ("none", "the vendor's signature")


def section(heading: str) -> str:
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert text
    return text


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables; a head has no code and no number in its first cell."""
    return [line.strip("| ").split(" | ") for line in re.findall(r"^\| [`\d].*", text, re.MULTILINE)]


def words(text: str) -> list[str]:
    return re.findall(r"`([\w.:]+)`", text)


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Any:
    return (await client.get("/openapi.json")).json()


async def test_every_route_and_its_scope(document: Any) -> None:
    told = {
        route: [] if scope in WITHOUT_KEY else [words(scope)[0]]
        for routes, scope, _ in (row for row in rows(section("1. Routes")) if not row[0].isdigit())
        for route in re.findall(r"`([A-Z]+ /[^`]*)`", routes)
    }
    known = {
        f"{method.upper()} {path}": re.findall(
            r"Needs (?:the scope|an operator with the role) `(.*?)`", operation["description"]
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == known


def test_every_problem_and_its_status() -> None:
    told = {code: int(row[0]) for row in rows(section("1. Routes")) if row[0].isdigit() for code in words(row[1])}
    assert told == {code: status for code, (status, _) in PROBLEMS.items()}


def test_every_failure_in_order() -> None:
    told = [(words(code)[0], fix_by, "(retryable)" in code) for code, fix_by, _ in rows(section("5. The failure"))]
    assert told == [(code.value, meaning.fix_by.value, meaning.retryable) for code, meaning in MEANINGS.items()]


def test_every_warning() -> None:
    told = section("4. The result").partition("- Warnings: ")[2].partition("\n\n")[0]
    assert words(told) == [code.value for code in WarningCode]


async def test_every_event_type(document: Any) -> None:
    assert [words(row[0])[0] for row in rows(section("6. Webhooks"))] == list(document["webhooks"])


def test_every_scenario() -> None:
    assert [words(row[0])[0] for row in rows(section("7. Sandbox scenarios"))] == [each.value for each in Scenario]


def test_the_request_is_one_with_every_field() -> None:
    """Of the vendors' blocks it shows one."""
    example = re.search(r"```json\n(.*?)```", section("2. The request"), re.DOTALL)
    assert example is not None
    shown = CreateVerification.model_validate_json(example[1], strict=True)
    assert shown.model_fields_set == set(CreateVerification.model_fields)
    for name in ("payer", "patient", "subscriber", "provider", "service", "routing"):
        part = getattr(shown, name)
        assert part.model_fields_set == set(type(part).model_fields), name
