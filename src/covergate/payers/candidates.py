"""Rows of vendors' payer lists that a person has to join: which payer each is, or that it is a new one."""

from __future__ import annotations

from enum import Enum

from covergate import ids
from covergate.gateway import Gateway
from covergate.payers import store
from covergate.payers.store import Candidate, DirectoryPayer

NEW = "new"


class Linked(Enum):
    DONE = "done"
    NO_CANDIDATE = "no_candidate"
    """There is none, or it was settled before."""
    NO_PAYER = "no_payer"
    """There is no such payer in the candidate's mode."""


async def list_candidates(gateway: Gateway) -> list[tuple[Candidate, list[DirectoryPayer]]]:
    """Each with the payers that it may be, the likeliest first."""
    async with gateway.connection() as db:
        candidates = await store.read_candidates(db)
        known = {
            mode: {payer.id: payer for payer in await store.read_payers(db, mode)}
            for mode in {candidate.mode for candidate in candidates}
        }
    return [
        (candidate, [known[candidate.mode][id_] for id_ in candidate.suggested if id_ in known[candidate.mode]])
        for candidate in candidates
    ]


async def link(gateway: Gateway, candidate_id: str, payer_id: str) -> Linked:
    """The candidate is this payer, or a payer of its own for `NEW`. No later list undoes it."""
    async with gateway.transaction() as db:
        await store.lock_directory(db)
        candidate = await store.read_candidate(db, candidate_id)
        if candidate is None:
            return Linked.NO_CANDIDATE
        mode, listed = candidate.mode, candidate.listed
        payers = {payer.id: payer for payer in await store.read_payers(db, mode)}
        if payer_id == NEW:
            payer_id = ids.new(ids.PAYER)
            await store.add_payers(db, mode, [(payer_id, listed.name, None)])
        elif payer_id not in payers:
            return Linked.NO_PAYER
        await store.drop_candidate(db, candidate_id)
        await store.add_names(db, mode, "alias", [(payer_id, name) for name in (listed.name, *listed.aliases)])
        if listed.electronic_id is not None:
            await store.add_names(db, mode, "electronic_id", [(payer_id, listed.electronic_id)])
        await store.add_codes(db, candidate.vendor, mode, "person", [(listed.codes, payer_id)])
        await store.bump_version(db)
    return Linked.DONE


async def ignore(gateway: Gateway, candidate_id: str) -> bool:
    """Nobody needs it. False: there is no such candidate, or it was settled before."""
    async with gateway.transaction() as db:
        return await store.ignore_candidate(db, candidate_id)
