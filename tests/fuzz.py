"""`make fuzz`: the running API against its own document, by schemathesis with all its checks, for longer than `make test` may.

`python -m tests.fuzz [URL] [--max-examples N] [--phases …]`; a URL is asked with the key in `COVERGATE_API_KEY`, without one
a gateway is started without quotas, and asked with a key of every scope, then with an operator's credential.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.outsider import running_up
from tests.support.postgres import server_directory

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
LONGEST_LINE = 600
"""It quotes whole bodies."""


def ask(url: str, key: str, max_examples: int, phases: str) -> int:
    """What schemathesis says, its long lines cut; 0 if every check holds."""
    with tempfile.TemporaryDirectory(prefix="cg") as directory:
        asked = subprocess.run(
            [
                SCHEMATHESIS,
                *("--config-file", CONFIGURATION, "run", f"{url}/openapi.json"),
                *("--header", f"Authorization: Bearer {key}", "--checks", "all", "--phases", phases),
                *("--max-examples", str(max_examples), "--no-color", "--generation-database", "none"),
                *(("--seed", "1") if max_examples < 10 else ()),
            ],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    sys.stdout.write("\n".join(line[:LONGEST_LINE] for line in [*asked.stdout.splitlines(), ""]))
    return asked.returncode


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("url", nargs="?")
    options.add_argument("--max-examples", type=int, default=200)
    options.add_argument("--phases", default="examples,coverage,fuzzing")
    given = options.parse_args()
    if given.url is not None:
        return ask(given.url, os.environ["COVERGATE_API_KEY"], given.max_examples, given.phases)
    with (
        server_directory() as data_dir,
        tempfile.TemporaryDirectory(prefix="cg") as directory,
        running_up(data_dir, Path(directory), unbounded=True) as outsider,
    ):
        credentials = (outsider.key, outsider.operator)
        return max(ask(outsider.url, credential, given.max_examples, given.phases) for credential in credentials)


if __name__ == "__main__":
    sys.exit(main())
