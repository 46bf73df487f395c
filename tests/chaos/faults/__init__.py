"""Everything that goes wrong here, one thing at a time: each fault is a function that makes it happen and takes it back.

Sleeps in them are how long a fault lasts, not waits for something.
"""

from __future__ import annotations

from tests.chaos.experiment import Fault
from tests.chaos.faults import events, machine, partners, postgres, processes, releases, vendors
from tests.chaos.faults.entry import ENTERED

FAULTS: dict[str, Fault] = {
    name: fault
    for module in (processes, machine, postgres, releases, vendors, events, partners)
    for name, fault in ENTERED.items()
    if fault.inject.__module__ == module.__name__
}
"""By name, in the order in which they are brought on."""
