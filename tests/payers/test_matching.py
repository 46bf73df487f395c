"""What is the same name, what resembles, what is another payer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covergate.payers.matching import Names, alike, key_of, resembles

TEXAS = "Blue Cross Blue Shield of Texas"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Aetna", "AETNA, Inc."),
        ("UnitedHealthcare", "United Health Care"),
        ("UnitedHealthcare", "UHC"),
        ("Cigna Healthcare", "CIGNA HEALTH CARE"),
        (TEXAS, "BCBS TX"),
        (TEXAS, "Blue Cross & Blue Shield of Texas"),
        (TEXAS, "Texas Blue Cross Blue Shield"),
        ("Kaiser Permanente", "Kaiser Permanenté"),
        ("Children's Health Plan", "Childrens Health Plan"),
        ("Unted Healthcare", "United Healthcare"),  # a letter dropped
        ("Montgomery Helth Insurance", "Montgomery Health Insurance"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert alike(key_of(one), key_of(other)) >= 90
    assert alike(key_of(other), key_of(one)) >= 90


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXAS, "Blue Cross Blue Shield of Kansas"),
        ("Blue Cross Blue Shield of Kansas", "Blue Cross Blue Shield of Arkansas"),
        ("Blue Cross of North Carolina", "Blue Cross of South Carolina"),
        ("Aetna", "Aetna Medicare"),
        ("Sample State Medicaid", "Sample State Medicare"),
        ("Medica", "Medico"),
        ("Anthem Blue Cross", "Anthem Blue Shield"),
        ("Local 32 Benefit Fund", "Local 33 Benefit Fund"),
        ("Benefit Fund 1234567890", "Benefit Fund 1234567899"),  # alike, but numbers and states agree to the letter
        ("Health Plan of Illinois", "Health Plan of Illnois"),
        ("Virginia Premier", "West Virginia Premier"),
        ("Aetna", "Cigna"),
    ],
)
def test_another_name(one: str, other: str) -> None:
    assert alike(key_of(one), key_of(other)) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Aetna", "Aetna Medicare", True),  # one inside the other
        ("Oscar Health", "Oscar Insurance Company", False),
        ("Medica", "Medico", True),  # close in spelling
        (TEXAS, "Blue Cross Blue Shield of Kansas", False),  # the state tells them apart
        ("Health Plan", "Sample County Health Plan", False),  # words that anybody has
        ("Texas", "Blue Cross Blue Shield of Texas", False),
    ],
)
def test_what_a_person_should_look_at(one: str, other: str, expected: bool) -> None:
    assert bool(resembles(key_of(one), key_of(other))) is expected
    assert bool(resembles(key_of(other), key_of(one))) is expected


@pytest.fixture
def names() -> Names:
    return Names(
        [
            ("p1", "Aetna", True),
            ("p2", "Aetna Better Health of Illinois", True),
            ("p3", TEXAS, True),
            ("p4", "Blue Shield of California", True),
            ("p5", "Oxford Health Plans", True),
            ("p6", "UnitedHealthcare", True),
            ("p6", "Oxford Health Plans", False),
            ("p7", "Behavioral Partners of Ohio", True),
            ("p8", "Behavioral Partners of Ohio", True),
        ]
    )


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("aetna", ("p1",)),
        ("AETNA BETTER HEALTH OF ILLINOIS", ("p2",)),
        ("Unitd Healthcare", ("p6",)),
        ("Oxford Health Plans", ("p5",)),  # a main name comes before another payer's alias
        ("Behavioral Partners of Ohio", ("p7", "p8")),
        ("Behavorial Partners of Ohio", ("p7", "p8")),
        ("Aetna PPO", ()),
        ("Blue Shield", ()),
        ("", ()),
        ("?!", ()),
    ],
)
def test_who_is_meant(names: Names, asked: str, meant: tuple[str, ...]) -> None:
    assert names.meant(asked) == meant


def test_a_part_of_several_names(names: Names) -> None:
    assert set(names.named_in_part("Blue Shield")) == {"p3", "p4"}
    assert names.named_in_part("Shield California") == ("p4",)
    assert names.named_in_part("Blue Sky") == ()
    assert names.named_in_part("...") == ()


def test_search_ranks_beginnings_before_words_before_spelling(names: Names) -> None:
    assert names.searched("aet") == ["p1", "p2"]
    assert names.searched("illin") == ["p2"]
    assert names.searched("shield bl") == ["p4", "p3"]
    assert names.searched("Aetnna") == ["p1"]
    assert names.searched("zzz") == []


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_key_and_scores_the_same_both_ways(one: str, other: str) -> None:
    a, b = key_of(one), key_of(other)
    assert alike(a, b) == alike(b, a)
    assert resembles(a, b) == resembles(b, a)
    assert alike(a, a) == 100
    known = Names([("p1", one, True)])
    assert known.called(one) == (("p1",) if a.joined else ())
