"""The card: what a front desk reads of a result, and where the payer says it."""

from __future__ import annotations

from typing import Any

from covergate.eligibility.card import BILL_TO_WORDS, AccumulatorFigures, Card, CardValue, card_of
from covergate.eligibility.terms import BillToReason
from tests.support.stated_rows import Row, concluded, eb, inquiry

ACTIVE = eb("1**30")


def card(*lines: Row, **asked: Any) -> Card:
    return card_of(concluded([ACTIVE, *lines], inquiry("98", **asked)).result.model_dump(mode="json"))


def cell(made: Card, name: str, network: str) -> AccumulatorFigures:
    line = next(line for line in made.accumulators if f"{line.name}, {line.level}" == name)
    return line.cells[made.networks.index(network)]


def share(made: Card, name: str, network: str) -> CardValue:
    return dict(made.shares)[name][made.networks.index(network)]


def told(value: CardValue | None) -> tuple[str | None, tuple[str, ...]]:
    assert value is not None
    return value.words, value.sources


def test_what_is_left_and_the_total_lead_each_to_its_own_row() -> None:
    made = card(
        eb("C*IND*30***23*1500*****Y"),
        eb("C*IND*30***29*250*****Y"),
        eb("C*FAM*30***29*250*****Y"),
        eb("C*IND*30***29*250*****N"),
    )
    mine = cell(made, "Deductible, individual", "in network")
    assert told(mine.left) == ("$250.00", ("/2/eb07",))
    assert told(mine.total) == ("$1,500.00", ("/1/eb07",))
    assert told(cell(made, "Deductible, family", "in network").left) == ("$250.00", ("/3/eb07",))
    assert told(cell(made, "Deductible, individual", "out of network").left) == ("$250.00", ("/4/eb07",))


def test_a_zero_is_met_and_no_amount_is_not() -> None:
    made = card(eb("G*IND*30***29*0*****Y"))
    assert cell(made, "Out-of-pocket maximum, individual", "in network").is_met
    absent = cell(made, "Out-of-pocket maximum, family", "in network")
    assert (absent.is_met, absent.left, absent.why) == (False, None, "not stated")


def test_what_is_left_may_be_counted_and_then_leads_to_both_places() -> None:
    made = card(eb("C*IND*30***23*1000*****Y"), eb("C*IND*30***24*400*****Y"))
    assert told(cell(made, "Deductible, individual", "in network").left) == ("$600.00", ("/1/eb07", "/2/eb07"))


def test_nothing_is_left_of_a_total_of_zero_which_is_its_place() -> None:
    mine = cell(card(eb("C*IND*30***23*0*****Y")), "Deductible, individual", "in network")
    assert (told(mine.left), mine.is_met) == (("$0.00", ("/1/eb07",)), True)


def test_a_share_leads_to_the_row_that_states_it() -> None:
    made = card(eb("B**98****30*****Y"), eb("A**98*****.2****N"), eb("B**35****45*****Y"), eb("J**98****30*****Y"))
    assert told(share(made, "Copay", "in network")) == ("$30.00", ("/1/eb07",))
    assert told(share(made, "Coinsurance", "out of network")) == ("20 %", ("/2/eb08",))
    assert share(made, "Coinsurance", "in network").words is None


def test_a_contradiction_is_the_reason_why_there_is_no_amount() -> None:
    made = card(eb("C*IND*30***23*1000*****Y"), eb("C*IND*30***23*2000*****Y"))
    cells = cell(made, "Deductible, individual", "in network")
    assert (cells.total, cells.why) == (None, "the payer states different amounts")


def test_a_network_that_was_not_said_has_a_column_of_its_own_only_then() -> None:
    assert card(eb("B**98****30*****Y")).networks == ["in network", "out of network"]
    made = card(eb("B**98****30"))
    assert made.networks == ["in network", "out of network", "network not said"]
    assert told(share(made, "Copay", "network not said")) == ("$30.00", ("/1/eb07",))


def of_name(values: list[CardValue], name: str) -> CardValue:
    return next(value for value in values if value.name == name)


def test_the_coverage_leads_to_the_code_that_says_it() -> None:
    made = card(eb("B**98****30*****Y"))
    assert told(of_name(made.facts, "Coverage")) == ("active", ("/0/eb01",))


def test_who_is_to_be_billed_leads_to_where_that_payer_is_named() -> None:
    # Nothing in the rows names the payer that answers: it is the one that was asked.
    asked = card().bill_to
    assert told(of_name(asked, "Its id")) == ("60054 (as asked)", ())
    assert of_name(asked, "Because").words == BILL_TO_WORDS["this_payer"]
    other = card(eb("R**30", nm1=("PRP*OTHER HEALTH*77777",))).bill_to
    places = ("/1/entities/0/id", "/1/entities/0/name")
    assert told(of_name(other, "Payer")) == ("OTHER HEALTH", places)
    assert told(of_name(other, "Its id")) == ("77777", places)
    assert of_name(other, "Because").words == "another insurance pays first"


def test_every_reason_for_whom_to_bill_has_words() -> None:
    assert set(BILL_TO_WORDS) == set(BillToReason)


def test_what_is_not_there_is_not_a_no() -> None:
    facts = {value.name: value.words for value in card().facts}
    assert facts["Coverage"] == "active"
    assert (facts["Referral needed"], facts["Provider in network"]) == (None, None)


def test_every_value_that_is_missing_has_its_reason() -> None:
    made = card()
    values = [*made.service, *made.facts, *(value for _, line in made.shares for value in line)]
    assert all(value.why for value in values if value.words is None)
    assert all(figures.why for line in made.accumulators for figures in line.cells)
