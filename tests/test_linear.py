"""Whatever comes from outside is read in linear time: twice as much takes at most 2.6 times as long (support/linear.py)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from covergate.api.app import create_app
from covergate.api.http import WrongFields, validated
from covergate.api.verifications import SearchVerifications
from covergate.api.webhook_endpoints import CreateWebhookEndpoint
from covergate.db.database import Database
from covergate.eligibility.derive import derive
from covergate.errors import Problem
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.vendors import VENDORS
from covergate.vendors.errors import VendorError
from covergate.vendors.event import ForgedEvent, Inbound
from covergate.vendors.flow import Answered, drive
from covergate.vendors.vendor import Vendor
from covergate.verifications.checks import errors_beyond_fields
from covergate.verifications.request import CreateVerification
from tests.support.cases import case_names, read_case
from tests.support.clients import Keys, make_keys
from tests.support.flows import flow, question, reply
from tests.support.gateways import SANDBOX_SECRET
from tests.support.linear import (
    CERTAIN_SECONDS,
    FACTORS,
    LARGER,
    MOST_GROWTH,
    RUNS,
    TEXTS,
    check_linear,
    grows,
    no_garbage,
)

# --- requests --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def app(database: Database) -> AsyncIterator[FastAPI]:
    settings = Settings(
        sandbox_url="http://127.0.0.1:9",
        sandbox_secret=SANDBOX_SECRET,
        # Who sends too many wrong keys waits; here the readers are measured.
        wrong_keys_per_minute=1_000_000,
        _env_file=None,
    )
    app = create_app(Gateway(settings, database, connections_of(settings)))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def keys(app: FastAPI) -> Keys:
    return await make_keys(app.state.gateway)


Headers = list[tuple[bytes, bytes]]


def asking(
    app: Any, method: str, path: str, headers: Headers, query: bytes = b"", body: bytes = b""
) -> Callable[[], Awaitable[None]]:
    """One request as the server hands it over, without the server's own bounds."""

    async def send(message: Any) -> None:
        pass

    async def ask() -> None:
        sent = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return sent.pop() if sent else {"type": "http.disconnect"}

        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query}
        scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("gateway", 80), "scheme": "http"}
        await app({**scope, "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)

    return ask


async def best_request(ask: Callable[[], Awaitable[None]], runs: int) -> float:
    best = float("inf")
    with no_garbage():
        for _ in range(runs):
            started = time.thread_time()
            await ask()
            best = min(best, time.thread_time() - started)
    return best


async def check_requests(make: Callable[[int], Callable[[], Awaitable[None]]], size: int) -> None:
    times: list[float] = []
    for runs in RUNS:
        times = [await best_request(make(size * factor), runs) for factor in FACTORS]
        if not grows(times):
            return
    if times[-1] < CERTAIN_SECONDS:
        times = [await best_request(make(size * factor * LARGER), RUNS[-1]) for factor in FACTORS]
        if not grows(times):
            return
    pytest.fail(f"twice as much takes more than {MOST_GROWTH} times as long: {times}")


HEADERS = (
    "prefer",
    "authorization",
    "idempotency-key",
    "content-type",
    "content-encoding",
    "content-length",
    "accept",
    "x-request-id",
    "traceparent",
    "x-forwarded-for",
    "x-forwarded-proto",
)


@pytest.mark.parametrize("name", HEADERS)
async def test_headers(app: FastAPI, keys: Keys, name: str) -> None:
    asgi: Any = app
    proxied = ProxyHeadersMiddleware(asgi, ["127.0.0.1"])
    usual = {"authorization": keys.full["authorization"], "content-type": "application/json"}
    # Read where no verification is found: the wait is parsed before.
    path = "/v1/verifications/ver_01kaj0000000000000000000aa"
    for method, where, body in (("GET", path, b""), ("POST", "/v1/verifications", b"{}")):
        for text in TEXTS.values():

            def make(
                n: int, text: Callable[[int], str] = text, method: str = method, where: str = where, body: bytes = body
            ) -> Callable[[], Awaitable[None]]:
                headers = {**usual, name: text(n)}
                raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
                return asking(proxied, method, where, raw, body=body)

            await check_requests(make, 30_000)


async def test_many_headers(app: FastAPI, keys: Keys) -> None:
    def make(n: int) -> Callable[[], Awaitable[None]]:
        raw = [(b"authorization", keys.full["authorization"].encode())]
        return asking(app, "GET", "/v1/vendors", raw + [(b"prefer", b"wait=x, a")] * n)

    await check_requests(make, 4000)


QUERIES = {
    "/v1/verifications": (
        "status",
        "outcome",
        "vendor",
        "failure_code",
        "waiting_for",
        "payer_id",
        "external_id",
        "created_after",
        "created_before",
        "completed_after",
        "limit",
        "after",
        "unknown",
    ),
    "/v1/payers": ("q", "vendor", "limit", "after"),
    "/v1/events": ("type", "after", "limit"),
    "/v1/verifications/ver_01kaj0000000000000000000aa/timeline": ("after", "limit"),
    "/v1/vendors": ("unknown",),
}


@pytest.mark.parametrize("path", QUERIES)
async def test_queries(app: FastAPI, keys: Keys, path: str) -> None:
    raw = [(b"authorization", keys.full["authorization"].encode())]
    for name in QUERIES[path]:
        values = {"long": lambda n: [TEXTS["letters"](n)], "escaped": lambda n: ["%41" * (n // 3)]}
        values |= {"blank": lambda n: ["+" * n], "digits": lambda n: ["9" * n]}
        values |= {"many": lambda n: ["a"] * (n // 8)}
        for given in values.values():

            def make(n: int, name: str = name, given: Any = given) -> Callable[[], Awaitable[None]]:
                query = "&".join(f"{name}={value}" for value in given(n))
                return asking(app, "GET", path, raw, query.encode())

            await check_requests(make, 30_000)

    def names(n: int) -> Callable[[], Awaitable[None]]:
        return asking(app, "GET", path, raw, "&".join(f"x{i}=1" for i in range(n // 8)).encode())

    await check_requests(names, 30_000)


PATIENT: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "Sample",
    "date_of_birth": "1990-09-20",
    "member_id": "ELIGIBLE-0001",
}
BODY: dict[str, Any] = {"payer": {"id": "60054"}, "patient": PATIENT}


def dumped(**changes: Any) -> bytes:
    return orjson.dumps({**BODY, **changes})


BODIES: dict[str, Callable[[int], bytes]] = {
    "deep lists": lambda n: b"[" * n,
    "deep objects": lambda n: b'{"a":' * (n // 5),
    "nested and closed": lambda n: b'{"metadata":' + b"[" * (n // 2) + b"]" * (n // 2) + b"}",
    "wide": lambda n: dumped(**{f"x{i}": 1 for i in range(n // 8)}),
    "wide metadata": lambda n: dumped(metadata={f"x{i}": 1 for i in range(n // 8)}),
    "long name": lambda n: dumped(**{"x" * n: 1}),
    "long string": lambda n: dumped(external_id="x" * n),
    "blanks": lambda n: dumped(patient={**PATIENT, "last_name": " " * n + "x"}),
    "blanks between": lambda n: b"{" + b" " * n + b"}",
    "control characters": lambda n: dumped(external_id="\x01" * (n // 6)),
    "escapes": lambda n: b'{"a":"' + b"\\u0041" * (n // 6) + b'"}',
    "surrogates": lambda n: b'{"a":"' + b"\\ud83d" * (n // 6) + b'"}',
    "backslashes": lambda n: b'{"a":"' + b"\\\\" * (n // 2) + b'"}',
    "never closed": lambda n: b'{"a":"' + b"x" * n,
    "long integer": lambda n: b'{"a":' + b"9" * n + b"}",
    "long fraction": lambda n: b'{"a":0.' + b"9" * n + b"}",
    "long exponent": lambda n: b'{"a":1e' + b"9" * n + b"}",
    "many numbers": lambda n: b"[" + b"9" * 290 + (b"," + b"9" * 290) * (n // 291) + b"]",
    "many wrong codes": lambda n: dumped(service={"procedure_codes": ["?"] * (n // 4)}),
    "many codes": lambda n: dumped(service={"procedure_codes": ["90837"] * (n // 8)}),
    "many vendors": lambda n: dumped(routing={"vendors": ["sohar"] * (n // 8)}),
    "not UTF-8": lambda n: b'"' + b"\n" * n + b"\xff",
    "no UTF-8 after much": lambda n: b'"' + "é".encode() * (n // 2) + b"\xff",
    "email": lambda n: dumped(patient={**PATIENT, "email": "@" * n}),
    "a name twice": lambda n: b'{"a":1' + b',"a":1' * (n // 6) + b"}",
}


def checking(model: Any, content: bytes) -> Callable[[], None]:
    """What reads the body, right or wrong."""

    def check() -> None:
        try:
            validated(model, content)
        except WrongFields as wrong:
            errors_beyond_fields([], wrong.document, shared=())
        except Problem:
            pass

    return check


@pytest.mark.parametrize("kind", BODIES)
def test_bodies(kind: str) -> None:
    check_linear(lambda n: checking(CreateVerification, BODIES[kind](n)), 30_000)


@pytest.mark.parametrize("kind", ["deep lists", "wide", "long string", "many wrong codes"])
@pytest.mark.parametrize("model", [SearchVerifications, CreateWebhookEndpoint])
def test_other_bodies(model: Any, kind: str) -> None:
    check_linear(lambda n: checking(model, BODIES[kind](n)), 30_000)


@pytest.mark.parametrize("text", TEXTS)
def test_urls(text: str) -> None:
    def run(n: int) -> Callable[[], None]:
        return checking(CreateWebhookEndpoint, orjson.dumps({"url": "https://" + TEXTS[text](n)}))

    check_linear(run, 30_000)


# --- vendors ---------------------------------------------------------------------------------------------------------

SIGNATURES = {
    "sohar": ("svix-id", "svix-timestamp", "svix-signature"),
    "health_harbor": ("x-healthharbor-signature",),
    "healthie": ("content-digest", "signature"),
    "vsee": ("token",),
}


@pytest.mark.parametrize("name", [vendor.name for vendor in VENDORS.values() if vendor.verify_event is not None])
def test_signatures(name: str) -> None:
    verify = VENDORS[name].verify_event
    assert verify is not None
    connection = VENDORS[name].connection.sandbox("http://127.0.0.1:9", "secret")
    now = str(int(datetime.now(UTC).timestamp()))
    usual = {"svix-id": "msg_1", "svix-timestamp": now, "svix-signature": "v1,AAAA", "content-digest": "sha-256=AAAA"}
    for header in SIGNATURES[name]:
        for text in TEXTS.values():

            def run(n: int, header: str = header, text: Callable[[int], str] = text) -> Callable[[], None]:
                given = text(n)
                query = f"token={given}" if header == "token" else ""
                inbound = Inbound("POST", "/v1/vendor-events/x", query, {**usual, header: given}, b"{}")

                def verified() -> None:
                    with pytest.raises(ForgedEvent):
                        verify(inbound, connection)

                return verified

            check_linear(run, 30_000)


EVENTS: dict[str, Callable[[int], bytes]] = {
    "deep": lambda n: b"[" * n,
    "long": lambda n: orjson.dumps({"id": "x" * n, "event": "y" * n, "type": "z" * n, "data": {"member_id": " " * n}}),
    "wide": lambda n: orjson.dumps({f"hash{i}": "x" for i in range(n // 12)}),
    "inquiries": lambda n: orjson.dumps({"inquiries": [{"id": str(i), "status": "?"} for i in range(n // 24)]}),
    "list": lambda n: orjson.dumps([{"id": str(i)} for i in range(n // 12)]),
    "not JSON": lambda n: b'{"a":"' + b"\\" * n,
}


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("name", [vendor.name for vendor in VENDORS.values() if vendor.read_event is not None])
def test_events(name: str, kind: str) -> None:
    read = VENDORS[name].read_event
    assert read is not None

    def run(n: int) -> Callable[[], object]:
        inbound = Inbound("POST", "/", "", {"svix-id": "msg_1"}, EVENTS[kind](n))
        return lambda: read(inbound)

    check_linear(run, 50_000)


def answered_cases() -> list[tuple[Vendor, dict[str, Any]]]:
    """For each vendor, the answer whose replies are the longest."""
    longest: dict[str, tuple[int, dict[str, Any]]] = {}
    for name, stem in case_names():
        case = read_case(name, stem)
        replies = [exchange["reply"] for exchange in case.get("exchanges", [])]
        if "answered" in case.get("progress", {}) and all("body" in one for one in replies):
            length = len(orjson.dumps(replies))
            if length > longest.get(name, (0, {}))[0]:
                longest[name] = (length, case)
    return [(VENDORS[name], case) for name, (_, case) in longest.items()]


def parts_of(value: Any, kind: type, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every list, or every string, in a document."""
    if isinstance(value, kind) and value and path:
        yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts_of(part, kind, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], change)
    return copy


def with_texts(value: Any, text: str) -> Any:
    """The document, each text of it with another behind it."""
    if isinstance(value, dict):
        return {key: with_texts(part, text) for key, part in value.items()}
    if isinstance(value, list):
        return [with_texts(part, text) for part in value]
    return value + text if isinstance(value, str) else value


def varied(rows: list[Any], count: int) -> list[Any]:
    """The rows over and over, each with other texts of its own."""
    return [
        {key: f"{value} {i}" if isinstance(value, str) and len(value) > 6 else value for key, value in row.items()}
        if isinstance(row, dict)
        else row
        for i, row in ((i, rows[i % len(rows)]) for i in range(count))
    ]


@pytest.mark.parametrize(("vendor", "case"), answered_cases(), ids=lambda given: getattr(given, "name", ""))
def test_replies(vendor: Vendor, case: dict[str, Any]) -> None:
    told = question(vendor, case["question"])
    bodies = [exchange["reply"]["body"] for exchange in case["exchanges"]]

    def reading(bodies: list[Any]) -> Callable[[], None]:
        replies = [
            reply({**exchange["reply"], "body": body}, case.get("first_exchange", 0) + index, told.now)
            for index, (exchange, body) in enumerate(zip(case["exchanges"], bodies, strict=True))
        ]

        def read() -> None:
            try:
                _, progress = drive(flow(vendor, case, told), replies)
            except VendorError:
                return
            if isinstance(progress, Answered):
                not_asked = vendor.asked_nothing_of(told.inquiry, told.today)
                derive(progress.answer, told.inquiry, not_asked, told.today).result.model_dump_json()

        return read

    for path in parts_of(bodies, list):
        check_linear(lambda n: reading(changed(bodies, path, lambda rows: varied(rows, n))), 250)  # noqa: B023
    for text in TEXTS.values():
        check_linear(lambda n: reading([with_texts(body, text(n)) for body in bodies]), 5000)  # noqa: B023
