"""Rows by which a payer does not pay for the asked service, and what they leave of the others."""

from __future__ import annotations

from collections.abc import Sequence

from covergate.eligibility.cost_shares import SHARING, is_anywhere
from covergate.eligibility.result import Benefit
from covergate.eligibility.summary.cells import FEEDS
from covergate.eligibility.summary.cost_question import (
    OF_PHYSICIANS,
    OF_SOMETHING_ELSE,
    OF_THE_PLAN,
    SharedCostQuestion,
    distance_to,
)
from covergate.eligibility.terms import Kind, Network
from covergate.eligibility.x12.codes import ACTIVE, INACTIVE

_ASK_ELSEWHERE = "U"
"""EB01 of a row that sends its services to another payer."""


def denials_in(near: Sequence[Benefit], question: SharedCostQuestion) -> list[Benefit]:
    """In any network. Also what has ended, unless something as near to the question is active."""
    active = {distance_to(row, question) for row in near if row.code in ACTIVE}
    return [
        row
        for row in near
        if (
            row.kind is Kind.NON_COVERED
            or row.code == _ASK_ELSEWHERE
            or (
                row.code in INACTIVE
                and (distance := distance_to(row, question)) < OF_THE_PLAN
                and distance not in active
            )
        )
        and is_anywhere(row)
    ]


def heard(
    near: Sequence[Benefit], denials: Sequence[Benefit], question: SharedCostQuestion, network: Network
) -> list[Benefit]:
    """The rows that feed a network, without what lies beyond a denial or a service that another payer has taken over.

    A payer that does not pay for mental health says nothing of psychotherapy by what it pays for an office visit, nor a
    medical plan of dental care, vision or drugs by what it pays for the rest.
    """
    feeding = [row for row in near if network in FEEDS[row.network]]
    denied = [row for row in denials if row.network in (network, Network.BOTH, Network.UNKNOWN)]
    barrier = min((distance_to(row, question) for row in denied), default=question.nearest_elsewhere)
    barrier = min(barrier, question.nearest_elsewhere)
    if question.is_of_another_line and question.of_line is None:
        barrier = min(barrier, OF_PHYSICIANS)
    if barrier == OF_SOMETHING_ELSE:
        return feeding
    return [row for row in feeding if row.kind not in SHARING or distance_to(row, question) <= barrier]
