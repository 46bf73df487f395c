"""Healthie's check, read from what its `response` holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.document import Node
from covergate.vendors.flow import Question, Reply
from covergate.vendors.healthie.answer import answer_of
from covergate.vendors.healthie.connection import HealthieConnection
from covergate.vendors.healthie.options import HealthieOptions

NOW = datetime(2026, 11, 21, 17, tzinfo=UTC)
QUESTION = Question(
    inquiry=Inquiry.model_validate(
        {
            "payer": {"id": "60054"},
            "patient": {"first_name": "Jane", "last_name": "Sample", "date_of_birth": "1990-01-31", "member_id": "W1"},
        }
    ).resolved(NOW),
    options=HealthieOptions(),
    connection=HealthieConnection.sandbox("http://sandbox", "s"),
    attempt_id="att_1",
    patient_key="k",
    person_key="k",
    now=NOW,
)


def read_response(response: Any) -> Answer | Failure:
    text = response if isinstance(response, str) else json.dumps(response)
    check = Node({"id": "901", "response": text}, "/exchanges/0/body/check")
    return answer_of(QUESTION, check, Reply(200, {}, b"{}", "/exchanges/0", NOW))
