"""Which questions to an operator the ledger forgives: only those for which a reply was really lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.chaos.losses import Evidence, unexplained

VERIFICATIONS = {"ELIGIBLE-cut-1-7": "ver_7", "ELIGIBLE-cut-1-8": "ver_8"}


def call(vendor: str = "integrex", *, sent: str = "", got: str = "", answered: bool = True) -> dict[str, Any]:
    made = {"by": "worker-1", "vendor": vendor, "sent": sent, "got": got}
    return {**made, "answered": answered, "began": 97.0, "ended": 100.0}


def lost(
    *calls: dict[str, Any], intents: list[dict[str, Any]] | None = None, deaths: list[tuple[str, float]] | None = None
) -> Counter[str]:
    references = {("vsee", "1001"): "ver_8"}
    return Evidence(calls, VERIFICATIONS, references, intents or [], deaths or []).lost()


def test_a_reply_that_its_worker_got_and_outlived_is_not_lost() -> None:
    answered = call(sent='{"memberId": "ELIGIBLE-cut-1-7"}')
    assert not lost(answered)
    assert not lost(answered, deaths=[("worker-1", 103.0)]), "it had time enough to write it down"
    assert not lost(answered, deaths=[("worker-2", 100.5)]), "another one died"


def test_a_reply_is_lost_with_its_connection_or_with_its_worker() -> None:
    sent = '{"memberId": "ELIGIBLE-cut-1-7"}'
    assert lost(call(sent=sent, answered=False)) == {"ver_7": 1}
    assert lost(call(sent=sent), deaths=[("worker-1", 100.5)]) == {"ver_7": 1}
    assert lost(call(sent=sent), deaths=[("worker-1", 99.98)]) == {"ver_7": 1}, "its connection still took the reply"
    assert not lost(call(sent=sent), deaths=[("worker-1", 96.0)]), "the one that was started in its place made the call"


def test_a_batch_loses_the_reply_of_each() -> None:
    sent = '[{"member_id": "ELIGIBLE-cut-1-7"}, {"member_id": "ELIGIBLE-cut-1-8"}]'
    assert lost(call("health_harbor", sent=sent, answered=False)) == {"ver_7": 1, "ver_8": 1}


def test_a_call_that_names_nobody_is_known_by_the_vendors_reference_or_counts_for_its_vendor() -> None:
    assert lost(call("vsee", got='{"data": {"eligibility_id": "1001"}}', answered=False)) == {"ver_8": 1}
    assert lost(call("vsee", answered=False)) == {"vsee": 1}


def test_an_intent_whose_worker_was_killed_before_the_call_is_lost() -> None:
    intent = {"verification_id": "ver_7", "vendor": "integrex", "at": 100.0}
    assert lost(intents=[intent], deaths=[("worker-1", 101.0)]) == {"ver_7": 1}
    assert not lost(intents=[intent]), "nobody died"
    assert not lost(call(sent="ELIGIBLE-cut-1-7"), intents=[intent], deaths=[("worker-1", 104.0)]), "it was called"


def test_such_an_intent_counts_for_a_vendor_whose_calls_name_nobody_if_there_is_no_call_for_it() -> None:
    intents = [{"verification_id": f"ver_{number}", "vendor": "vsee", "at": 100.0} for number in (7, 8)]
    deaths = [("worker-1", 101.0)]
    assert lost(call("vsee"), intents=intents, deaths=[("worker-9", 101.0)]) == {"vsee": 1}
    assert not lost(call("vsee"), call("vsee"), intents=intents, deaths=[("worker-9", 101.0)]), "each was called"
    assert not lost(call("vsee"), intents=intents), "nobody died"
    assert lost(call("vsee"), intents=intents, deaths=deaths) == {"vsee": 2}, "and the other's reply with its worker"


def test_each_lost_reply_explains_one_question() -> None:
    questions = [("ver_7", "integrex"), ("ver_8", "vsee"), ("ver_9", "vsee")]
    assert list(unexplained(questions, Counter())) == ["ver_7", "ver_8", "ver_9"]
    assert list(unexplained(questions, Counter({"ver_7": 1, "vsee": 1}))) == ["ver_9"]
    assert list(unexplained([("ver_7", "integrex")] * 2, Counter({"ver_7": 1}))) == ["ver_7"]
