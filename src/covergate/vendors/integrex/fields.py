"""The flat answer of Integrex, read however its keys are spelled.

The document is a PDF whose line breaks may have put blanks into keys (`ded($) IndivInNetwork`) and that writes `sub.MemberID`
and `patientDOB`. So keys are compared without blanks, dots and case; pointers keep the key as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from covergate.eligibility.sourced import NOT_STATED, Sourced, pointer
from covergate.vendors.document import text
from covergate.vendors.flow import Reply

_T = TypeVar("_T")

# Each answer has at least one of these; a JSON object without any is not an answer.
_ESSENTIAL_KEYS = (
    "integrexId",
    "requestStatus",
    "requestStatusCode",
    "coverageStatusCode",
    "coverageStatusDesc",
)


@dataclass(frozen=True, slots=True)
class Fields:
    """By folded key: the key as it came, and what is stated under it with its pointer. A blank value is not stated."""

    spelled: Mapping[str, str]
    stated: Mapping[str, tuple[Any, tuple[str]]]

    @classmethod
    def of(cls, reply: Reply) -> Fields:
        body = reply.body if isinstance(reply.body, dict) else {}
        spelled = dict(zip(map(_folded, body), body, strict=True))
        if len(spelled) < len(body):
            # Of two spellings of one key, the one with a value counts.
            spelled = {_folded(key): key for key in sorted(body, key=lambda key: text(body[key]) is not None)}
        at = reply.body_pointer
        stated = {
            folded: (value, (pointer(at, key),))
            for folded, key in spelled.items()
            if (value := body[key]) is not None and value != ""
        }
        return cls(spelled, stated)

    @property
    def is_answer(self) -> bool:
        return any(_folded(key) in self.spelled for key in _ESSENTIAL_KEYS)

    def read(self, key: str, convert: Callable[[Any], _T | None]) -> Sourced[_T]:
        stated = self.stated.get(_folded(key))
        return NOT_STATED if stated is None else Sourced(convert(stated[0]), stated[1])

    def text(self, key: str) -> Sourced[str]:
        return self.read(key, text)


@lru_cache(1024)
def _folded(key: str) -> str:
    return "".join(key.split()).replace(".", "").casefold()
