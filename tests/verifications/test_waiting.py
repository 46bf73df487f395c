"""The one sentence that says where a verification stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from covergate.states import WaitingFor
from covergate.verifications.waiting import sentence_of

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize("kind", WaitingFor)
def test_every_wait_has_a_sentence(kind: WaitingFor) -> None:
    shown: dict[str, Any] = {
        "status": "in_progress",
        "vendor": "integrex",
        "waiting_for": {"kind": kind, "since": "2026-11-28T11:56:00Z"},
        "next_check_at": "2026-11-28T12:00:11Z",
        "created_at": "2026-11-28T11:55:00Z",
        "completed_at": None,
        "deadline": "2026-11-29T11:55:00Z",
    }
    said = str(sentence_of(shown, None, NOW)[0])
    assert "4 min" in said
    assert ("looks again" in said) is (kind not in ("hold", "credentials", "operator", "worker"))
