from __future__ import annotations

import pytest
from fastapi import Request

from covergate.api.http import wait_seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["wait=10"], 10),
        (["Wait=10"], 10),
        (["wait = 10"], 10),
        (['wait="10"'], 10),
        (["wait=0"], 0),
        (["wait=007"], 7),
        (["wait=61"], 60),
        (["wait=" + "9" * 6000], 60),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5; strict=true, return=minimal"], 5),
        (["wait=5, wait=9"], 5),
        (['note="wait=9, wait=8", wait=5'], 5),
        (["foo; wait=9, wait=5"], 5),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon, wait=5"], 5),
        (["wait=１"], None),
        (['wait="10'], None),
        (["wait=10s"], None),
    ],
)
def test_what_wait_means(headers: list[str], seconds: int | None) -> None:
    raw = [(b"prefer", header.encode()) for header in headers]
    assert wait_seconds(Request({"type": "http", "headers": raw})) == seconds
