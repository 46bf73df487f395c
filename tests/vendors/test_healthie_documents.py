"""The documents sent to Healthie fit its schema, send no mail and need no name that is not documented."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from graphql import GraphQLInputObjectType, build_schema, parse, validate
from graphql.language import OperationDefinitionNode
from graphql.utilities import coerce_input_value

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question, Reply, drive
from covergate.vendors.healthie import VENDOR, documents
from covergate.vendors.healthie.connection import HealthieConnection
from covergate.vendors.healthie.graphql import operation
from covergate.vendors.healthie.options import HealthieOptions

SCHEMA = build_schema((Path(__file__).parent / "healthie" / "schema.graphql").read_text())


def name_of(document: str) -> str:
    return str(operation(document, {}).json["operationName"])


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=name_of)
def test_the_document_is_valid(document: str) -> None:
    assert validate(SCHEMA, parse(document)) == []


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=name_of)
def test_the_operation_is_named(document: str) -> None:
    (definition,) = [node for node in parse(document).definitions if isinstance(node, OperationDefinitionNode)]
    assert definition.name is not None
    assert definition.name.value == name_of(document)


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=name_of)
def test_nothing_is_used_that_is_not_documented_or_discontinued(document: str) -> None:
    """Enum type names, `clientMutationId`, the deprecated check, and inputs that make Healthie write an e-mail."""
    words = set(re.findall(r"\w+", document))
    unwanted = {"clientMutationId", "last_eligibility_check", "UndocumentedEnumName", "change_health"}
    assert words.isdisjoint(unwanted | {"email", "phone_number", "resend_welcome", "send_form_request_reminder"})


def test_every_document_is_listed() -> None:
    public = {value for name, value in vars(documents).items() if name.isupper() and not name.startswith("_")}
    assert public - {documents.DOCUMENTS} == set(documents.DOCUMENTS)


def test_a_written_policy_fits_its_input_type() -> None:
    """What goes into `$policies` is data, which validating the document does not reach."""
    inquiry = Inquiry.model_validate(
        {
            "payer": {"id": "60054"},
            "patient": {"first_name": "Joey", "last_name": "Sample", "date_of_birth": "2015-06-09", "member_id": "M1"},
            "subscriber": {
                "patient_relationship": "child",
                "first_name": "Jane",
                "middle_name": "Quinn",
                "last_name": "Sample",
                "date_of_birth": "1990-01-31",
                "gender": "F",
                "phone": "555-010-0000",
                "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
            },
        }
    )
    now = datetime.datetime(2026, 11, 21, 17, tzinfo=datetime.UTC)
    question = Question(
        inquiry=inquiry.resolved(now),
        options=HealthieOptions(insurance_plan_id="102"),
        connection=HealthieConnection.sandbox("http://sandbox", "s"),
        attempt_id="att_1",
        patient_key="k",
        person_key="k",
        now=now,
    )
    body = b'{"data": {"users": [{"id": "501", "record_identifier": "k", "policies": []}]}}'
    calls, _ = drive(VENDOR.submit(question), [Reply(200, {}, body, "/exchanges/0", now)])
    (policy,) = calls[-1].json["variables"]["policies"]
    given = SCHEMA.type_map["ClientPolicyInput"]
    assert isinstance(given, GraphQLInputObjectType)
    assert coerce_input_value(policy, given) == policy
    assert policy["holder_location"] == {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"}
