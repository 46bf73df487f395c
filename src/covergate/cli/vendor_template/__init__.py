"""The vendor that `covergate vendors new NAME` writes: it runs, in an invented dialect, with FILL IN wherever a fact is missing.

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

_VENDORS, _SANDBOXES, _CASES = Path("src/covergate/vendors"), Path("src/covergate/sandbox"), Path("tests/vendors")
_PAGES = Path("docs/vendors")
_REGISTRY, _SANDBOX_APP = _VENDORS / "__init__.py", _SANDBOXES / "app.py"
_OVERVIEW, _ENVIRONMENT = Path("docs/vendors.md"), Path(".env.example")

_SIX_FILES = {
    "__init__": "vendor",
    "connection": "connection",
    "flows": "flows",
    "request": "request",
    "answer": "answer",
    "codes": "codes",
}
"""Module → the template that it is written from."""


class CannotWrite(Exception):
    """The reason, in one line that says what would be right."""


def write(checkout: Path, name: str, title: str | None = None) -> list[Path]:
    """The files that were written or changed, relative to the checkout. Raises CannotWrite."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 30 or keyword.iskeyword(name):
        raise CannotWrite("a vendor's name is lower case, words joined by underscores, like acme_health")
    if not (checkout / _REGISTRY).is_file():
        raise CannotWrite("this is not a checkout of CoverGate: go to one, or name it with --directory")
    taken = any(
        (checkout / folder / file).exists()
        for folder in (_VENDORS, _SANDBOXES, _PAGES)
        for file in (name, f"{name}.py", f"{name}.md")
    )
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
        *(checkout / _VENDORS).glob("*/*.py"),
        *(checkout / _SANDBOXES).glob("*.py"),
        *(checkout / _CASES).glob("*/*.json"),
        *(checkout / _PAGES).glob("*.md"),
    ]
    for path in sorted([*paths, checkout / _OVERVIEW, checkout / _ENVIRONMENT]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MARK in line:
                found.append(f"{path.relative_to(checkout)}:{number}: {line.strip()}")
    return found


def _new_files(words: dict[str, str]) -> dict[Path, str]:
    files = resources.files(__package__).joinpath("files")
    name = words["NAME"]
    templates = {
        **{_VENDORS / name / f"{module}.py": template for module, template in _SIX_FILES.items()},
        _SANDBOXES / f"{name}.py": "sandbox",
        _PAGES / f"{name}.md": "page",
    }
    contents = {
        path: _in_order(_filled(files.joinpath(f"{template}.txt").read_text("utf-8"), words))
        for path, template in templates.items()
    }
    for case in sorted(files.joinpath("cases").iterdir(), key=lambda file: file.name):
        contents[_CASES / name / case.name.removesuffix(".txt")] = case.read_text("utf-8")
    return contents


def _changed_files(checkout: Path, words: dict[str, str]) -> dict[Path, str]:
    changes: dict[Path, Callable[[str, dict[str, str]], str]] = {
        _REGISTRY: _registered,
        _SANDBOX_APP: _in_sandbox,
        _OVERVIEW: _documented,
        _ENVIRONMENT: _in_environment,
    }
    return {path: change((checkout / path).read_text(encoding="utf-8"), words) for path, change in changes.items()}


def _registered(text: str, words: dict[str, str]) -> str:
    base = "from covergate.vendors.vendor import Vendor\n"
    new = f"from covergate.vendors.{words['NAME']} import VENDOR as {words['UPPER']}\n"
    text = _in_order(_once(text, base, base + new, _REGISTRY))
    return _once(
        text, r"(_ALL: tuple\[Vendor, \.\.\.\] = \([^)]*?),?(\s*\))", rf"\1, {words['UPPER']}\2", _REGISTRY, True
    )


def _in_sandbox(text: str, words: dict[str, str]) -> str:
    found = re.search(r"^from covergate\.sandbox import ([\w, ]+)\n", text, re.MULTILINE)
    names = found.group(1).split(", ") if found else []
    imported = f"from covergate.sandbox import {', '.join(sorted([*names, words['NAME']]))}\n"
    text = _once(text, found.group(0) if found else "", imported, _SANDBOX_APP)
    entry = f'    "{words["NAME"]}": {words["NAME"]}.build,\n'
    return _once(text, r"(_VENDORS: dict\[.*\] = \{\n(?:    .*\n)*)(\})", rf"\1{entry}\2", _SANDBOX_APP, True)


def _documented(text: str, words: dict[str, str]) -> str:
    """A column in the table of capabilities, headed by a link to the vendor's page."""
    head, heading, rest = text.partition("## Capabilities\n")
    rows = rest.split("\n")
    first = next((number for number, line in enumerate(rows) if line.startswith("|")), None)
    if not heading or first is None:
        raise CannotWrite(f"{_OVERVIEW} no longer has a table of capabilities")
    cells = [f"[{words['TITLE']}](vendors/{words['NAME']}.md)", "---"]
    for number in range(first, len(rows)):
        if not rows[number].startswith("|"):
            break
        rows[number] += f" {cells.pop(0) if cells else MARK} |"
    return head + heading + "\n".join(rows)


def _in_environment(text: str, words: dict[str, str]) -> str:
    """The variables with the new vendor's after the last one's."""
    block = _filled(resources.files(__package__).joinpath("files/env.txt").read_text("utf-8"), words)
    head, heading, rest = text.partition("# --- Not of the gateway")
    return f"{head.rstrip()}\n\n{block}" + (f"\n{heading}{rest}" if heading else "")


def _once(text: str, old: str, new: str, path: Path, is_pattern: bool = False) -> str:
    changed = re.sub(old, new, text, count=1) if is_pattern else text.replace(old, new, 1)
    if not old or changed == text:
        raise CannotWrite(f"{path} no longer has the form that this command knows: add the vendor there by hand")
    return changed


def _in_order(text: str) -> str:
    """The text with our imports sorted by module: where a new one stands depends on its name."""

    def ordered(block: re.Match[str]) -> str:
        statements = re.findall(r"from covergate\S* import (?:\([^)]*\)|[^\n(]*)\n", block.group(0))
        return "".join(sorted(statements, key=lambda statement: statement.split()[1]))

    return re.sub(r"(?:^from covergate\S* import (?:\([^)]*\)|[^\n(]*)\n)+", ordered, text, flags=re.MULTILINE)


def _filled(template: str, words: dict[str, str]) -> str:
    return re.sub(r"@(NAME|UPPER|CLASS|TITLE)@", lambda found: words[found.group(1)], template)
