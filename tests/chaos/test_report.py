"""The table in the page: a run replaces the rows of the faults that it brought on, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import report
from tests.chaos.experiment import Fault, Row, Stage
from tests.chaos.ledger import Account


async def no_fault(stage: Stage) -> None: ...


def row(text: str, verifications: int) -> Row:
    account = Account(verifications=verifications, needs_attention=2, replies_lost=3)
    return Row(Fault("any", text, no_fault), account, seconds=30, on_the_line=61, recovery=[1.0, 2.0], all_ended=9.0)


def test_rows_take_their_places_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text(f"# Before\n\n{report.BEGIN}\n\n| an old table | 1 |\n\n{report.END}\n\nAfter.\n")
    order = ["killed", "paused", "cut"]
    report.write([row("killed", 140), row("cut", 141), row("gone", 142)], order, page)
    report.write([row("paused", 143), row("cut", 144)], order, page)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n") and text.endswith(f"{report.END}\n\nAfter.\n")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "61" in line]
    assert [line.split(" | ")[:2] for line in rows] == [["| killed", "140"], ["| paused", "143"], ["| cut", "144"]]
    assert "all experiments below took 2 minutes" in text  # 90 s
    assert "an old table" not in text


def test_a_row_with_a_question_that_nothing_lost_stands_for_is_not_clean() -> None:
    asked = row("killed", 140)
    assert asked.ok and asked.account is not None
    asked.account.avoidable["ver_7"] = "an operator was asked"
    assert not asked.ok
    assert "avoidable ver_7" in asked.explained()
