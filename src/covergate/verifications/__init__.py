"""A verification's life: created, advanced step by step, ended once. `lifecycle.py` is the state machine."""
