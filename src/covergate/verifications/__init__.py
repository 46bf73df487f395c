"""A verification's life: created, advanced step by step, ended once. The state machine is `transitions.py`; the rest is around it."""
