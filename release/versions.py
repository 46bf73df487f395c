"""`make versions`: the tests on each Python that the metadata promise, and against the oldest PostgreSQL of the README.

A version that the machine does not have is named and left out; on Debian, root gets PostgreSQL from its packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covergate.db.embedded.cluster import Cluster, bring_up, create_cluster, shut_down
from covergate.db.embedded.host import prepare_data_dir, system_account
from release.contents import ROOT
from release.trial import UV

OLDEST_POSTGRES = 15
PACKAGED = Path(f"/usr/lib/postgresql/{OLDEST_POSTGRES}/bin")
ENVIRONMENTS = ROOT / ".versions"

LONG = ("tests/e2e", "tests/chaos", "tests/cli/test_vendors_new.py")
"""Left out: they take minutes and use nothing that the others do not."""
WITHOUT_DATABASE = ("tests/eligibility", "tests/vendors", "tests/outbound", "tests/transport", "tests/sandbox")
EMBEDDED = ("tests/db/test_embedded.py", "tests/test_docs.py", "tests/test_release.py")
"""About the embedded server, or about no server: nothing to learn from another PostgreSQL."""


def main() -> int:
    results = [(f"Python {minor}", _with_python(minor)) for minor in promised()]
    results.append((f"PostgreSQL {OLDEST_POSTGRES}", _with_postgres()))
    print()
    for name, passed in results:
        print(f"{name}: {'not on this machine' if passed is None else 'passed' if passed else 'FAILED'}")
    return 1 if any(passed is False for _, passed in results) else 0


def promised() -> list[str]:
    """The minor versions of Python, from the metadata."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return re.findall(r"Python :: (3\.\d+)$", "\n".join(classifiers), re.MULTILINE)


def _with_python(minor: str) -> bool | None:
    interpreter = _interpreter(minor)
    if interpreter is None:
        return None
    environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENTS / minor)}
    subprocess.run([UV, "sync", "--quiet", "--locked", "--python", interpreter], cwd=ROOT, env=environment, check=True)
    return _tests(ENVIRONMENTS / minor / "bin" / "pytest", f"Python {minor}", LONG)


def _interpreter(minor: str) -> Path | None:
    """From the search path, else from pyenv, whose shims run only the version that was chosen."""
    name = f"python{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [shutil.which(name), *sorted(pyenv.glob(f"versions/{minor}.*/bin/{name}"))]
    return next((Path(path) for path in found if path and _runs(Path(path))), None)


def _runs(interpreter: Path) -> bool:
    return subprocess.run([interpreter, "-c", ""], check=False, capture_output=True).returncode == 0


def _with_postgres() -> bool | None:
    if not PACKAGED.is_dir() and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", f"postgresql-{OLDEST_POSTGRES}"], check=False)
    if not PACKAGED.is_dir():
        return None
    with _server() as url:
        left_out = (*LONG, *WITHOUT_DATABASE, *EMBEDDED)
        return _tests(
            ROOT / ".venv/bin/pytest", f"PostgreSQL {OLDEST_POSTGRES}", left_out, COVERGATE_TEST_DATABASE_URL=url
        )


@contextmanager
def _server() -> Iterator[str]:
    """The address of a server of that version, alone on a socket of its own."""
    with tempfile.TemporaryDirectory(prefix="cg") as directory:
        account = system_account() if os.geteuid() == 0 else None
        cluster = Cluster(prepare_data_dir(Path(directory)), OLDEST_POSTGRES, PACKAGED, account)
        create_cluster(cluster, durable=False)
        bring_up(cluster, durable=False)
        try:
            yield f"postgresql://postgres@/postgres?host={cluster.pgdata}"
        finally:
            shut_down(cluster)


def _tests(pytest: Path, name: str, left_out: tuple[str, ...], **variables: str) -> bool:
    print(f"\n{name}:", flush=True)
    ignored = [f"--ignore={path}" for path in left_out]
    command: list[str | Path] = [
        pytest,
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        *ignored,
    ]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
