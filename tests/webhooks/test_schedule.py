"""When a failed delivery is tried again."""

from __future__ import annotations

import pytest

from covergate.webhooks.schedule import next_try
from tests.support.hooks import SCHEDULE


@pytest.mark.parametrize(("tries", "seconds"), list(enumerate(SCHEDULE, start=1)))
def test_each_pause_is_as_stated_with_a_jitter_that_only_adds(tries: int, seconds: int) -> None:
    pauses = [next_try(tries) for _ in range(200)]
    assert all(pause is not None and seconds <= pause.total_seconds() <= seconds * 1.1 for pause in pauses)
    assert len(set(pauses)) > 100


def test_twelve_tries_over_more_than_72_hours() -> None:
    assert next_try(12) is None
    assert sum(SCHEDULE) > 72 * 3600


def test_retry_after_is_honoured_where_it_asks_for_more() -> None:
    pause = next_try(1, 600.0)
    assert pause is not None and 600 <= pause.total_seconds() <= 660


def test_retry_after_does_not_shorten_the_schedule() -> None:
    pause = next_try(6, 1.0)
    assert pause is not None and pause.total_seconds() >= 7200


def test_retry_after_does_not_add_tries() -> None:
    assert next_try(12, 60.0) is None
