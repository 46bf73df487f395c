"""`covergate vendors new`, in a copy of this checkout: what it writes runs, and fails by a list of what is left to fill in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from covergate.cli.vendor_template import MARK, CannotWrite, left_to_fill_in, write
from tests.support.commands import bare_environment

HERE = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a vendor's files stand in."""
    leave_out = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", "e2e")
    for folder in ("src", "tests", "docs", "migrations"):
        shutil.copytree(HERE / folder, tmp_path / folder, ignore=leave_out)
    for file in (".env.example", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE / file, tmp_path / file)
    return tmp_path


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**bare_environment(), "PYTHONPATH": str(checkout / "src")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


SIX_FILES = ["__init__", "answer", "codes", "connection", "flows", "request"]
WANTED = "acme_health or fill_in or folder or env_example or every_variable"


def conformance(checkout: Path, wanted: str = WANTED) -> subprocess.CompletedProcess[str]:
    return run(
        checkout,
        "-m",
        "pytest",
        "tests/vendors/test_conformance.py",
        "tests/vendors/test_not_asked.py",
        "tests/test_env_example.py",
        "-k",
        wanted,
        "-p",
        "no:cacheprovider",
        "-rf",
    )


def test_a_new_vendor_runs_and_the_conformance_test_lists_what_is_left(checkout: Path) -> None:
    made = run(
        checkout,
        "-c",
        "from covergate.cli.main import main; main()",
        "vendors",
        "new",
        "acme_health",
        "--title",
        "Acme (Health)",
    )
    assert made.returncode == 0, made.stderr
    written = made.stdout.split()
    folder = checkout / "src/covergate/vendors/acme_health"
    assert sorted(path.stem for path in folder.iterdir()) == SIX_FILES
    assert "docs/vendors/acme_health.md" in written
    for path in written:
        assert (checkout / path).is_file()
        assert not re.search("@(NAME|UPPER|CLASS|TITLE)@", (checkout / path).read_text())

    tested = conformance(checkout)
    failed = [line for line in tested.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1, tested.stdout
    assert "test_nothing_is_left_to_fill_in" in failed[0]
    left = left_to_fill_in(checkout)
    assert {line.partition(":")[0] for line in left} == set(written) - {
        "src/covergate/vendors/__init__.py",
        "src/covergate/sandbox/app.py",
    }
    assert all(line in tested.stdout for line in left)

    sources: list[str] = [path for path in written if path.endswith(".py")]
    for command in ("format --check", "check"):
        subprocess.run([str(BIN / "ruff"), *command.split(), *sources], cwd=checkout, check=True, capture_output=True)
    types = run(checkout, "-m", "mypy", "src/covergate/vendors/acme_health", "src/covergate/sandbox/acme_health.py")
    assert types.returncode == 0, types.stdout

    for path in written:
        file = checkout / path
        file.write_text(file.read_text().replace(MARK, "Filled in"))
    assert left_to_fill_in(checkout) == []
    assert conformance(checkout, "fill_in").returncode == 0


@pytest.mark.parametrize("name", ["zz_health", "aardvark", "integrated"])
def test_imports_stay_in_order_whatever_the_name(checkout: Path, name: str) -> None:
    write(checkout, name)
    command = [str(BIN / "ruff"), "check", "--select", "I", "src/covergate/vendors", "src/covergate/sandbox"]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)


@pytest.mark.parametrize(
    "name", ["sohar", "flow", "world", "Acme", "acme-health", "1acme", "class", "", "model_dump", "a" * 31]
)
def test_a_name_that_cannot_be_writes_nothing(checkout: Path, name: str) -> None:
    before = sorted(checkout.rglob("*"))
    with pytest.raises(CannotWrite):
        write(checkout, name)
    assert sorted(checkout.rglob("*")) == before


def test_only_in_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="checkout"):
        write(tmp_path, "acme_health")


def test_a_registry_of_another_form_is_left_alone(checkout: Path) -> None:
    registry = checkout / "src/covergate/vendors/__init__.py"
    registry.write_text(
        registry.read_text().replace("_ALL: tuple[Vendor, ...] = (", "_ALL = list(").replace(")\n\nVENDORS", ")\nV")
    )
    with pytest.raises(CannotWrite, match="by hand"):
        write(checkout, "acme_health")
    assert not (checkout / "src/covergate/vendors/acme_health").exists()
