"""The vocabulary of eligibility: what is asked, what is answered, why there is no answer. Pure; imports nothing of ours."""
