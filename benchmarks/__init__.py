"""Measures the gateway against three floors and its goals on this machine: `make bench`, which writes docs/performance.md.

    machine.py          processes: started, their CPU time and memory read, ended
    noise.py            who else uses the CPU meanwhile
    stage.py            PostgreSQL, the vendor, the partner and floor 1, which all gateways under measurement share
    gateway.py          a gateway as separate processes, with a database of its own
    load.py             the load generator: HTTP/1.1 over kept connections, as thin as Python allows
    vendor.py           an Integrex that answers at once (202 once, then 200)
    receiver.py         partners that verify and count webhooks
    floor_accept.py     floor 1: a FastAPI route with the same body and one INSERT
    floor_end_to_end.py floor 2: the same vendor calls and the same signed webhook, without a database
    floor_bare.py       floor 3: the same calls with plain aiohttp
    measurements.py     what is measured, one function each
    plan.py             who takes turns with whom, how often and how long
    rows.py             all SQL that names the gateway's tables: years of use, claims, what is taken away again
    goals.py            the goals, what was reached, what was before
    picture.py          SVG by hand
    report.py           the tables, the page

Two more print what docs/reliability.md says of promise 6, each with one worker in its own process:

    bulkheads.py        the others while one vendor hangs with 2,000 verifications queued
    endpoints.py        99 partners while the 100th's endpoint hangs; partners.py plays them all

Invariant: but for those two and the claim the gateway is measured from outside, as it is shipped: its own commands, its public
API, PostgreSQL with fsync on.
"""
