"""The flat answer of Integrex, read however its keys are spelled.

The document is a PDF whose line breaks may have put blanks into keys (`ded($) IndivInNetwork`) and that writes `sub.MemberID`
and `patientDOB`. So keys are compared without blanks, dots and case; pointers keep the key as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from covergate.eligibility.sourced import Sourced
from covergate.vendors.document import Node, text
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
    node: Node
    spelled: Mapping[str, str]
    """Folded key → the key as it came."""

    @classmethod
    def of(cls, reply: Reply) -> Fields:
        body = reply.body if isinstance(reply.body, dict) else {}
        # Of two spellings of one key, the one with a value counts.
        ordered = sorted(body, key=lambda key: text(body[key]) is not None)
        return cls(Node(body, reply.body_pointer), {_folded(key): key for key in ordered})

    @property
    def is_answer(self) -> bool:
        return any(_folded(key) in self.spelled for key in _ESSENTIAL_KEYS)

    def read(self, key: str, convert: Callable[[Any], _T | None]) -> Sourced[_T]:
        came_as = self.spelled.get(_folded(key))
        return Sourced(None) if came_as is None else self.node.read(came_as, convert)

    def text(self, key: str) -> Sourced[str]:
        return self.read(key, text)


@lru_cache(1024)
def _folded(key: str) -> str:
    return "".join(key.split()).replace(".", "").casefold()
