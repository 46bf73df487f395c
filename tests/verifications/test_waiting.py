"""The sentence that says where a verification stands, and what can be done about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from covergate.states import AttemptState, Status, TimelineType, WaitingFor
from covergate.vendors import VENDORS
from covergate.verifications.waiting import Act, SentencePart, possible_acts, sentence_of

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ALL = {"operations", "verifications:write"}


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def shown(waits: WaitingFor | None = None, **changes: Any) -> dict[str, Any]:
    waiting = None if waits is None else {"kind": waits, "since": at(-240)}
    return {
        "status": Status.IN_PROGRESS,
        "vendor": "integrex",
        "waiting_for": waiting,
        "next_check_at": at(11),
        "created_at": at(-300),
        "completed_at": None,
        "deadline": at(7500),
        "outcome": None,
        "failure": None,
        "erased_at": None,
        "attempts": [{"state": AttemptState.PREPARING}],
        **changes,
    }


def said(parts: list[SentencePart]) -> str:
    return "".join(part if isinstance(part, str) else f"{part:%H:%M}" for part in parts)


ASKED = [{"state": AttemptState.FAILED}, {"state": AttemptState.WAITING}]
ENDED: dict[str, Any] = {"completed_at": at(-60), "next_check_at": None}


@pytest.mark.parametrize(
    ("one", "latest", "sentence"),
    [
        (
            shown(WaitingFor.VENDOR, attempts=ASKED),
            TimelineType.CHECKED,
            "Waits for Integrex since 4 min, looks again in 11 s; ends at 14:05 at the latest; you can look now or cancel it.",
        ),
        (
            shown(WaitingFor.VENDOR),
            TimelineType.WAITING_FOR_TURN,
            (
                "Waits since 4 min for its turn: another check of this patient is open at Integrex, looks again in 11 s; ends at"
                " 14:05 at the latest; you can cancel it."
            ),
        ),
        (
            shown(WaitingFor.HOLD),
            TimelineType.HELD_BACK,
            (
                "Waits since 4 min until Integrex, which an operator holds, is resumed; ends at 14:05 at the latest; you can"
                " cancel it."
            ),
        ),
        (
            shown(WaitingFor.OPERATOR),
            TimelineType.NEEDS_ATTENTION,
            (
                "Waits for a person since 4 min: nobody can tell whether Integrex has the submission; ends at 14:05 at the"
                " latest; you can submit it again, say that the vendor has it, give it up or cancel it."
            ),
        ),
        (
            shown(status=Status.QUEUED),
            TimelineType.CREATED,
            "Accepted 5 min ago, Integrex is to be asked next; ends at 14:05 at the latest; you can cancel it.",
        ),
        (
            shown(**ENDED, status=Status.COMPLETED, outcome="ineligible"),
            TimelineType.COMPLETED,
            "Integrex answered: ineligible after 4 min, at 11:59; you can ask again.",
        ),
        (
            shown(status=Status.FAILED, failure={"code": "member_not_found"}, **ENDED),
            TimelineType.FAILED,
            "Failed (member not found) after 4 min, at 11:59; you can ask again.",
        ),
        (
            shown(status=Status.CANCELED, erased_at=at(-1), **ENDED),
            TimelineType.CANCELED,
            "Canceled after 4 min, at 11:59.",
        ),
    ],
)
def test_it_says_why_it_waits_and_until_when(one: dict[str, Any], latest: str, sentence: str) -> None:
    assert said(sentence_of(one, latest, NOW, ALL)) == sentence


@pytest.mark.parametrize("waits", WaitingFor)
def test_every_wait_has_its_words(waits: WaitingFor) -> None:
    assert "4 min" in said(sentence_of(shown(waits), None, NOW))


def test_a_look_that_is_due_is_now() -> None:
    assert "looks again now" in said(sentence_of(shown(WaitingFor.VENDOR, next_check_at=at(-2)), None, NOW))


def test_a_look_at_the_deadline_is_none() -> None:
    one = shown(WaitingFor.CREDENTIALS, next_check_at=at(7500))
    assert "looks again" not in said(sentence_of(one, None, NOW))


def test_only_what_ones_scopes_allow_is_possible() -> None:
    waits = shown(WaitingFor.OPERATOR)
    assert possible_acts(waits, set()) == []
    assert possible_acts(waits, {"verifications:write"}) == [Act.CANCEL]
    assert possible_acts(waits, ALL) == [Act.RESUBMIT, Act.FOUND, Act.GIVE_UP, Act.CANCEL]


def test_only_what_its_vendor_works_on_can_be_looked_at_now() -> None:
    writes = {"verifications:write"}
    assert possible_acts(shown(WaitingFor.VENDOR, attempts=ASKED), writes) == [Act.LOOK_NOW, Act.CANCEL]
    assert possible_acts(shown(WaitingFor.VENDOR, attempts=ASKED), {"operations"}) == []
    for waits in (None, *WaitingFor):
        assert Act.LOOK_NOW not in possible_acts(shown(waits), ALL)
        if waits is not WaitingFor.VENDOR:
            assert Act.LOOK_NOW not in possible_acts(shown(waits, attempts=ASKED), ALL)
    for name in [name for name, vendor in VENDORS.items() if vendor.check is None]:
        assert Act.LOOK_NOW not in possible_acts(shown(WaitingFor.VENDOR, vendor=name, attempts=ASKED), ALL)


def test_a_vendor_that_answers_at_once_has_nothing_to_be_found() -> None:
    at_once = [name for name, vendor in VENDORS.items() if vendor.check is None]
    for name in at_once:
        assert Act.FOUND not in possible_acts(shown(WaitingFor.OPERATOR, vendor=name), ALL)
    assert Act.FOUND not in possible_acts(shown(WaitingFor.OPERATOR, vendor="gone"), ALL)
