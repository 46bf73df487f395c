"""The house's own rules, checked over the source: no setting unread, no name dead or defined twice, no table without an end.

Where a rule is broken today, the set beside it says by what. Such a set only shrinks: an entry that is mended must go.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from covergate.db.tables import metadata
from covergate.retention import KEPT
from covergate.sandbox.settings import SandboxSettings
from covergate.settings import Settings
from covergate.vendors import VENDORS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "covergate"
TEXTS = ("src", "tests", "migrations", "docs", "benchmarks")
SUFFIXES = {".py", ".txt", ".md", ".html", ".js", ".toml", ".mako"}
THIS = Path(__file__)


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def public_names() -> Iterator[tuple[str, str]]:
    """(module, name) of each function, class and constant that a module defines without an underscore."""
    for path, tree in trees().items():
        for node in tree.body:
            names: list[str] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((module_of(path), name) for name in names if not name.startswith("_"))


def attributes_read() -> dict[str, set[str]]:
    """Attribute → the last names of what it is read from: `gateway.settings.port` is `port` of `settings`."""
    read: defaultdict[str, set[str]] = defaultdict(set)
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = node.value
                read[node.attr].add(owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", ""))
    return read


def test_every_setting_is_read() -> None:
    read = attributes_read()
    unread = [name for name in Settings.model_fields if not read[name] & {"settings"}]
    unread += [name for name in SandboxSettings.model_fields if not read[name] & {"settings"}]
    for vendor in VENDORS.values():
        unread += [
            f"{vendor.name}.{name}"
            for name in vendor.connection.model_fields
            if not read[name] & {"connection", "self", "question"}
        ]
    assert unread == []


NAMED_FROM_OUTSIDE: set[str] = {"router"}
"""Found by name: routers by the app that includes every module's."""


def test_no_public_name_is_dead() -> None:
    words: Counter[str] = Counter()
    for folder in TEXTS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES and path != THIS:
                words.update(re.findall(r"\w+", path.read_text()))
    dead = {f"{module}.{name}" for module, name in public_names() if words[name] < 2 and name not in NAMED_FROM_OUTSIDE}
    assert dead == set()


SAME_FOR_EACH = {
    *("log", "router", "KEPT"),
    *("VENDOR", "submit", "check", "find", "authenticate", "list_payers", "read_event", "verify_event"),
}
"""Names that mean the same thing of each module or vendor."""


DEFINED_TWICE: set[str] = set()


def test_no_public_name_is_defined_twice() -> None:
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for module, name in public_names():
        owners[name].append(module)
    twice = {name: modules for name, modules in owners.items() if len(modules) > 1 and name not in SAME_FOR_EACH}
    assert {name: modules for name, modules in twice.items() if name not in DEFINED_TWICE} == {}
    assert set(twice) >= DEFINED_TWICE, "mended: take it out of the set"


def test_every_table_says_how_long_its_rows_are_kept() -> None:
    assert set(metadata.tables) - set(KEPT) == set()
    for table, kept in KEPT.items():
        assert kept.why
        if table in metadata.tables and kept.span is not None:
            assert kept.since in metadata.tables[table].columns


SQLALCHEMY_OUTSIDE_DB: set[str] = set()


def test_sql_is_sent_by_query_alone() -> None:
    """SQLAlchemy outside `db/` is the type of a connection, nothing that makes or sends a statement."""
    senders = set()
    for path, tree in trees().items():
        module = module_of(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
                names = {alias.name for alias in node.names}
                if not module.startswith("db.") and names - {"AsyncConnection"}:
                    senders.add(module)
    assert senders - SQLALCHEMY_OUTSIDE_DB == set()
    assert senders >= SQLALCHEMY_OUTSIDE_DB, "mended: take it out of the set"


ONCE = {
    r"covergate_ended": set(),
    r"'queued', 'in_progress'|\"queued\", \"in_progress\"": set(),
    r"[\"']24 hours[\"']": set(),
    r"[\"']30 days[\"']": set(),
    r"\bDRAIN_SECONDS\b\w*(: float)? = ": set(),
}
"""What only one module may write (a regular expression) → the modules that write it besides, today."""


@pytest.mark.parametrize("written", ONCE)
def test_a_constant_is_written_once(written: str) -> None:
    writers = {module_of(path) for path in trees() if re.search(written, path.read_text())}
    assert len(writers) <= 1 or writers == ONCE[written]
