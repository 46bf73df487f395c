"""What `covergate vendors new NAME` writes: a vendor that runs, in an invented dialect, with FILL IN wherever a fact is missing.

Invariant: nothing is written unless everything can be; a name that is taken is refused. The conformance test fails, with a
list, until no FILL IN is left.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

MARK = "FILL IN"

VENDORS, SANDBOXES, CASES = Path("src/covergate/vendors"), Path("src/covergate/sandbox"), Path("tests/vendors")
REGISTRY, SANDBOX, DOCS, ENVIRONMENT = (
    VENDORS / "__init__.py",
    SANDBOXES / "app.py",
    Path("docs/vendors.md"),
    Path(".env.example"),
)


class CannotWrite(Exception):
    """One line that says what would be right."""


def write(checkout: Path, name: str, title: str | None = None) -> list[Path]:
    """The files that were written or changed, relative to the checkout. Raises CannotWrite."""
    known = (VENDORS, SANDBOXES)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 30 or keyword.iskeyword(name):
        raise CannotWrite("a vendor's name is lower case, words joined by underscores, like acme_health")
    if not (checkout / REGISTRY).is_file():
        raise CannotWrite("this is no checkout of CoverGate: go to one, or name it with --directory")
    taken = any((checkout / folder / found).exists() for folder in known for found in (name, f"{name}.py"))
    if taken or name in ("check", "vendor", "vendors") or hasattr(BaseModel, name):
        raise CannotWrite("this name is taken: choose another")
    if title is not None and not re.fullmatch(r"[\w .&'()-]{1,60}", title):
        raise CannotWrite("a title has 1 to 60 letters, digits, blanks and . & ' ( ) -")
    words = {
        "NAME": name,
        "UPPER": name.upper(),
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "TITLE": title or " ".join(part.capitalize() for part in name.split("_")),
    }
    contents = _new_files(words) | _changed_files(checkout, words)
    for path, content in contents.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(content, encoding="utf-8")
    return list(contents)


def left_to_fill_in(checkout: Path) -> list[str]:
    """Every FILL IN of every vendor: `path:line: text`."""
    found = []
    paths = [
        *(checkout / VENDORS).glob("*/*.py"),
        *(checkout / SANDBOXES).glob("*.py"),
        *(checkout / CASES).glob("*/*.json"),
    ]
    for path in sorted([*paths, checkout / DOCS, checkout / ENVIRONMENT]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MARK in line:
                found.append(f"{path.relative_to(checkout)}:{number}: {line.strip()}")
    return found


def _new_files(words: dict[str, str]) -> dict[Path, str]:
    files = resources.files(__package__).joinpath("files")
    folder = VENDORS / words["NAME"]
    sources = {
        folder / "__init__.py": "vendor.txt",
        folder / "flows.py": "flows.txt",
        folder / "codes.py": "codes.txt",
        SANDBOXES / f"{words['NAME']}.py": "sandbox.txt",
    }
    written = {
        path: _in_order(_filled(files.joinpath(source).read_text("utf-8"), words)) for path, source in sources.items()
    }
    for case in sorted(files.joinpath("cases").iterdir(), key=lambda file: file.name):
        written[CASES / words["NAME"] / case.name.removesuffix(".txt")] = case.read_text("utf-8")
    return written


def _changed_files(checkout: Path, words: dict[str, str]) -> dict[Path, str]:
    changes: dict[Path, Callable[[str, dict[str, str]], str]] = {
        REGISTRY: _registered,
        SANDBOX: _in_sandbox,
        DOCS: _documented,
        ENVIRONMENT: _in_environment,
    }
    return {path: change((checkout / path).read_text(encoding="utf-8"), words) for path, change in changes.items()}


def _registered(text: str, words: dict[str, str]) -> str:
    base = "from covergate.vendors.vendor import Vendor\n"
    new = f"from covergate.vendors.{words['NAME']} import VENDOR as {words['UPPER']}\n"
    text = _in_order(_once(text, base, base + new, REGISTRY))
    return _once(
        text, r"(_ALL: tuple\[Vendor, \.\.\.\] = \([^)]*?),?(\s*\))", rf"\1, {words['UPPER']}\2", REGISTRY, True
    )


def _in_sandbox(text: str, words: dict[str, str]) -> str:
    found = re.search(r"^from covergate\.sandbox import ([\w, ]+)\n", text, re.MULTILINE)
    names = found.group(1).split(", ") if found else []
    imported = f"from covergate.sandbox import {', '.join(sorted([*names, words['NAME']]))}\n"
    text = _once(text, found.group(0) if found else "", imported, SANDBOX)
    entry = f'    "{words["NAME"]}": {words["NAME"]}.build,\n'
    return _once(text, r"(VENDORS: dict\[.*\] = \{\n(?:    .*\n)*)(\})", rf"\1{entry}\2", SANDBOX, True)


def _documented(text: str, words: dict[str, str]) -> str:
    """A column in the table of capabilities and a section at the end."""
    head, heading, rest = text.partition("## Capabilities\n")
    rows = rest.split("\n")
    first = next((number for number, line in enumerate(rows) if line.startswith("|")), None)
    if not heading or first is None:
        raise CannotWrite(f"{DOCS} has no table of capabilities any more")
    cells = [words["TITLE"], "---"]
    for number in range(first, len(rows)):
        if not rows[number].startswith("|"):
            break
        rows[number] += f" {cells.pop(0) if cells else MARK} |"
    section = resources.files(__package__).joinpath("files/section.txt").read_text("utf-8")
    return head + heading + "\n".join(rows).rstrip("\n") + "\n" + _filled(section, words)


def _in_environment(text: str, words: dict[str, str]) -> str:
    """After the last vendor's block."""
    block = _filled(resources.files(__package__).joinpath("files/env.txt").read_text("utf-8"), words)
    head, heading, rest = text.partition("# --- Not of the gateway")
    return f"{head.rstrip()}\n\n{block}" + (f"\n{heading}{rest}" if heading else "")


def _once(text: str, old: str, new: str, path: Path, is_pattern: bool = False) -> str:
    changed = re.sub(old, new, text, count=1) if is_pattern else text.replace(old, new, 1)
    if not old or changed == text:
        raise CannotWrite(f"{path} has not the form that this command knows any more: add the vendor there by hand")
    return changed


def _in_order(text: str) -> str:
    """With our imports sorted by module: where a new one stands depends on its name."""

    def ordered(block: re.Match[str]) -> str:
        statements = re.findall(r"from covergate\S* import (?:\([^)]*\)|[^\n(]*)\n", block.group(0))
        return "".join(sorted(statements, key=lambda statement: statement.split()[1]))

    return re.sub(r"(?:^from covergate\S* import (?:\([^)]*\)|[^\n(]*)\n)+", ordered, text, flags=re.MULTILINE)


def _filled(template: str, words: dict[str, str]) -> str:
    return re.sub(r"@(NAME|UPPER|CLASS|TITLE)@", lambda found: words[found.group(1)], template)
