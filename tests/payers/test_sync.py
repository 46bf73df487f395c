from __future__ import annotations

import asyncio

import httpx

from covergate.eligibility.inquiry import Payer
from covergate.gateway import Gateway
from covergate.payers.directory import DirectoryCache
from covergate.payers.sync import LONGEST_PAYER_NAME, Synced, sync_all, sync_if_due, usable
from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.transport.transport import Transport
from covergate.vendors.flow import ListedPayer
from tests.support.gateways import SANDBOX_SECRET
from tests.support.payer_lists import Lists, Syncer, carrier, plan

AETNA = "pyr_01m80aq8c7epyshsw0x172jhr7"
CODES = "SELECT codes->>'carrier_code', p.name, source FROM payer_codes JOIN payers p ON p.id = payer_id"


async def vsee_codes(syncer: Syncer, mode: str = "live") -> set[tuple[str, str, str]]:
    return set(await syncer.rows(f"{CODES} WHERE vendor = 'vsee' AND payer_codes.mode = :mode", mode=mode))


async def test_certain_new_and_doubtful_rows(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [
        carrier("c1", "AETNA"),
        carrier("c2", "CIGNA HEALTH CARE"),
        carrier("c3", "AETNA SENIOR SUPPLEMENTAL"),
        carrier("c4", "Sample County Benefit Trust"),
    ]
    assert (await syncer("live"))["vsee"] == Synced("vsee", "live", listed=4, linked=2, created=1, doubtful=1)
    assert await vsee_codes(syncer) == {
        ("c1", "Aetna", "list"),
        ("c2", "Cigna", "list"),
        ("c4", "Sample County Benefit Trust", "list"),
    }
    (candidate,) = await syncer.rows("SELECT name, suggested FROM payer_candidates")
    assert candidate[0] == "AETNA SENIOR SUPPLEMENTAL"
    assert candidate[1][0] == AETNA
    # The sandbox's and the vendor's payers never mix.
    assert await syncer.rows("SELECT mode FROM payers WHERE name = 'Sample County Benefit Trust'") == [("live",)]


async def test_again_changes_nothing(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [carrier("c1", "AETNA"), carrier("c3", "AETNA SENIOR SUPPLEMENTAL"), carrier("c4", "Sample Trust")]
    state = (
        "SELECT (SELECT count(*) FROM payers), (SELECT count(*) FROM payer_names),"
        " (SELECT array_agg(id) FROM payer_candidates)"
    )
    await syncer("live")
    before = await syncer.rows(state)
    assert (await syncer("live"))["vsee"] == Synced("vsee", "live", listed=3, linked=2, created=0, doubtful=1)
    assert await syncer.rows(state) == before


async def test_two_syncs_at_once_end_as_one(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [carrier(f"c{n}", f"Sample Trust number {n}") for n in range(30)]
    first, second = await asyncio.gather(syncer("live"), syncer("live"))
    assert sorted([first["vsee"].created, second["vsee"].created]) == [0, 30]
    assert len(await vsee_codes(syncer)) == 30


async def test_what_is_not_listed_any_more_loses_its_code(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [carrier("c1", "AETNA"), carrier("c3", "AETNA SENIOR SUPPLEMENTAL")]
    await syncer("live")
    lists.vsee = [carrier("c9", "AETNA")]
    await syncer("live")
    assert await vsee_codes(syncer) == {("c9", "Aetna", "list")}
    assert await syncer.rows("SELECT 1 FROM payer_candidates") == []


async def test_a_list_that_is_empty_or_broken_changes_nothing(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [carrier("c1", "AETNA")]
    await syncer("live")
    for broken, error in (
        ([], "empty_payer_list"),
        (500, "http_500"),
        ({"no": "list"}, "the list of insurers is not a list"),
    ):
        lists.vsee = broken
        assert (await syncer("live"))["vsee"] == Synced("vsee", "live", error=error)
        assert await vsee_codes(syncer) == {("c1", "Aetna", "list")}
        assert await syncer.rows("SELECT error, listed FROM payer_syncs") == [(error, 1)]


async def test_an_electronic_id_decides(syncer: Syncer, lists: Lists) -> None:
    lists.sohar = [
        plan("60054", "Aetna Life and Casualty", "Old Aetna"),
        plan("H1234", "Aetna"),  # the same name, another id: perhaps another payer
        plan("H5678", "Aetna of the Isles"),  # another id, another name
        plan("H9999", "Health Choice Arizona"),  # a payer whose id was not known
    ]
    assert (await syncer())["sohar"] == Synced("sohar", "test", listed=4, linked=2, created=1, doubtful=1)
    ((code, suggested),) = await syncer.rows("SELECT codes->>'payer_id', suggested FROM payer_candidates")
    assert (code, suggested[0]) == ("H1234", AETNA)
    known = DirectoryCache(syncer.gateway)
    (aetna,) = (await known.directory("test")).search("60054", None)
    assert (aetna.id, aetna.aliases) == (AETNA, ("Aetna Health Plans", "Aetna Life and Casualty", "Old Aetna"))
    (arizona,) = (await known.directory("test")).search("H9999", None)
    assert (arizona.name, arizona.vendors["sohar"]) == ("Health Choice Arizona", {"payer_id": "H9999"})
    # In live mode nobody told that.
    assert (await known.directory("live")).search("H9999", None) == []


async def test_a_payer_is_found_by_the_ids_that_its_vendor_lists_beside_its_own(syncer: Syncer, lists: Lists) -> None:
    lists.sohar = [plan("87726", "UnitedHealthcare", ids=("UHC01",)), plan("S1", "Sample Trust", ids=("S1A", "S1B"))]
    await syncer("test")
    known = await DirectoryCache(syncer.gateway).directory("test")
    for alias_id, payer_id in (("UHC01", "87726"), ("S1B", "S1")):
        named = known.named(Payer(id=alias_id))
        assert (named.codes["sohar"], named.is_unknown) == ({"payer_id": payer_id}, False)
    assert [payer.name for payer in known.search("UHC01", None)] == ["UnitedHealthcare"]
    assert known.named(Payer(id="sample trust")).is_unknown


async def test_the_vendors_list_comes_before_the_seed_in_its_mode(syncer: Syncer, lists: Lists) -> None:
    lists.vsee = [carrier("c1", "AETNA")]
    await syncer("test")
    (aetna,) = (await DirectoryCache(syncer.gateway).directory("test")).search(AETNA, None)
    assert aetna.vendors["vsee"] == {"carrier_code": "c1"}


async def test_it_is_due_once_a_day_for_one_worker(syncer: Syncer, lists: Lists) -> None:
    lists.vsee, lists.sohar = [carrier("c1", "AETNA")], [plan("60054", "Aetna")]
    await asyncio.gather(*(sync_if_due(syncer.gateway, syncer.transport) for _ in range(3)))
    once = sorted(lists.calls)
    assert once == [
        "sandbox.invalid/healthie/graphql",
        "sandbox.invalid/sohar/v1/payers",
        "sandbox.invalid/vsee/api_v3/insurances/",
        "vsee.invalid/insurances/",
    ]
    await sync_if_due(syncer.gateway, syncer.transport)
    assert sorted(lists.calls) == once
    # Healthie's empty list failed and is due in an hour, the others in a day.
    await syncer.earlier("2 hours")
    await sync_if_due(syncer.gateway, syncer.transport)
    assert sorted(lists.calls) == sorted([*once, "sandbox.invalid/healthie/graphql"])
    await syncer.earlier("23 hours")
    await sync_if_due(syncer.gateway, syncer.transport)
    assert sorted(lists.calls) == sorted([*once, *once, "sandbox.invalid/healthie/graphql"])


def test_rows_that_cannot_be_kept_are_passed_over() -> None:
    good = ListedPayer("A", {"c": "1"}, "E1", ("B",))
    rows = [
        good,
        ListedPayer("A again", {"c": "1"}),
        ListedPayer("no codes", {}),
        ListedPayer(" ", {"c": "2"}),
        ListedPayer("N\x00", {"c": "3"}),
        ListedPayer("x" * (LONGEST_PAYER_NAME + 1), {"c": "4"}),
        ListedPayer("long code", {"c": "x" * 101}),
    ]
    assert usable(rows) == [good]
    assert usable([ListedPayer("A", {"c": "1"}, "\x00", ("\x00", "B"))]) == [ListedPayer("A", {"c": "1"}, None, ("B",))]


async def test_the_lists_of_the_sandbox(gateway: Gateway) -> None:
    """The flows of the three vendors that list their payers, against their simulated selves."""
    sandbox = httpx.ASGITransport(create_sandbox(SandboxSettings(secret=SANDBOX_SECRET, _env_file=None)))
    async with Transport(allow_private_network=True, wire=sandbox) as transport:
        found = await sync_all(gateway, transport, "test")
    assert [(synced.vendor, synced.error) for synced in found] == [("sohar", None), ("vsee", None), ("healthie", None)]
    assert all(synced.listed for synced in found)
    (aetna,) = (await DirectoryCache(gateway).directory("test")).search(AETNA, None)
    assert aetna.vendors["vsee"] == {"carrier_code": "car7551"}
    assert aetna.vendors["sohar"] == {"payer_id": "60054"}
    assert aetna.vendors["healthie"]["payer_id"] == "60054"
    assert "insurance_plan_id" in aetna.vendors["healthie"]
