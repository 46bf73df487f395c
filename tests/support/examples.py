"""How many examples hypothesis tries: a few hundred in `make test`, so many times more in `make fuzz`."""

from __future__ import annotations

import os


def examples(number: int) -> int:
    return number * int(os.environ.get("FUZZ_TIMES", "1"))
