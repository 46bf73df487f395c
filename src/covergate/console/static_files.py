"""Style, scripts and libraries of the pages, from the package; an address changes with the file, so browsers may keep it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Response

from covergate.errors import Problem

router = APIRouter()

_FILES = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_CONTENTS = {path.name: path.read_bytes() for path in sorted(_FILES.iterdir()) if path.suffix in _TYPES}
_VERSIONS = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in _CONTENTS.items()}


def address_of(name: str) -> str:
    return f"/console/static/{_VERSIONS[name]}/{name}"


@router.get("/static/{version}/{name}")
async def static_file(version: str, name: str) -> Response:
    if _VERSIONS.get(name) != version:
        raise Problem("not_found", "There is no such file.")
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_CONTENTS[name], media_type=_TYPES[Path(name).suffix], headers=kept)
