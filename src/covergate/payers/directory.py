"""Looks payers up: for a verification that names one, and for `GET /v1/payers`.

Each process keeps the directory in memory and asks the database at most every few seconds whether it is still the same,
so that a verification costs no round trip for its payer. Unknown payers are no error: vendors know more payers than the
directory.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from covergate.eligibility import inquiry
from covergate.errors import FieldError
from covergate.gateway import Gateway
from covergate.payers import store
from covergate.payers.matching import MOST_SUGGESTED, Names
from covergate.payers.store import DirectoryPayer

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Named:
    """The payer of a request, looked up.

    `payer` has id and name filled in if the directory knows them; stated values stay as stated. `codes` are each vendor's
    own. `wrong` lists the request's errors; `candidates` are the payers that an ambiguous or misspelt name may mean.
    `by_name`: the payer that the name alone led to. `is_unknown`: the directory has none of this id or name; `resembling` are
    those with a name somewhat like it. `contradicted_by`: the payer that a stated name, or an id beside the directory's, is of,
    where the id that decides is another's.
    """

    payer: inquiry.Payer
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wrong: tuple[FieldError, ...] = ()
    candidates: tuple[DirectoryPayer, ...] = ()
    by_name: DirectoryPayer | None = None
    contradicted_by: DirectoryPayer | None = None
    is_unknown: bool = False
    resembling: tuple[DirectoryPayer, ...] = ()


class Directory:
    """The payers of one mode, as they were when it was read."""

    def __init__(self, payers: Sequence[DirectoryPayer]) -> None:
        self.payers = tuple(payers)
        self._by_id = {payer.id: payer for payer in payers}
        self._by_electronic_id: defaultdict[str, list[DirectoryPayer]] = defaultdict(list)
        for payer in payers:
            for electronic_id in payer.electronic_ids:
                self._by_electronic_id[electronic_id.upper()].append(payer)
        self._by_alias: defaultdict[str, list[DirectoryPayer]] = defaultdict(list)
        """As written, ids that a vendor lists beside a payer's own are among them."""
        for payer in payers:
            for alias in payer.aliases:
                self._by_alias[alias].append(payer)
        self._names = Names(
            (payer.id, name, name == payer.name) for payer in payers for name in (payer.name, *payer.aliases)
        )

    def named(self, asked: inquiry.Payer) -> Named:
        if asked.directory_id is not None:
            payer = self._by_id.get(asked.directory_id)
            if payer is None:
                message = "must be the id of a payer that GET /v1/payers lists"
                return Named(asked, wrong=(FieldError("not_found", message, pointer="/payer/directory_id"),))
            other = self._other(self._with_id(asked.id), [payer]) or self._other(self._called(asked.name), [payer])
            return replace(_filled(asked, payer), contradicted_by=other)
        if asked.id is not None:
            # One that vendors share without being the same payer would give the wrong codes: then none.
            payers = self._with_id(asked.id)
            codes = payers[0].vendors if len(payers) == 1 else {}
            other = self._other(self._called(asked.name), payers)
            return Named(asked, codes, is_unknown=not payers, contradicted_by=other)
        name = asked.name or ""
        called = self._names.called(name)
        if len(called) == 1:
            payer = self._by_id[called[0]]
            found = _filled(asked.model_copy(update={"directory_id": payer.id}), payer)
            return replace(found, by_name=payer)
        # A misspelt name is never taken for the nearest payer: a person says which one it is.
        meant = called or self._names.misspelt(name)
        # A part of a single payer's name says nothing: there may be others that the directory does not know.
        several = meant or self._names.named_in_part(name)
        if not meant and len(several) < 2:
            resembling = tuple(self._by_id[id_] for id_, _ in self._names.resembling(name))
            return Named(asked, is_unknown=True, resembling=resembling)
        return Named(asked, candidates=tuple(self._by_id[id_] for id_ in several[:MOST_SUGGESTED]))

    def _with_id(self, id_: str | None) -> list[DirectoryPayer]:
        return [] if id_ is None else self._by_electronic_id.get(id_.upper()) or self._by_alias.get(id_, [])

    def name_of(self, stated_id: str) -> str | None:
        """Of the payer that requests mean by this id; None unless it is exactly one."""
        payers = self._with_id(stated_id)
        return payers[0].name if len(payers) == 1 else None

    def _called(self, name: str | None) -> list[DirectoryPayer]:
        return [] if name is None else [self._by_id[id_] for id_ in self._names.called(name)]

    def _other(self, meant: list[DirectoryPayer], payers: list[DirectoryPayer]) -> DirectoryPayer | None:
        """The payer that is meant by one of two words, if it is known and none of those meant by the other."""
        return meant[0] if payers and len(meant) == 1 and meant[0] not in payers else None

    def search(self, text: str | None, vendor: str | None) -> list[DirectoryPayer]:
        """Sorted by name, or the best first if a text is searched for in names, aliases and ids."""
        payers: Sequence[DirectoryPayer] = self.payers
        if text is not None:
            begins = text.upper()
            by_id = [
                payer
                for payer in self.payers
                if payer.id == text
                or any(known.upper().startswith(begins) for known in payer.electronic_ids)
                or any(code.upper() == begins for codes in payer.vendors.values() for code in codes.values())
            ]
            by_name = [self._by_id[id_] for id_ in self._names.searched(text)]
            payers = list({payer.id: payer for payer in [*by_id, *by_name]}.values())
        return [payer for payer in payers if vendor is None or vendor in payer.vendors]


class DirectoryCache:
    """The directory as this process remembers it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[str, tuple[Directory, int]] = {}
        self._checked_at: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def named(self, mode: str, payer: inquiry.Payer) -> Named:
        return (await self.directory(mode)).named(payer)

    async def directory(self, mode: str) -> Directory:
        """At most `FRESH_SECONDS` old; while another caller checks for changes, the known one is good enough."""
        known = self._known.get(mode)
        if known is not None and (self._lock.locked() or self._is_fresh(mode)):
            return known[0]
        async with self._lock:
            known = self._known.get(mode)
            if known is None or not self._is_fresh(mode):
                known = self._known[mode] = await self._looked_at(mode, known)
                self._checked_at[mode] = time.monotonic()
        return known[0]

    def _is_fresh(self, mode: str) -> bool:
        return time.monotonic() - self._checked_at.get(mode, float("-inf")) < FRESH_SECONDS

    async def _looked_at(self, mode: str, known: tuple[Directory, int] | None) -> tuple[Directory, int]:
        async with self._gateway.connection() as db:
            # The version first: what changes in between is read again the next time.
            version = await store.version(db)
            if known is not None and known[1] == version:
                return known
            payers = await store.read_payers(db, mode)
        return await asyncio.to_thread(Directory, payers), version


def _filled(asked: inquiry.Payer, payer: DirectoryPayer) -> Named:
    known = {"id": asked.id or payer.electronic_id, "name": asked.name or payer.name}
    return Named(asked.model_copy(update=known), payer.vendors)
