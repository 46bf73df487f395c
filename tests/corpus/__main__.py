"""What CoverGate makes of the corpus: the cells in which it differs from the biller. 1 if there are any.

python -m tests.corpus [--write]
"""

from __future__ import annotations

import argparse
import sys

from tests.corpus.page import PAGE, page
from tests.corpus.reading import differences, reading
from tests.corpus.record import RECORD, changed, record
from tests.corpus.samples import names, read, sample


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus")
    parser.add_argument("--write", action="store_true", help="write docs/corpus.md and readings.txt")
    arguments = parser.parse_args()
    if arguments.write:
        now = record()
        if other := changed(now, RECORD.read_text()):
            print(f"raise MAPPING_VERSION, for other readings of {', '.join(other)}")  # noqa: T201
            return 1
        RECORD.write_text(now)
        PAGE.write_text(page())
    found = [(name, line) for name in names() for line in differences(sample(name).biller, reading(read(sample(name))))]
    for name, line in found:
        print(f"{name}: {line}")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
