"""The OpenAPI 3.1 document: FastAPI's paths, our schemas, and the webhooks that partners receive.

Clients are made from it, so every operation id and every schema's title is unique, and no field has a title, which
generators would turn into a class. `make contract` makes clients and has them verify a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import PydanticOmit
from pydantic_core.core_schema import ModelSchema, WithDefaultSchema

from covergate.access.api_keys import SCOPES
from covergate.access.caller import MODE_HEADER, TENANT_HEADER
from covergate.access.operators import ROLES
from covergate.api import examples, schemas
from covergate.api.bulk_jobs import BulkVerifications
from covergate.api.deps import EITHER_SCHEME, KEY_SCHEME, OPERATOR_SCHEME, bearer, operator_bearer
from covergate.api.describe import ACTING_USER_PARAMETER, REFERENCE, problem, reference
from covergate.api.patients import ErasePatient
from covergate.api.vendor_accounts import PutVendorAccount
from covergate.api.vendors import HoldVendor
from covergate.api.verifications import ResolveVerification, ResubmitVerification, SearchVerifications
from covergate.api.webhook_endpoints import (
    CreateWebhookEndpoint,
    RecoverWebhookEndpoint,
    SendTestEvent,
    UpdateWebhookEndpoint,
)
from covergate.eligibility.inquiry import today_eastern
from covergate.states import EventType
from covergate.verifications.request import CreateVerification

COVERGATE_VERSION = version("covergate")

BODIES: tuple[type[BaseModel], ...] = (
    CreateVerification,
    SearchVerifications,
    ResolveVerification,
    ResubmitVerification,
    BulkVerifications,
    ErasePatient,
    CreateWebhookEndpoint,
    UpdateWebhookEndpoint,
    RecoverWebhookEndpoint,
    SendTestEvent,
    PutVendorAccount,
    HoldVendor,
)

DESCRIPTION = f"""
Dates are `YYYY-MM-DD`, instants RFC 3339 in UTC, money decimal strings of US dollars. Every key shown is always present; `null`,
`[]` and `"unknown"` mean *not stated*, never zero. New keys and enum values may appear. Unknown keys and query parameters in a
request are an error, and a 422 lists everything that is wrong at once.

An API key decides tenant and mode; its scopes are some of:
{chr(10).join(f"- `{name}`: {scope.allows}" for name, scope in SCOPES.items())}

An operator's credential belongs to no tenant. `X-Tenant` (an id or a name) and `X-Mode` (`test` or `live`) say for whom it asks,
on routes that need one. Its roles are some of:
{chr(10).join(f"- `{name}`: {role.allows}" for name, role in ROLES.items())}
"""

WEBHOOK_HEADERS = {
    "webhook-id": "The event's id, the same over retries, endpoints and redeliveries: drop what you have seen",
    "webhook-timestamp": "Seconds since 1970: refuse what is older than five minutes",
    "webhook-signature": "`v1,` and base64 of HMAC-SHA256 under the endpoint's secret of id.timestamp.body; several,"
    " with blanks between, while replaced secrets still sign: a day each, five in all (Standard Webhooks)",
}

TAGS = {
    "Verifications": "Ask about a patient's coverage and read the answer.",
    "Bulk jobs": "The same done to many verifications.",
    "Vendors": "The vendors that are asked, and how each fares.",
    "Payers": "The payer directory.",
    "Patients": "Forgetting a patient.",
    "Webhooks": "Where events are sent, their deliveries, and the events themselves.",
    "Webhook messages": "What is POSTed to an endpoint.",
    "Audit": "Who read and changed what.",
    "Health": "For probes and Prometheus.",
}

PATH_PARAMETERS = {
    "verification_id": "`ver_…`",
    "endpoint_id": "`whe_…`",
    "delivery_id": "`dlv_…`",
    "job_id": "`job_…`",
    "vendor": "A vendor's `name`",
    "account_id": "`acc_…`",
}

OPERATOR_HEADERS: list[dict[str, Any]] = [
    {
        "name": TENANT_HEADER,
        "in": "header",
        "required": False,
        "description": "For an operator: whose. A tenant's id or name. A key has its own.",
        "schema": {"type": "string"},
        "example": "Clinic North",
    },
    {
        "name": MODE_HEADER,
        "in": "header",
        "required": False,
        "description": "For an operator: in which mode, `test` or `live`. A key has its own.",
        # No enum: a key that sends anything is not refused.
        "schema": {"type": "string"},
        "example": "live",
    },
]

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi_document(request: Request) -> Response:
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json")


class ComponentSchema(GenerateJsonSchema):
    """Pydantic's schema without titles on fields, and without defaults in answers, which always have every key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return super().default_schema(schema) if self.mode == "validation" else self.generate_inner(schema["schema"])

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        if not schema["cls"].model_fields:
            raise PydanticOmit  # a vendor without options; an empty block may be sent, but no client needs a class for it
        return super().model_schema(schema)


def install_document(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """`routers` are those that the app includes. The document is made anew each day, because its examples have dates."""
    documents: dict[date, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        today = today_eastern(datetime.now(UTC))
        if today not in documents:
            documents.clear()
            documents[today] = make_document(app, routers, today)
        return documents[today]

    app.openapi = document  # type: ignore[method-assign]


def make_document(app: FastAPI, routers: Sequence[APIRouter], day: date) -> dict[str, Any]:
    document = get_openapi(
        title="CoverGate",
        version=COVERGATE_VERSION,
        openapi_version="3.1.0",
        summary="One REST API for insurance-eligibility verification in front of five vendors.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in TAGS.items()],
        servers=[{"url": "/", "description": "This gateway"}],
        contact={"name": "The operator of this gateway"},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=True,
    )
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation)
    for router in routers:
        _with_nulls(document, router)
    document["components"]["schemas"] = _schemas()
    document["components"]["securitySchemes"] = {
        scheme.scheme_name: scheme.model.model_dump(mode="json", by_alias=True, exclude_none=True)
        for scheme in (bearer, operator_bearer)
    }
    # Behind references: openapi-generator writes broken Python for webhooks that are not.
    document["components"]["pathItems"] = {type_.value: {"post": _webhook(type_, day)} for type_ in EventType}
    document["webhooks"] = {type_.value: {"$ref": f"#/components/pathItems/{type_.value}"} for type_ in EventType}
    _move_examples(document["paths"], day)
    return document


def _complete(operation: dict[str, Any]) -> None:
    # FastAPI announces a 422 of its own for every path parameter; ours are strings, which never fail.
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
    if operation.setdefault("security", []):
        ((scheme, scopes),) = operation["security"][0].items()
        schemes = [KEY_SCHEME, OPERATOR_SCHEME] if scheme == EITHER_SCHEME else [scheme]
        # OpenAPI 3.1 lets a bearer scheme list scopes, but linters take them for OAuth's and /docs does not show them.
        operation["security"] = [{scheme: []} for scheme in schemes]
        if OPERATOR_SCHEME in schemes:
            operation.setdefault("parameters", []).extend(deepcopy(OPERATOR_HEADERS))
        operation.setdefault("parameters", []).append(deepcopy(ACTING_USER_PARAMETER))
        operation["description"] += f" Needs {' or '.join(_needs(scheme, scopes) for scheme in schemes)}."
        operation["responses"] |= {str(status): problem(status) for status in (401, 403, 429)}
    operation["responses"] |= {str(status): problem(status) for status in (500, 503)}
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        schema.pop("title", None)
        if "anyOf" in schema:
            # An optional parameter is `| None` in Python, but a query cannot say null.
            (named,) = [branch for branch in schema.pop("anyOf") if branch != {"type": "null"}]
            schema = parameter["schema"] = named | schema
        parameter.setdefault("description", PATH_PARAMETERS.get(parameter["name"], schema.get("description")))


def _needs(scheme: str, scopes: Sequence[str]) -> str:
    if scheme == KEY_SCHEME:
        return f"the scope `{'`, `'.join(scopes)}`"
    (role,) = (name for name, role in ROLES.items() if role.scopes.issuperset(scopes))
    return f"an operator with the role `{role}`"


def _with_nulls(document: dict[str, Any], router: APIRouter) -> None:
    """Puts back the examples: FastAPI drops every null, and without its nulls no example fits its schema."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            for status, response in route.responses.items():
                if "content" in response:
                    operation["responses"][str(status)]["content"] = deepcopy(response["content"])
            if body := (route.openapi_extra or {}).get("requestBody"):
                operation["requestBody"] = deepcopy(body)


def _schemas() -> dict[str, Any]:
    """Component → schema, each named by its title."""
    asked, shown = _named("validation", BODIES), _named("serialization", schemas.ANSWERS)
    twins = [name for name in asked.keys() & shown.keys() if asked[name] != shown[name]]
    if twins:
        raise ValueError(f"a request and an answer have schemas of one name: {', '.join(twins)}")
    return asked | shown


def _named(mode: JsonSchemaMode, models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    _, document = models_json_schema(
        [(model, mode) for model in models],
        ref_template=f"{REFERENCE}{{model}}",
        schema_generator=ComponentSchema,
    )
    definitions = document["$defs"]
    titles = {name: definition["title"] for name, definition in definitions.items()}
    if len(set(titles.values())) < len(titles):
        raise ValueError("two schemas have one title")
    for definition in definitions.values():
        _rename(definition, titles)
        if "properties" in definition and mode == "serialization":
            definition["additionalProperties"] = True  # new keys may appear
    return {titles[name]: definition for name, definition in definitions.items()}


def _rename(node: Any, titles: dict[str, str]) -> None:
    """Points every reference, named by class, at the title."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref" or (isinstance(value, str) and value.startswith(REFERENCE)):
                node[name] = REFERENCE + titles[value.removeprefix(REFERENCE)]
            else:
                _rename(value, titles)
    elif isinstance(node, list):
        for value in node:
            _rename(value, titles)


def _move_examples(node: Any, day: date) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "example":
                node[name] = examples.on_day(value, day)
            else:
                _move_examples(value, day)
    elif isinstance(node, list):
        for value in node:
            _move_examples(value, day)


def _webhook(type_: str, day: date) -> dict[str, Any]:
    headers, message = examples.webhook(type_, day)
    return {
        "operationId": type_.replace(".", "_"),
        "tags": ["Webhook messages"],
        "summary": EventType(type_).sentence.partition(";")[0].rstrip("."),
        "description": f"{EventType(type_).sentence} Answer with any 2xx within 15 seconds; 410 disables the endpoint.",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": description,
                "schema": {"type": "string"},
                "example": headers[name],
            }
            for name, description in WEBHOOK_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(schemas.WEBHOOK_MESSAGES[type_]), "example": message}},
        },
        "responses": {"2XX": {"description": "Received"}, "410": {"description": "No more events, please"}},
        "security": [],
    }
