"""The house's own rules, checked over the source: no setting unread, no name dead or defined twice, no table without an end.

Where a rule is broken today, the set beside it says by what. Such a set only shrinks.
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
from tests.support.source_words import source_words, statements

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "covergate"
CODE = ("src", "tests", "migrations", "benchmarks")
THIS = Path(__file__)

FOUND_BY = r"^\w+\.(command|callback|get|post|patch|delete)\b"


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def public_names() -> Iterator[tuple[str, str]]:
    """(module, name) of each function, class and constant that a module defines without an underscore.

    Functions that a router or a command line finds by their decorator have no name to anyone else.
    """
    for path, tree in trees().items():
        for node in tree.body:
            names: list[str] = []
            if any(re.search(FOUND_BY, ast.unparse(decorator)) for decorator in getattr(node, "decorator_list", ())):
                continue
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


def mentions() -> Counter[str]:
    """Names in code, in short strings (`setattr`, `import_module`) and in f-strings, and the words of the vendor template."""
    found: Counter[str] = Counter()
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*") if path != THIS):
        if path.suffix == ".txt":
            found.update(re.findall(r"\w+", path.read_text()))
        elif path.suffix == ".py":
            for kind, word, _ in source_words(path.read_text()):
                if kind == "name":
                    found[word] += 1
                elif kind == "string":
                    found.update(re.findall(r"\w+" if len(word) < 80 else r"(?<=\{)\w+", word))
    return found


DEAD: set[str] = set()


def test_no_public_name_is_dead() -> None:
    found = mentions()
    assert {f"{module}.{name}" for module, name in public_names() if found[name] < 2} - DEAD == set()


SAME_FOR_EACH = {"log", "router", "app", "build", "submit", "check", "find", "KEPT", "default_deadline"}
"""Names that mean the same thing of each module."""

FORM = {
    "VENDOR",
    "answer_of",
    "authenticate",
    "check",
    "find",
    "list_payers",
    "not_asked_of",
    "probe",
    "read_event",
    "rejection_of",
    "request_of",
    "submit",
    "verify_event",
}
"""The form of a vendor: the names that several may define, each once."""


def vendor_of(module: str) -> str | None:
    owner = module.split(".")[1] if module.startswith("vendors.") else None
    return owner if owner in VENDORS else None


def names_twice() -> dict[str, list[str]]:
    """Name → the modules that define it, if they are more than one; for a name of the form, one module of each vendor."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for module, name in public_names():
        owners[name].append(module)
    twice = {}
    for name, modules in owners.items():
        homes = {"a vendor" if name in FORM and vendor_of(module) else module for module in modules}
        vendors = [vendor for module in modules if (vendor := vendor_of(module))]
        if len(homes) > 1 or len(vendors) > len(set(vendors)):
            twice[name] = modules
    return twice


def test_no_public_name_is_defined_twice() -> None:
    assert {name: modules for name, modules in names_twice().items() if name not in SAME_FOR_EACH} == {}


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
        for node in statements(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
                names = {alias.name for alias in node.names}
                if not module.startswith("db.") and names - {"AsyncConnection"}:
                    senders.add(module)
    assert senders - SQLALCHEMY_OUTSIDE_DB == set()


ONCE: dict[str, set[str]] = {
    r"covergate_ended": set(),
    r"'queued', 'in_progress'|\"queued\", \"in_progress\"": set(),
    r"\bDRAIN_SECONDS\b\w*(: float)? = ": set(),
    r"interval '(24 hours|30 days)'": set(),
}
"""What one module alone may write (a regular expression) → the modules that write it besides, today."""


@pytest.mark.parametrize("written", ONCE)
def test_a_constant_is_written_once(written: str) -> None:
    writers = {module_of(path) for path in trees() if re.search(written, path.read_text())}
    assert len(writers - ONCE[written]) <= 1
