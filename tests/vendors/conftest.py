"""What holds for every test of vendors."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case names its connection; nothing of the machine's own settings gets into it."""
    for name in list(os.environ):
        if name.startswith("COVERGATE_"):
            monkeypatch.delenv(name)
