"""The corpus: `<payer-subject>.json` beside this file, public answers rebuilt with invented people, one question each.

    {
      "title": "totals carry texts, what remains carries none",
      "built_from": "Change Healthcare's v3 JSON, test sample of a public client library, MIT",
      "vendor": "healthie",
      "payer": {"id", "name"},
      "asked": {"service_type_codes", "procedure_codes", "place_of_service_code", "specialty", "date", "npi", "of_a_dependent"},
      "answered_at": "2016-09-15T15:00:00Z",
      "reply": {"segments": […]} | {"change_healthcare": {…}} | {"claim_md": {…}} | {"body": {…}},
      "biller": {…},
      "why_null": {"in.copay": "not_stated"}
    }

`reply` may be left to another file: `"reply_of": "<its name>"`. `segments` are a 271's, which VSee hands on as JSON;
`change_healthcare` and `claim_md` are the two documents that Healthie does; `body` is the reply of any other vendor.

`biller` is what somebody who knows insurance reads off the rows by hand, in the words of `reading.py`. It is complete: an amount
that it does not name is one that the answer does not state, or states in a way that nobody should pick from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.derive import Derived, derive
from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.vendors import VENDORS
from covergate.vendors.flow import Answered, Question, Refused, drive
from tests.support.flows import flow, question, reply
from tests.support.x12_271 import advancedmd, benefit_loops

FOLDER = Path(__file__).parent
_Json = dict[str, Any]

_PATIENT: _Json = {
    "first_name": "Jane",
    "last_name": "Sample",
    "date_of_birth": "1990-01-31",
    "gender": "F",
    "member_id": "W100200300",
    "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
}
_SUBSCRIBER: _Json = {
    "patient_relationship": "child",
    "first_name": "John",
    "last_name": "Sample",
    "date_of_birth": "1963-05-19",
    "member_id": "W100200300",
}
_CHECK = "2505465"
_USER = "132407"
_POLICY = "301"


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    title: str
    built_from: str
    vendor: str
    payer: _Json
    asked: _Json
    answered_at: datetime
    reply: _Json
    biller: _Json
    why_null: dict[str, str]

    @property
    def today(self) -> date:
        return today_eastern(self.answered_at)


@dataclass(frozen=True, slots=True)
class Read:
    """A sample as CoverGate reads it. `raw` is the raw document that sources point into."""

    derived: Derived | None
    failure: Failure | None
    raw: _Json


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def sample(name: str) -> Sample:
    told = _file(name)
    return Sample(
        name=name,
        title=told["title"],
        built_from=told["built_from"],
        vendor=told["vendor"],
        payer=told["payer"],
        asked=told["asked"],
        answered_at=datetime.fromisoformat(told["answered_at"]).astimezone(UTC),
        reply=told["reply"] if "reply" in told else _file(told["reply_of"])["reply"],
        biller=told["biller"],
        why_null=told["why_null"],
    )


def _file(name: str) -> _Json:
    told: _Json = orjson.loads((FOLDER / f"{name}.json").read_bytes())
    return told


def read(one: Sample) -> Read:
    """Through the vendor's own flow that reads an answer."""
    vendor = VENDORS[one.vendor]
    told = question(vendor, _question(one))
    body = _BODIES[one.vendor](one, told)
    exchange = reply({"status": 200, "body": body}, 0, told.now)
    _, progress = drive(flow(vendor, {"flow": "check", "ref": _REFS[one.vendor]}, told), [exchange])
    raw = {"exchanges": [{"body": body}]}
    match progress:
        case Answered(answer=Answer() as answer):
            not_asked = vendor.asked_nothing_of(told.inquiry, told.today)
            return Read(derive(answer, told.inquiry, not_asked, one.today), None, raw)
        case Refused(failure=failure):
            return Read(None, failure, raw)
    raise AssertionError(f"{one.name} ended in {progress!r}")


def _question(one: Sample) -> _Json:
    service = {key: value for key, value in one.asked.items() if key not in ("npi", "of_a_dependent")}
    inquiry: _Json = {
        "payer": one.payer,
        "patient": _PATIENT,
        "provider": {"npi": one.asked.get("npi", "1234567893")},
        "service": service,
    }
    if one.asked.get("of_a_dependent"):
        inquiry["subscriber"] = _SUBSCRIBER
    at = one.answered_at.isoformat()
    return {"inquiry": inquiry, "now": at, "submitted_at": at}


def inquiry_of(one: Sample) -> Inquiry:
    told = question(VENDORS[one.vendor], _question(one))
    return told.inquiry


def _vsee(one: Sample, told: Question) -> _Json:
    check = {
        "eligibility_id": _CHECK,
        "last_checked": int(one.answered_at.timestamp()),
        "eligibility_response": "Success / Reject reason not found",
        "raw_response": advancedmd(one.reply["segments"]),
    }
    return {"data": {"id": _USER, "code": told.patient_key, "insurance": {"primary": check}}}


def _healthie(one: Sample, told: Question) -> _Json:
    (document,) = one.reply.values()
    check = {
        "id": "901",
        "created_at": one.answered_at.isoformat(),
        "response": orjson.dumps(document).decode(),
        "policy": {
            "id": _POLICY,
            "claim_eligibility_check_errors": [],
            "insurance_plan": {"id": "102", "payer_id": one.payer["id"], "payer_name": one.payer["name"]},
        },
    }
    policy = {"id": _POLICY, "num": told.inquiry.patient.member_id, "latest_eligibility_check": check}
    return {"data": {"policy": policy}}


def _as_it_is(one: Sample, _: Question) -> _Json:
    body: _Json = one.reply["body"]
    return body


_BODIES: dict[str, Callable[[Sample, Question], _Json]] = {
    "vsee": _vsee,
    "healthie": _healthie,
    "integrex": _as_it_is,
    "sohar": _as_it_is,
}
_REFS = {"vsee": f"{_USER}:{_CHECK}", "healthie": _POLICY, "integrex": "1", "sohar": "1"}


def with_rows(one: Sample, change: Callable[[list[Any]], list[Any]]) -> Sample:
    """The sample with its benefit rows changed: EB loops, or the elements of the list that its document has for them."""
    if "segments" in one.reply:
        return replace(one, reply={"segments": list(_with_loops(one.reply["segments"], change))})
    changed = copy.deepcopy(one.reply)
    for path in _LISTS:
        place: Any = changed
        for step in path[:-1]:
            place = place.get(step, {})
        if isinstance(place.get(path[-1]), list):
            place[path[-1]] = change(place[path[-1]])
    return replace(one, reply=changed)


def _with_loops(segments: list[str], change: Callable[[list[Any]], list[Any]]) -> Iterator[str]:
    """Of each person apart."""
    starts = [index for index, segment in enumerate(segments) if segment.startswith("HL*")]
    for first, last in pairwise([0, *starts, len(segments)]):
        party = segments[first:last]
        loops = benefit_loops(party)
        rows = [segment for loop in change(loops) for segment in loop] if loops else []
        before = party.index(loops[0][0]) if loops else len(party)
        yield from (*party[:before], *rows, *party[before + sum(map(len, loops)) :])


_LISTS = (
    ("change_healthcare", "benefitsInformation"),
    ("claim_md", "elig", "benefit"),
    ("body", "benefits"),
)
"""Where a document lists its benefits."""

_CHANGE_HEALTHCARE = {
    1: "code",
    2: "coverageLevelCode",
    3: "serviceTypeCodes",
    4: "insuranceTypeCode",
    5: "planCoverage",
    6: "timeQualifierCode",
    7: "benefitAmount",
    8: "benefitPercent",
    12: "inPlanNetworkIndicatorCode",
}
_CLAIM_MD = {
    1: "benefit_coverage_code",
    2: "benefit_level_code",
    3: "benefit_code",
    4: "insurance_type_code",
    5: "insurance_plan",
    6: "benefit_period_code",
    7: "benefit_amount",
    8: "benefit_percent",
    12: "inplan_network",
}


def with_block(one: Sample, block: list[str]) -> Sample:
    """The sample with more EB segments, in whatever form its reply has."""
    split = [dict(enumerate(segment.split("*"))) for segment in block]
    if "change_healthcare" in one.reply:
        names, lists = _CHANGE_HEALTHCARE, True
    else:
        names, lists = _CLAIM_MD, False
    objects = [
        {name: [text] if lists and number == 3 else text for number, name in names.items() if (text := row.get(number))}
        for row in split
    ]
    added: list[Any] = [[segment] for segment in block] if "segments" in one.reply else objects
    return with_rows(one, lambda rows: [*rows, *added])
