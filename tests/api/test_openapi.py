from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from covergate.api.app import create_app
from covergate.db.database import Database, make_engine
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.states import EventType
from tests.support.clients import Body, End, Keys, Post, Stuck
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import make_sealer

Check = Callable[[dict[str, Any], Any], None]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Asked for once: no database has a part in it."""
    settings = Settings(sandbox_url="http://127.0.0.1:9", sandbox_secret=SANDBOX_SECRET, _env_file=None)
    nowhere = "postgresql://nobody@127.0.0.1:9/nothing"
    engine = make_engine(nowhere, pool_size=1, application_name="tests")
    app = create_app(Gateway(settings, Database(nowhere, engine, make_sealer()), connections_of(settings)))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return await client.get("/openapi.json")

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def fits(document: dict[str, Any]) -> Check:
    """Checks a value against a schema of the strict document, in which `$ref` is looked up."""
    whole = Draft202012Validator({"components": strict(document)["components"]}, format_checker=FormatChecker())

    def check(schema: dict[str, Any], value: Any) -> None:
        whole.evolve(schema=schema).validate(value)

    return check


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The document with no room for other keys: clients must bear new ones, but today's answers have none."""
    changed = json.loads(json.dumps(document))
    for schema in changed["components"]["schemas"].values():
        if schema.get("additionalProperties") is True:
            schema["additionalProperties"] = False
    return dict(changed)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for methods_of in (document["paths"], document["components"]["pathItems"]):
        for path, methods in methods_of.items():
            for method, operation in methods.items():
                yield f"{method.upper()} {path}", operation


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPI.model_validate(document)
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert not name.endswith("ValidationError")
    references = set(_references(document))
    assert references
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_operation_says_what_it_takes_and_gives(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"] and operation["tags"], name
        if " /" not in name:
            continue
        in_path = {part[1:-1] for part in name.split("/") if part.startswith("{")}
        assert in_path == {row["name"] for row in operation.get("parameters", []) if row["in"] == "path"}, name
        needs_key = " /v1/" in name and "vendor-events" not in name
        assert bool(operation.get("security")) == needs_key, name
        assert needs_key == ({"401", "403"} <= set(operation["responses"])) or "vendor-events" in name, name
    assert list(document["components"]["securitySchemes"]) == ["apiKey", "operator"]
    schemes = {
        name: [scheme for entry in operation["security"] for scheme in entry]
        for name, operation in operations(document)
        if operation.get("security")
    }
    assert schemes["POST /v1/verifications"] == ["apiKey"]
    assert schemes["GET /v1/vendors"] == ["apiKey", "operator"]
    assert schemes["POST /v1/vendors/{vendor}/hold"] == ["operator"]


def test_names_are_there_once(document: dict[str, Any]) -> None:
    """Generators make classes of titles and methods of operation ids."""
    components = document["components"]["schemas"]
    assert {name: schema["title"] for name, schema in components.items()} == {name: name for name in components}
    for name, schema in components.items():
        assert re.fullmatch("[A-Z][A-Za-z]+", name), name
        assert "title" not in set(_keywords(list(schema.get("properties", {}).values()))), name
    for name, operation in operations(document):
        assert re.fullmatch("[a-z]+(_[a-z]+)*", operation["operationId"]), name
        for parameter in operation.get("parameters", ()):
            assert "title" not in parameter["schema"], name
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(tags.values()) and {tag for _, one in operations(document) for tag in one["tags"]} == set(tags)
    of_routes = {tag for methods in document["paths"].values() for one in methods.values() for tag in one["tags"]}
    assert not of_routes & {tag for row in document["components"]["pathItems"].values() for tag in row["post"]["tags"]}


def test_it_says_whose_it_is(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "/", "description": "This gateway"}]
    assert document["info"]["license"]["identifier"] == "Apache-2.0" and document["info"]["contact"]["name"]
    assert document["info"]["description"] and document["info"]["summary"]


def test_only_keywords_of_json_schema(document: dict[str, Any]) -> None:
    """What pydantic cannot express leaks as a keyword that no validator knows."""
    allowed = {
        *("$ref", "additionalProperties", "anyOf", "const", "default", "description", "discriminator", "enum"),
        *("examples", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems"),
        *("minLength", "minimum", "oneOf", "pattern", "properties", "propertyNames", "required", "title", "type"),
    }
    parameters = [row["schema"] for _, one in operations(document) for row in one.get("parameters", ())]
    for schema in [*document["components"]["schemas"].values(), *parameters]:
        assert set(_keywords(schema)) <= allowed
    for schema in _schemas(parameters):
        assert "null" not in (schema.get("type"), *(row.get("type") for row in schema.get("anyOf", ())))


def test_defaults_fit_and_answers_have_none(document: dict[str, Any], fits: Check) -> None:
    seen = 0
    for name, schema in document["components"]["schemas"].items():
        for inner in _schemas(schema):
            if "default" in inner:
                fits({key: value for key, value in inner.items() if key != "default"}, inner["default"])
                seen += 1
                assert schema["additionalProperties"] is False, name
    assert seen > 40


def test_requests_are_closed_and_answers_open(document: dict[str, Any]) -> None:
    """A client that is strict about answers would break with the next new key."""
    components = document["components"]["schemas"]

    def reached(name: str) -> set[str]:
        found, todo = set(), {name}
        while todo:
            one = todo.pop()
            found.add(one)
            todo |= {row.rsplit("/", 1)[1] for row in _references(components[one])} - found
        return found

    asked: set[str] = set()
    for _, operation in operations({**document, "components": {**document["components"], "pathItems": {}}}):
        for described in operation.get("requestBody", {}).get("content", {}).values():
            if described["schema"]:
                asked |= reached(described["schema"]["$ref"].rsplit("/", 1)[1])
    assert "CreateVerification" in asked
    for name, schema in components.items():
        if "properties" in schema:
            assert schema["additionalProperties"] is (name not in asked), name


def test_events_are_told_apart_by_their_type(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    event = components["Event"]
    assert event["discriminator"]["propertyName"] == "type" and set(event["discriminator"]["mapping"]) == set(EventType)
    assert [row["$ref"] for row in event["oneOf"]] == [event["discriminator"]["mapping"][type_] for type_ in EventType]
    for type_ in EventType:
        of_event = components[event["discriminator"]["mapping"][type_].rsplit("/", 1)[1]]
        body = document["components"]["pathItems"][type_]["post"]["requestBody"]["content"]["application/json"]
        of_message = components[body["schema"]["$ref"].rsplit("/", 1)[1]]
        for schema in (of_event, of_message):
            assert schema["properties"]["type"] == {"const": type_, "type": "string"}


def test_every_example_fits_its_schema(document: dict[str, Any], fits: Check) -> None:
    seen = 0
    for name, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [response.get("content", {}) for response in operation["responses"].values()]
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, name
        for content in contents:
            for media_type, described in content.items():
                assert "example" in described, (name, media_type)
                fits(described["schema"], described["example"])
                seen += 1
        for status in good:
            if status not in ("204", "2XX"):
                assert operation["responses"][status]["content"], name
    assert seen > 60


def test_what_does_not_fit_is_found(fits: Check) -> None:
    with pytest.raises(ValidationError, match="nonsense"):
        fits({"$ref": "#/components/schemas/CreateVerification"}, {"nonsense": 1})


def test_every_event_type_is_a_webhook(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == set(EventType)
    for type_, reference in document["webhooks"].items():
        assert reference == {"$ref": f"#/components/pathItems/{type_}"}
        described = document["components"]["pathItems"][type_]
        names = {row["name"] for row in described["post"]["parameters"]}
        assert names == {"webhook-id", "webhook-timestamp", "webhook-signature"}


BULK = {"action": "resubmit", "filter": {"status": ["failed"]}}
PATIENT = {"member_id": "ELIGIBLE-0001", "date_of_birth": "1990-09-20"}


async def test_answers_fit_their_schemas(
    client: httpx.AsyncClient,
    keys: Keys,
    document: dict[str, Any],
    fits: Check,
    post: Post,
    end: End,
    stuck: Stuck,
    body: Body,
) -> None:
    """The views and `api/schemas.py` cannot drift apart: every answer of a walk over the API is checked."""
    subscriber = {
        "patient_relationship": "child",
        "first_name": "John",
        "last_name": "Sample",
        "date_of_birth": "1960-01-01",
    }
    endpoint = (
        await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    ).json()
    completed, failed, queued = await post(subscriber=subscriber), await post(), await post()
    unknown = await post()
    await stuck(unknown["id"])
    await end(completed["id"])
    await end(failed["id"], FailureCode.PAYER_UNAVAILABLE)
    one, hook = "/v1/verifications/{verification_id}", "/v1/webhook-endpoints/{endpoint_id}"
    account = "/v1/vendor-accounts/{vendor}"
    job = (await client.post("/v1/verifications/bulk", json={**BULK, "dry_run": False}, headers=keys.full)).json()
    delivery = (await client.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries", headers=keys.full)).json()[
        "data"
    ][0]
    walk: list[tuple[str, str, str, Any]] = [
        ("POST", "/v1/verifications", "", body()),
        ("GET", "/v1/verifications", "", None),
        ("POST", "/v1/verifications/search", "", {"member_id": "ELIGIBLE-0001"}),
        ("GET", one, completed["id"], None),
        ("GET", one, failed["id"], None),
        ("GET", one, queued["id"], None),
        ("GET", one + "/answers", completed["id"], None),
        ("GET", one + "/answers", failed["id"], None),
        ("GET", one + "/answers", queued["id"], None),
        ("GET", one + "/timeline", completed["id"], None),
        ("GET", one + "/raw", completed["id"], None),
        ("POST", one + "/cancel", queued["id"], None),
        ("POST", one + "/cancel", completed["id"], None),
        ("POST", one + "/resubmit", failed["id"], {"corrections": {"/patient/member_id": "ELIGIBLE-0002"}}),
        ("POST", one + "/resubmit", unknown["id"], {}),
        ("POST", "/v1/verifications/bulk", "", BULK),
        ("POST", "/v1/verifications/bulk", "", {**BULK, "dry_run": False}),
        ("POST", "/v1/verifications/bulk", "", {"action": "cancel", "filter": {}}),
        ("GET", "/v1/bulk-jobs", "", None),
        ("GET", "/v1/bulk-jobs/{job_id}", job["id"], None),
        ("POST", "/v1/bulk-jobs/{job_id}/cancel", job["id"], None),
        ("GET", "/v1/bulk-jobs/{job_id}", "nothing", None),
        ("GET", one, "nothing", None),
        ("GET", "/v1/vendors", "", None),
        ("POST", "/v1/vendors/{vendor}/hold", "sohar", None),
        ("POST", "/v1/vendors/{vendor}/resume", "sohar", None),
        ("POST", "/v1/vendors/{vendor}/hold", "nobody", None),
        ("POST", one + "/resolve", unknown["id"], {"action": "resubmit"}),
        ("POST", one + "/resolve", unknown["id"], {"action": "give_up"}),
        ("PUT", account, "sohar", {"credentials": {"client_id": "north", "client_secret": "a-long-secret"}}),
        ("PUT", account, "sohar", {"credentials": {"client_id": "north", "client_secret": "a-long-secret"}}),
        ("PUT", account, "sohar", {"credentials": {"client_id": "north"}}),
        ("GET", account, "sohar", None),
        ("GET", "/v1/vendor-accounts", "", None),
        ("DELETE", account, "sohar", None),
        ("POST", account + "/test", "sohar", None),
        ("GET", "/v1/events", "", None),
        ("POST", "/v1/webhook-endpoints", "", {"url": "https://b.example.com"}),
        ("GET", "/v1/webhook-endpoints", "", None),
        ("GET", hook, endpoint["id"], None),
        ("PATCH", hook, endpoint["id"], {"description": "x"}),
        ("POST", hook + "/test", endpoint["id"], None),
        ("GET", hook + "/deliveries", endpoint["id"], None),
        ("POST", "/v1/deliveries/{delivery_id}/redeliver", delivery["id"], None),
        ("POST", hook + "/recover", endpoint["id"], {"since": "2026-01-01T00:00:00Z", "status": "all"}),
        ("POST", "/v1/portal-links", "", None),
        ("POST", hook + "/rotate-secret", endpoint["id"], None),
        ("DELETE", hook, endpoint["id"], None),
        ("POST", "/v1/patients/erase", "", {**PATIENT, "dry_run": True}),
        ("POST", "/v1/patients/erase", "", {**PATIENT, "dry_run": False}),
        ("GET", one, completed["id"], None),
        ("GET", one, failed["id"], None),
        ("GET", one + "/raw", completed["id"], None),
        ("GET", "/v1/verifications", "", None),
        ("GET", "/healthz", "", None),
        ("GET", "/readyz", "", None),
    ]
    for method, template, id_, sent in walk:
        path = "/".join(id_ if part.startswith("{") else part for part in template.split("/"))
        answer = await client.request(method, path, headers=keys.full, **({} if sent is None else {"json": sent}))
        described = document["paths"][template][method.lower()]["responses"][str(answer.status_code)]
        assert set(described["headers"]) >= {"X-Request-Id"}
        if answer.status_code == 204:
            continue
        media_type = answer.headers["content-type"]
        fits(described["content"][media_type]["schema"], answer.json())
    assert {"POST " + path for path in document["paths"] if "post" in document["paths"][path]} <= {
        f"{method} {path}" for method, path, _, _ in walk
    } | {"POST /v1/vendor-events/{vendor}", "POST /v1/vendor-events/{vendor}/{account_id}"}


def test_a_verification_key_is_always_there(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in (
        "Verification",
        "Result",
        "Benefit",
        "Failure",
        "NetworkSummary",
        "Plan",
        "Inquiry",
        "InquiryPatient",
        "InquiryAddress",
    ):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]), name


def _schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema below, itself included; not what stands in examples and defaults."""
    if isinstance(node, list):
        for inner in node:
            yield from _schemas(inner)
    if isinstance(node, dict):
        yield node
        yield from _schemas(list(node.get("properties", {}).values()))
        for keyword in ("anyOf", "oneOf", "items", "additionalProperties", "propertyNames"):
            yield from _schemas(node.get(keyword))


def _keywords(node: Any) -> Iterator[str]:
    for schema in _schemas(node):
        yield from schema


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)
