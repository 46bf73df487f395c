"""docs/x12.md and the code tables say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from covergate.eligibility import sentinels
from covergate.eligibility.failure import Aaa
from covergate.eligibility.x12 import codes, names, rows

_PAGE = Path(__file__).parents[2] / "docs" / "x12.md"
_DASH = "–"


def tables(heading: str) -> list[list[list[str]]]:
    """The tables below a heading as rows of cells without backticks, their head and rule left out."""
    section = re.split(r"^## ", _PAGE.read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.partition("\n")[0] == heading]
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    return [
        [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in block.strip().splitlines()[2:]]
        for block in blocks
    ]


def column(heading: str, number: int, table: int = 0) -> dict[str, str]:
    """Code to the cell in a column; each code once."""
    cells = [(row[0], row[number]) for row in tables(heading)[table]]
    assert len(dict(cells)) == len(cells)
    return dict(cells)


def shown(table: Mapping[str, object]) -> dict[str, str]:
    return {code: _DASH if meaning is None else str(meaning) for code, meaning in table.items()}


def coverage_of(code: str) -> str:
    if code in codes.ACTIVE:
        return "active"
    return "inactive" if code in codes.INACTIVE else _DASH


@pytest.mark.parametrize(
    ("heading", "number", "table"),
    [
        ("AAA03", 1, names.AAA03_NAMES),
        ("AAA03", 2, {code: codes.AAA_FAILURES.get(code, "request_rejected") for code in names.AAA03_NAMES}),
        ("EB01", 1, names.EB01_NAMES),
        ("EB01", 2, codes.KINDS),
        ("EB01", 3, {code: coverage_of(code) for code in names.EB01_NAMES}),
        ("EB02", 2, codes.LEVELS),
        ("EB06", 1, names.EB06_NAMES),
        ("EB06", 2, {code: period for code, (period, _) in codes.PERIODS.items()}),
        ("EB06", 3, {code: figure for code, (_, figure) in codes.PERIODS.items()}),
        ("EB09", 1, names.EB09_NAMES),
        ("EB09", 2, codes.UNITS),
        ("EB11", 2, codes.AUTHORIZATION),
        ("EB12", 2, codes.NETWORKS),
        ("HSD", 2, codes.DELIVERY_UNITS),
        ("Other coverage", 1, codes.OTHER_COVERAGE_KINDS),
        ("INS02", 2, codes.RELATIONSHIPS),
    ],
)
def test_one_column(heading: str, number: int, table: Mapping[str, object]) -> None:
    assert column(heading, number) == shown(table)


def test_rates() -> None:
    assert column("HSD", 2, 1) == shown(codes.RATE_PERIODS)


def test_sentinels() -> None:
    amounts, day, from_year = (row[0] for row in tables("Sentinels")[0])
    assert {Decimal(amount.strip(" `")) for amount in amounts.split(",")} == sentinels.NO_LIMIT
    assert {date.fromisoformat(day)} == sentinels.NO_END
    assert f"any day of `{sentinels.NO_END_FROM_YEAR}` or later" == from_year


def test_follow_up() -> None:
    for code, failure in column("AAA04", 2).items():
        seen = codes.aaa_failure([Aaa(code="72", follow_up=code)]).code
        assert seen == ("member_id_invalid" if failure == _DASH else failure)


def test_entities() -> None:
    tables_of_codes: tuple[Mapping[str, object], ...] = (codes.ENTITY_ROLES, codes.ROW_ROLES, codes.PAYER_ORDERS)
    for place, table in enumerate(tables_of_codes):
        assert column("Entities", 2, place) == shown(table)


def test_dates() -> None:
    def cells(qualifiers: Iterable[str]) -> list[str]:
        return [qualifier or _DASH for qualifier in qualifiers]

    families = (rows.BENEFIT_DAYS, rows.PLAN_DAYS, rows.ELIGIBILITY_DAYS, rows.OTHER_COVERAGE_DAYS)
    assert [row[1:] for row in tables("Dates")[0]] == [cells(family) for family in families]
