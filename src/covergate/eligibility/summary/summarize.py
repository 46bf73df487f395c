"""The short reading of the benefits: what a biller writes down (docs/x12.md#choosing-an-amount).

- Per network the plan's deductible and out-of-pocket maximum, and what the asked service costs in general: rows that a place,
  a text, a facility or a kind of provider narrows never feed these cells.
- `service`: the cost share that matches the asked service, place of service and specialty, in the network that holds.
- `why_null`: the reason of each null. Nothing is picked where several values are left.
- Rows on something else (a dental copay beside an office visit) are left out at the start: they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covergate.eligibility.result import Benefit, NetworkSummary, ServiceShare, Summary, Warning_
from covergate.eligibility.summary.accumulators import accumulating
from covergate.eligibility.summary.cells import ACCUMULATED, LEVEL_NAMES, SummaryNotes
from covergate.eligibility.summary.cost_question import OF_SOMETHING_ELSE, SharedCostQuestion, distance_to
from covergate.eligibility.summary.denials import denials_in, heard
from covergate.eligibility.summary.network_summary import network_summary
from covergate.eligibility.summary.service_share import service_share
from covergate.eligibility.terms import Network, WhyNull


def summarize(
    benefits: Sequence[Benefit], question: SharedCostQuestion, this_provider: Network | None = None
) -> tuple[Summary, list[Warning_]]:
    """`benefits` are those of the asked service's plan, and those of no plan in particular."""
    notes = SummaryNotes()
    near = [row for row in benefits if distance_to(row, question) < OF_SOMETHING_ELSE]
    denials = denials_in(near, question)
    accumulated = {kind: accumulating(near, kind, question) for kind in ACCUMULATED}
    networks = {
        network: network_summary(heard(near, denials, question, network), near, accumulated, question, network, notes)
        for network in (Network.IN, Network.OUT, Network.UNKNOWN)
    }
    service = service_share(near, denials, question, notes)
    nulls = dict.fromkeys(_nulls(networks, service), WhyNull.NOT_STATED) | notes.why_null
    if this_provider is None:
        nulls["this_provider"] = WhyNull.NOT_STATED
    summary = Summary(
        in_=networks[Network.IN],
        out=networks[Network.OUT],
        unknown=networks[Network.UNKNOWN],
        this_provider=this_provider,
        service=service,
        why_null=dict(sorted(nulls.items())),
    )
    return summary, notes.warnings


def _nulls(networks: dict[Network, NetworkSummary | None], service: ServiceShare) -> Iterator[str]:
    """The paths of the null cells."""
    for network, part in networks.items():
        if part is None:
            yield network.value
            continue
        for name, path in _OF_NETWORK[network]:
            if getattr(part, name) is None:
                yield path
        for kind, cells_of_kind in _OF_ACCUMULATORS[network]:
            cells = getattr(part, kind)
            for name, path in cells_of_kind:
                if getattr(cells, name) is None:
                    yield path
    for name, path in _OF_SERVICE:
        if getattr(service, name) is None:
            yield path


def _paths(of: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{of}.{name}") for name in names)


_OF_NETWORK = {
    network: _paths(network, "covered", "copay", "coinsurance_percent", "authorization_required") for network in Network
}

_OF_ACCUMULATORS = {
    network: tuple(
        (kind.value, _paths(f"{network}.{kind}", *LEVEL_NAMES.values(), "embedded", "effective_remaining"))
        for kind in ACCUMULATED
    )
    for network in Network
}

_OF_SERVICE = _paths("service", "copay", "coinsurance_percent", "deductible_applies", "visits")
"""The cells of a summary that can be null, by name and path."""
