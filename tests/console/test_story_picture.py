"""The picture of a story: every step, wait, call and delivery has its place, in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from covergate.console.story_picture import LEFT, WIDTH, picture_of
from covergate.verifications.story import Story

BEGUN = datetime(2026, 11, 28, 9, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGUN + timedelta(seconds=seconds)).isoformat()


def entry(seconds: float, type_: str, waiting_for: str | None = None) -> dict[str, Any]:
    return {"at": at(seconds), "type": type_, "message": "m", "waiting_for": waiting_for, "vendor": "sohar"}


def call(seconds: float, status: int, ms: int | None) -> dict[str, Any]:
    return {
        "attempt_id": "a",
        "vendor": "sohar",
        "at": at(seconds),
        "call": "GET /x",
        "status": status,
        "duration_ms": ms,
    }


def story(**changes: Any) -> Story:
    given: dict[str, Any] = {
        "timeline": [entry(0, "created"), entry(1, "submitted", "vendor"), entry(3601, "completed")],
        "exchanges": [call(1, 201, 400), call(3600, 503, 600_000)],
        "events": [{"id": "e", "type": "verification.completed", "created_at": at(3601)}],
        "deliveries": [
            {
                "event_type": "verification.completed",
                "status": "delivered",
                "attempts": [{"at": at(3602), "status": 500, "error": None, "duration_ms": 90}],
            }
        ],
        "family": [],
        **changes,
    }
    return Story("ten", "Clinic", **given)


def shown(**changes: Any) -> dict[str, Any]:
    attempts = [{"id": "a", "vendor": "sohar"}]
    return {
        "created_at": at(0),
        "completed_at": at(3601),
        "next_check_at": None,
        "deadline": at(86_400),
        "attempts": attempts,
        **changes,
    }


def test_everything_stands_within_the_picture_in_its_order() -> None:
    made = picture_of(shown(), story(), BEGUN + timedelta(hours=2))
    places = [bar.x for bar in made.bars] + [mark.x for mark in made.marks] + [tick.x for tick in made.ticks]
    assert all(LEFT <= place <= WIDTH for place in places)
    steps = [mark.x for mark in made.marks if "event" not in mark.title]
    assert steps == sorted(steps)
    assert [name for _, name in made.lanes] == ["Steps", "Waits for", "Sohar", "Told"]
    assert made.now is None


def test_what_went_wrong_has_a_sign_and_not_only_a_colour() -> None:
    made = picture_of(shown(), story(), BEGUN)
    by_title = {bar.title: bar for bar in made.bars}
    refused = by_title["10:00:00 UTC GET /x: 503, 10 min"]
    assert (refused.kind, refused.label) == ("bad", "✗ 503")
    assert by_title["09:00:01 UTC GET /x: 201, 400 ms"].kind == "good"
    assert [mark.sign for mark in made.marks] == ["·", "·", "✓", "»"]


def test_a_long_wait_leaves_room_for_the_rest() -> None:
    made = picture_of(shown(), story(), BEGUN)
    wait = next(bar for bar in made.bars if bar.title.startswith("waits for"))
    assert wait.title == "waits for vendor, 1 h"
    assert wait.width < 0.8 * (WIDTH - LEFT)


def test_an_open_one_goes_on_to_its_next_look() -> None:
    now = BEGUN + timedelta(seconds=30)
    begun = story(timeline=[entry(0, "created", "vendor")], exchanges=[], events=[], deliveries=[])
    made = picture_of(shown(completed_at=None, next_check_at=at(60)), begun, now)
    assert made.now is not None
    assert made.now < WIDTH - 20
    assert "1 step in 30 s" in made.summary
    until_the_end = picture_of(shown(completed_at=None, next_check_at=at(86_400)), begun, now)
    assert until_the_end.now == WIDTH - 20


def test_one_that_has_just_begun_is_drawn() -> None:
    bare = story(timeline=[], exchanges=[], events=[], deliveries=[])
    made = picture_of(shown(completed_at=None, attempts=[]), bare, BEGUN)
    assert [tick.label for tick in made.ticks] == ["accepted"]


def test_clocks_that_disagree_do_no_harm() -> None:
    made = picture_of(shown(), story(exchanges=[call(-5, 200, 9000)]), BEGUN - timedelta(seconds=1))
    assert all(bar.width > 0 for bar in made.bars)
    assert made.marks[0].x == LEFT
