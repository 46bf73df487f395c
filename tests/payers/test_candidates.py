from __future__ import annotations

from covergate.payers.candidates import NEW, Linked, link, list_candidates
from covergate.payers.directory import DirectoryCache
from covergate.payers.store import DirectoryPayer
from tests.support.payer_lists import Lists, Syncer, carrier, plan

AETNA = "pyr_01m80aq8c7epyshsw0x172jhr7"


async def search(syncer: Syncer, text: str) -> list[DirectoryPayer]:
    return (await DirectoryCache(syncer.gateway).directory("test")).search(text, None)


async def doubtful(syncer: Syncer, lists: Lists) -> str:
    """The id of the one candidate that this list leaves."""
    lists.vsee = [carrier("c3", "AETNA SENIOR SUPPLEMENTAL")]
    await syncer()
    ((candidate, suggested),) = await list_candidates(syncer.gateway)
    assert suggested[0].id == AETNA
    return candidate.id


async def test_linked_to_a_payer_for_good(syncer: Syncer, lists: Lists) -> None:
    candidate = await doubtful(syncer, lists)
    assert await link(syncer.gateway, candidate, AETNA) is Linked.DONE
    (aetna,) = await search(syncer, "Aetna Senior Supplemental")
    assert (aetna.id, aetna.vendors["vsee"]) == (AETNA, {"carrier_code": "c3"})
    assert await list_candidates(syncer.gateway) == []
    await syncer()
    assert await list_candidates(syncer.gateway) == []
    # A person's word stays, whatever the list says later.
    lists.vsee = [carrier("c8", "AETNA")]
    await syncer()
    (aetna,) = await search(syncer, AETNA)
    assert aetna.vendors["vsee"] == {"carrier_code": "c3"}


async def test_linked_as_a_new_payer(syncer: Syncer, lists: Lists) -> None:
    lists.sohar = [plan("H1234", "Aetna")]
    await syncer()
    ((candidate, _),) = await list_candidates(syncer.gateway)
    assert await link(syncer.gateway, candidate.id, NEW) is Linked.DONE
    (new,) = await search(syncer, "H1234")
    assert new.id != AETNA
    assert (new.name, new.electronic_id, new.vendors) == ("Aetna", "H1234", {"sohar": {"payer_id": "H1234"}})


async def test_what_cannot_be_linked_stays(syncer: Syncer, lists: Lists) -> None:
    candidate = await doubtful(syncer, lists)
    assert await link(syncer.gateway, candidate, "pyr_nobody") is Linked.NO_PAYER
    assert await link(syncer.gateway, "pyc_nobody", AETNA) is Linked.NO_CANDIDATE
    assert len(await list_candidates(syncer.gateway)) == 1
    assert await link(syncer.gateway, candidate, AETNA) is Linked.DONE
    assert await link(syncer.gateway, candidate, AETNA) is Linked.NO_CANDIDATE
