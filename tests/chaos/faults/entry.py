"""Where faults are entered by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.experiment import Fault, Inject

ENTERED: dict[str, Fault] = {}


def fault(text: str, **facts: Any) -> Callable[[Inject], Inject]:
    """Enters the function into the table under its name."""

    def enter(inject: Inject) -> Inject:
        name = inject.__name__
        ENTERED[name] = Fault(name, text, inject, **facts)
        return inject

    return enter
