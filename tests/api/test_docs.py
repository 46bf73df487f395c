from __future__ import annotations

import re

import httpx

from covergate.api.docs import FILES, STATIC


async def test_the_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "http:" not in page.text and "https:" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "http" not in policy
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sorted(path for path in loaded if path != "data:,") == sorted(f"/docs/{name}" for name in FILES)
    for path in loaded:
        if path.startswith("/"):
            answer = await client.get(path)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/")
    assert "<script>" not in page.text


async def test_our_script_and_the_style_name_no_other_server(client: httpx.AsyncClient) -> None:
    script = (await client.get("/docs/docs.js")).text
    assert "http" not in script and "validatorUrl: null" in script
    assert "shown.webhooks[type] = shown.components.pathItems[type]" in script  # else it would show none of them
    style = (await client.get("/docs/swagger-ui.css")).text
    assert not re.search(r"url\(['\"]?(?!['\"]?data:)", style) and "@import" not in style


async def test_only_those_files(client: httpx.AsyncClient) -> None:
    for name in ("nothing.js", "LICENSE.swagger-ui.txt", "..%2fdocs.py"):
        assert (await client.get(f"/docs/{name}")).status_code == 404
    assert "Apache License" in (STATIC / "LICENSE.swagger-ui.txt").read_text()
