"""`docs/corpus.md`: the corpus as a table, what a biller reads beside what CoverGate says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.corpus.reading import differences, reading
from tests.corpus.samples import Sample, names, read, sample

PAGE = Path(__file__).parents[2] / "docs" / "corpus.md"

_HEAD = """\
# Corpus

Eligibility answers, and what CoverGate makes of each. Most are rebuilt from answers that others published: codes,
amounts, dates of coverage, names of plans and the payers' own messages are as published. The others are small
messages of our own after single rows or rules of payers; the last table says which is which. The files are our
own, and the people in them are invented. Beside each answer stands what a biller reads off it by hand.

The files are in `tests/corpus/`. `tests/corpus/test_corpus.py` also holds that every null of a summary is
explained, that the order of the rows changes nothing but `sources`, that an added dental, vision or pharmacy
plan changes no other cell, and that every source leads to the value, for these questions and for six others that
each answer is asked. `python -m tests.corpus --write` writes this page; a test holds it up to date.

An accumulator is total / used / remaining; `-` is not stated.

"""


def page() -> str:
    samples = [sample(name) for name in names()]
    rows = [_row(one) for one in samples]
    right = sum(row.endswith("| yes |") for row in rows)
    return "".join(
        (
            _HEAD,
            f"{len(samples)} answers, {right} of them read as the biller reads them.\n\n",
            "| sample | asked | a biller reads | we say | ok |\n| --- | --- | --- | --- | --- |\n",
            *(f"{row}\n" for row in rows),
            "\n## Where they come from\n\n| sample | what it shows | built from |\n| --- | --- | --- |\n",
            *(f"| `{one.name}` | {_cell(one.title)} | {_cell(one.built_from)} |\n" for one in samples),
        )
    )


def _row(one: Sample) -> str:
    differing = differences(one.biller, reading(read(one)))
    said = "the same" if not differing else "; ".join(differing)
    return f"| `{one.name}` | {_asked(one)} | {_cell(_told(one.biller))} | {_cell(said)} | {'no' if differing else 'yes'} |"


def _asked(one: Sample) -> str:
    parts = [*one.asked.get("service_type_codes", []), *one.asked.get("procedure_codes", [])]
    if "place_of_service_code" in one.asked:
        parts.append(f"place {one.asked['place_of_service_code']}")
    if "specialty" in one.asked:
        parts.append(one.asked["specialty"])
    return ", ".join(parts) or "30"


def _told(biller: dict[str, Any]) -> str:
    """The biller's reading in one line."""
    if "failure" in biller:
        return f"no answer: {biller['failure']}"
    reason = f" ({biller['outcome_reason']})" if biller.get("outcome_reason") else ""
    parts = [f"**{biller['outcome']}**{reason}"]
    if biller.get("plans"):
        parts.append("plans: " + ", ".join(biller["plans"]))
    if biller.get("bill_to"):
        parts.append(f"bill {biller['bill_to']}")
    for name in ("in", "out", "unknown", "service"):
        cells = biller.get(name) or {}
        if cells:
            parts.append(f"{name}: " + ", ".join(f"{cell} {_word(value)}" for cell, value in cells.items()))
    stated = [name for name in ("provider_in_network", "referral_required") if biller.get(name) is not None]
    parts += [f"{name} {_word(biller[name])}" for name in stated]
    if biller.get("other_coverage"):
        parts.append("other coverage: " + ", ".join(biller["other_coverage"]))
    if biller["warnings"]["expected"]:
        parts.append("warned of " + ", ".join(biller["warnings"]["expected"]))
    return "; ".join(parts)


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
