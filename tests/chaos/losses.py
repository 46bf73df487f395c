"""Replies that were really lost: what the proxy saw of every committing call, held against whose process died when."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WRITTEN_WITHIN_SECONDS = 2.0
"""A reply that its worker had in hand for longer than this before it was killed should have been on disk."""
SENT_WITHIN_SECONDS = 5.0
"""The engine's own limit between an intent and its call."""
MEMBER_IS_NAMED = frozenset({"sohar", "integrex", "health_harbor"})
"""Vendors whose committing call has the member id in it."""


@dataclass(frozen=True)
class Evidence:
    """`calls` are `proxy.Call` as JSON. `verifications`: member id → verification id; `references`: vendor and the vendor's
    reference of a submission → verification id. `intents` have verification_id, vendor and `at`. `deaths`: process, when.
    """

    calls: Sequence[Mapping[str, Any]]
    verifications: Mapping[str, str]
    references: Mapping[tuple[str, str], str]
    intents: Sequence[Mapping[str, Any]]
    deaths: Sequence[tuple[str, float]]

    def lost(self) -> Counter[str]:
        """Verification id, or vendor where nothing says of which verification a call was → how many replies were lost."""
        lost: Counter[str] = Counter()
        called: set[str] = set()
        for call in self.calls:
            about = self._about(call)
            called |= about
            if not call["answered"] or self._died_with(call):
                lost.update(about or [call["vendor"]])
        # Between the intent and the call, too, a worker's death leaves nobody who could tell whether the call was made.
        for vendor, ids in self._cut_off(called).items():
            if vendor in MEMBER_IS_NAMED:
                lost.update(ids)
            else:
                # Of whom its calls were cannot be told: so many intents as led to no call.
                intents = sum(intent["vendor"] == vendor for intent in self.intents)
                calls = sum(call["vendor"] == vendor for call in self.calls)
                lost[vendor] += max(0, min(len(ids), intents - calls))
        return +lost

    def _cut_off(self, called: Collection[str]) -> Mapping[str, list[str]]:
        """By vendor, the verifications without a known call that a worker may have died upon before it made one."""
        cut_off: dict[str, list[str]] = {}
        for intent in self.intents:
            if intent["verification_id"] not in called and any(
                0 <= at - intent["at"] < SENT_WITHIN_SECONDS for _, at in self.deaths
            ):
                cut_off.setdefault(intent["vendor"], []).append(intent["verification_id"])
        return cut_off

    def _about(self, call: Mapping[str, Any]) -> set[str]:
        """The verifications whose member ids it sent, or whose references it got."""
        members = {self.verifications[word] for word in _words(call["sent"]) if word in self.verifications}
        references = {(call["vendor"], word) for word in _words(call["got"])}
        return members | {self.references[pair] for pair in references if pair in self.references}

    def _died_with(self, call: Mapping[str, Any]) -> bool:
        """Whether its process was killed after it made the call and before it can have written the reply down.

        A reply also counts as answered if its process has been dead for so short that its connection still took it.
        """
        return call["ended"] is None or any(
            name == call["by"] and call["began"] <= at < call["ended"] + WRITTEN_WITHIN_SECONDS
            for name, at in self.deaths
        )


def _words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text)


def unexplained(questions: Sequence[tuple[str, str]], lost: Counter[str]) -> dict[str, str]:
    """Of the questions to an operator (verification id, vendor) those that no lost reply stands for, with why."""
    left = lost.copy()
    found = {}
    for id_, vendor in questions:
        reason = next((reason for reason in (id_, vendor) if left[reason] > 0), None)
        if reason is None:
            found[id_] = f"an operator was asked about it at {vendor}, and no reply of its was lost"
        else:
            left[reason] -= 1
    return found
