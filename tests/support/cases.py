"""The vendors' cases, `tests/vendors/<vendor>/<name>.json`: read here and nowhere else.

A case stands in full, or is `like` another case of its vendor and says only what is different:

    {
      "like": "check_active",
      "title": "the subscriber's plan has ended",
      "exchanges": {"0": {"reply": {"body": {"status": "ended"}}}},
      "progress": {"answered": {"outcome": "ineligible", "reason": "inactive"}}
    }

All but `like` is a JSON merge patch (RFC 7396) over that case, which may itself be like another: objects are merged, `null`
removes a key, any other value replaces the one that was there, lists as a whole. In two ways it can say more:

- An object over a list changes elements by their number in that list: `{"0": {"reply": {"status": 404}}, "2": null}` changes
  the first and removes the third. The number after the last adds an element.
- `{"exactly": value}` is the value as it stands, with nothing merged into it; its nulls are nulls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parents[1] / "vendors"


def case_names(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """Vendor and name of every case, sorted."""
    return [(path.parent.name, path.stem) for path in sorted(folder.glob("*/*.json"))]


def read_case(vendor: str, name: str, folder: Path = FOLDER, followed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The case in full, without its `like`. Raises ValueError for a `like` that leads nowhere or round in a circle."""
    path = (*followed, name)
    if name in followed:
        raise ValueError(f"cases of {vendor} are like each other in a circle: {' → '.join(path)}")
    try:
        case = read_patch(vendor, name, folder)
    except FileNotFoundError:
        raise ValueError(f"{vendor} has no such case: {' → '.join(path)}") from None
    if "like" not in case:
        return case
    full: dict[str, Any] = merge(read_case(vendor, case.pop("like"), folder, path), case)
    return full


def read_patch(vendor: str, name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The case as its file has it, with its `like`."""
    case: dict[str, Any] = orjson.loads((folder / vendor / f"{name}.json").read_bytes())
    return case


def merge(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if patch.keys() == {"exactly"}:
        return patch["exactly"]
    if isinstance(base, list):
        elements = _numbered(base)
        added = [number for number in patch if number not in elements]
        if added != [str(len(base) + offset) for offset in range(len(added))]:
            raise ValueError(f"{', '.join(added)}: no elements of a list of {len(base)}, and not the next after them")
        return list(merge(elements, patch).values())
    merged = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def repeated(base: Any, patch: Any, pointer: str = "") -> Iterator[str]:
    """Pointers to what the patch says although the base is so already."""
    if isinstance(base, list):
        base = _numbered(base) if isinstance(patch, dict) else base
    if _same(merge(base, patch), base):
        yield pointer
    elif isinstance(base, dict) and isinstance(patch, dict) and patch.keys() != {"exactly"}:
        for key, value in patch.items():
            if key in base and value is not None:
                yield from repeated(base[key], value, f"{pointer}/{key}")
            elif key not in base and value is None:
                yield f"{pointer}/{key}"


def _numbered(elements: list[Any]) -> dict[str, Any]:
    return {str(number): element for number, element in enumerate(elements)}


def _same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1, and 1 is not 1.0."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
