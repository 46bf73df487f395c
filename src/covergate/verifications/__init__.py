"""A verification's life: created, advanced step by step, ended once. `transitions.py` is the state machine."""
