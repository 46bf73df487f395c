"""The console's pages in the order of the navigation, and who sees each."""

from __future__ import annotations

from typing import NamedTuple

from covergate.console.visitor import MOUNTED_AT, Visitor


class Entry(NamedTuple):
    name: str
    path: str
    scope: str
    """Without it the page is not shown."""


ENTRIES = (
    Entry("Now", f"{MOUNTED_AT}/", "verifications:read"),
    Entry("Verifications", f"{MOUNTED_AT}/verifications", "verifications:read"),
    Entry("Vendors", f"{MOUNTED_AT}/vendors", "operations"),
    Entry("Payers", f"{MOUNTED_AT}/payers", "operations"),
    Entry("Webhooks", f"{MOUNTED_AT}/webhooks", "webhooks:manage"),
    Entry("Access", f"{MOUNTED_AT}/access", "audit:read"),
)


def entries_for(visitor: Visitor) -> list[Entry]:
    return [entry for entry in ENTRIES if visitor.may(entry.scope)]


def home_of(visitor: Visitor) -> str:
    """Where somebody begins."""
    entries = entries_for(visitor)
    return entries[0].path if entries else f"{MOUNTED_AT}/account"
