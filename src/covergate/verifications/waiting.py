"""Where a verification stands, in one sentence, and what a person can do about it: for the console and the command line.

Pure, and without PHI: of the verification as it is shown (`view.py`), its last entry in the timeline and the present moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from covergate.states import OPEN_STATUSES, AttemptState, Sentenced, Status, TimelineType, WaitingFor
from covergate.timestamps import span
from covergate.vendors import VENDORS

SentencePart = str | datetime
"""Of a sentence: words, or an instant, which whoever shows it writes in the reader's zone."""


class Act(Sentenced):
    """What a person can do; the sentence says what will happen."""

    RESUBMIT = (
        "resubmit",
        "The vendor is asked again, at its price. If it has the first submission after all, it is asked twice.",
    )
    GIVE_UP = (
        "give_up",
        "It fails at once with submission_unknown, and its partner is told. An answer that comes later is kept beside it.",
    )
    FOUND = (
        "found",
        "The vendor has it under the reference that you give: it is asked how far it is, and nothing is submitted again.",
    )
    LOOK_NOW = (
        "look_now",
        "The vendor is asked at once how far it is, as soon as it may be called; nothing is submitted by it.",
    )
    CANCEL = (
        "cancel",
        "It ends at once as canceled, and its partner is told. The vendor's work is not recalled, and may be charged for.",
    )
    ASK_AGAIN = (
        "ask_again",
        "What this one asked is asked anew with what you correct, at the vendor's price. This one stays as it is.",
    )


ACT_WORDS: dict[Act, str] = {
    Act.RESUBMIT: "submit it again",
    Act.GIVE_UP: "give it up",
    Act.FOUND: "say that the vendor has it",
    Act.LOOK_NOW: "look now",
    Act.CANCEL: "cancel it",
    Act.ASK_AGAIN: "ask again",
}
"""Act → what follows on "you can"."""

_SCOPES: dict[Act, str] = {
    Act.RESUBMIT: "operations",
    Act.GIVE_UP: "operations",
    Act.FOUND: "operations",
    Act.LOOK_NOW: "verifications:write",
    Act.CANCEL: "verifications:write",
    Act.ASK_AGAIN: "verifications:write",
}


def possible_acts(shown: Mapping[str, Any], scopes: Collection[str]) -> list[Act]:
    """What somebody with these scopes can do with it as it stands."""
    return [act for act in _acts(shown) if _SCOPES[act] in scopes]


def _acts(shown: Mapping[str, Any]) -> list[Act]:
    if shown["status"] not in OPEN_STATUSES:
        return [] if shown["erased_at"] else [Act.ASK_AGAIN]
    waits, vendor = (shown["waiting_for"] or {}).get("kind"), VENDORS.get(shown["vendor"])
    # One that answers at once or never cannot be asked how far it is, nor under a reference.
    tells_later = vendor is not None and vendor.check is not None
    if waits != WaitingFor.OPERATOR:
        asked = waits == WaitingFor.VENDOR and shown["attempts"][-1]["state"] == AttemptState.WAITING
        return [*([Act.LOOK_NOW] if asked and tells_later else []), Act.CANCEL]
    found = [Act.FOUND] if tells_later else []
    return [Act.RESUBMIT, *found, Act.GIVE_UP, Act.CANCEL]


def sentence_of(
    shown: Mapping[str, Any], latest: str | None, now: datetime, scopes: Collection[str] = ()
) -> list[SentencePart]:
    """E.g. `Waits for Integrex since 4 min, looks again in 11 s, ends at … at the latest; you can look now or cancel it.`

    `latest` is the type of the last entry in its timeline.
    """
    acts = [ACT_WORDS[act] for act in possible_acts(shown, scopes)]
    can = f"; you can {_listed(acts)}" if acts else ""
    if shown["status"] in OPEN_STATUSES:
        return [f"{_standing(shown, latest, now)}; ends at ", _moment(shown["deadline"]), f" at the latest{can}."]
    taken = span((_moment(shown["completed_at"]) - _moment(shown["created_at"])).total_seconds())
    return [f"{_end(shown)} after {taken}, at ", _moment(shown["completed_at"]), f"{can}."]


def vendor_title(name: str) -> str:
    return VENDORS[name].title if name in VENDORS else name


def _standing(shown: Mapping[str, Any], latest: str | None, now: datetime) -> str:
    title, waiting = vendor_title(shown["vendor"]), shown["waiting_for"]
    if waiting is None:
        if shown["status"] == Status.QUEUED:
            return f"Accepted {_since(shown['created_at'], now)} ago, {title} is to be asked next"
        return f"{title} is being asked right now"
    for_how_long, kind = _since(waiting["since"], now), WaitingFor(waiting["kind"])
    special = _BY_ENTRY.get(latest or "") if kind is WaitingFor.VENDOR else None
    said = (special or _BY_KIND[kind])(title, for_how_long)
    ends_first = shown["next_check_at"] == shown["deadline"]
    return said if ends_first or kind in _NOT_BY_ITSELF else f"{said}, {_looks_again(shown['next_check_at'], now)}"


_BY_KIND: dict[WaitingFor, Callable[[str, str], str]] = {
    WaitingFor.VENDOR: lambda title, since: f"Waits for {title} since {since}",
    WaitingFor.VENDOR_RETRY: lambda title, since: f"Waits since {since} after a call to {title} failed",
    WaitingFor.RATE_LIMIT: lambda title, since: f"Waits since {since}, because {title} takes no more calls just now",
    WaitingFor.CIRCUIT: lambda title, since: f"Waits since {since}, because {title} rests after many failures",
    WaitingFor.CREDENTIALS: lambda title, since: (
        f"Waits since {since}, because {title} refuses the account's credentials: put in ones that it takes"
    ),
    WaitingFor.HOLD: lambda title, since: f"Waits since {since} until {title}, which an operator holds, is resumed",
    WaitingFor.OPERATOR: lambda title, since: (
        f"Waits for a person since {since}: nobody can tell whether {title} has the submission"
    ),
    WaitingFor.WORKER: lambda title, since: f"Due since {since}, and no worker has taken it: are workers running?",
}
_BY_ENTRY: dict[str, Callable[[str, str], str]] = {
    TimelineType.WAITING_FOR_TURN: lambda title, since: (
        f"Waits since {since} for its turn: another check of this patient is open at {title}"
    ),
    TimelineType.FOLLOWING: lambda title, since: f"Waits since {since} for the answer to an equal verification",
    TimelineType.REPLY_LOST: lambda title, since: (
        f"Waits since {since} to ask {title} whether it has the submission, whose reply was lost"
    ),
    TimelineType.LOOKED_UP: lambda title, since: (
        f"Waits since {since}, because {title} cannot tell yet whether it has the submission"
    ),
    TimelineType.SUBMISSION_IN_FLIGHT: lambda title, since: (
        f"Waits since {since}, because a submission to {title} is under way or was interrupted"
    ),
}
"""Of what waits for a vendor: why, if the last entry of the timeline tells more."""
_NOT_BY_ITSELF = frozenset({WaitingFor.HOLD, WaitingFor.CREDENTIALS, WaitingFor.OPERATOR, WaitingFor.WORKER})
"""Waits that a person or a worker ends: there is no next look."""


def _looks_again(at: str, now: datetime) -> str:
    seconds = (_moment(at) - now).total_seconds()
    return f"looks again in {span(seconds)}" if seconds >= 1 else "looks again now"


def _since(at: str, now: datetime) -> str:
    return span((now - _moment(at)).total_seconds())


def _end(shown: Mapping[str, Any]) -> str:
    if shown["status"] == Status.COMPLETED:
        return f"{vendor_title(shown['vendor'])} answered: {_words(shown['outcome'] or 'not known')}"
    if shown["status"] == Status.CANCELED:
        return "Canceled"
    code = (shown["failure"] or {}).get("code")
    return f"Failed ({_words(code)})" if code else "Failed"


def _words(code: str) -> str:
    return code.replace("_", " ")


def _listed(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at)
