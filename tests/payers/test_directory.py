from __future__ import annotations

from typing import Any

import pytest

from covergate.eligibility.inquiry import Payer as Asked
from covergate.gateway import Gateway
from covergate.payers import directory, store
from covergate.payers.directory import Directory, DirectoryCache
from covergate.payers.store import DirectoryPayer

AETNA = DirectoryPayer("pyr_1", "Aetna", ("60054",), ("Aetna Health Plans",), {"vsee": {"carrier_code": "car7551"}})
TEXAS = DirectoryPayer(
    "pyr_2", "Blue Cross Blue Shield of Texas", ("84980", "G84980"), (), {"sohar": {"payer_id": "84980"}}
)
CALIFORNIA = DirectoryPayer("pyr_3", "Blue Shield of California", ("94036",), (), {})
ANTHEM = DirectoryPayer("pyr_4", "Anthem Blue Shield", (), (), {"vsee": {"carrier_code": "car11406"}})
ONE, OTHER = (
    DirectoryPayer("pyr_5", "One", ("99999",), (), {"sohar": {"payer_id": "1"}}),
    DirectoryPayer("pyr_6", "Other", ("99999",), (), {"sohar": {}}),
)


@pytest.fixture
def known() -> Directory:
    return Directory([AETNA, ANTHEM, TEXAS, CALIFORNIA, ONE, OTHER])


@pytest.mark.parametrize(
    ("asked", "filled", "codes"),
    [
        ({"directory_id": "pyr_1"}, {"id": "60054", "name": "Aetna", "directory_id": "pyr_1"}, AETNA.vendors),
        (
            {"directory_id": "pyr_4"},
            {"id": None, "name": "Anthem Blue Shield", "directory_id": "pyr_4"},
            ANTHEM.vendors,
        ),
        # What was stated stays as it was stated.
        ({"directory_id": "pyr_1", "id": "X"}, {"id": "X", "name": "Aetna", "directory_id": "pyr_1"}, AETNA.vendors),
        ({"id": "60054"}, {"id": "60054", "name": None, "directory_id": None}, AETNA.vendors),
        ({"id": "g84980"}, {"id": "g84980", "name": None, "directory_id": None}, TEXAS.vendors),
        # The id decides, whatever the name says.
        (
            {"id": "60054", "name": "Blue Shield"},
            {"id": "60054", "name": "Blue Shield", "directory_id": None},
            AETNA.vendors,
        ),
        ({"id": "12345", "name": "Aetna"}, {"id": "12345", "name": "Aetna", "directory_id": None}, {}),
        ({"id": "99999"}, {"id": "99999", "name": None, "directory_id": None}, {}),
        ({"name": "AETNA"}, {"id": "60054", "name": "AETNA", "directory_id": "pyr_1"}, AETNA.vendors),
        (
            {"name": "aetna health plans"},
            {"id": "60054", "name": "aetna health plans", "directory_id": "pyr_1"},
            AETNA.vendors,
        ),
        ({"name": "BCBS of Texas"}, {"id": "84980", "name": "BCBS of Texas", "directory_id": "pyr_2"}, TEXAS.vendors),
        # Nobody the directory knows: the vendor may.
        ({"name": "Somebody Else"}, {"id": None, "name": "Somebody Else", "directory_id": None}, {}),
        ({"name": "Blue Cross"}, {"id": None, "name": "Blue Cross", "directory_id": None}, {}),
    ],
)
def test_named(known: Directory, asked: dict[str, Any], filled: dict[str, Any], codes: Any) -> None:
    named = known.named(Asked(**asked))
    assert (named.payer, named.codes, named.wrong, named.candidates) == (Asked(**filled), codes, (), ())


@pytest.mark.parametrize(
    ("asked", "by_name", "is_unknown"),
    [
        ({"directory_id": "pyr_1"}, None, False),
        ({"id": "60054"}, None, False),
        ({"id": "99999"}, None, False),  # several have it
        ({"id": "12345", "name": "Aetna"}, None, True),
        ({"id": "aetna"}, None, True),
        ({"name": "aetna"}, AETNA, False),
        ({"name": "Somebody Else"}, None, True),
    ],
)
def test_how_a_payer_was_found(
    known: Directory, asked: dict[str, Any], by_name: DirectoryPayer | None, is_unknown: bool
) -> None:
    named = known.named(Asked(**asked))
    assert (named.by_name, named.is_unknown) == (by_name, is_unknown)


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        ({"id": "60054", "name": "Blue Shield of California"}, CALIFORNIA),
        ({"directory_id": "pyr_1", "name": "BCBS of Texas"}, TEXAS),
        ({"directory_id": "pyr_1", "id": "84980"}, TEXAS),
        ({"id": "60054", "name": "aetna health plans"}, None),
        ({"id": "99999", "name": "Other"}, None),  # one of those that have it
        ({"id": "60054", "name": "Somebody Else"}, None),
        ({"id": "60054", "name": "Blue Shield"}, None),  # nobody's own name
        ({"id": "12345", "name": "Aetna"}, None),  # not in the directory, which is told
        ({"directory_id": "pyr_1", "id": "60054", "name": "Aetna"}, None),
    ],
)
def test_an_id_and_a_name_of_two_payers(known: Directory, asked: dict[str, Any], other: DirectoryPayer | None) -> None:
    named = known.named(Asked(**asked))
    assert named.contradicted_by == other


@pytest.mark.parametrize("name", ["Aetnaa", "Aetna Heatlh Plans"])
def test_a_misspelt_name_is_never_taken_for_the_nearest(known: Directory, name: str) -> None:
    named = known.named(Asked(name=name))
    assert (named.codes, named.candidates, named.by_name) == ({}, (AETNA,), None)


def test_an_unknown_directory_id_is_wrong(known: Directory) -> None:
    (error,) = known.named(Asked(directory_id="pyr_9", id="60054")).wrong
    assert (error.pointer, error.code) == ("/payer/directory_id", "not_found")


def test_an_ambiguous_name_has_candidates_the_closest_first(known: Directory) -> None:
    assert known.named(Asked(name="Blue Shield")).candidates == (ANTHEM, CALIFORNIA, TEXAS)


@pytest.mark.parametrize(
    ("text", "vendor", "found"),
    [
        (None, None, [AETNA, ANTHEM, TEXAS, CALIFORNIA, ONE, OTHER]),
        (None, "vsee", [AETNA, ANTHEM]),
        ("aetn", None, [AETNA]),
        ("blue shield", "vsee", [ANTHEM]),
        ("6005", None, [AETNA]),
        ("car11406", None, [ANTHEM]),
        ("pyr_3", None, [CALIFORNIA]),
        ("nobody at all", None, []),
    ],
)
def test_search(known: Directory, text: str | None, vendor: str | None, found: list[DirectoryPayer]) -> None:
    assert known.search(text, vendor) == found


async def test_it_is_read_again_only_when_it_changed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "FRESH_SECONDS", 0.0)
    known = DirectoryCache(gateway)
    first = await known.directory("test")
    assert await known.directory("test") is first
    async with gateway.transaction() as db:
        await store.add_payers(db, "test", [("pyr_new", "Brand New Payer", None)])
        await store.bump_version(db)
    assert (await known.named("test", Asked(name="brand new payer"))).payer.name == "brand new payer"
    assert [payer.id for payer in (await known.directory("test")).search("brand new", None)] == ["pyr_new"]
    assert (await known.directory("live")).search("brand new", None) == []


async def test_while_it_is_fresh_no_round_trip_is_made(gateway: Gateway) -> None:
    known = DirectoryCache(gateway)
    first = await known.directory("test")
    async with gateway.transaction() as db:
        await store.add_payers(db, "test", [("pyr_new", "Brand New Payer", None)])
        await store.bump_version(db)
    assert await known.directory("test") is first
