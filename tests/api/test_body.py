from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.clients import Body, Keys, Lasting
from tests.support.examples import examples

PATH = "/v1/verifications"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        '{"external_id": "é"}'.encode("latin-1"),
        "{}".encode("utf-16"),
        b'{"external_id": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"external_id": "a\nb"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"external_id": "a", "external_id": "b"}',
        b'{"patient": {"ssn": "1", "ssn": "2"}}',
        b'{"vendor": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 30_000,
        b"[" * 300 + b"]" * 300,
        b'{"a": 1}{}',
        b"{'a': 1}",
        b'{"a": 01}',
        b"/* */ {}",
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_not_strict_json(lasting: Lasting, content: bytes) -> None:
    answer = await lasting.client.post(PATH, content=content, headers={**lasting.keys.full, **JSON})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b'"x"',
        b"1e999",
        b"123",
        b"{}",
        b'{"external_id": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"patient": [[[]]], "payer": 1e999, "deadline": 5e300, "metadata": {"a": 12345678901234567890}}',
        b'{"patient": {"date_of_birth": "0000-00-00"}, "service": {"date": "9999-12-31", "end_date": "0001-01-01"}}',
        b'{"service": {"procedure_codes": {"0": "90837"}}, "vendor_options": {"health_harbor": []}}',
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_json_that_is_no_verification(lasting: Lasting, content: bytes) -> None:
    answer = await lasting.client.post(PATH, content=content, headers={**lasting.keys.full, **JSON})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-encoding": "gzip"},
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_other_content_types(lasting: Lasting, body: Body, headers: dict[str, str]) -> None:
    answer = await lasting.client.post(PATH, content=json.dumps(body()), headers={**lasting.keys.full, **headers})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
@pytest.mark.asyncio(loop_scope="module")
async def test_json_by_other_spellings(lasting: Lasting, body: Body, content_type: str) -> None:
    headers = {**lasting.keys.full, "content-type": content_type}
    assert (await lasting.client.post(PATH, content=json.dumps(body()), headers=headers)).status_code == 202


async def test_too_large_with_and_without_a_length(client: httpx.AsyncClient, keys: Keys) -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 65536

    for content in (b" " * (256 * 1024 + 1), chunks()):
        answer = await client.post(PATH, content=content, headers={**keys.full, **JSON})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    fits = await client.post(PATH, content=b" " * (256 * 1024), headers={**keys.full, **JSON})
    assert fits.status_code == 422


async def test_errors_are_capped_and_long_keys_not_repeated(client: httpx.AsyncClient, keys: Keys) -> None:
    many = await client.post(PATH, json={str(number): 1 for number in range(20_000)}, headers=keys.full)
    assert len(many.json()["errors"]) == 200
    long = await client.post(PATH, json={"k" * 5000: 1}, headers=keys.full)
    assert len(long.text) < 2000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
POINTERS = [
    "external_id",
    "retry_of",
    "vendor",
    "payer",
    "patient",
    "subscriber",
    "coverage_order",
    "provider",
    "service",
    "deadline",
    "vendor_options",
    "metadata",
    "routing",
    "payer.id",
    "payer.directory_id",
    "patient.first_name",
    "patient.date_of_birth",
    "patient.address",
    "patient.address.state",
    "patient.ssn",
    "provider.npi",
    "service.date",
    "service.end_date",
    "service.procedure_codes",
    "service.service_type_codes",
    "vendor_options.health_harbor",
    "vendor_options.healthie",
    "vendor_options.vsee",
    "metadata.clinic",
]
EVIL = st.sampled_from(
    ["\x00", "\ud7ff\ue000", "2026-02-30", "9999-12-31", "0001-01-01", "1e400", "Ⅷ", "۱۲۳", "a" * 70, "-1", "\u202e"]
)


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(POINTERS), VALUES | EVIL, min_size=1, max_size=4))
async def test_no_body_yields_a_500(client: httpx.AsyncClient, keys: Keys, body: Body, changes: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(body()))
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = changed
        for name in parents:
            if not isinstance(node.setdefault(name, {}), dict):
                node[name] = {}
            node = node[name]
        node[last] = value
    answer = await client.post(PATH, content=json.dumps(changed), headers={**keys.full, **JSON})
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["code"] != "invalid_request" or answer.json()["errors"]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
async def test_no_bytes_yield_a_500(client: httpx.AsyncClient, keys: Keys, content: bytes) -> None:
    for path in (PATH, "/v1/webhook-endpoints", f"{PATH}/search"):
        answer = await client.post(path, content=content, headers={**keys.full, **JSON})
        assert answer.status_code in (200, 422)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "after", "status", "created_after", "external_id", "payer_id", "vendor", "x"]),
        st.text(max_size=30).filter(lambda value: value.encode(errors="ignore").decode() == value),
        max_size=4,
    )
)
async def test_no_query_yields_a_500(client: httpx.AsyncClient, keys: Keys, query: dict[str, str]) -> None:
    for path in (PATH, "/v1/events", "/v1/vendors"):
        assert (await client.get(path, params=query, headers=keys.full)).status_code in (200, 400, 422)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "prefer",
                "idempotency-key",
                "content-type",
                "accept",
                "x-request-id",
                "traceparent",
                "x-acting-user",
                "x-forwarded-for",
                "authorization",
            ]
        ),
        # What an HTTP server lets through: no control characters, anything else.
        st.binary(max_size=80).map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127).strip()),
        max_size=4,
    )
)
async def test_no_header_yields_a_500(
    client: httpx.AsyncClient, keys: Keys, body: Body, headers: dict[str, bytes]
) -> None:
    given_ = {name.encode(): value for name, value in headers.items()}
    ours = {name.encode(): value.encode() for name, value in (keys.full | JSON).items()}
    for method, path, content in (("POST", PATH, json.dumps(body()).encode()), ("GET", PATH, None)):
        answer = await client.request(method, path, content=content, headers=list((ours | given_).items()))
        assert answer.status_code in (200, 202, 400, 401, 415, 422, 429), answer.text
