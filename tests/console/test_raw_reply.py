"""A raw reply as lines: what a pointer of a result's `sources` leads to is marked, and nothing else."""

from __future__ import annotations

import json
import re

import pytest

from covergate.console.raw_reply import address_in_raw, lines_of

CONTENT = b"""{"plan": {"copay ($)": 30.10, "total": 1e3, "a/b": null},
 "rows": [{"left": 1234567890123456789.50}, "x"], "held": "{\\"elig\\": {\\"n\\": [1.0, {}]}}", "name": "Z\\u00f6e"}"""


def marked(at: str | None) -> list[str]:
    return [line.text for line in lines_of(CONTENT, at) if line.is_marked]


@pytest.mark.parametrize(
    ("at", "lines"),
    [
        ("/body/plan/copay ($)", ['"copay ($)": 30.10,']),
        ("/body/plan/a~1b", ['"a/b": null']),
        ("/body/rows/0/left", ['"left": 1234567890123456789.50']),
        ("/body/rows/0", ["{", '"left": 1234567890123456789.50', "},"]),
        ("/body/held#/elig/n/0", ["1.0,"]),
        ("/body/name", ['"name": "Zöe"']),
        ("/body/nowhere", []),
        (None, []),
    ],
)
def test_the_element_at_the_pointer_is_marked(at: str | None, lines: list[str]) -> None:
    assert marked(at) == lines


def test_the_lines_are_the_reply_as_it_came() -> None:
    text = "".join(line.text for line in lines_of(b'{"a": [1.50, "b", true, null, {}], "c": {"d": []}}', None))
    assert json.loads(text, parse_float=str) == {"a": ["1.50", "b", True, None, {}], "c": {"d": []}}


def test_a_value_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        lines_of(b"<html>", None)


def test_a_source_leads_to_its_reply() -> None:
    address = address_in_raw("/exchanges/2/body/rows/0/copay ($)&x#/n")
    assert address == "raw?exchange=2&at=/body/rows/0/copay%20%28%24%29%26x%23/n#here"


@pytest.mark.parametrize("source", ["/request/payer", "/exchanges/x/body/a", "https://elsewhere/", ""])
def test_what_is_no_place_in_a_reply_has_no_address(source: str) -> None:
    assert address_in_raw(source) is None


def test_a_deeply_nested_reply_is_shown() -> None:
    depth = 150
    lines = lines_of(b"[" * depth + b"]" * depth, None)
    assert max(line.indent for line in lines) == depth - 1
    assert not re.search(r"\S\s+\S", "".join(line.text for line in lines))
