"""The vocabulary of eligibility: the inquiry, the answer, the result, the failure. Pure: no I/O, no import of ours."""
