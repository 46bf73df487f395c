"""VSee's callback token stands in the address of its events. No log has it, at any level, nor does an answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.commands import bare_environment
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import KEYS

COVERGATE = Path(sys.executable).with_name("covergate")
TOKEN = "5f0c2c7d9a1e4b685f0c2c7d9a1e4b68"
PATH = f"/v1/vendor-events/vsee?token={TOKEN}"
RAW = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
    f"POST {PATH} HTTP/9\r\n\r\n",
    f"BREW {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{",
)
"""Requests that something below the application answers, or that are never whole."""


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return bare_environment() | {
        "COVERGATE_DATABASE_URL": database_url,
        "COVERGATE_ENCRYPTION_KEYS": KEYS,
        "COVERGATE_DATA_DIR": str(tmp_path),
        "COVERGATE_SANDBOX_URL": "http://127.0.0.1:9",
        "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
        "COVERGATE_VSEE_BASE_URL": "https://vsee.example/api_v3",
        "COVERGATE_VSEE_ACCOUNT_CODE": "a",
        "COVERGATE_VSEE_API_KEY": "k",
        "COVERGATE_VSEE_API_SECRET": "s",
        "COVERGATE_VSEE_API_TOKEN": "t",
        "COVERGATE_VSEE_CALLBACK_TOKEN": TOKEN,
        "COVERGATE_PORT": "0",
        "COVERGATE_LOG_FORMAT": "json",
        "COVERGATE_LOG_LEVEL": "debug",
    }


def test_no_log_and_no_answer_has_it(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [COVERGATE, "serve"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            while not lines or json.loads(lines[-1])["event"] != "ready":
                lines.append(process.stderr.readline())
            url = json.loads(lines[-1])["url"]
            check = {"type": "eligibility.checked", "id": "m1", "data": {"member_id": "1", "eligibility_id": "2"}}
            answers = [
                httpx.post(f"{url}{PATH}", json=check),
                httpx.post(f"{url}{PATH}", content=b"no JSON"),
                httpx.post(f"{url}{PATH}x", json=check),
                httpx.post(f"{url}{PATH}&token={TOKEN}", json=check),
                httpx.get(f"{url}{PATH}"),
                httpx.post(f"{url}/v1/nowhere?token={TOKEN}"),
                httpx.get(f"{url}/v1/verifications?token={TOKEN}"),
                httpx.post(f"{url}{PATH}", content=b" " * (3 * 1024 * 1024)),
            ]
            assert [answer.status_code for answer in answers] == [202, 202, 401, 401, 405, 404, 401, 413]
            said = [answer.text + str(answer.headers) for answer in answers] + [_answer(url, raw) for raw in RAW]
        finally:
            process.terminate()
        assert process.stderr is not None
        lines += process.stderr.readlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("http_request") >= len(answers)
    assert not [line for line in lines if TOKEN in line]
    assert not [text for text in said if TOKEN in text]


def _answer(url: str, request: str) -> str:
    """What comes back until the connection is closed, or nothing more is said for a moment."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        chunks = []
        while chunk := connection.recv(65_536):
            chunks.append(chunk)
    return b"".join(chunks).decode("latin-1")
