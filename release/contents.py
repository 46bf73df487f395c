"""Whether a wheel and its metadata are what the repository says: the same files, and a page that reads well alone.

What `twine check --strict` looks at is looked at here too: the metadata are parsed strictly, and the description is Markdown.
"""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

from packaging.metadata import InvalidMetadata, Metadata

ROOT = Path(__file__).parents[1]
PLACES = {"src/covergate/": "covergate/", "migrations/": "covergate/migrations/"}
"""Where the repository's files are in a wheel; everything else stays out."""

RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:|#)[^)]*\)")


def wrong_with(wheel: Path) -> list[str]:
    """A line for each thing that is wrong; empty if the wheel may be published."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
    packed = {name for name in names if ".dist-info/" not in name}
    expected = _expected()
    wrong = [f"missing: {name}" for name in sorted(expected - packed)]
    wrong += [f"does not belong there: {name}" for name in sorted(packed - expected)]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        wrong.append("missing: the licence")
    return wrong + _wrong_with_metadata(metadata)


def _expected() -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PLACES]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {
        name.replace(place, packed, 1)
        for name in listed.stdout.splitlines()
        for place, packed in PLACES.items()
        if name.startswith(place) and (ROOT / name).exists()
    }


def _wrong_with_metadata(content: bytes) -> list[str]:
    try:
        metadata = Metadata.from_email(content, validate=True)
    except ExceptionGroup as errors:
        return [f"metadata: {error}" for error in errors.exceptions if isinstance(error, InvalidMetadata)]
    wrong = []
    if metadata.description_content_type != "text/markdown":
        wrong.append("metadata: the description is not Markdown")
    links = RELATIVE_LINK.findall(metadata.description or "")
    return wrong + [f"metadata: a link that leads nowhere outside the repository: {link}" for link in links]
