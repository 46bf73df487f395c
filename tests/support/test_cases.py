"""How a case is like another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.cases import case_names, merge, read_case, repeated

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""The examples of its appendix A; but its `[1,2]` under an object, which here changes elements."""

OUR_OWN = [
    ([{"a": 1, "b": 2}, {"a": 3}], {"0": {"a": 4}}, [{"a": 4, "b": 2}, {"a": 3}]),
    ([1, 2, 3], {"0": None, "2": 4}, [2, 4]),
    ([1, 2], {"2": 3, "3": {"a": None}}, [1, 2, 3, {}]),
    ([], {"0": {"a": 1}}, [{"a": 1}]),
    ({"a": 1}, {"a": {"exactly": None}}, {"a": None}),
    ({"a": {"b": 1}}, {"a": {"exactly": {"c": None}}}, {"a": {"c": None}}),
    ([{"a": 1}], {"0": {"exactly": {"b": 2}}}, [{"b": 2}]),
    ({"a": {"b": 1}}, {"a": {"exactly": 1, "c": 2}}, {"a": {"b": 1, "exactly": 1, "c": 2}}),
]


@pytest.mark.parametrize(("base", "patch", "merged"), RFC_7396 + OUR_OWN)
def test_merge(base: Any, patch: Any, merged: Any) -> None:
    before = orjson.dumps([base, patch])
    assert merge(base, patch) == merged
    assert orjson.dumps([base, patch]) == before


@pytest.mark.parametrize("patch", [{"3": 1}, {"-1": 1}, {"01": 1}, {"reply": {}}, {"3": 1, "2": 1}])
def test_a_list_has_only_its_elements_and_the_next(patch: Any) -> None:
    with pytest.raises(ValueError, match="list of 2"):
        merge([1, 2], patch)


def written(folder: Path, **cases: Any) -> Path:
    (folder / "acme").mkdir()
    for name, case in cases.items():
        (folder / "acme" / f"{name}.json").write_bytes(orjson.dumps(case))
    return folder


def test_a_case_may_be_like_one_that_is_like_another(tmp_path: Path) -> None:
    cases = {
        "grandchild": {"like": "child", "title": "third", "checks": {"0": {"reply": 3}}},
        "child": {"like": "base", "title": "second", "checks": {"0": {"call": 2}}},
        "base": {"title": "first", "checks": [{"call": 1, "reply": 1}], "ref": "r"},
    }
    folder = written(tmp_path, **cases)
    assert case_names(folder) == [("acme", "base"), ("acme", "child"), ("acme", "grandchild")]
    assert read_case("acme", "base", folder) == cases["base"]
    assert read_case("acme", "grandchild", folder) == {
        "title": "third",
        "checks": [{"call": 2, "reply": 3}],
        "ref": "r",
    }


def test_cases_in_a_circle_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, a={"like": "b"}, b={"like": "c"}, c={"like": "b"})
    with pytest.raises(ValueError, match=r"acme are like each other in a circle: a → b → c → b"):
        read_case("acme", "a", folder)


def test_a_case_like_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"acme has no such case: a → elsewhere"):
        read_case("acme", "a", written(tmp_path, a={"like": "elsewhere"}))


@pytest.mark.parametrize(
    ("base", "patch", "pointers"),
    [
        ({"a": 1, "b": {"c": 1, "d": 1}}, {"a": 2, "b": {"c": 1, "d": 2}}, ["/b/c"]),
        ({"a": 1}, {"a": 2, "b": None}, ["/b"]),
        ({"a": 1, "b": {"c": 1}}, {"a": 2, "b": {}}, ["/b"]),
        ({"a": [{"b": 1, "c": 1}]}, {"a": {"0": {"b": 1, "c": 2}}}, ["/a/0/b"]),
        ({"a": 1, "b": [1]}, {"a": 2, "b": [1]}, ["/b"]),
        ({"a": 1, "b": {"c": 1}}, {"a": 2, "b": {"exactly": {"c": 1}}}, ["/b"]),
        ({"a": {"b": 1, "c": 1}}, {"a": {"exactly": {"b": 1}}}, []),
        ({"a": None}, {"a": None}, []),
        ({"a": 1}, {"a": 1}, [""]),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1.0, "b": True, "c": "1"}, []),
    ],
)
def test_what_a_patch_repeats(base: Any, patch: Any, pointers: list[str]) -> None:
    assert list(repeated(base, patch)) == pointers
