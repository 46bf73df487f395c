"""Named points at which a test may end or pause this process, to show what a crash exactly there costs.

For tests only, and off unless the environment says otherwise: `COVERGATE_TEST_KILL_AT=<point>[:<n>]` sends SIGKILL to the own
process when the point is passed for the n-th time (the first by default), `COVERGATE_TEST_STOP_AT` likewise SIGSTOP.
Without them a point costs one look at an empty dict.
"""

from __future__ import annotations

import os
import signal

_SIGNALS = {"COVERGATE_TEST_KILL_AT": signal.SIGKILL, "COVERGATE_TEST_STOP_AT": signal.SIGSTOP}


def _armed() -> dict[str, tuple[int, signal.Signals]]:
    """Point → how many times it is still passed before the signal comes, the signal included; read once, at import."""
    armed: dict[str, tuple[int, signal.Signals]] = {}
    for variable, number in _SIGNALS.items():
        name, _, times = os.environ.get(variable, "").partition(":")
        if name:
            armed[name] = (int(times or 1), number)
    return armed


_left = _armed()


def point(name: str) -> None:
    """Of a verification's step: `before_intent`, `after_intent`, `after_reply`, `before_commit`, `after_commit`.

    Of what is written together: `before_accepts`, `after_accepts` (committed, not answered), `before_intents`, `after_intents`,
    `before_delivered` (posted, not recorded), `after_delivered`; `before_commit` and `after_commit` are of all steps that are
    written together, too. `after_reading`: of one that was read again by later rules. `before_bulk_commit`,
    `after_bulk_resubmit`: of one that a bulk job does.
    """
    if name not in _left:
        return
    times, number = _left.pop(name)
    if times > 1:
        _left[name] = (times - 1, number)
    else:
        os.kill(os.getpid(), number)
