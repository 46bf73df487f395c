"""`/docs`: Swagger UI, served from the package so that the page needs no other server. Its origin: docs/decisions.md."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response

from covergate.errors import Problem

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent / "static"
FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "docs.js": "text/javascript",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CoverGate API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/docs.js"></script>
</body>
</html>
"""


@router.get("/docs")
async def docs() -> Response:
    return Response(DOCS_PAGE, media_type="text/html", headers={"content-security-policy": POLICY})


@router.get("/docs/{name}")
async def docs_file(name: str) -> Response:
    if name not in FILES:
        raise Problem("not_found", "there is nothing here")
    content = (STATIC / name).read_bytes()
    return Response(content, media_type=FILES[name], headers={"cache-control": "max-age=3600"})
