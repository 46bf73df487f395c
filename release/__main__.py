"""Builds wheel and sdist into dist/, looks at what is in them, installs the wheel and uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.contents import ROOT, wrong_with
from release.trial import UV, install, try_out

DIST = ROOT / "dist"


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is built from the sdist, so the sdist has all that a wheel takes.
    subprocess.run([UV, "build", "--quiet", "--no-build-isolation", "--out-dir", DIST], cwd=ROOT, check=True)
    built = sorted(path.name for path in DIST.iterdir() if not path.name.startswith("."))
    wheel = next(DIST.glob("*.whl"))
    print(f"built {', '.join(built)}")
    wrong = wrong_with(wheel)
    for line in wrong:
        print(f"{wheel.name}: {line}", file=sys.stderr)
    if wrong:
        return 1
    with tempfile.TemporaryDirectory(prefix="cg-release-") as directory:
        try_out(install(wheel, Path(directory) / "venv"))
    print(f"{DIST} may be published")
    return 0


if __name__ == "__main__":
    sys.exit(main())
