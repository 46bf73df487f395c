"""Measures the gateway against two floors on this machine: `make bench`, which writes docs/performance.md.

    machine.py          processes: started, their CPU time and memory read, ended
    load.py             the load generator: HTTP/1.1 over kept connections, as thin as Python allows
    vendor.py           an Integrex that answers at once (202 once, then 200)
    receiver.py         a partner that verifies and counts webhooks
    floor_accept.py     floor 1: a FastAPI route with the same body and one INSERT
    floor_end_to_end.py floor 2: the same vendor calls and the same signed webhook, without a database
    gateway.py          the gateway as separate processes, and what is measured of it
    full_tables.py      300,000 parked and 1,000,000 ended verifications
    report.py           the goals, the table, the page

Two more print what docs/reliability.md says of promise 6, each with one worker in its own process:

    bulkheads.py        the others while one vendor hangs with 2,000 verifications queued
    endpoints.py        99 partners while the 100th's endpoint hangs; partners.py plays them all

Invariant: but for those two the gateway is measured from outside, as it is shipped: its own commands, its public API, PostgreSQL
with fsync on.
"""
