"""The answers as one page for a screen or a printer: no script, nothing loaded, and a policy that allows neither."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from covergate.eligibility.answers.questions import QUESTIONS
from covergate.eligibility.plain_words import plain
from covergate.eligibility.terms import Confidence, NextStepCode, QuestionName, StepBy
from covergate.eligibility.x12.names import EB03_NAMES

_STYLE = """
@page { size: letter; margin: 14mm; }
body { font: 14px/1.4 system-ui, sans-serif; color: #111; background: #fff; }
body { max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 1.2rem 0 .3rem; }
dl { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: 0 0 1rem; }
dt { display: inline; color: #555; }
dt::after { content: ": "; }
dd { display: inline; margin: 0; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #999; padding: .35rem .5rem; text-align: left; vertical-align: top; }
tbody th { font-weight: 400; width: 30%; }
tbody td:nth-child(2) { font-weight: 600; width: 28%; }
tr.not_stated td:nth-child(2) { font-weight: 400; color: #555; }
tr.conflict td { border-left-width: 3px; }
tr { break-inside: avoid; }
td:empty { height: 2.2rem; }
footer { color: #555; font-size: .8rem; margin-top: 1rem; }
@media print { body { margin: 0; padding: 0; max-width: none; font-size: 11pt; } }
"""
PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": PAGE_POLICY,
    "referrer-policy": "no-referrer",
    "vary": "accept",
}

_TEMPLATES = Environment(
    loader=PackageLoader("covergate.eligibility"),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)
_PAGE = _TEMPLATES.get_template("answers.html.jinja")

_CONFIDENCE_WORDS: dict[str, str] = {
    Confidence.STATED: "Stated",
    Confidence.DERIVED: "Concluded",
    Confidence.NOT_STATED: "Not stated",
    Confidence.CONFLICT: "Contradiction",
}
_HEADLINES: dict[tuple[str, str | None], str] = {
    ("completed", "eligible"): "Eligible",
    ("completed", "ineligible"): "Not eligible",
    ("completed", "unknown"): "Not known whether eligible",
    ("completed", None): "Not known whether eligible",
    ("failed", None): "No answer",
    ("canceled", None): "Canceled",
    ("queued", None): "Not answered yet",
    ("in_progress", None): "Not answered yet",
}
_NETWORK_WORDS = {
    "in": "in network",
    "out": "out of network",
    "both": "in and out of network",
    "unknown": "network not said",
}
STEP_BY_WORDS: dict[str, str] = {
    StepBy.FRONT_DESK: "Front desk",
    StepBy.BILLER: "Biller",
    StepBy.PROVIDER: "Provider",
    StepBy.REQUESTER: "Whoever asked",
    StepBy.OPERATOR: "The gateway's operators",
}
AUTHORIZATION_WORDS = {"required": "Yes", "not_required": "No", "may_apply": "It may be: ask the payer"}


def answers_page(sheet: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    """`sheet` are the answers, `shown` the verification, both as the API shows them to this caller."""
    answers, result = sheet["answers"], shown["result"]
    steps = sheet["next_steps"] or ()
    return _PAGE.render(
        sheet=sheet,
        style=_STYLE,
        headline=_HEADLINES[sheet["status"], sheet["outcome"]],
        facts=[] if answers is None else facts_of(shown["inquiry"]),
        answered=sheet["answered_at"] and sheet["answered_at"][:10],
        is_hidden=answers is None,
        rows=[] if answers is None or result is None else answer_rows(answers),
        reasons=_why_unanswered(answers, shown) if result is None else [],
        warnings=[] if result is None else [plain(warning["message"]) for warning in result["warnings"]],
        steps=[(STEP_BY_WORDS[step["who"]], plain(step["message"])) for step in steps],
        to_ask=_TO_ASK if result is None and any(step["code"] == NextStepCode.CALL_PAYER for step in steps) else (),
    )


_TO_ASK = [words for question, (words, _) in QUESTIONS.items() if question is not QuestionName.WHAT_TO_COLLECT]
"""What a payer can be asked on the phone; what to collect follows from it."""


def _why_unanswered(answers: Sequence[Mapping[str, Any]] | None, shown: Mapping[str, Any]) -> list[str]:
    """Why nothing is known, once for all questions: the failure's own words, or those that every answer has."""
    failed = shown["failure"]
    told = [
        one[name] for one in (failed, shown["late_failure"]) if one is not None for name in ("message", "suggestion")
    ]
    if answers is not None and (failed is None or shown["late_result"] is not None):
        told.append(answers[0]["because"])
    return [plain(words) for words in told]


def answer_rows(answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers in a front desk's words, each with its `sources`."""
    return [_row(answer) for answer in answers]


def facts_of(inquiry: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Whom and what was asked about."""
    if inquiry is None:
        return []
    patient, payer, service = inquiry["patient"], inquiry["payer"], inquiry["service"]
    codes = [*service["procedure_codes"], *map(_service_type, service["service_type_codes"])]
    facts = (
        ("Patient", f"{patient['first_name']} {patient['last_name']}"),
        ("Born", patient["date_of_birth"]),
        ("Member id", patient["member_id"]),
        ("Payer", payer["name"] or payer["id"] or payer["directory_id"]),
        ("Service date", service["date"]),
        ("Service", "; ".join(codes)),
    )
    return [(name, value) for name, value in facts if value]


def _service_type(code: str) -> str:
    return f"{EB03_NAMES[code]} ({code})" if code in EB03_NAMES else code


def _row(answer: Mapping[str, Any]) -> dict[str, Any]:
    question = QuestionName(answer["question"])
    given = answer["answer"]
    return {
        "words": QUESTIONS[question][0],
        "lines": ["–"] if given is None else _WORDS[question](given),
        "confidence": str(answer["confidence"]),
        "confidence_words": _CONFIDENCE_WORDS[answer["confidence"]],
        "because": plain(answer["because"]),
        "sources": answer["sources"],
    }


def _yes_or_no(given: Any) -> list[str]:
    return ["Yes" if given else "No"]


def _payer(given: Any) -> list[str]:
    payer = given["payer"]
    return [value for value in (payer["name"], payer["id"], payer["phone"]) if value] or ["–"]


def _cost(given: Any) -> list[str]:
    lines = []
    if given["copay"] is not None:
        lines.append(f"${given['copay']} copay")
    if given["coinsurance_percent"] is not None:
        lines.append(f"{given['coinsurance_percent']} % coinsurance")
    if given["deductible_applies"] is not None:
        lines.append("after the deductible" if given["deductible_applies"] else "the deductible does not apply")
    return lines


def _visit_cost(given: Any) -> list[str]:
    return [*_cost(given), _NETWORK_WORDS[given["network"]]]


def _deductible(given: Any) -> list[str]:
    levels = (
        ("individual", "for the patient"),
        ("family", "for the family"),
        ("unknown_level", "for whom is not said"),
    )
    lines = [f"${given[level]} {words}" for level, words in levels if given[level] is not None]
    return [*lines, _NETWORK_WORDS[given["network"]]]


def _visits(given: Any) -> list[str]:
    numbers = (("remaining", "left"), ("used", "used"), ("total", "in all"))
    return [f"{given[name]} {given['unit']} {words}" for name, words in numbers if given[name] is not None]


def _authorization(given: Any) -> list[str]:
    return [AUTHORIZATION_WORDS[given]]


def _telehealth(given: Any) -> list[str]:
    return ["Yes", *_cost(given)] if given["covered"] else ["No"]


def _other_insurance(given: Any) -> list[str]:
    return [" ".join(word for word in _named(other) if word) for other in given]


def _named(other: Mapping[str, Any]) -> tuple[str | None, ...]:
    payer = other["payer"]
    return other["order"], payer["name"] or payer["id"] or "payer not named", other["member_id"]


def _to_collect(given: Any) -> list[str]:
    lines = [] if given["amount"] is None else [f"${given['amount']}"]
    if given["coinsurance_percent"]:
        lines.append(f"{given['coinsurance_percent']} % of the allowed amount")
    if given["deductible_left"] is not None:
        lines.append(f"${given['deductible_left']} of the deductible left")
    return lines or ["–"]


_WORDS: dict[QuestionName, Callable[[Any], list[str]]] = {
    QuestionName.ACTIVE: _yes_or_no,
    QuestionName.WHO_TO_BILL: _payer,
    QuestionName.IN_NETWORK: _yes_or_no,
    QuestionName.COPAY_FOR_THIS_VISIT: _visit_cost,
    QuestionName.DEDUCTIBLE_LEFT: _deductible,
    QuestionName.VISITS_LEFT: _visits,
    QuestionName.AUTHORIZATION: _authorization,
    QuestionName.REFERRAL: _yes_or_no,
    QuestionName.TELEHEALTH: _telehealth,
    QuestionName.OTHER_INSURANCE: _other_insurance,
    QuestionName.WHAT_TO_COLLECT: _to_collect,
}
"""Question → the lines of its answer, as a front desk reads them."""
