"""The sandbox: all five vendors, simulated over real HTTP.

Test-mode keys, `covergate demo` and the end-to-end tests talk to it. Each simulated vendor is as strict as the vendor's
document: it refuses what the vendor would refuse, keeps state, takes its time, and sends the vendor's webhooks with the
vendor's signatures. The start of the member id chooses the scenario (`scenarios`).

Invariant: nothing here imports from the rest of `covergate`. A mapping shared with the gateway would let both be wrong
together and no test would notice.
"""
