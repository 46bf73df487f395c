"""The suite's own order: what tests share is in `support`, and folders are called like those of the source."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "covergate"
OF_THE_WHOLE = {"chaos", "corpus", "e2e", "support"}
"""Folders that belong to no package."""


def imported(path: Path) -> list[str]:
    """The modules that a file imports, wherever in it; what is imported from a package counts as a module, too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def test_nothing_imports_a_test_or_a_conftest() -> None:
    wrong = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in imported(path)
        for last in [name.rpartition(".")[2]]
        if last == "conftest" or (name.startswith(("tests.", ".")) and name.split(".")[-1].startswith("test_"))
    ]
    assert wrong == []


def test_folders_mirror_the_source() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert folders - packages == OF_THE_WHOLE
