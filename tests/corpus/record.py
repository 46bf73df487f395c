"""`readings.txt`: by which rules each sample was last read (`MAPPING_VERSION`), and a digest of each reading.

A reading that changes while the rules keep their name would tell two results of one `mapping_version` apart by nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from covergate.eligibility.derive import MAPPING_VERSION
from tests.corpus.samples import FOLDER, Read, names, read, sample

RECORD = FOLDER / "readings.txt"


def record() -> str:
    lines = (f"{name} {_digest(read(sample(name)))}" for name in names())
    return "".join(f"{line}\n" for line in (MAPPING_VERSION, *lines))


def changed(now: str, recorded: str) -> list[str]:
    """The samples that the rules of the same name once read differently."""
    rules, *before = recorded.splitlines()
    if rules != MAPPING_VERSION:
        return []
    digests = dict(line.split(" ") for line in now.splitlines()[1:])
    return [name for name, digest in (line.split(" ") for line in before) if digests.get(name, digest) != digest]


def _digest(of: Read) -> str:
    said: Any = of.failure.model_dump(mode="json") if of.failure else None
    if of.derived is not None:
        said = [of.derived.outcome, of.derived.reason, of.derived.result.model_dump(mode="json")]
    return hashlib.sha256(orjson.dumps(_of_the_reading(said), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _of_the_reading(value: Any) -> Any:
    """Without the places, the name of the rules, and what was not stated: a new key that is null changes no reading."""
    if isinstance(value, dict):
        parts = {key: _of_the_reading(part) for key, part in value.items() if key not in ("sources", "mapping_version")}
        return {key: part for key, part in parts.items() if part not in (None, [], {})}
    return [_of_the_reading(part) for part in value] if isinstance(value, list) else value
