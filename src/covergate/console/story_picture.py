"""A verification's story as a picture: lanes of steps, waits, calls and deliveries over one time axis.

Pure: instants become places. Short and long gaps are drawn with the logarithm of their length, because calls take a second and
waits take hours; the axis tells the true time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from math import log1p
from typing import Any

from covergate.states import DeliveryStatus, TimelineType, WaitingFor
from covergate.timestamps import span
from covergate.verifications.story import Story
from covergate.verifications.waiting import vendor_title

WIDTH, LEFT, LANE, TOP = 1000, 120, 34, 8
MOST_ATTEMPTS = 8
_BETWEEN_TICKS = 110
_LEAST_WIDTH = 4.0
_PER_LETTER = 6.6

STEP_MARKS: dict[str, str] = {
    TimelineType.COMPLETED: "good",
    TimelineType.SUBMISSION_FOUND: "good",
    TimelineType.ANSWERED_LATE: "good",
    TimelineType.FAILED: "bad",
    TimelineType.CANCELED: "quiet",
    TimelineType.RETRY_SCHEDULED: "warn",
    TimelineType.HELD_BACK: "warn",
    TimelineType.REPLY_LOST: "warn",
    TimelineType.NEEDS_ATTENTION: "warn",
    TimelineType.NEXT_ATTEMPT: "warn",
}
"""Timeline type → how it is marked; all others are quiet."""
_SIGNS = {"good": "✓", "bad": "✗", "warn": "!", "quiet": "·"}


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment. `sign` says what the colour says."""

    x: float
    y: float
    kind: str
    sign: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A span of time. `label` is empty if there is no room for it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    label: str


@dataclass(slots=True)
class StoryPicture:
    """`summary` says in words what is drawn."""

    summary: str
    height: float = 0
    now: float | None = None
    lanes: list[tuple[float, str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)


def picture_of(shown: Mapping[str, Any], story: Story, now: datetime) -> StoryPicture:
    end = _moment(shown["completed_at"]) or now
    look = _moment(shown["next_check_at"])
    # A look at the deadline is none: a person is waited for, and the rest would be pressed together.
    ahead = [look] if look and look > now and shown["next_check_at"] != shown["deadline"] else []
    axis = _Axis([*_moments(shown, story), end, *ahead])
    picture = StoryPicture(_summary(shown, story, end))
    _steps(picture, axis, story)
    _waits(picture, axis, story, end)
    for attempt in shown["attempts"][-MOST_ATTEMPTS:]:
        _calls(picture, axis, attempt, story)
    _told(picture, axis, story)
    picture.height = TOP + len(picture.lanes) * LANE + 30
    picture.ticks = axis.ticks()
    picture.now = None if shown["completed_at"] else axis.at(now)
    return picture


class _Axis:
    """Instants → places, by the logarithm of the gaps between the moments of the story."""

    def __init__(self, moments: Iterable[datetime]) -> None:
        self._moments = sorted(set(moments))
        widths = [log1p(10 * (after - before).total_seconds()) for before, after in pairwise(self._moments)]
        scale = (WIDTH - LEFT - 20) / (sum(widths) or 1)
        self._places = [float(LEFT)]
        for width in widths:
            self._places.append(self._places[-1] + width * scale)

    def at(self, moment: datetime) -> float:
        number = bisect_right(self._moments, moment) - 1
        if number < 0:
            return self._places[0]
        if number == len(self._moments) - 1:
            return round(self._places[-1], 1)
        before, after = self._moments[number], self._moments[number + 1]
        share = (moment - before) / (after - before)
        return round(self._places[number] + share * (self._places[number + 1] - self._places[number]), 1)

    def ticks(self) -> list[Tick]:
        """As many as there is room for, at moments of the story."""
        chosen: list[Tick] = []
        begun = self._moments[0]
        for moment, place in zip(self._moments, self._places, strict=True):
            if not chosen or place - chosen[-1].x >= _BETWEEN_TICKS:
                label = f"+{span((moment - begun).total_seconds())}" if chosen else "accepted"
                chosen.append(Tick(round(place, 1), label))
        return chosen


def _moments(shown: Mapping[str, Any], story: Story) -> list[datetime]:
    instants = [
        shown["created_at"],
        *(entry["at"] for entry in story.timeline),
        *(exchange["at"] for exchange in story.exchanges),
        *(event["created_at"] for event in story.events),
        *(tried["at"] for delivery in story.deliveries for tried in delivery["attempts"]),
    ]
    begun = [_began(exchange) for exchange in story.exchanges]
    first = datetime.fromisoformat(shown["created_at"])
    return [first, *(max(moment, first) for moment in (*map(datetime.fromisoformat, instants), *begun))]


def _lane(picture: StoryPicture, name: str) -> float:
    """The middle of a new lane."""
    y = TOP + len(picture.lanes) * LANE + LANE / 2
    picture.lanes.append((y, name))
    return y


def _steps(picture: StoryPicture, axis: _Axis, story: Story) -> None:
    y = _lane(picture, "Steps")
    for entry in story.timeline:
        kind = STEP_MARKS.get(entry["type"], "quiet")
        title = f"{_clock(entry['at'])} {_words(entry['type'])}: {entry['message']}"
        picture.marks.append(Mark(axis.at(datetime.fromisoformat(entry["at"])), y, kind, _SIGNS[kind], title))


def _waits(picture: StoryPicture, axis: _Axis, story: Story, end: datetime) -> None:
    y = _lane(picture, "Waits for")
    ends = [*(datetime.fromisoformat(entry["at"]) for entry in story.timeline[1:]), end]
    # None is left of one whose months were deleted.
    for entry, until in zip(story.timeline, ends, strict=False):
        if entry["waiting_for"] is None:
            continue
        begun = datetime.fromisoformat(entry["at"])
        kind = "quiet" if entry["waiting_for"] == WaitingFor.VENDOR else "warn"
        name = _words(entry["waiting_for"])
        lasted = span((until - begun).total_seconds())
        picture.bars.append(_bar(axis, begun, until, y, 18, kind, f"waits for {name}, {lasted}", f"{name} {lasted}"))


def _calls(picture: StoryPicture, axis: _Axis, attempt: Mapping[str, Any], story: Story) -> None:
    y = _lane(picture, vendor_title(attempt["vendor"]))
    for exchange in story.exchanges:
        if exchange["attempt_id"] != attempt["id"]:
            continue
        took = "" if exchange["duration_ms"] is None else f", {span(exchange['duration_ms'] / 1000)}"
        title = f"{_clock(exchange['at'])} {exchange['call']}: {exchange['status']}{took}"
        kind = "good" if 200 <= exchange["status"] < 300 else "bad"
        until = datetime.fromisoformat(exchange["at"])
        picture.bars.append(_bar(axis, _began(exchange), until, y, 18, kind, title, str(exchange["status"])))


def _told(picture: StoryPicture, axis: _Axis, story: Story) -> None:
    if not story.events:
        return
    y = _lane(picture, "Told")
    for event in story.events:
        at = datetime.fromisoformat(event["created_at"])
        picture.marks.append(Mark(axis.at(at), y, "quiet", "»", f"{_clock(event['created_at'])} event {event['type']}"))
    tried = [(delivery, one) for delivery in story.deliveries for one in delivery["attempts"]]
    for delivery, one in tried:
        kind = "good" if one["error"] is None and one["status"] and 200 <= one["status"] < 300 else "bad"
        answer = one["status"] or one["error"] or "no answer"
        at, took = datetime.fromisoformat(one["at"]), one["duration_ms"] or 0
        title = f"{_clock(one['at'])} delivery of {delivery['event_type']}: {answer}, {span(took / 1000)}"
        picture.bars.append(_bar(axis, at - timedelta(milliseconds=took), at, y, 18, kind, title, str(answer)))


def _bar(
    axis: _Axis, begun: datetime, until: datetime, y: float, height: float, kind: str, title: str, label: str
) -> Bar:
    x = axis.at(begun)
    width = max(axis.at(until) - x, _LEAST_WIDTH)
    label = f"{_SIGNS[kind]} {label}" if kind in ("bad", "warn") else label
    return Bar(x, y - height / 2, round(width, 1), height, kind, title, label if _fits(label, width) else "")


def _fits(label: str, width: float) -> bool:
    return len(label) * _PER_LETTER + 8 <= width


def _summary(shown: Mapping[str, Any], story: Story, end: datetime) -> str:
    failed = sum(not 200 <= exchange["status"] < 300 for exchange in story.exchanges)
    open_ones = sum(delivery["status"] != DeliveryStatus.DELIVERED for delivery in story.deliveries)
    lasted = span((end - datetime.fromisoformat(shown["created_at"])).total_seconds())
    parts = (
        f"{_counted(len(story.timeline), 'step')} in {lasted}",
        _counted(len(story.exchanges), "call") + (f", {failed} of them refused or failed" if failed else ""),
        _counted(len(story.events), "event"),
        _counted(len(story.deliveries), "delivery", "deliveries")
        + (f", {open_ones} of them not delivered" if open_ones else ""),
    )
    return "; ".join(parts) + ". The tables below say the same."


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _began(exchange: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(exchange["at"]) - timedelta(milliseconds=exchange["duration_ms"] or 0)


def _moment(at: str | None) -> datetime | None:
    return None if at is None else datetime.fromisoformat(at)


def _clock(at: str) -> str:
    return f"{at[11:19]} UTC"


def _words(code: str) -> str:
    return code.replace("_", " ")
