"""CPU time of the translation of a 271, from the vendor's JSON to the result: the largest and the median answer of the corpus.

python -m benchmarks.translation [--before CHECKOUT]

Each measurement is a process of its own, another checkout's in turns with this one's; the least of many repetitions counts,
which is what the work costs when nothing disturbs it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import derive
from covergate.vendors.document import Node
from covergate.vendors.vsee.advancedmd import read_response
from covergate.vendors.vsee.answer import answer_of
from tests.corpus.samples import Sample, inquiry_of, names, sample
from tests.support.x12_271 import advancedmd

OWN = Path(__file__).parent.parent
ROUNDS, REPETITIONS = 5, 60
PARTS = ("json", "rows", "conclusions")
"""From the vendor's JSON to EB rows; from these to what is stated; from that to the result."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, measured in turns")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        sys.stdout.buffer.write(orjson.dumps(measured()))
        return
    checkouts = {"this": OWN} | ({"before": asked.before.absolute()} if asked.before else {})
    found: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in checkouts}
    for _ in range(ROUNDS):
        for name, checkout in checkouts.items():
            found[name].append(_in_a_process(checkout))
    for name, rounds in found.items():
        for size in rounds[0]:
            times = {part: median(one[size][part] for one in rounds) for part in ("rows_read", *PARTS)}
            whole = sum(times[part] for part in PARTS)
            parts = ", ".join(f"{part} {times[part]:.2f}" for part in PARTS)
            print(f"{name:7} {size}, {times['rows_read']:.0f} rows: {whole:.2f} ms of CPU ({parts})")


def _in_a_process(checkout: Path) -> dict[str, dict[str, float]]:
    ran = subprocess.run(
        [sys.executable, __file__, "--once"],
        env={"PYTHONPATH": f"{checkout / 'src'}:{checkout}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, dict[str, float]] = orjson.loads(ran.stdout)
    return found


def measured() -> dict[str, dict[str, float]]:
    samples = [one for one in map(sample, names()) if one.vendor == "vsee" and "failure" not in one.biller]
    by_size = sorted(samples, key=lambda one: (len(one.reply["segments"]), one.name))
    return {"largest": _times(by_size[-1]), "median": _times(by_size[len(by_size) // 2])}


def _times(one: Sample) -> dict[str, float]:

    inquiry = inquiry_of(one)
    raw = advancedmd(one.reply["segments"])
    section = Node({"raw_response": raw, "last_checked": int(one.answered_at.timestamp())}, "/exchanges/0/body")
    answer = answer_of(section, inquiry, "1", one.answered_at)
    assert isinstance(answer, Answer)
    json = _least(lambda: read_response(raw, "/exchanges/0/body/raw_response"))
    return {
        "rows_read": len(read_response(raw, "").rows),
        "json": json,
        "rows": _least(lambda: answer_of(section, inquiry, "1", one.answered_at)) - json,
        "conclusions": _least(lambda: derive(answer, inquiry, frozenset(), one.today)),
    }


def _least(work: Callable[[], object]) -> float:
    """In milliseconds."""
    times = []
    for _ in range(REPETITIONS):
        started = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - started)
    return min(times) / 1e6


if __name__ == "__main__":
    main()
