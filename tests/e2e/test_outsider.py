"""What somebody outside finds: of an unmistakable patient nothing, anywhere but sealed; of the API what its document says.

The patient is asked about at every vendor in every scenario, with logs at debug level; then everything that the process wrote
is searched: its log, metrics, problems, thin webhooks, a dump of the database, the data files and the write-ahead log.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import pytest_asyncio

from covergate.sandbox.scenarios import Scenario
from covergate.vendors import VENDORS
from tests.e2e.house import REQUEST
from tests.e2e.outsider import Outsider, running_up
from tests.support.commands import bare_environment
from tests.support.postgres import server_directory
from tests.support.waiting import eventually

BORN = date(1957, 3, 14)
MARK = "ZQX77301"
SSN = "912557731"
PATIENT: dict[str, Any] = {
    "first_name": "Zorvexa",
    "middle_name": "Ysoldrick",
    "last_name": "Quillmandeur",
    "date_of_birth": BORN.isoformat(),
    "gender": "F",
    "group_number": f"GRP{MARK}",
    "ssn": SSN,
    "employer_name": "Brindlewax Foundry",
    "address": {"line1": "4417 Vexholme Terrace", "city": "Quandorra", "state": "CA", "zip": "94667-7731"},
    "email": "zorvexa@quillmandeur.example",
    "phone": "5105557731",
}
DEADLINE_SECONDS = 8
"""By then every verification has ended, one way or the other."""

FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d.%m.%Y",
    "%Y%m%d",
    "%m%d%Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%d %b %Y",
)
NEEDLES = [
    *("zorvexa", "ysoldrick", "quillmandeur", "brindlewax", "vexholme", "quandorra", "94667-7731", MARK.lower()),
    *(SSN, f"{SSN[:3]}-{SSN[3:5]}-{SSN[5:]}", "5105557731", "510-555-7731", "(510) 555-7731"),
    *(BORN.strftime(format_).lower() for format_ in FORMATS),
    f"{BORN.month}/{BORN.day}/{BORN.year}",
]
FOUND = [needle.encode() for needle in NEEDLES]


def found_in(content: bytes) -> set[bytes]:
    """One by one: a regular expression of all of them takes seven times as long."""
    lowered = content.lower()
    return {needle for needle in FOUND if needle in lowered}


@pytest.fixture(scope="module")
def webhooks() -> Iterator[tuple[str, list[bytes]]]:
    """A partner's address, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Partner(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
    serving = Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}/", bodies
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="module")
def outsider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outsider]:
    with server_directory() as data_dir, running_up(data_dir, tmp_path_factory.mktemp("outsider")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def problems(outsider: Outsider, webhooks: tuple[str, list[bytes]]) -> list[bytes]:
    """Every scenario of every vendor has ended with this patient; and what was said to requests that are wrong."""
    url, _ = webhooks
    async with httpx.AsyncClient(
        base_url=outsider.url, headers=outsider.headers, timeout=60, trust_env=False
    ) as client:
        for payload in ("thin", "full"):
            address = url if payload == "thin" else f"{url}full"
            made = await client.post("/v1/webhook-endpoints", json={"url": address, "payload": payload})
            assert made.status_code == 201, made.text
        asked = []
        for vendor in VENDORS:
            for scenario in Scenario:
                answer = await client.post("/v1/verifications", json=_body(vendor, f"{scenario}-{MARK}-{vendor[:4]}"))
                assert answer.status_code == 202, answer.text
                asked.append(answer.json()["id"])

        async def all_ended() -> bool:
            open_ = "/v1/verifications?status=queued&status=in_progress&limit=1"
            return not (await client.get(open_)).json()["data"]

        await eventually(all_ended, 60, what="the end of all verifications", every=0.3)
        for id_ in asked:
            for path in ("", "/timeline"):
                assert (await client.get(f"/v1/verifications/{id_}{path}")).status_code == 200
        search = {"member_id": f"ELIGIBLE-{MARK}-soha", "date_of_birth": BORN.isoformat()}
        assert (await client.post("/v1/verifications/search", json=search)).json()["data"]
        corrections = {f"/patient/{name}": PATIENT[name] for name in ("first_name", "last_name", "date_of_birth")}
        again = await client.post(f"/v1/verifications/{asked[0]}/resubmit", json={"corrections": corrections})
        assert again.status_code == 202, again.text
        job = {"action": "resubmit", "filter": {"status": ["failed"]}, "corrections": corrections, "dry_run": False}
        ordered = await client.post("/v1/verifications/bulk", json=job)
        assert ordered.status_code == 202, ordered.text

        async def worked_off() -> bool:
            shown = (await client.get(f"/v1/bulk-jobs/{ordered.json()['id']}")).json()
            return bool(shown["status"] == "completed") and await all_ended()

        await eventually(worked_off, 60, what="the end of the job", every=0.3)
        timelines = [(await client.get(f"/v1/verifications/{id_}/timeline")).content for id_ in asked]
        wrong = _body("sohar", MARK)
        # Its page shows the login again, to who typed it; no log has it.
        await client.post("/console/sign-in", data={"login": PATIENT["email"], "password": MARK})
        refused = [
            await client.post("/v1/verifications", json={**wrong, "ssn": PATIENT["ssn"]}),
            await client.post(
                "/v1/verifications", json={**wrong, "patient": {**wrong["patient"], "gender": PATIENT["first_name"]}}
            ),
            await client.post("/v1/verifications", json=wrong["patient"]),
            await client.post("/v1/verifications", content=f"{{{PATIENT['email']}".encode()),
            await client.get(f"/v1/verifications/{PATIENT['last_name']}"),
            await client.get(f"/console/verifications/{PATIENT['last_name']}"),
            await client.post(
                f"/v1/verifications/{asked[0]}/resubmit",
                json={"corrections": {"/patient/gender": PATIENT["last_name"]}},
            ),
            await client.post(
                "/v1/verifications/bulk", json={**job, "corrections": {f"/{PATIENT['last_name']}": PATIENT["ssn"]}}
            ),
            await client.get("/v1/verifications", params={"external_id": PATIENT["last_name"], "after": MARK}),
            await client.get("/v1/verifications", headers={"authorization": f"Bearer {MARK}"}),
            await client.post(f"/v1/vendor-events/{MARK}", json=PATIENT),
            await client.post("/v1/vendor-events/sohar", json=PATIENT),
        ]
        assert {answer.status_code // 100 for answer in refused} <= {2, 3, 4}
        addresses = await _addresses_in_the_console(outsider, asked)
        return [*(answer.content for answer in refused if answer.status_code >= 400), *timelines, *addresses]


async def _addresses_in_the_console(outsider: Outsider, asked: list[str]) -> list[bytes]:
    """What a person's browser was led to and could be: every page with the patient shown, and a search for them."""
    led_to: list[bytes] = []

    async def noted(answer: httpx.Response) -> None:
        led_to.append(str(answer.url).encode())
        led_to.extend(value.encode() for name, value in answer.headers.items() if name != "set-cookie")

    async with httpx.AsyncClient(
        base_url=f"{outsider.url}/console", trust_env=False, timeout=60, event_hooks={"response": [noted]}
    ) as person:
        link = next(line for line in outsider.log.read_text().splitlines() if '"open_once"' in line)
        assert (
            await person.post("/enter", data={"code": link.partition("/console/enter#")[2][:43]})
        ).status_code == 303
        assert not (await person.post("/enter", data={"code": link.partition("/console/enter#")[2][:43]})).is_success

        async def shown(path: str) -> str:
            answer = await person.get(path)
            assert answer.status_code == 200, (path, answer.status_code)
            led_to.extend(address.encode() for address in re.findall(r'(?:href|src|action)="([^"]*)"', answer.text))
            return answer.text

        csrf = re.findall(r'name="csrf" value="([^"]+)"', await shown("/"))[0]

        async def sent(path: str, **fields: str) -> httpx.Response:
            return await person.post(path, data={"csrf": csrf, **fields})

        assert (await sent("/mode", mode="test")).status_code == 303
        for path in ("/", "/verifications", "/verifications/search", "/jobs", "/vendors", "/webhooks", "/access"):
            assert not found_in((await shown(path)).encode()), path
        for id_ in asked[:: len(Scenario)]:
            assert not found_in((await shown(f"/verifications/{id_}")).encode())
            assert (await sent(f"/verifications/{id_}/reveal", reason="patient_care")).status_code == 303
            assert found_in((await shown(f"/verifications/{id_}")).encode()), "nothing was at stake"
            for path in ("raw", "print"):
                await shown(f"/verifications/{id_}/{path}")
        who = {"member_id": f"ELIGIBLE-{MARK}-soha", "date_of_birth": BORN.isoformat(), "reason": "patient_care"}
        assert asked[0][-6:] in (await sent("/verifications/search", tenant="outsider", **who)).text
        wrong = {"/patient/gender": PATIENT["last_name"], "/patient/date_of_birth": PATIENT["first_name"]}
        assert (await sent(f"/verifications/{asked[0]}/ask-again", **wrong)).status_code >= 400
    return led_to


def _body(vendor: str, member_id: str) -> dict[str, Any]:
    deadline = (datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)).isoformat()
    patient = {**PATIENT, "member_id": member_id}
    return {**REQUEST, "vendor": vendor, "patient": patient, "deadline": deadline}


def test_the_needles_would_be_found() -> None:
    """The search is no better than what it looks for."""
    for value in (*PATIENT.values(), *PATIENT["address"].values()):
        if isinstance(value, str) and len(value) > 2:
            assert found_in(f"x{value}x".encode()), value


def test_no_log_line_names_the_patient(outsider: Outsider, problems: list[bytes]) -> None:
    written = outsider.log.read_bytes()
    assert written.count(b'"event":"vendor_call"') > len(VENDORS) * len(Scenario)
    assert found_in(written) == set()


def test_no_problem_and_no_timeline_does(problems: list[bytes]) -> None:
    assert problems
    assert [found for said in problems if (found := found_in(said))] == []


def test_no_metric_does(outsider: Outsider, problems: list[bytes]) -> None:
    assert found_in(httpx.get(f"{outsider.url}/metrics", trust_env=False).content) == set()


def test_no_thin_webhook_does(webhooks: tuple[str, list[bytes]], problems: list[bytes]) -> None:
    thin = [body for body in webhooks[1] if b'"inquiry"' not in body]
    assert len(thin) >= len(VENDORS) * len(Scenario)
    assert [found for body in thin if (found := found_in(body))] == []
    full = [body for body in webhooks[1] if b'"inquiry"' in body]
    assert found_in(b"".join(full)), "nothing was at stake"


def test_no_backup_does(outsider: Outsider, problems: list[bytes]) -> None:
    dump = outsider.dump()
    assert dump.count(b"\nver_") >= len(VENDORS) * len(Scenario)
    assert found_in(dump) == set()


def test_no_file_of_the_database_does(outsider: Outsider, problems: list[bytes]) -> None:
    files = [path for path in outsider.data_dir.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.parent.name == "pg_wal" for path in files)
    found = {str(path): hits for path in files if (hits := found_in(path.read_bytes()))}
    assert found == {}


def test_the_api_keeps_to_its_document(outsider: Outsider, tmp_path: Path) -> None:
    """Bounded: `make contract` covers each constraint of each schema, `make fuzz` asks for longer."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", outsider.url, "--max-examples", "1", "--phases", "examples,fuzzing"],
        env=bare_environment() | {"COVERGATE_API_KEY": outsider.key},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout[-6000:]
