"""`make bench`: measures all goals in one run, in turns; with `--write` into docs/performance.md and its pictures.

It wants the machine for itself: it looks for three seconds whether another process uses the CPU, and says no if one does.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from benchmarks import gateway, noise, report, stage
from benchmarks.plan import FULL, PARTS, QUICK, Findings, Measured, Run


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its pictures")
    parser.add_argument("--quick", action="store_true", help="a short run with smaller tables, within three minutes")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given more than once")
    parser.add_argument(
        "--before", type=Path, metavar="COVERGATE", help="another checkout's .venv/bin/covergate, measured in turns"
    )
    parser.add_argument("--noisy", action="store_true", help="measure even if other processes use the CPU")
    asked = parser.parse_args()
    if asked.write and asked.part:
        parser.error("--write needs all parts")
    require_quiet(anyway=asked.noisy)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM")
    )  # through the blocks that end what was started
    started = time.monotonic()
    found = Findings(QUICK if asked.quick else FULL, before=Measured() if asked.before else None)
    watch = noise.Watch()
    with ExitStack() as stack:
        set_up = stack.enter_context(stage.set_up())
        watch.roots.add(set_up.postgres.pid)
        versions = {"gateway": gateway.OWN} | ({"earlier": asked.before.absolute()} if asked.before else {})
        gateways, full = (
            [
                stack.enter_context(gateway.running(set_up, f"{name}{ending}", version))
                for name, version in versions.items()
            ]
            for ending in ("", "_filled")
        )
        stack.enter_context(watch)
        say(f"set up in {time.monotonic() - started:.0f} s")
        uvloop.run(Run(set_up, gateways, full, asked.part or PARTS, found, say).measure())
    table = report.text(found, watch, seconds=time.monotonic() - started)
    print("\n" + table)
    if asked.write:
        report.write(table, report.pictures(found))
        print(f"\nWritten to {report.PAGE}.")


def require_quiet(*, anyway: bool) -> None:
    """Ends the program if the machine is busy with something else."""
    share = noise.observe(3.0)
    if share is None or not share.noisy:
        return
    warning = (
        f"Other processes use {share.others:.0%} of a core, most of it {share.who}; {share.stolen:.0%} are stolen."
    )
    print(f"\n*** THE MACHINE IS NOT QUIET. {warning}", file=sys.stderr)
    if not anyway:
        sys.exit("*** What is measured now would mean nothing. Wait, or measure all the same with --noisy.")


if __name__ == "__main__":
    main()
