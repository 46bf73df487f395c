"""Inbound webhooks of vendors: the request as it came over the wire, and the news in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VendorEvent:
    """One piece of news in an inbound webhook. `dedupe_key` is the same for resends of the same message.

    It names the submission by the vendor's reference, by the echo of our attempt id, or both. `kind` is the vendor's own word
    for the timeline. `wakes` is false for events that only belong in the timeline.

    `said` is what the message already tells of where the work stands, for the timeline: a phrase that the adapter has in a
    table, or a bare status (`document.status_word`), so never anything about the patient. None if it tells nothing.
    """

    dedupe_key: str
    kind: str
    ref: str | None = None
    echo: str | None = None
    wakes: bool = True
    said: str | None = None


class ForgedEvent(Exception):
    """The event's signature does not verify, or it is too old. Answered 401; nothing is stored."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """An inbound webhook as it came over the wire: `headers` with lower-case names, `query` decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
