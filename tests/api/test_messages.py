"""Each thing wrong is told in our own words, in one style: what would be right, never what was sent."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from pydantic_core._pydantic_core import list_all_errors

from covergate.api import examples
from covergate.api.http import parsed
from covergate.api.openapi import BODIES, ComponentSchema
from covergate.errors import Problem
from tests.support.clients import Keys, Lasting

Path = tuple[str | int, ...]

SENT = "zQ7"
"""In every wrong value; in no message."""

PYDANTIC = [
    re.compile(re.sub(r"\\\{.*?\\\}", ".*", re.escape(error["message_template_python"])))
    for error in list_all_errors()
    if error["message_template_python"] != "{error}"  # of `value_error` and its like: all is the validator's own
]
WRONG: dict[str, list[Any]] = {
    "string": [7, True, None, [], {}],
    "integer": [SENT, 1.5, True, None, []],
    "number": [SENT, True, None],
    "boolean": [SENT, 1, None],
    "array": [SENT, 7, {}, None],
    "object": [SENT, 7, [], None],
}


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    name = re.sub("(?<!^)([A-Z])", r"_\1", model.__name__).upper()
    example: dict[str, Any] = examples.on_day(getattr(examples, name), date(2026, 11, 21))
    return copy.deepcopy(example)


def branches(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in schema:
        return branches(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    return [
        branch
        for one in schema.get("anyOf", [schema])
        for branch in (branches(one, definitions) if one != schema else [one])
    ]


def wrong_values(
    schema: dict[str, Any], definitions: dict[str, Any], path: Path = ()
) -> Iterator[tuple[str, Path, Any]]:
    """(kind of constraint, path, a value that breaks it) for every constraint of the schema."""
    options = branches(schema, definitions)
    nullable = {"type": "null"} in options
    for option in options:
        type_ = option.get("type", "string")
        if type_ == "null":
            continue
        for value in WRONG[type_]:
            if not (value is None and nullable):
                yield "type", path, value
        text = SENT * 40_000
        for keyword in sorted(option):
            match keyword:
                case "enum" | "const":
                    yield keyword, path, SENT
                case "pattern" | "format":
                    yield keyword, path, SENT + "!"
                    yield keyword, path, "2026-02-30"
                    yield keyword, path, "2026-11-21T25:00:00Z"
                case "minLength":
                    yield keyword, path, ""
                    yield "text", path, "a\x07b"
                case "maxLength":
                    yield keyword, path, (text * (option[keyword] // len(text) + 1))[: option[keyword] + 1]
                case "minimum":
                    yield keyword, path, option[keyword] - 1
                case "maximum":
                    yield keyword, path, option[keyword] + 1
                case "minItems":
                    yield keyword, path, []
                case "maxItems":
                    yield keyword, path, [SENT] * (option[keyword] + 1)
                case "maxProperties":
                    yield keyword, path, {f"k{number}": "v" for number in range(option[keyword] + 1)}
                case "propertyNames":
                    yield keyword, path, {"k" * 41: "v"}
                    yield keyword, path, {"": "v"}
                case "required":
                    yield keyword, path, {}
                case "additionalProperties" if option[keyword] is False:
                    yield keyword, (*path, SENT + "_field"), 1
                case "additionalProperties" if option[keyword] is not True:
                    yield from wrong_values(option[keyword], definitions, (*path, "clinic"))
        for name, inner in option.get("properties", {}).items():
            yield from wrong_values(inner, definitions, (*path, name))
        if "items" in option:
            for kind, below, value in wrong_values(option["items"], definitions, (*path, 0)):
                yield kind, below, value


def put(document: Any, path: Path, value: Any) -> Any:
    """The document with the value there, and lists and objects on the way."""
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        return [put(None, tuple(rest), value)]
    changed = dict(document) if isinstance(document, dict) else {}
    return {**changed, first: put(changed.get(first), tuple(rest), value)}


def errors_of(model: type[BaseModel], document: Any) -> list[dict[str, str]]:
    try:
        parsed(model, json.dumps(document).encode())
    except Problem as problem:
        return [error.shown() for error in problem.errors]
    return []


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_every_constraint_of_a_body_has_our_words(model: type[BaseModel]) -> None:
    schema = model.model_json_schema(schema_generator=ComponentSchema)
    example = example_of(model)
    assert errors_of(model, example) == []
    told: dict[str, set[str]] = {}
    for kind, path, value in wrong_values(schema, schema.get("$defs", {})):
        for error in errors_of(model, put(example, path, value)):
            assert_ours(error["message"], (kind, path))
            told.setdefault(kind, set()).add(error["message"])
    assert "type" in told and "additionalProperties" in told
    if model.__name__ == "CreateVerification":
        kinds = (
            "enum format maxItems maxLength maxProperties maximum minItems minLength minimum pattern propertyNames required"
            " text"
        )
        assert set(kinds.split()) <= set(told)


def assert_ours(message: str, where: object) -> None:
    assert message.startswith("must "), (where, message)
    assert "  " not in message and "{" not in message and not message.endswith("."), (where, message)
    assert SENT not in message and message != "must be valid", (where, message)
    assert not any(template.fullmatch(message) for template in PYDANTIC), (where, message)


def test_pydantics_own_words_are_known() -> None:
    with pytest.raises(AssertionError):
        assert_ours("Input should be a valid string", "")
    assert any(template.fullmatch("String should match pattern '^[0-9]{9}$'") for template in PYDANTIC)
    assert not any(template.fullmatch("must be nine digits") for template in PYDANTIC)


async def test_every_constraint_of_a_query_has_our_words(client: httpx.AsyncClient, keys: Keys) -> None:
    document = (await client.get("/openapi.json")).json()
    seen = 0
    for path, methods in document["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            if parameter["in"] != "query":
                continue
            bad = {
                "": None,
                SENT: None,
                "0": None,
                "101": None,
                "-1": None,
                "1.0": None,
                "a\x07b": None,
                SENT * 100: None,
            }
            for value in bad:
                where = path.replace("{verification_id}", "ver_1").replace("{endpoint_id}", "whe_1")
                answer = await client.get(where, params={parameter["name"]: value}, headers=keys.full)
                assert answer.status_code in (200, 400, 404, 422), answer.text
                for error in answer.json().get("errors", ()):
                    assert_ours(error["message"], (path, parameter["name"], value))
                    seen += 1
    assert seen > 60
    unknown = await client.get(f"/v1/vendors?{SENT}=1", headers=keys.full)
    assert_ours(unknown.json()["errors"][0]["message"], "unknown")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON; reading stopped at line 1, column 1"),
        (b'{"a": 1,}', "must be JSON; reading stopped at line 1, column 9"),
        (b'{\n  "a": 1\n  "b": 2}', "must be JSON; reading stopped at line 3, column 3"),
        ('{"é": \n"é" é}'.encode(), "must be JSON; reading stopped at line 2, column 5"),
        (b'{"a": "x\ny"}', "must be JSON; reading stopped at line 1, column 9"),
        (b"{}\n\n{}", "must be JSON; reading stopped at line 3, column 1"),
        (b"\xef\xbb\xbf{}", "must be JSON; reading stopped at line 1, column 1"),
        ('{"a":\n "é'.encode() + b"\xff", "must be UTF-8; reading stopped at line 2, column 4"),
        (b'{"a": NaN}', "must be JSON, which has neither NaN nor Infinity"),
        (b'{"a": 1, "a": 2}', "must not repeat a key in an object"),
        (b'{"a": "\\ud800"}', "must not escape a lone surrogate"),
        (b'{"a": 1' + b"0" * 300 + b"}", "must have integers of at most 300 digits"),
        (b"[" * 300 + b"]" * 300, "must be nested less deeply"),
        (b"[" * 100_000, "must be nested less deeply"),
    ],
    ids=range(14),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_broken_json_is_told_where(lasting: Lasting, content: bytes, message: str) -> None:
    headers = {**lasting.keys.full, "content-type": "application/json"}
    answer = await lasting.client.post("/v1/verifications", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json")
    assert answer.json()["errors"] == [{"pointer": "", "code": "invalid_json", "message": message}]
