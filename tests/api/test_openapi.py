from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from covergate.eligibility.failure import FailureCode
from covergate.webhooks.event_types import EVENT_TYPES


@pytest.fixture
async def document(client: Any) -> dict[str, Any]:
    answer = await client.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def checked(document: dict[str, Any], schema: Any, value: Any) -> None:
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    if isinstance(schema, dict) and "$ref" in schema:
        schema = {"$ref": f"urn:document{schema['$ref']}"}
    Draft202012Validator(schema, registry=registry, format_checker=FormatChecker()).validate(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("paths", "webhooks"):
        for path, methods in document[kind].items():
            for method, operation in methods.items():
                yield f"{method.upper()} {path}", operation


async def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
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


async def test_every_operation_says_what_it_takes_and_gives(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"] and operation["tags"], name
        if " /" not in name:
            continue
        in_path = {part[1:-1] for part in name.split("/") if part.startswith("{")}
        assert in_path == {row["name"] for row in operation.get("parameters", []) if row["in"] == "path"}, name
        needs_key = " /v1/" in name and "vendor-events" not in name
        assert bool(operation.get("security")) == needs_key, name
        assert needs_key == ({"401", "403"} <= set(operation["responses"])) or "vendor-events" in name, name
    assert list(document["components"]["securitySchemes"]) == ["apiKey"]


async def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    seen = 0
    for name, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [response.get("content", {}) for response in operation["responses"].values()]
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, name
        for content in contents:
            for media_type, described in content.items():
                assert "example" in described, (name, media_type)
                checked(document, described["schema"], described["example"])
                seen += 1
        for status in good:
            if status not in ("204", "2XX"):
                assert operation["responses"][status]["content"], name
    assert seen > 60


async def test_every_event_type_is_a_webhook(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == set(EVENT_TYPES)
    for described in document["webhooks"].values():
        names = {row["name"] for row in described["post"]["parameters"]}
        assert names == {"webhook-id", "webhook-timestamp", "webhook-signature"}


async def test_answers_fit_their_schemas(
    client: Any, keys: Any, document: dict[str, Any], post: Any, end: Any, stuck: Any, body: Any
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
        ("GET", one + "/timeline", completed["id"], None),
        ("GET", one + "/raw", completed["id"], None),
        ("POST", one + "/cancel", queued["id"], None),
        ("POST", one + "/cancel", completed["id"], None),
        ("GET", one, "nothing", None),
        ("GET", "/v1/vendors", "", None),
        ("POST", "/v1/vendors/{vendor}/hold", "sohar", None),
        ("POST", "/v1/vendors/{vendor}/resume", "sohar", None),
        ("POST", "/v1/vendors/{vendor}/hold", "nobody", None),
        ("POST", one + "/resolve", unknown["id"], {"action": "resubmit"}),
        ("POST", one + "/resolve", unknown["id"], {"action": "give_up"}),
        ("GET", "/v1/events", "", None),
        ("POST", "/v1/webhook-endpoints", "", {"url": "https://b.example.com"}),
        ("GET", "/v1/webhook-endpoints", "", None),
        ("GET", hook, endpoint["id"], None),
        ("PATCH", hook, endpoint["id"], {"description": "x"}),
        ("POST", hook + "/test", endpoint["id"], None),
        ("GET", hook + "/deliveries", endpoint["id"], None),
        ("POST", "/v1/deliveries/{delivery_id}/redeliver", delivery["id"], None),
        ("POST", hook + "/rotate-secret", endpoint["id"], None),
        ("DELETE", hook, endpoint["id"], None),
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
        checked(document, described["content"][media_type]["schema"], answer.json())
    assert {"POST " + path for path in document["paths"] if "post" in document["paths"][path]} <= {
        f"{method} {path}" for method, path, _, _ in walk
    } | {"POST /v1/vendor-events/{vendor}"}


async def test_a_verification_key_is_always_there(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in (
        "Verification",
        "Result",
        "Benefit",
        "Failure",
        "NetworkSummary",
        "Plan",
        "InquiryShown",
        "PatientShown",
    ):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]), name


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)
