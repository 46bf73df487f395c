"""Reading X12 271 eligibility answers: code tables and pure functions from rows to an answer."""
