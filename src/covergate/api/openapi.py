"""The OpenAPI 3.1 document: FastAPI's paths, our schemas, and the webhooks that partners receive."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from covergate.access.api_keys import SCOPES
from covergate.api import examples, schemas
from covergate.api.describe import REFERENCE, problem, reference
from covergate.api.verifications import ResolveVerification, SearchVerifications
from covergate.api.webhook_endpoints import CreateWebhookEndpoint, UpdateWebhookEndpoint
from covergate.verifications.request import CreateVerification
from covergate.webhooks.event_types import EVENT_TYPES, TEST

VERSION = version("covergate")

BODIES: tuple[type[BaseModel], ...] = (
    CreateVerification,
    SearchVerifications,
    ResolveVerification,
    CreateWebhookEndpoint,
    UpdateWebhookEndpoint,
)

DESCRIPTION = f"""
One REST API for insurance-eligibility verification in front of five vendors.

Dates are `YYYY-MM-DD`, instants RFC 3339 in UTC, money decimal strings of US dollars. Every key shown is always present; `null`,
`[]` and `"unknown"` mean *not stated*, never zero. New keys and enum values may appear. Unknown keys and query parameters in a
request are an error, and a 422 lists everything that is wrong at once.

An API key decides tenant and mode; its scopes are some of:
{chr(10).join(f"- `{scope}`: {what}" for scope, what in SCOPES.items())}
"""

WEBHOOK_HEADERS = {
    "webhook-id": "The event's id, the same over retries, endpoints and redeliveries: drop what you have seen",
    "webhook-timestamp": "Seconds since 1970: refuse what is older than five minutes",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 under the endpoint's secret of id.timestamp.body; several,"
    " with blanks between, for a day after a rotation (Standard Webhooks)",
}

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi_document(request: Request) -> Response:
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json")


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """`routers` are those that the app includes."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = make_document(app, routers)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def make_document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(
        title="CoverGate",
        version=VERSION,
        openapi_version="3.1.0",
        description=DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=True,
    )
    for path in document["paths"].values():
        for operation in path.values():
            # FastAPI announces a 422 of its own for every path parameter; ours are strings, which never fail.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if operation.get("security"):
                operation["responses"] |= {str(status): problem(status) for status in (401, 403)}
            operation["responses"] |= {str(status): problem(status) for status in (500, 503)}
    for router in routers:
        _with_nulls(document, router)
    components = document.setdefault("components", {})
    components["schemas"] = _fastapi_schemas(components.get("schemas", {})) | _schemas()
    document["webhooks"] = {type_: {"post": _webhook(type_)} for type_ in EVENT_TYPES}
    return document


def _with_nulls(document: dict[str, Any], router: APIRouter) -> None:
    """FastAPI drops every null of the document, and an example without its nulls fits no schema of ours."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            for status, response in route.responses.items():
                if "content" in response:
                    operation["responses"][str(status)]["content"] = response["content"]
            operation |= {name: extra for name, extra in (route.openapi_extra or {}).items() if name == "requestBody"}


def _fastapi_schemas(found: dict[str, Any]) -> dict[str, Any]:
    """Those of query parameters."""
    return {name: schema for name, schema in found.items() if not name.endswith("ValidationError")}


def _schemas() -> dict[str, Any]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in BODIES]
    wanted += [(model, "serialization") for model in schemas.ANSWERS]
    _, defined = models_json_schema(wanted, ref_template=f"{REFERENCE}{{model}}")
    return dict(defined["$defs"])


def _webhook(type_: str) -> dict[str, Any]:
    data = examples.VENDOR_DATA.get(type_) or (examples.TEST_DATA if type_ == TEST else examples.thin_of(type_))
    message = {"type": type_, "timestamp": "2026-11-21T15:00:06.120Z", "data": data}
    return {
        "operationId": type_.replace(".", "_"),
        "tags": ["Webhooks"],
        "summary": type_,
        "description": f"{EVENT_TYPES[type_]} Answer with any 2xx within 15 seconds; 410 disables the endpoint.",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": description,
                "schema": {"type": "string"},
                "example": examples.WEBHOOK_HEADERS[name],
            }
            for name, description in WEBHOOK_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(schemas.WebhookMessage), "example": message}},
        },
        "responses": {"2XX": {"description": "Received"}, "410": {"description": "No more events, please"}},
        "security": [],
    }
