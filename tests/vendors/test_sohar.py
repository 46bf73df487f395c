"""Where Sohar is asked for its payers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from covergate.vendors.sohar import VENDOR
from covergate.vendors.sohar.connection import SoharConnection


def test_the_path_of_the_payer_list_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VENDOR.list_payers is not None
    assert next(VENDOR.list_payers(SoharConnection())).path == "/v1/payers"
    monkeypatch.setenv("COVERGATE_SOHAR_PAYERS_PATH", "/v2/payers")
    assert next(VENDOR.list_payers(SoharConnection())).path == "/v2/payers"


def test_the_path_of_the_payer_list_is_a_path() -> None:
    with pytest.raises(ValidationError):
        SoharConnection(payers_path="https://elsewhere.example/payers")
