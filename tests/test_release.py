"""What `make release` looks at, without the network: the files of the wheel, its metadata."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from release.contents import ROOT, wrong_with
from release.versions import OLDEST_POSTGRES, promised


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(directory.glob("*.whl"))


def test_the_wheel_has_the_files_of_the_repository_and_a_page_that_reads_well_alone(wheel: Path) -> None:
    assert wrong_with(wheel) == []


def test_what_is_wrong_with_a_wheel_is_told(wheel: Path, tmp_path: Path) -> None:
    changed = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith("METADATA"):
                content = content.replace(b"text/markdown", b"text/plain") + b"\n[a page](docs/api.md)\n"
            if name.endswith("LICENSE") or name == "covergate/payers/payers.json":
                continue
            after.writestr(name, content)
        after.writestr("tests/conftest.py", "")
    assert wrong_with(changed) == [
        "missing: covergate/payers/payers.json",
        "does not belong there: tests/conftest.py",
        "missing: the licence",
        "metadata: the description is not Markdown",
        "metadata: a link that leads nowhere outside the repository: ](docs/api.md)",
    ]


def test_what_is_promised_is_the_same_everywhere() -> None:
    pythons = promised()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r'"(3\.\d+)"', workflow.partition("python: [")[2].partition("]")[0]) == pythons
    readme = (ROOT / "README.md").read_text()
    assert f"Python {', '.join(pythons[:-1])} and {pythons[-1]}" in " ".join(readme.split())
    for name in ("README.md", ".env.example", "docs/operations.md"):
        assert set(re.findall(r"PostgreSQL (\d+) or later", (ROOT / name).read_text())) <= {str(OLDEST_POSTGRES)}, name
